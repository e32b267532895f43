"""The stores that are configured: the default one, by id, and of a location.

With ``[DEFAULT] enabled_backends`` there are several, each with a section of
its own; without it one of each type of ``[glance_store] stores``. The
reserved stores of Glance are no stores of images and never among them.
Touches options, and what the stores touch when they are opened.
"""

from __future__ import annotations

import collections.abc
from concurrent import futures
import dataclasses
import typing

from oslo_config import cfg

from glance_import.conf import reserved
from glance_import.stores import base
from glance_import.stores import bulkhead
from glance_import.stores import file as file_store
from glance_import.stores import library
from glance_import.stores import pacing

KINDS = ('file', 'http', *library.DRIVERS)


class Misconfigured(base.StoreError):
    """An option of the stores cannot be used; names it."""

    def __init__(self, option: str, group: str | None, reason: str) -> None:
        super().__init__(reason)
        self.option = option
        self.group = group


class Located(typing.Protocol):
    """A location: a URI, and what the store said of it."""

    @property
    def url(self) -> str: ...

    @property
    def metadata(self) -> dict[str, typing.Any]: ...


class Opened(typing.NamedTuple):
    """Data to read; ``start`` runs a job in a thread that may wait for it,
    where not every thread may.
    """

    stream: typing.BinaryIO
    start: collections.abc.Callable[[bulkhead.Job], None] | None


@dataclasses.dataclass(frozen=True)
class Entry:
    """A store with what its section says of it."""

    store: base.Store
    description: str | None = None
    weight: int = 0


class Stores:
    """All stores of a process."""

    def __init__(self, entries: collections.abc.Sequence[Entry],
                 default: str, *, several: bool,
                 seconds: float = 60.0,
                 rates: pacing.Rates | None = None) -> None:
        """
        :param rates: at which imports write to them
        :param several: whether users are told of them
        :param seconds: how long a request waits for a store over a network
        """
        self._bulkheads = {
            entry.store.id: bulkhead.Bulkhead(entry.store.id, seconds)
            for entry in entries
            if not isinstance(entry.store, file_store.FileStore)}
        self.rates = rates or pacing.Rates({})
        self.entries = {entry.store.id: entry for entry in entries}
        self.default = self.entries[default].store
        self.many = several

    @property
    def ids(self) -> list[str]:
        """In the order of the configuration."""
        return list(self.entries)

    def all(self) -> list[base.Store]:
        return [entry.store for entry in self.entries.values()]

    def by_id(self, store_id: str) -> base.Store:
        """:raises base.UnknownStore: there is none of that id"""
        try:
            return self.entries[store_id].store
        except KeyError:
            raise base.UnknownStore(
                f'there is no store {store_id!r} here') from None

    def of(self, location: Located) -> base.Store:
        """The store that has what is at a location.

        Glance has written locations without a store, and a store may have
        got another id since: then whichever recognises the URI.

        :raises base.UnknownStore: none does
        """
        named = location.metadata.get('store')
        if named in self.entries:
            return self.entries[named].store
        for store in (self.default, *self.all()):
            if store.accepts(location.url):
                return store
        raise base.UnknownStore(
            'the store of the data is not configured here'
            + (f' ({named})' if named else ''))

    def threads(self, store: base.Store) -> bulkhead.Bulkhead | None:
        """Those that wait for it; None of a store on this machine."""
        return self._bulkheads.get(store.id)

    def are_far(self, locations: collections.abc.Iterable[Located]) -> bool:
        """Whether a store over a network has what is at one of them."""
        return any(self.id_of(each) in self._bulkheads for each in locations)

    def call(self, store: base.Store,
             function: collections.abc.Callable[[], typing.Any],
             seconds: float | None = None) -> typing.Any:
        """What ``function`` returns, which asks the store.

        :param seconds: how long it is waited for, if not as configured
        :raises base.StoreUnavailable: it has not answered in that time
        """
        threads = self.threads(store)
        return function() if threads is None else threads.call(
            function, seconds)

    def state(self, store: base.Store, seconds: float
              ) -> tuple[str, str | None]:
        """Whether it answers now: ``up``, ``away`` and why, or ``unknown``.

        :param seconds: how long it is waited for
        """
        try:
            asked = self.call(store, store.check, seconds)
        except base.StoreError as failure:
            return 'away', str(failure)
        return 'up' if asked else 'unknown', None

    def states(self, seconds: float
               ) -> list[tuple[base.Store, str, str | None]]:
        """That of each store, all asked at once."""
        def asked(store: base.Store) -> tuple[base.Store, str, str | None]:
            return store, *self.state(store, seconds)

        with futures.ThreadPoolExecutor(len(self.entries)) as pool:
            return list(pool.map(asked, self.all()))

    def open(self, location: Located, offset: int = 0) -> Opened:
        """The data at a location from ``offset`` on.

        :raises base.StoreError: it cannot be had now
        """
        store = self.of(location)
        threads = self.threads(store)
        stream = self.call(store, lambda: store.open(location.url,
                                                     offset=offset))
        return Opened(stream, None if threads is None else threads.start)

    def id_of(self, location: Located) -> str | None:
        """Its store's id as users are told; None of an unknown one."""
        try:
            return self.of(location).id
        except base.UnknownStore:
            named = location.metadata.get('store')
            return named if isinstance(named, str) else None

    def in_order(self, locations: collections.abc.Iterable[typing.Any]
                 ) -> list[typing.Any]:
        """The locations to read from, best first: by weight of the store."""
        def weight(location: Located) -> int:
            entry = self.entries.get(self.id_of(location) or '')
            return entry.weight if entry is not None else -1
        return sorted(locations, key=weight, reverse=True)

    def owns(self, path: str) -> bool:
        """Whether a file is in a file store's directory."""
        return any(store.owns(path) for store in self.files())

    def files(self) -> list[file_store.FileStore]:
        """Those that keep files on this machine."""
        return [store for store in self.all()
                if isinstance(store, file_store.FileStore)]


