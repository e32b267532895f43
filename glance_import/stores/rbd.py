"""The RBD store: images in a pool of a Ceph cluster, on librbd.

Options and locations are those of glance_store's driver, so either can serve
what the other has stored: ``rbd://fsid/pool/image/snap``, of a snapshot that
is protected, as Nova and Cinder clone it. An attempt writes to ``<image
id>.<epoch>.<random>``. When all is written this is renamed to ``<image id>``
and the snapshot is made last: before, nothing is to be read. A rename never
replaces: where another attempt has the name, or another program, it becomes
``<image id>.<epoch>``. What is named by an image's id alone bears a mark that
only its own attempt can have written; without it, it is never swept.
Touches the pool.
"""

from __future__ import annotations

import collections.abc
from concurrent import futures
import contextlib
import copy
import datetime
import functools
import io
import math
import re
import secrets
import threading
import typing
import urllib.parse

from oslo_config import cfg

from glance_import.stores import base
from glance_import.stores import bulkhead
from glance_import.stores import ceph
from glance_import.stores import library
from glance_import.stores import rbd_data
from glance_import.stores import rbd_snapshots

# Metadata of an RBD image: "<epoch> <its own id>". A clone inherits it, with
# an id that is not its own.
MARK = 'glance_import.attempt'
# How long cleaning up may keep who gave up; then it goes on by itself.
ABORT_SECONDS = 3
CHECK_SECONDS = 5
# What librbd takes as the size of an object, as a power of two.
_LEAST_ORDER, _MOST_ORDER = 12, 25
_NAME = re.compile(r'([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'
                   r'(?:\.(\d+)(?:\.[0-9a-f]{8})?)?')


@functools.cache
def options() -> list[cfg.Opt]:
    """glance_store's own, but thin provisioning is on.

    :raises base.StoreError: librbd is not installed
    """
    found = []
    for option in library.driver_class('rbd').OPTIONS:
        option = copy.copy(option)
        if option.name == 'rbd_thin_provisioning':
            option.default = True
        found.append(option)
    return found


class Place(typing.NamedTuple):
    """What a location names; ``fsid`` None is ours, as old Glance had it."""

    fsid: str | None
    pool: str | None
    image: str
    snapshot: str | None


