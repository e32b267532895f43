"""Which bytes a file has, as far as stat can tell.

Equal identities and the absence of writers (see the stores) together mean
that digests taken earlier still hold. Touches nothing but stat.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os


@dataclasses.dataclass(frozen=True)
class Identity:
    """Device, inode, size in bytes, and times in nanoseconds of a file.

    The device is not compared: each node that mounts a network file system
    has a number of its own for it, and may have another after a reboot.
    """

    device: int = dataclasses.field(compare=False)
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of_stat(cls, found: os.stat_result) -> Identity:
        return cls(found.st_dev, found.st_ino, found.st_size,
                   found.st_mtime_ns, found.st_ctime_ns)

    @classmethod
    def of_fd(cls, fd: int) -> Identity:
        """:raises OSError: the descriptor is not open"""
        return cls.of_stat(os.fstat(fd))

    @classmethod
    def of_path(cls, path: str) -> Identity | None:
        """None when nothing has that name; a symbolic link is not followed."""
        try:
            return cls.of_stat(os.lstat(path))
        except FileNotFoundError:
            return None


@dataclasses.dataclass(frozen=True)
class Staged:
    """What is known of bytes that are complete.

    ``size`` is in bytes; ``checksum`` is md5 in hex, or None where the
    operator wants none; ``hash_value`` is the ``hash_algo`` digest in hex.
    ``detected_format`` is what the content looks like, None if unknown.
    """

    size: int
    checksum: str | None
    hash_algo: str
    hash_value: str
    identity: Identity
    detected_format: str | None = None


def same_bytes(path: str, known: Staged) -> Identity | None:
    """The identity of the file now, if its bytes are those of ``known``.

    Reads the whole file. None when it is gone, differs, or changes
    meanwhile.
    """
    before = Identity.of_path(path)
    if before is None or before.size != known.size:
        return None
    try:
        with open(path, 'rb') as file:
            digest = hashlib.file_digest(file, known.hash_algo)
    except OSError:
        return None
    if digest.hexdigest() != known.hash_value \
            or Identity.of_path(path) != before:
        return None
    return before