# -- options

_COMMON = (
    cfg.StrOpt('store_description',
               help='What users read of the store.'),
    cfg.IntOpt('weight', default=0,
               help='Of the stores that have an image, the one of the '
                    'greatest weight is read.'),
)
_FILE = (
    cfg.StrOpt('filesystem_store_datadir',
               help='Directory of the store.'),
    cfg.IntOpt('filesystem_store_chunk_size', default=65536, min=1,
               help='Accepted for the sake of existing files: blocks are of '
                    '1 MiB here.'),
    cfg.BoolOpt('filesystem_thin_provisioning', default=True,
                help='Accepted for the sake of existing files: holes stay '
                     'holes here.'),
)


def _options(kind: str) -> collections.abc.Sequence[cfg.Opt]:
    if kind == 'file':
        return (*_COMMON, *_FILE)
    if kind == 'http':
        return _COMMON
    if kind == 'rbd':
        from glance_import.stores import rbd

        return (*library.common_options(), *rbd.options())
    # The very objects that the driver registers too, or it complains.
    return (*library.common_options(),
            *(library.driver_class(kind).OPTIONS or ()))


def register(conf: cfg.ConfigOpts) -> None:
    """Make the sections of the stores known; calling it again is fine.

    :raises Misconfigured: a type, an id, or the default store
    """
    if not conf.enabled_backends:
        _register_single(conf)
        return
    for store_id, kind in conf.enabled_backends.items():
        _check_entry(conf, store_id, kind)
        try:
            options = _options(kind)
        except base.StoreError as failure:
            raise Misconfigured('enabled_backends', None,
                                str(failure)) from failure
        conf.register_opts(options, group=store_id)
    default = conf.glance_store.default_backend
    if default not in conf.enabled_backends:
        raise Misconfigured(
            'default_backend', 'glance_store',
            ('is not set' if default is None else
             f"'{default}' is not one of enabled_backends")
            + f" ({', '.join(conf.enabled_backends)})")


def _check_entry(conf: cfg.ConfigOpts, store_id: str, kind: str) -> None:
    reason = None
    if store_id.startswith(reserved.PREFIX):
        reason = (f"'{store_id}': ids that begin with {reserved.PREFIX} are "
                  'reserved')
    elif kind not in KINDS:
        reason = (f"'{kind}' (of {store_id}) is no type of store; there are "
                  + ', '.join(KINDS))
    elif not store_id.isascii() or ',' in store_id or store_id != \
            store_id.strip() or not store_id:
        reason = f"'{store_id}' cannot be the id of a store"
    elif store_id in _other_sections(conf):
        reason = f"'{store_id}' is the name of another section"
    if reason:
        raise Misconfigured('enabled_backends', None, reason)


def _other_sections(conf: cfg.ConfigOpts) -> set[str]:
    from glance_import import conf as configuration

    return {'DEFAULT', 'database', *configuration.FOREIGN_GROUPS, *(
        group for group, _ in configuration.list_opts()
        + configuration.list_image_import_opts() if group)}


