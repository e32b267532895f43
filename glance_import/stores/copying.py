"""Ways to get a file's bytes into another one, and proof that they hold.

The cheap ways (a reflink, a hard link) are right only when the bytes are
still the ones whose digests are known; ``unchanged`` is the proof. The way
that is always right reads once and hashes the very bytes it hands on, to as
many stores as want them. Touches the descriptors it is given.
"""

from __future__ import annotations

import collections.abc
from concurrent import futures
import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import signal
import typing

from glance_import import staging
from glance_import.staging import digests
from glance_import.staging import pipeline

Block = memoryview
BLOCK = 1 << 20
# A hole comes in larger pieces: most stores just skip it.
_ZEROS = bytes(8 * BLOCK)
_FICLONE = 0x40049409
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
# f_type of file systems that no other machine has mounted: btrfs, ext, F2FS,
# OverlayFS, tmpfs, XFS, ZFS. Others may grant a lease while another node
# writes (CephFS by FUSE does), so that it would prove nothing.
_LOCAL = frozenset({0x9123683e, 0xef53, 0xf2f52010, 0x794c7630, 0x01021994,
                    0x58465342, 0x2fc12fc1})
# What file systems say that know no hard links (FUSE, exFAT).
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS,
                       errno.EMLINK})

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def unchanged(fd: int, expected: staging.Identity
              ) -> collections.abc.Iterator[bool]:
    """Whether the bytes of ``fd`` are those that ``expected`` was taken of.

    While the body runs nobody can begin to write to the file either. Equal
    times and size alone prove nothing while somebody has the file mapped
    for writing; a read lease cannot be had then. Where there are no leases
    (files of other users), or they do not bind other nodes (NFS, whatever
    is mounted by FUSE), the answer is no.
    """
    leased = _lease(fd)
    try:
        yield leased and staging.Identity.of_fd(fd) == expected
    finally:
        if leased:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def still_unchanged(fd: int, expected: staging.Identity) -> bool:
    """The same at the end of a long body: the kernel breaks a lease that
    keeps a writer waiting for long (fs.lease-break-time).
    """
    return (fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK
            and staging.Identity.of_fd(fd) == expected)


def _lease(fd: int) -> bool:
    if not is_local(fd):
        return False
    try:
        # Who opens the file for writing now makes the kernel send a signal
        # here; the default one ends the process, this one does nothing.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        return True
    except OSError:
        return False


def is_local(fd: int) -> bool:
    """Whether only this machine can write to the file, as far as we know."""
    # struct statfs, which begins with the type; its size depends on the
    # processor.
    found = (ctypes.c_long * 64)()
    return (_libc.fstatfs(fd, found) == 0
            and found[0] & 0xffffffff in _LOCAL)


def reflink(source: int, target: int) -> bool:
    """Share the blocks of ``source``; False where that cannot be done."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return True
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        return False


def link_open_file(source: int, target: str) -> bool:
    """Give the open file one more name; False where that cannot be done.

    By descriptor, since the file's old name may mean another file by now.

    :raises FileExistsError: the name is taken
    """
    directory = os.open(os.path.dirname(target),
                        os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Only with a directory descriptor does Python follow the link.
        os.link(f'/proc/self/fd/{source}', os.path.basename(target),
                src_dir_fd=directory, dst_dir_fd=directory,
                follow_symlinks=True)
        return True
    except FileExistsError:
        raise
    except OSError as failure:
        if failure.errno in (errno.EROFS, errno.EACCES, errno.ENOSPC,
                             errno.EDQUOT, errno.EIO):
            raise
        return False
    finally:
        os.close(directory)


def rename_new(source: str, target: str) -> None:
    """Rename without ever replacing.

    :raises FileExistsError: the target is there
    """
    call = getattr(_libc, 'renameat2', None)
    if call is not None:
        if not call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD,
                    os.fsencode(target), _RENAME_NOREPLACE):
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise OSError(number, os.strerror(number), target)
    try:
        os.link(source, target)
    except OSError as failure:
        if failure.errno not in _NO_LINKS:
            raise
        _rename_over_own(source, target)
    else:
        os.unlink(source)


def _rename_over_own(source: str, target: str) -> None:
    """The same where there are no links: over an empty file of our making."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL
                     | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    try:
        os.rename(source, target)
    except OSError:
        os.unlink(target)
        raise


