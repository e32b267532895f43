"""Stores by glance_store's drivers: Cinder; base of S3 and Swift.

A driver reads what it stores from a file object, in a thread of its own; the
blocks of the pass are handed to it through a short queue, so that it takes
part in the one read like any other store. Objects are named ``<image
id>.<epoch>``. Drivers are imported when a store of their type is configured.
Touches what the driver touches.
"""

from __future__ import annotations

import collections.abc
from concurrent import futures
import contextlib
import importlib
import io
import queue
import typing

from oslo_config import cfg

from glance_import.stores import base
from glance_import.stores import bulkhead

# Where glance_store has the drivers that can be named here. Of some only the
# options are used.
DRIVERS = {
    's3': 'glance_store._drivers.s3',
    'swift': 'glance_store._drivers.swift.store',
    'rbd': 'glance_store._drivers.rbd',
    'cinder': 'glance_store._drivers.cinder.store',
}
# The modules a driver cannot do without, and what installs them.
NEEDS = {
    's3': ('boto3', 'pip install "glance-import[s3]"'),
    'swift': ('swiftclient', 'pip install "glance-import[swift]"'),
    'rbd': ('rbd', 'the package python3-rbd of your distribution'),
    'cinder': ('cinderclient', 'pip install "glance-import[cinder]"'),
}
# What info/stores/detail shows of each type: name -> option.
SHOWN = {
    's3': {'s3_store_large_object_size': 's3_store_large_object_size',
           's3_store_large_object_chunk_size':
               's3_store_large_object_chunk_size',
           's3_store_thread_pools': 's3_store_thread_pools'},
    'swift': {'container': 'swift_store_container',
              'large_object_size': 'swift_store_large_object_size',
              'large_object_chunk_size':
                  'swift_store_large_object_chunk_size'},
    'rbd': {'pool': 'rbd_store_pool', 'chunk_size': 'rbd_store_chunk_size',
            'thin_provisioning': 'rbd_thin_provisioning'},
    'cinder': {'volume_type': 'cinder_volume_type',
               'use_multipath': 'cinder_use_multipath'},
}
# glance_store's section of defaults for all sections of stores.
SHARED = 'backend_defaults'
_QUEUED = 8
BLOCK = 1 << 20


def driver_class(kind: str) -> typing.Any:
    """glance_store's class of a type.

    :raises base.StoreError: what it needs is not installed
    """
    needed = NEEDS.get(kind)
    if needed is not None:
        try:
            importlib.import_module(needed[0])
        except ImportError as failure:
            raise base.StoreError(
                f'a store of the type {kind} needs the Python module '
                f'{needed[0]} ({failure}); install {needed[1]}'
            ) from failure
    try:
        return importlib.import_module(DRIVERS[kind]).Store
    except ImportError as failure:
        raise base.StoreError(
            f"glance_store's driver {kind} cannot be loaded: {failure}"
        ) from failure


def common_options() -> collections.abc.Sequence[cfg.Opt]:
    """What the section of each store has besides its driver's options."""
    from glance_store import driver

    return driver.Store.MULTI_BACKEND_OPTIONS