def _register_single(conf: cfg.ConfigOpts) -> None:
    options = conf.glance_store
    for kind in options.stores:
        if kind not in KINDS:
            raise Misconfigured(
                'stores', 'glance_store',
                f"'{kind}' is no type of store; there are "
                + ', '.join(KINDS))
        if kind != 'file':
            try:
                conf.register_opts(_options(kind), group='glance_store')
            except base.StoreError as failure:
                raise Misconfigured('stores', 'glance_store',
                                    str(failure)) from failure
    if options.default_store not in options.stores:
        raise Misconfigured(
            'default_store', 'glance_store',
            f"'{options.default_store}' is not one of stores "
            f"({', '.join(options.stores)})")


# -- opening

def build(conf: cfg.ConfigOpts) -> Stores:
    """Open all of them; a remote one is not asked yet.

    :raises Misconfigured: naming what cannot be used
    """
    register(conf)
    if not conf.enabled_backends:
        entries = [Entry(_open(conf, kind, kind, None))
                   for kind in conf.glance_store.stores]
        return _checked(Stores(
            entries, conf.glance_store.default_store, several=False,
            seconds=conf.store_timeout, rates=_rates(conf)), 'default_store')
    entries = [Entry(_open(conf, store_id, kind, store_id),
                     conf[store_id].store_description, conf[store_id].weight)
               for store_id, kind in conf.enabled_backends.items()]
    return _checked(Stores(
        entries, conf.glance_store.default_backend, several=True,
        seconds=conf.store_timeout, rates=_rates(conf)), 'default_backend')


def _rates(conf: cfg.ConfigOpts) -> pacing.Rates:
    try:
        return pacing.Rates(conf.taskflow_executor.max_store_rate)
    except ValueError as failure:
        raise Misconfigured('max_store_rate', 'taskflow_executor',
                            str(failure)) from failure


def _checked(stores: Stores, option: str) -> Stores:
    if stores.default.read_only:
        raise Misconfigured(
            option, 'glance_store',
            f'{stores.default.id} is read-only: it cannot take new images')
    for store_id in stores.rates.ids():
        if store_id not in stores.entries:
            raise Misconfigured(
                'max_store_rate', 'taskflow_executor',
                f'there is no store {store_id}')
    directories: dict[str, str] = {}
    for store in stores.all():
        if isinstance(store, file_store.FileStore):
            other = directories.setdefault(store.datadir, store.id)
            if other != store.id:
                raise Misconfigured(
                    file_store.OPTION, store.id,
                    f'{store.datadir} is the directory of {other} too')
    return stores


def _open(conf: cfg.ConfigOpts, store_id: str, kind: str,
          group: str | None) -> base.Store:
    section = group or 'glance_store'
    if kind == 'file':
        datadir = conf[section].filesystem_store_datadir
        if not datadir:
            raise Misconfigured(file_store.OPTION, section, 'is not set')
        store = file_store.FileStore(datadir, store_id)
        try:
            store.prepare()
        except base.StoreError as failure:
            raise Misconfigured(file_store.OPTION, section,
                                str(failure)) from failure
        return store
    make: typing.Any = library.LibraryStore
    if kind == 's3':
        from glance_import.stores import s3

        make = s3.S3Store
    elif kind == 'swift':
        from glance_import.stores import swift

        make = swift.SwiftStore
    elif kind == 'rbd':
        from glance_import.stores import rbd

        make = rbd.RbdStore
    elif kind == 'http':
        from glance_import.stores import http

        make = http.HttpStore
    try:
        return make(conf, kind, store_id, group=group)
    except cfg.Error as failure:
        raise Misconfigured('enabled_backends', None, ' '.join(
            str(failure).split())) from failure
    except base.StoreError as failure:
        raise Misconfigured(
            'enabled_backends' if group else 'stores',
            None if group else 'glance_store', str(failure)) from failure


def kinds(conf: cfg.ConfigOpts) -> list[tuple[str, str, str | None]]:
    """(id, type, directory of a file store) of each, before it is opened."""
    if not conf.enabled_backends:
        return [(kind, kind, conf.glance_store.filesystem_store_datadir
                 if kind == 'file' else None)
                for kind in conf.glance_store.stores]
    return [(store_id, kind, conf[store_id].filesystem_store_datadir
             if kind == 'file' else None)
            for store_id, kind in conf.enabled_backends.items()]


def directories(conf: cfg.ConfigOpts) -> list[str]:
    """Those of all file stores and of staged data, before they are opened."""
    places = [reserved.staging_uri(conf).partition('://')[2]]
    if not conf.enabled_backends:
        return [*places, conf.glance_store.filesystem_store_datadir]
    register(conf)
    return places + [conf[store_id].filesystem_store_datadir
                     for store_id, kind in conf.enabled_backends.items()
                     if kind == 'file'
                     and conf[store_id].filesystem_store_datadir]
