"""Files that are needed for a moment, in the staging area.

Each is locked by whoever made it, and removed at the end; one whose process
died bears no lock any more, and is removed by ``clean``. Touches a directory.
"""

from __future__ import annotations

import collections.abc
import contextlib
import fcntl
import os
import tempfile

from glance_import.staging import errors

PREFIX = '.scratch-'


class Scratch:
    """An open file of ours; offsets and sizes in bytes."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self.path = path

    def truncate(self, size: int) -> None:
        """Give it a size, as a hole. :raises OSError:"""
        os.ftruncate(self._fd, size)

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """:raises OSError: the disk refuses"""
        rest = memoryview(data)
        while rest:
            done = os.pwrite(self._fd, rest, offset)
            rest, offset = rest[done:], offset + done

    def read(self, offset: int, length: int) -> bytes:
        """:raises OSError: the disk refuses"""
        return os.pread(self._fd, length, offset)


@contextlib.contextmanager
def make(directory: str, let_read: collections.abc.Callable[[int], None]
         ) -> collections.abc.Iterator[Scratch]:
    """An empty file, gone at the end.

    :param let_read: gives the file to those who may read it by name
    :raises StagingFull, StagingUnwritable: it cannot be made
    """
    try:
        fd, path = tempfile.mkstemp(prefix=PREFIX, dir=directory)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            let_read(fd)
        except BaseException:
            os.close(fd)
            os.unlink(path)
            raise
    except OSError as failure:
        raise errors.from_os(failure) from failure
    try:
        yield Scratch(fd, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(fd)


def clean(directory: str, min_age: float, now: float) -> int:
    """Remove what dead processes left; how many files.

    :param min_age: seconds; younger ones may not be locked yet
    """
    removed = 0
    for entry in os.scandir(directory):
        if not entry.name.startswith(PREFIX):
            continue
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            if now - entry.stat(follow_symlinks=False).st_mtime < min_age:
                continue
            fd = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC
                         | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)
                removed += 1
            finally:
                os.close(fd)
    return removed
