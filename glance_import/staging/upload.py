"""One upload into the staging area: finished, kept or discarded.

An upload is alive exactly as long as its process holds the lock on the part
file; nothing else says so. ``finish`` makes the bytes durable and complete,
``suspend`` makes them durable, to go on later, ``keep_partial`` keeps them as
they are, ``discard`` deletes them; ``seal`` makes them durable and keeps the
lock, for whoever takes them elsewhere. Touches the part file, and the names
in the area through the functions it is given.
"""

from __future__ import annotations

import collections.abc
import contextlib
import ctypes
import dataclasses
import fcntl
import os
import typing

from glance_import.staging import digests as running
from glance_import.staging import errors
from glance_import.staging import identity as identities
from glance_import.staging import pipeline

# Blocks below this are put together first; one is never handed over smaller
# while the lanes are busy, so 1-byte blocks cost no more than they must.
BLOCK = 1 << 20
# What a stalled upload may keep in memory.
SMALL = 64 << 10
# Bytes written between two hints to start writing to the disk, so that the
# sync at the end does not find everything still to do.
WRITEBACK = 16 << 20
_SYNC_FILE_RANGE_WRITE = 2

_libc = ctypes.CDLL(None, use_errno=True)


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Ask the kernel to begin writing out a range; only ever a hint."""
    call = getattr(_libc, 'sync_file_range', None)
    if call is not None:
        call(fd, ctypes.c_int64(offset), ctypes.c_int64(length),
             _SYNC_FILE_RANGE_WRITE)


def unlock_and_close(fd: int) -> None:
    """Unlock a file and close it.

    Closing alone is not enough: a program that is being started has all our
    descriptors for a moment, between fork and exec, and with them the lock.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


class Digest(typing.Protocol):
    """Computed of the bytes as they pass."""

    def update(self, block: pipeline.Block, /) -> object: ...


class Names(typing.Protocol):
    """What an upload may have done to its names in the area.

    Each takes the descriptor of the part, to be sure that the name still
    means this very file.
    """

    def publish(self, fd: int) -> int:
        """Give the part the name of complete data, durably.

        A descriptor for reading that has a lock on it: as long as it is open
        nobody takes the data for that of a process which died.
        """

    def remove(self, fd: int) -> None:
        """Remove the part."""

    def reopen(self, fd: int) -> int:
        """Close ``fd``; a descriptor for reading that has the lock."""

    def sync(self) -> None:
        """Make the part's name durable."""

    def keep_digests(self, fd: int, digests: running.Digests) -> None:
        """Remember the digests of a part to go on with."""

    @property
    def part(self) -> str:
        """Path of the part file."""