class RbdStore:
    """See ``base.Store``. Connects when it is first used."""

    kind = 'rbd'
    read_only = False

    def __init__(self, conf: cfg.ConfigOpts, kind: str, store_id: str, *,
                 group: str | None) -> None:
        self.id = store_id
        self._conf = conf
        self._group = group
        if group is not None:
            # What is not in the store's section is in the one for all.
            conf.register_opts(options(), group=library.SHARED)
            for each in options():
                conf.set_default(each.name, None, group=group)
        self.pool_name = self.option('rbd_store_pool')
        self.thin = self.option('rbd_thin_provisioning')
        chunk = self.option('rbd_store_chunk_size') << 20
        self.order = min(max(int(math.log2(chunk)), _LEAST_ORDER),
                         _MOST_ORDER)
        self.cluster = ceph.Cluster(
            store_id, self.option('rbd_store_ceph_conf'),
            self.option('rbd_store_user'), self.pool_name,
            self.option('rados_connect_timeout'))
        # What was found of images by their bare names: a look at each.
        self._seen: dict[str, base.Stray | None] = {}
        self._checking: threading.Lock = threading.Lock()

    def option(self, name: str) -> typing.Any:
        """Of the store's section, or of the one that all share."""
        found = self._conf[self._group or 'glance_store'][name]
        if found is None and self._group is not None:
            return self._conf[library.SHARED][name]
        return found

    def properties(self) -> dict[str, typing.Any]:
        """See ``base.Store.properties``."""
        return {name: self.option(option)
                for name, option in library.SHOWN['rbd'].items()}

    def check(self) -> bool:
        """See ``base.Store.check``."""
        if not self._checking.acquire(blocking=False):
            raise base.StoreUnavailable(
                f'store {self.id} does not answer: it was asked before')

        def ask() -> None:
            try:
                with self.cluster.pool() as pool, contextlib.suppress(
                        base.ObjectGone), self.cluster.errors():
                    # An answer of an OSD, whatever it is.
                    pool.stat('rbd_directory')
            finally:
                self._checking.release()
        self.cluster.within(ask, seconds=CHECK_SECONDS)
        return True

    # -- locations

    def uri(self, image: str) -> str:
        """Where the image of that name is read."""
        return 'rbd://' + '/'.join(
            urllib.parse.quote(each, '') for each in (
                self.cluster.fsid(), self.pool_name, image,
                rbd_snapshots.SNAPSHOT))

    def place(self, uri: str) -> Place:
        """:raises base.BadLocation: it is not of this cluster and pool"""
        scheme, _, rest = uri.partition('://')
        pieces = [urllib.parse.unquote(each) for each in rest.split('/')]
        if scheme == 'rbd' and all(pieces) and len(pieces) in (1, 4):
            found = (Place(None, None, pieces[0], None) if len(pieces) == 1
                     else Place(*pieces))
            if found.pool in (None, self.pool_name) and (
                    found.fsid is None or found.fsid == (
                        self.cluster.known_fsid() or found.fsid)):
                return found
        raise base.BadLocation(f'the location is not one of store {self.id}')

    def accepts(self, uri: str) -> bool:
        """See ``base.Store.accepts``."""
        try:
            self.place(uri)
            return True
        except base.BadLocation:
            return False

    # -- reading

    def open(self, uri: str, *, offset: int = 0) -> typing.BinaryIO:
        """See ``base.Store.open``."""
        image = self._open(self.place(uri))
        size = image.size()
        return io.BufferedReader(
            rbd_data.Reader(self.cluster, image, min(offset, size), size),
            library.BLOCK)

    def _open(self, place: Place) -> typing.Any:
        import rbd

        with self.cluster.pool() as pool:
            return rbd.Image(pool, place.image, snapshot=place.snapshot,
                             read_only=True)

    def size(self, uri: str) -> int:
        """See ``base.Store.size``."""
        with self.cluster.errors(), self._open(self.place(uri)) as image:
            return image.size()

    def exists(self, uri: str) -> bool:
        """See ``base.Store.exists``."""
        try:
            self.size(uri)
            return True
        except base.ObjectGone:
            return False

    # -- deleting

    def in_use(self, uri: str) -> str | None:
        """See ``base.Store.in_use``."""
        import rbd

        place = self.place(uri)
        try:
            with self.cluster.pool() as pool:
                # Only read: who has it open to write keeps it from being
                # deleted.
                with rbd.Image(pool, place.image, read_only=True) as image:
                    known = rbd_snapshots.clones(image)
                if known is None:
                    with rbd.Image(pool, place.image) as image:
                        rbd_snapshots.check_unused(image)
        except base.ObjectInUse as failure:
            return str(failure)
        except base.ObjectGone:
            pass
        return None

    def delete(self, uri: str) -> None:
        """See ``base.Store.delete``; it may have begun when it is silent."""
        place = self.place(uri)
        try:
            with self.cluster.pool() as pool:
                self.remove(pool, place.image)
        except base.StoreUnavailable as failure:
            raise base.StoreSilent(str(failure)) from failure

    def undo(self, uri: str, epoch: int) -> None:
        """See ``base.Undoing``."""
        with self.cluster.pool() as pool:
            self.remove(pool, self.place(uri).image, latest=epoch)

    def remove(self, pool: typing.Any, name: str, latest: int | None = None
               ) -> None:
        """All of an image, or nothing of it.

        :param latest: only what attempts up to that epoch have made
        :raises base.ObjectInUse: something needs it; it is as before
        """
        import rbd

        had = False
        # Where there is the name of an attempt and no more, that goes.
        made = _epoch_of(name)
        with contextlib.suppress(rbd.ImageNotFound), \
                rbd.Image(pool, name) as image:
            made = _epoch(image, name)
            _check_epoch(made, latest)
            rbd_snapshots.check_unused(image)
            had = rbd_snapshots.drop(image)
        _check_epoch(made, latest)
        try:
            rbd.RBD().remove(pool, name)
        except (rbd.ImageBusy, rbd.ImageHasSnapshots) as failure:
            # Somebody came to use it since it was looked at.
            if had:
                with rbd.Image(pool, name) as image:
                    rbd_snapshots.make(image)
            raise base.ObjectInUse(
                'the RBD image is in use') from failure

    # -- attempts

    def attempt(self, image_id: str, epoch: int) -> base.Attempt:
        """See ``base.Store.attempt``."""
        return Attempt(self, base.checked(image_id), int(epoch))

    def sweep(self, image_id: str, below: int,
              keep: collections.abc.Collection[str]) -> list[str]:
        """See ``base.Store.sweep``."""
        removed = []
        with self.cluster.pool() as pool:
            for name in self.names(pool, base.checked(image_id)):
                epoch = self.epoch(pool, name)
                if epoch is None or epoch >= below or self.uri(name) in keep:
                    continue
                # Who was killed watches its image for half a minute more:
                # found again by ``strays``.
                with contextlib.suppress(base.ObjectInUse, base.ObjectGone), \
                        self.cluster.errors():
                    self.remove(pool, name, latest=below - 1)
                    removed.append(self.uri(name))
        return removed

    @staticmethod
    def names(pool: typing.Any, image_id: str) -> list[str]:
        """What may have been made by attempts at the image."""
        import rbd

        return sorted(name for name in rbd.RBD().list(pool)
                      if name.startswith(image_id) and _NAME.fullmatch(name))

    def epoch(self, pool: typing.Any, name: str) -> int | None:
        """Of the attempt that made an image; None: none of ours did."""
        found = self._stray(pool, name)
        return found.epoch if found is not None else None

    def _stray(self, pool: typing.Any, name: str) -> base.Stray | None:
        import rbd

        match = _NAME.fullmatch(name)
        if match is None:
            return None
        # Who was killed while he made it has left a name and no more.
        epoch = _epoch_of(name)
        when = datetime.datetime(1970, 1, 1)
        with contextlib.suppress(rbd.ImageNotFound), rbd.Image(
                pool, name, read_only=True) as image:
            epoch, when = _epoch(image, name), image.modify_timestamp()
        if epoch is None:
            return None
        return base.Stray(match[1], epoch, self.uri(name), when.replace(
            tzinfo=datetime.timezone.utc).timestamp())

    def strays(self) -> collections.abc.Iterator[base.Stray]:
        """See ``base.Store.strays``.

        An image by its bare name is looked at once by a process: there may
        be very many, and nothing goes by what is remembered alone.
        """
        import rbd

        with self.cluster.pool() as pool:
            names = rbd.RBD().list(pool)
        known, self._seen = self._seen, {}
        for name in names:
            if '.' in name or name not in known:
                with self.cluster.pool() as pool:
                    found = self._stray(pool, name)
            else:
                found = known[name]
            if '.' not in name:
                self._seen[name] = found
            if found is not None:
                yield found


