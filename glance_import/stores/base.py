"""What a store is: a place that keeps the bytes of active images.

An object comes into being whole: nothing is visible under its URI before
``add_file`` has made it durable, and a second attempt after a crash finds
what the first one left. ``tests/stores/conformance.py`` is this page as
tests; each store runs them. Touches nothing.
"""

from __future__ import annotations

import collections.abc
from concurrent import futures
import dataclasses
import errno
import typing

from glance_import import staging
from glance_import import uuids

# A piece of an image on its way into a store; not to be changed.
Block = memoryview


class StoreError(Exception):
    """Something about a store; the text is one line fit for users.

    ``code`` is what an import that ends by it is told to have ended by.
    """

    code = 'store.failed'


class StoreFull(StoreError):
    """No room: ENOSPC, EDQUOT or EFBIG."""

    code = 'store.full'


class StoreUnwritable(StoreError):
    """The store cannot be written: permissions, read-only, input/output."""

    code = 'store.unwritable'


class StoreUnavailable(StoreUnwritable):
    """The store does not answer now; the same call may succeed later."""

    code = 'store.unreachable'


class StoreSilent(StoreUnavailable):
    """It was waited for in vain; what it was asked to do may still happen."""


class SourceGone(StoreError):
    """The file to be stored is not there."""

    code = 'staging.lost'


class ObjectGone(StoreError):
    """Nothing is stored under this URI."""


class ObjectInUse(StoreError):
    """The object cannot be deleted now, something uses it."""


class BadLocation(StoreError):
    """The URI is not one that this store gives out."""


class ObjectChanged(StoreError):
    """The bytes are not those that were expected."""

    code = 'data.changed'


class UnknownStore(StoreError):
    """No store of that id is configured here."""

    code = 'store.unknown'


class Cancelled(StoreError):
    """The caller asked to stop; nothing was left behind."""

    code = 'cancelled'


@dataclasses.dataclass(frozen=True)
class Stored:
    """An object as it was stored.

    ``size`` is in bytes. The digests are of the stored bytes: the caller
    compares them with what it expected.
    """

    uri: str
    size: int
    checksum: str | None
    hash_algo: str
    hash_value: str
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)


# Bytes so far, bytes in all.
Progress = collections.abc.Callable[[int, int], None]
IsCancelled = collections.abc.Callable[[], bool]


@dataclasses.dataclass(frozen=True)
class Digests:
    """What is known of bytes that went into a store.

    ``size`` in bytes, ``checksum`` md5 in hex or None, ``hash_value`` the
    digest by ``hash_algo`` in hex.
    """

    size: int
    checksum: str | None
    hash_algo: str
    hash_value: str


@dataclasses.dataclass(frozen=True)
class Source:
    """Bytes to be stored.

    ``fd``: the open file that has them, None when they come as a stream;
    ``expected``: what is known of the file, None if nothing is; ``blocks``
    makes a fresh iterator over them.
    """

    size: int
    blocks: collections.abc.Callable[[], collections.abc.Iterator[Block]]
    fd: int | None = None
    expected: staging.Staged | None = None


@dataclasses.dataclass(frozen=True)
class Stray:
    """What bears an epoch in its name; ``mtime`` in seconds since 1970."""

    image_id: str
    epoch: int
    uri: str
    mtime: float


class Attempt(typing.Protocol):
    """One try to make one object: its life is begin, write, commit or abort.

    After ``abort`` it may begin again. A failure is an OSError or a
    StoreError.
    """

    @property
    def store(self) -> Store:
        """Whose it is."""

    @property
    def pool(self) -> futures.Executor:
        """Where ``write`` is run.

        A store that waits for a network brings an executor of its own, or
        it would hold up others' disks.
        """

    def same_filesystem(self, source: Source) -> bool:
        """Whether the bytes could be taken over without copying them."""

    def adopt(self, source: Source,
              report: collections.abc.Callable[[int], None]
              ) -> Stored | None:
        """The object, when it can be had without the bytes being passed.

        :param report: told bytes done; may raise
        """

    def begin(self, size: int, hash_algo: str) -> None:
        """Get ready for that many bytes."""

    def write(self, block: Block) -> None:
        """The next bytes, in order; never called twice at a time."""

    def commit(self, digests: Digests) -> Stored:
        """Durable and visible, or neither."""

    def abort(self) -> None:
        """Nothing is left; also of what was not begun."""