Sink = tuple[futures.Executor, pipeline.Work]


class Copy:
    """One pass over some bytes: handed to every sink and hashed, at once.

    ``size`` in bytes and the digests in hex are of what was passed on.
    """

    def __init__(self, blocks: collections.abc.Iterable[Block],
                 hash_algo: str | None, legacy_checksum: bool = False,
                 sinks: collections.abc.Iterable[Sink] = ()) -> None:
        """:param hash_algo: None where the digests are known"""
        self.size = 0
        self._blocks = blocks
        self._hash = hashlib.new(hash_algo) if hash_algo else None
        self._md5 = (digests.new_md5() if hash_algo and legacy_checksum
                     else None)
        self._pipeline = pipeline.Pipeline()
        for pool, write in sinks:
            self._pipeline.add(pool, write)
        for digest in (self._hash, self._md5):
            if digest is not None:
                self._pipeline.add(pipeline.pools().digest, digest.update)

    @property
    def hash_value(self) -> str | None:
        return self._hash.hexdigest() if self._hash else None

    @property
    def checksum(self) -> str | None:
        return self._md5.hexdigest() if self._md5 else None

    def run(self, report: collections.abc.Callable[[int], None]) -> None:
        """``report(bytes so far)`` is called after each block; it may raise.

        :raises OSError: reading failed
        :raises Exception: what a sink raised
        """
        try:
            for block in self._blocks:
                self._pipeline.put(block)
                self.size += len(block)
                self._check()
                report(self.size)
        finally:
            self._pipeline.drain()
        self._check()

    def _check(self) -> None:
        if self._pipeline.failure is not None:
            raise self._pipeline.failure


class FileWriter:
    """Writes blocks to an open file, one after the other; holes stay holes.

    Unlike staging it does not ask the kernel to begin writing back: several
    files at once make it wait, which more than doubles the time.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._position = 0

    def write(self, view: Block) -> None:
        """The next block. :raises OSError:"""
        if is_hole(view):
            self._position += len(view)
            return
        while view:
            done = os.pwrite(self._target, view, self._position)
            view = view[done:]
            self._position += done

    def finish(self) -> None:
        """A hole at the end has not been written."""
        os.ftruncate(self._target, self._position)


def blocks_of(fd: int, start: int = 0) -> collections.abc.Iterator[Block]:
    """A file's bytes from ``start`` on; holes as views of a block of zeros.
    """
    at = start
    for data, end in _extents(fd, start):
        while at < data:
            block = memoryview(_ZEROS)[:data - at]
            at += len(block)
            yield block
        while at < end:
            got = os.pread(fd, min(BLOCK, end - at), at)
            if not got:
                return
            at += len(got)
            yield memoryview(got)


def is_hole(block: Block) -> bool:
    """Whether a block of ``blocks_of`` is where the file has no data."""
    return block.obj is _ZEROS


def blocks_from(stream: typing.BinaryIO) -> collections.abc.Iterator[Block]:
    """The bytes of a stream, as they come."""
    while block := stream.read(BLOCK):
        yield memoryview(block)


def _extents(fd: int, start: int = 0
             ) -> collections.abc.Iterator[tuple[int, int]]:
    """Where data begins and ends, in order; the last ends with the file."""
    size = os.fstat(fd).st_size
    at = start
    while at < size:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as failure:
            if failure.errno != errno.ENXIO:
                raise
            data = size
        end = os.lseek(fd, data, os.SEEK_HOLE) if data < size else size
        yield data, end
        at = end