def _epoch_of(name: str) -> int | None:
    """Of the attempt that gave that name, None for one of others."""
    match = _NAME.fullmatch(name)
    return int(match[2]) if match and match[2] else None


def _check_epoch(made: int | None, latest: int | None) -> None:
    """:raises base.ObjectGone: an attempt up to that one has not made it"""
    if latest is not None and (made is None or made > latest):
        raise base.ObjectGone('somebody else has that name now')


def _epoch(image: typing.Any, name: str) -> int | None:
    """Of the attempt that made it, by its name or its mark."""
    if (found := _epoch_of(name)) is not None:
        return found
    try:
        epoch, _, of = image.metadata_get(MARK).partition(' ')
    except KeyError:
        return None
    return int(epoch) if of == image.id() and epoch.isdecimal() else None


class Attempt:
    """See ``base.Attempt``. Each ``begin`` is the begin of a new life."""

    def __init__(self, store: RbdStore, image_id: str, epoch: int) -> None:
        self.store = store
        self.cancelled: base.IsCancelled | None = None
        self._image_id = image_id
        self._epoch = epoch
        self._hash_algo = ''
        self._life: _Life | None = None
        self._lane: bulkhead.Daemons | None = None

    @property
    def pool(self) -> futures.Executor:
        assert self._lane is not None
        return self._lane

    def same_filesystem(self, source: base.Source) -> bool:
        """Never."""
        return False

    def adopt(self, source: base.Source, report: typing.Any) -> None:
        """Never: what an earlier attempt left is not looked at."""

    def begin(self, size: int, hash_algo: str) -> None:
        """See ``base.Attempt.begin``."""
        self._hash_algo = hash_algo
        self._lane = bulkhead.Daemons(1, f'rbd-{self.store.id}')
        self._life = _Life(self.store, self._image_id, self._epoch,
                           self.cancelled)
        self._life.run(functools.partial(self._life.create, size))

    def write(self, block: base.Block) -> None:
        """See ``base.Attempt.write``."""
        assert self._life is not None and self._life.writer is not None
        self._life.writer.write(block)

    def commit(self, digests: base.Digests) -> base.Stored:
        """See ``base.Attempt.commit``."""
        life = self._life
        assert life is not None and life.writer is not None
        try:
            life.writer.finish(digests.size)
            name = life.run(life.publish)
            uri = self.store.uri(name)
        except BaseException:
            # What was wrong first says more.
            with contextlib.suppress(base.StoreError):
                self.abort()
            raise
        self._end()
        return base.Stored(
            uri, digests.size, digests.checksum, self._hash_algo,
            digests.hash_value, {'store': self.store.id})

    def abort(self) -> None:
        """See ``base.Attempt.abort``.

        Where the cluster hangs it goes on without being waited for.
        """
        life = self._life
        self._end()
        if life is not None:
            life.given_up = True
            self.store.cluster.within(life.remove, seconds=ABORT_SECONDS)

    def _end(self) -> None:
        lane, self._lane, self._life = self._lane, None, None
        if lane is not None:
            lane.shutdown(wait=False, cancel_futures=True)