@typing.runtime_checkable
class Stoppable(typing.Protocol):
    """An attempt that asks, wherever it waits, whether it is still wanted."""

    cancelled: IsCancelled | None


class Store(typing.Protocol):
    """Safe to use from many threads and processes at once.

    ``kind`` is the type in enabled_backends. A ``read_only`` store takes
    nothing, what is in it can be read.
    """

    id: str
    kind: str
    read_only: bool

    def attempt(self, image_id: str, epoch: int) -> Attempt:
        """A try to store data of the image.

        :param epoch: number of this attempt; what other attempts made is
            not touched. The same attempt again gives the same object
        :raises BadLocation: the id is not a UUID
        """

    def sweep(self, image_id: str, below: int,
              keep: collections.abc.Collection[str]) -> list[str]:
        """Remove what attempts before epoch ``below`` left; what it was.

        :param keep: URIs that are somebody's
        """

    def strays(self) -> collections.abc.Iterator[Stray]:
        """Everything that attempts have left or begun, in no order.

        What was recorded is among it: the caller knows what was.
        """

    def accepts(self, uri: str) -> bool:
        """Whether the URI is one that this store gives out."""

    def open(self, uri: str, *, offset: int = 0) -> typing.BinaryIO:
        """The object's bytes from ``offset`` on; the caller closes it.

        :raises ObjectGone, BadLocation:
        """

    def size(self, uri: str) -> int:
        """Bytes. :raises ObjectGone, BadLocation:"""

    def exists(self, uri: str) -> bool:
        """:raises BadLocation: the URI is not of this store"""

    def in_use(self, uri: str) -> str | None:
        """What uses the object, so that it cannot be deleted; None: nothing.

        One line, such as ``the volumes ... are clones of it``.

        :raises StoreError: the store does not say
        """

    def delete(self, uri: str) -> None:
        """:raises ObjectGone, ObjectInUse, StoreUnwritable, BadLocation:"""

    def check(self) -> bool:
        """Whether it answers just now is known, and it does.

        :returns: False where that cannot be asked for
        :raises StoreError: it does not; why
        """

    def properties(self) -> dict[str, typing.Any]:
        """What an administrator may read of the store's options."""


@typing.runtime_checkable
class Undoing(typing.Protocol):
    """A store where attempts may give the same name to their objects."""

    def undo(self, uri: str, epoch: int) -> None:
        """Delete what attempts up to that one have made, and nothing else.

        :raises StoreError: as ``Store.delete``
        """


def undo(store: Store, uri: str, epoch: int) -> None:
    """Delete what the attempt of that epoch, or an earlier one, has made.

    It may have been superseded while it slept.
    """
    if isinstance(store, Undoing):
        store.undo(uri, epoch)
    else:
        # A name that no other attempt gives.
        store.delete(uri)


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# What a network file system says while its server is away.
_PASSING = frozenset({
    errno.EAGAIN, errno.EBUSY, errno.EIO, errno.ESTALE, errno.ETIMEDOUT,
    errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENOTCONN})


def from_os(store_id: str, failure: OSError) -> StoreError:
    """The error of ours that says what ``failure`` means."""
    reason = failure.strerror or str(failure)
    if failure.errno in _FULL:
        return StoreFull(f'no room in store {store_id}: {reason}')
    kind = (StoreUnavailable if failure.errno in _PASSING
            else StoreUnwritable)
    return kind(f'cannot write to store {store_id}: {reason}')


def checked(image_id: str) -> str:
    """The id, fit to be part of an object's name.

    :raises BadLocation: it is not a UUID
    """
    if not uuids.is_uuid(image_id):
        raise BadLocation('an image id is a UUID')
    return image_id


def epoch_of(name: str, image_id: str) -> int | None:
    """The epoch in an object's name ``<image id>.<epoch>``, None if none."""
    prefix, _, number = name.rpartition('.')
    return int(number) if prefix == image_id and number.isdecimal() else None
