"""What a store is: a place that keeps the bytes of active images.

An object comes into being whole: nothing is visible under its URI before
``add_file`` has made it durable, and a second attempt after a crash finds
what the first one left. ``tests/stores/conformance.py`` is this page as
tests; each store runs them. Touches nothing.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import errno
import typing

from glance_import import staging


class StoreError(Exception):
    """Something about a store; the text is one line fit for users."""


class StoreFull(StoreError):
    """No room: ENOSPC, EDQUOT or EFBIG."""


class StoreUnwritable(StoreError):
    """The store cannot be written: permissions, read-only, input/output."""


class StoreUnavailable(StoreUnwritable):
    """The store does not answer now; the same call may succeed later."""


class SourceGone(StoreError):
    """The file to be stored is not there."""


class ObjectGone(StoreError):
    """Nothing is stored under this URI."""


class ObjectInUse(StoreError):
    """The object cannot be deleted now, something uses it."""


class BadLocation(StoreError):
    """The URI is not one that this store gives out."""


class Cancelled(StoreError):
    """The caller asked to stop; nothing was left behind."""


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
Asked = collections.abc.Callable[[], bool]


class Store(typing.Protocol):
    """Safe to use from many threads and processes at once."""

    id: str

    def add_file(self, image_id: str, source_path: str,
                 expected: staging.Staged | None, *, epoch: int,
                 hash_algo: str = 'sha512',
                 progress: Progress | None = None,
                 cancelled: Asked | None = None) -> Stored:
        """Store the file at ``source_path``, which stays where it is.

        :param expected: what is known of its bytes, None if nothing is;
            digests are taken over only when nothing can have changed them
            since
        :param epoch: number of this attempt; what other attempts made is
            not touched, at most given a second name. The same call again
            gives the same object
        :param hash_algo: for the digest, where ``expected`` names none
        :param progress: called now and then, in this thread
        :param cancelled: asked between blocks
        :raises StoreFull, StoreUnwritable, SourceGone, Cancelled: nothing
            of this attempt is left then
        """

    def forget(self, image_id: str, epoch: int) -> None:
        """Remove what an attempt left that was given up."""

    def open(self, uri: str, *, offset: int = 0) -> typing.BinaryIO:
        """The object's bytes from ``offset`` on; the caller closes it.

        :raises ObjectGone, BadLocation:
        """

    def size(self, uri: str) -> int:
        """Bytes. :raises ObjectGone, BadLocation:"""

    def exists(self, uri: str) -> bool:
        """:raises BadLocation: the URI is not of this store"""

    def delete(self, uri: str) -> None:
        """:raises ObjectGone, ObjectInUse, StoreUnwritable, BadLocation:"""


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