@dataclasses.dataclass
class Sealed:
    """Durable bytes that only the holder of this knows; nobody writes.

    ``path`` is their file while this is open. ``close`` removes it.
    """

    path: str
    staged: identities.Staged
    _names: Names
    _fd: int

    def __enter__(self) -> Sealed:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file, if the area lets us, and unlock it.

        Done twice, nothing happens.
        """
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            with contextlib.suppress(OSError):
                self._names.remove(fd)
        finally:
            unlock_and_close(fd)


class Upload:
    """Made by ``Area.begin``; used by one thread at a time.

    As a context manager it keeps an upload that is open at the end.
    """

    def __init__(self, fd: int, names: Names, digests: running.Digests, *,
                 size: int = 0, size_limit: int | None = None,
                 also: collections.abc.Sequence[Digest] = ()) -> None:
        """``size`` bytes are there, and ``digests`` are of them."""
        self.size = size
        self._fd = fd
        self._names = names
        # Descriptor of data that is published and perhaps not recorded.
        self._published = -1
        self._size_limit = size_limit
        self._pending = bytearray()
        self._written = size
        self._hinted = size
        self._digests = digests
        self._pipeline = pipeline.Pipeline()
        pools = pipeline.pools()
        self._pipeline.add(pools.disk, self._write_out)
        for work in digests.updates:
            self._pipeline.add(pools.digest, work)
        for each in also:
            self._pipeline.add(pools.digest, each.update)

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    @property
    def part(self) -> str:
        """Path of the file that grows, to be read."""
        return self._names.part

    def write(self, block: pipeline.Block) -> None:
        """Hand a block over; waits while 8 MiB are on their way.

        The caller must not change the block afterwards.

        :raises TooLarge: with this block there are more bytes than allowed
        :raises StagingFull: the disk is full
        :raises StagingUnwritable: the disk does not take the bytes
        """
        self._check()
        size = len(block)
        if (self._size_limit is not None
                and self.size + size > self._size_limit):
            raise errors.TooLarge(
                f'the data is larger than {self._size_limit} bytes')
        self.size += size
        if size >= BLOCK:
            self._flush()
            self._hand_over(block)
            return
        self._pending += block
        if (len(self._pending) >= BLOCK or
                len(self._pending) >= SMALL and self._pipeline.idle):
            self._flush()

    def drain(self) -> running.Digests:
        """Wait until every byte is written and counted; their digests.

        :raises StagingFull, StagingUnwritable: as in ``write``
        """
        self._check()
        self._flush()
        self._pipeline.drain()
        self._check()
        return self._digests

    def finish(self) -> identities.Staged:
        """Make the bytes durable and complete, under the image's name.

        They stay locked until ``release`` or ``keep_partial``, which come
        when it is recorded that they are complete.

        :raises UploadGone: the part file was removed meanwhile
        :raises StagingFull, StagingUnwritable: as in ``write``; the upload
            is still open then, to be kept or discarded
        """
        self.drain()
        try:
            os.fdatasync(self._fd)
            self._published = self._names.publish(self._fd)
            found = identities.Identity.of_fd(self._fd)
        except OSError as failure:
            raise errors.from_os(failure) from failure
        self._close()
        return self._staged(found)

    def release(self) -> None:
        """Unlock what ``finish`` has published."""
        fd, self._published = self._published, -1
        if fd >= 0:
            unlock_and_close(fd)

    def seal(self) -> Sealed:
        """Make the bytes durable where they are; nobody may write any more.

        :raises UploadGone: the part file was removed meanwhile
        :raises StagingFull, StagingUnwritable: as in ``finish``
        """
        self.drain()
        try:
            os.fdatasync(self._fd)
            fd, self._fd = self._fd, -1
            fd = self._names.reopen(fd)
            found = identities.Identity.of_fd(fd)
        except OSError as failure:
            raise errors.from_os(failure) from failure
        return Sealed(self._names.part, self._staged(found), self._names, fd)

    def sync(self) -> None:
        """Make what came durable; the upload goes on.

        :raises StagingFull, StagingUnwritable: as in ``finish``
        """
        self.drain()
        try:
            os.fdatasync(self._fd)
            self._names.sync()
        except OSError as failure:
            raise errors.from_os(failure) from failure

    def suspend(self) -> None:
        """Make what came durable and unlock it, to go on later.

        :raises StagingFull, StagingUnwritable: as in ``finish``
        """
        self.sync()
        try:
            self._names.keep_digests(self._fd, self._digests)
        except OSError as failure:
            raise errors.from_os(failure) from failure
        self._close()

    def truncate_to(self, size: int,
                    digests: running.Digests | None = None) -> None:
        """Keep the first ``size`` bytes of the part and unlock it.

        :param digests: those of the bytes that stay, if they are known
        :raises StagingUnwritable: the disk does not do it
        """
        self._pending = bytearray()
        self._pipeline.fail(errors.StagingError('the bytes were dropped'))
        self._pipeline.drain()
        try:
            os.ftruncate(self._fd, size)
            os.fdatasync(self._fd)
            if digests is not None:
                self._names.keep_digests(self._fd, digests)
        except OSError as failure:
            raise errors.from_os(failure) from failure
        finally:
            self._close()

    def snapshot(self) -> running.Digests:
        """The digests before anything is written, to come back to."""
        return self._digests.copy()

    def keep_partial(self) -> None:
        """Keep what came as a partial upload and unlock it."""
        self.release()
        if not self.is_open:
            return
        self._flush()
        self._pipeline.drain()
        self._close()

    def discard(self) -> None:
        """Delete what came and unlock it."""
        self.release()
        if not self.is_open:
            return
        self._pending = bytearray()
        self._pipeline.fail(errors.StagingError('the upload was discarded'))
        self._pipeline.drain()
        try:
            self._names.remove(self._fd)
        except OSError as failure:
            raise errors.from_os(failure) from failure
        finally:
            self._close()

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *exc: object) -> None:
        self.keep_partial()

    def _check(self) -> None:
        if not self.is_open:
            raise errors.StagingError('the upload is over')
        failure = self._pipeline.failure
        if isinstance(failure, OSError):
            raise errors.from_os(failure) from failure
        if failure is not None:
            raise failure

    def _flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, bytearray()
            self._hand_over(pending)

    def _hand_over(self, block: pipeline.Block) -> None:
        if len(block) <= 2 * BLOCK:
            self._pipeline.put(block)
            return
        # Slices, so that a huge block neither exceeds the window unseen nor
        # leaves the lanes idle until all of it has come.
        view = memoryview(block)
        for start in range(0, len(view), BLOCK):
            self._pipeline.put(view[start:start + BLOCK])

    def _write_out(self, block: pipeline.Block) -> None:
        view = memoryview(block)
        while view:
            done = os.write(self._fd, view)
            view = view[done:]
            self._written += done
        if self._written - self._hinted >= WRITEBACK:
            start_writeback(self._fd, self._hinted,
                            self._written - self._hinted)
            self._hinted = self._written

    def _staged(self, found: identities.Identity) -> identities.Staged:
        return identities.Staged(
            size=self.size, checksum=self._digests.checksum,
            hash_algo=self._digests.hash_algo,
            hash_value=self._digests.hash_value, identity=found,
            detected_format=self._digests.detected_format())

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        unlock_and_close(fd)