class _Life:
    """One RBD image from its creation until it is published or removed.

    A call that was left behind may go on when the attempt has long begun
    again: it has this object to itself, and ends when it sees that it was
    ``given_up``.
    """

    def __init__(self, store: RbdStore, image_id: str, epoch: int,
                 cancelled: base.IsCancelled | None) -> None:
        self.writer: rbd_data.Writer | None = None
        self.given_up = False
        self._store = store
        self._cancelled = cancelled
        self._image_id = image_id
        self._epoch = epoch
        self._name = f'{image_id}.{epoch}.{secrets.token_hex(4)}'
        self._id: str | None = None
        self._image: typing.Any = None
        # One call at a time, also of those that were left behind.
        self._calling = threading.Lock()

    def run(self, call: collections.abc.Callable[[], ceph.T]) -> ceph.T:
        """:raises base.StoreError: also Cancelled"""
        def alone() -> ceph.T:
            with self._calling:
                self._go_on()
                return call()
        return self._store.cluster.within(alone, cancelled=self._cancelled)

    def _go_on(self) -> None:
        if self.given_up:
            raise base.Cancelled('given up')

    def create(self, size: int) -> None:
        """The image, to be written to."""
        import rbd

        store = self._store
        with store.cluster.pool() as pool:
            self._remove_earlier(pool)
            self._go_on()
            features = int(store.cluster.connection().conf_get(
                'rbd_default_features') or 0) or rbd.RBD_FEATURE_LAYERING
            rbd.RBD().create(pool, self._name, size, store.order,
                             old_format=False, features=features)
            self._image = rbd.Image(pool, self._name)
            self._id = self._image.id()
            self.writer = rbd_data.Writer(
                store.cluster, self._image, size, 1 << store.order,
                thin=store.thin, cancelled=self._cancelled)

    def _remove_earlier(self, pool: typing.Any) -> None:
        """What earlier lives of this attempt have begun, where it can go."""
        begun = f'{self._image_id}.{self._epoch}.'
        for name in self._store.names(pool, self._image_id):
            if name.startswith(begun):
                with contextlib.suppress(base.ObjectInUse, base.ObjectGone), \
                        self._store.cluster.errors():
                    self._store.remove(pool, name)

    def publish(self) -> str:
        """Give it its name, and make it readable. :returns: the name"""
        import rbd

        image, self._image = self._image, None
        with self._store.cluster.pool() as pool:
            with contextlib.closing(image):
                image.flush()
                image.metadata_set(MARK, f'{self._epoch} {self._id}')
            for name in (self._image_id, f'{self._image_id}.{self._epoch}'):
                self._go_on()
                if self._take(pool, name):
                    break
            with rbd.Image(pool, self._name) as image:
                self._go_on()
                rbd_snapshots.make(image)
        return self._name

    def _take(self, pool: typing.Any, name: str) -> bool:
        """Whether the image has that name now."""
        import rbd

        before = self._name
        with contextlib.suppress(rbd.ImageExists):
            self._name = name
            rbd.RBD().rename(pool, before, name)
            return True
        self._name = before
        if self._store.epoch(pool, name) != self._epoch:
            # Of another attempt, or not of ours at all.
            return False
        # This very attempt has made it before and was not heard.
        self._store.remove(pool, name, latest=self._epoch)
        return self._take(pool, name)

    def remove(self) -> None:
        """Whatever of it is there."""
        with self._calling:
            if self._image is not None:
                self._image.close()
                self._image = None
            with self._store.cluster.pool() as pool:
                for name in self._store.names(pool, self._image_id):
                    if self._is_ours(pool, name):
                        self._store.remove(pool, name)

    def _is_ours(self, pool: typing.Any, name: str) -> bool:
        import rbd

        if self._id is None:
            return name == self._name
        with contextlib.suppress(rbd.ImageNotFound), rbd.Image(
                pool, name, read_only=True) as image:
            return image.id() == self._id
        return False