class LibraryStore:
    """See ``base.Store``."""

    def __init__(self, conf: cfg.ConfigOpts, kind: str, store_id: str, *,
                 group: str | None) -> None:
        """:param group: section of the options, None for [glance_store]

        :raises base.StoreError: one line that says what is wrong
        """
        from glance_store import capabilities

        self.id = store_id
        self.kind = kind
        self._group = group
        self._conf = conf
        try:
            self.driver = driver_class(kind)(conf, backend=group)
            self.driver.configure(re_raise_bsc=True)
        except Exception as failure:
            # Some connect when they are configured, with errors of their own.
            raise base.StoreError(
                f'store {store_id}: {one_line(failure)}') from failure
        self.read_only = not self.driver.is_capable(
            capabilities.BitMasks.WRITE_ACCESS)

    def option(self, name: str) -> typing.Any:
        """As the driver reads it: its section, or what all share."""
        found = self._conf[self._group or 'glance_store'][name]
        if found is None and self._group is not None:
            return self._conf[SHARED][name]
        return found

    def check(self) -> bool:
        """See ``base.Store.check``; glance_store has no way to ask."""
        return False

    def properties(self) -> dict[str, typing.Any]:
        """See ``base.Store.properties``."""
        return {name: self.option(option)
                for name, option in SHOWN[self.kind].items()}

    def attempt(self, image_id: str, epoch: int) -> base.Attempt:
        """See ``base.Store.attempt``."""
        return Attempt(self, object_name(image_id, epoch))

    def sweep(self, image_id: str, below: int,
              keep: collections.abc.Collection[str]) -> list[str]:
        """Nothing: what drivers leave is not known."""
        return []

    def strays(self) -> collections.abc.Iterator[base.Stray]:
        """Nothing: what drivers leave is not known."""
        return iter(())

    def accepts(self, uri: str) -> bool:
        """See ``base.Store.accepts``."""
        try:
            self.location(uri)
            return True
        except base.BadLocation:
            return False

    def location(self, uri: str) -> typing.Any:
        """glance_store's own object for a URI.

        :raises base.BadLocation: it is not one of this type of store
        """
        from glance_store import location

        scheme = uri.partition('://')[0]
        try:
            if scheme in self.driver.get_schemes():
                return location.Location(
                    scheme, self.driver.get_store_location_class(),
                    self._conf, uri=uri, backend=self._group)
        except Exception as failure:
            # Each driver has errors of its own for what it cannot parse.
            raise self._foreign() from failure
        raise self._foreign()

    def _foreign(self) -> base.BadLocation:
        return base.BadLocation(f'the location is not one of store {self.id}')

    def open(self, uri: str, *, offset: int = 0) -> typing.BinaryIO:
        """See ``base.Store.open``."""
        location = self.location(uri)
        with errors(self.id):
            # Not every driver that takes an offset heeds it.
            pieces, _size = self.driver.get(location)
        stream = io.BufferedReader(Pieces(self.id, iter(pieces)), BLOCK)
        while offset:
            skipped = len(stream.read(min(offset, BLOCK)))
            if not skipped:
                break
            offset -= skipped
        return stream

    def size(self, uri: str) -> int:
        """See ``base.Store.size``."""
        location = self.location(uri)
        with errors(self.id):
            return self.driver.get_size(location)

    def exists(self, uri: str) -> bool:
        """See ``base.Store.exists``."""
        try:
            self.size(uri)
            return True
        except base.ObjectGone:
            return False

    def add(self, name: str, stream: Feed, size: int, hash_algo: str
            ) -> tuple[str, int, str | None]:
        """Store the bytes of a stream as an object of that name.

        :returns: URI, bytes, and the digest where one was computed
        """
        uri, done, _md5, digest, _metadata = self.driver.add(
            name, stream, size, hash_algo)
        return uri, done, digest

    def forget(self, name: str) -> None:
        """Remove what an attempt that failed may have left of an object.

        The driver does that, as far as it can.
        """

    def in_use(self, uri: str) -> str | None:
        """See ``base.Store.in_use``: nothing that the driver tells of."""
        return None

    def delete(self, uri: str) -> None:
        """See ``base.Store.delete``."""
        location = self.location(uri)
        with errors(self.id):
            self.driver.delete(location)


@contextlib.contextmanager
def errors(store_id: str) -> collections.abc.Iterator[None]:
    """Errors of drivers, and of what they are built on, as ours."""
    from glance_store import exceptions

    try:
        yield
    except (base.StoreError, GeneratorExit):
        raise
    except exceptions.NotFound as failure:
        raise base.ObjectGone(
            'the data of the image is not in its store') from failure
    except (exceptions.InUseByStore, exceptions.HasSnapshot) as failure:
        raise base.ObjectInUse(one_line(failure)) from failure
    except exceptions.StorageFull as failure:
        raise base.StoreFull(
            f'no room in store {store_id}: {one_line(failure)}') from failure
    except exceptions.BadStoreUri as failure:
        raise base.BadLocation(
            f'the location is not one of store {store_id}') from failure
    except Exception as failure:
        raise base.StoreUnwritable(
            f'store {store_id} does not do what is asked: '
            f'{one_line(failure)}') from failure


def one_line(failure: BaseException) -> str:
    text = ' '.join(str(failure).split())[:300]
    return text or type(failure).__name__


def object_name(image_id: str, epoch: int) -> str:
    """The name that only the attempt of that epoch gives to an object."""
    return f'{base.checked(image_id)}.{int(epoch)}'


class Pieces(io.RawIOBase):
    """A driver's iterator of pieces as a file to read from."""

    def __init__(self, store_id: str,
                 pieces: collections.abc.Iterator[bytes]) -> None:
        self._store_id = store_id
        self._pieces = pieces
        self._rest = memoryview(b'')

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: typing.Any) -> int:
        """:raises base.StoreError: the store stopped sending"""
        while not self._rest:
            with errors(self._store_id):
                piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        close = getattr(self._pieces, 'close', None)
        if close is not None and not self.closed:
            close()
        super().close()


class Feed:
    """What a driver reads from: blocks somebody else puts in."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | None | Exception] = queue.Queue(
            _QUEUED)
        self._rest = b''
        self._ended = False

    def put(self, block: bytes | None | Exception, wanted:
            collections.abc.Callable[[], bool]) -> None:
        """Waits while the driver is behind, as long as it is ``wanted``."""
        while wanted():
            try:
                self._queue.put(block, timeout=0.2)
                return
            except queue.Full:
                continue

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes; b'' at the end."""
        while not self._rest and not self._ended:
            block = self._queue.get()
            if isinstance(block, Exception):
                self._ended = True
                raise block
            self._ended = block is None
            self._rest = block or b''
        if size < 0:
            size = len(self._rest)
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


class Attempt:
    """See ``base.Attempt``: the driver works in a thread beside the pass."""

    def __init__(self, store: LibraryStore, name: str) -> None:
        self.store = store
        self._name = name
        self._hash_algo = ''
        self._feed: Feed | None = None
        self._adding: futures.Future | None = None
        self._threads: bulkhead.Daemons | None = None

    @property
    def pool(self) -> futures.Executor:
        assert self._threads is not None
        return self._threads

    def same_filesystem(self, source: base.Source) -> bool:
        """Never."""
        return False

    def adopt(self, source: base.Source, report: typing.Any) -> None:
        """Never."""

    def begin(self, size: int, hash_algo: str) -> None:
        """See ``base.Attempt.begin``."""
        self._hash_algo = hash_algo
        self._threads = bulkhead.Daemons(2, f'store-{self.store.id}')
        self._feed = Feed()
        self._adding = self._threads.submit(
            self.store.add, self._name, self._feed, size, hash_algo)

    def write(self, block: base.Block) -> None:
        """See ``base.Attempt.write``."""
        assert self._feed is not None and self._adding is not None
        if self._adding.done():
            with errors(self.store.id):
                self._adding.result()
            raise base.StoreUnwritable(
                f'store {self.store.id} stopped reading')
        self._feed.put(bytes(block), self._wanted)

    def _wanted(self) -> bool:
        return self._adding is not None and not self._adding.done()

    def commit(self, digests: base.Digests) -> base.Stored:
        """See ``base.Attempt.commit``."""
        assert self._feed is not None and self._adding is not None
        try:
            self._feed.put(None, self._wanted)
            with errors(self.store.id):
                uri, size, digest = self._adding.result()
            if size != digests.size or digest not in (
                    None, digests.hash_value):
                with contextlib.suppress(base.StoreError):
                    self.store.delete(uri)
                raise base.StoreUnwritable(
                    f'store {self.store.id} took other bytes than it was '
                    'given')
        except BaseException:
            with contextlib.suppress(base.StoreError):
                self.store.forget(self._name)
            raise
        finally:
            self._end()
        return base.Stored(
            uri, digests.size, digests.checksum, self._hash_algo,
            digests.hash_value,
            {'store': self.store.id})

    def abort(self) -> None:
        """See ``base.Attempt.abort``: the driver is told by an error."""
        if self._adding is None or self._feed is None:
            return
        self._feed.put(base.Cancelled('given up'), self._wanted)
        with contextlib.suppress(Exception):
            uri = self._adding.result()[0]
            # It had read all of it and did not notice.
            self.store.delete(uri)
        with contextlib.suppress(base.StoreError):
            self.store.forget(self._name)
        self._end()

    def _end(self) -> None:
        threads, self._threads = self._threads, None
        self._adding = None
        if threads is not None:
            threads.shutdown(wait=False)
