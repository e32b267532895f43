"""SHA-256 digests of files and directories, read again only when changed.

A file counts as unchanged while its device, inode, size and both times are
the same. Reads the files it is given.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading

_BLOCK = 1 << 20
# What Python makes of the code by itself.
_IGNORED = '__pycache__'

_Identity = tuple[int, int, int, int, int]
_known: dict[str, tuple[_Identity, str]] = {}
_lock = threading.Lock()


def of_file(path: str) -> str:
    """The digest of a file's content, in hex.

    :raises OSError: it cannot be read
    """
    found = _identity(os.stat(path))
    with _lock:
        known = _known.get(path)
    if known is not None and known[0] == found:
        return known[1]
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        # Of what is read, whatever lies there by now.
        found = _identity(os.fstat(file.fileno()))
        while block := file.read(_BLOCK):
            digest.update(block)
    with _lock:
        _known[path] = (found, digest.hexdigest())
    return digest.hexdigest()


def of_code(place: str) -> str:
    """The digest of a module's file, or of all files of a package.

    :raises OSError: something of it cannot be read
    """
    if not os.path.isdir(place):
        return of_file(place)
    digest = hashlib.sha256()
    seen: dict[tuple[int, int], str] = {}
    # Through links to directories too, as an import goes.
    for directory, directories, files in os.walk(place, followlinks=True):
        found = os.stat(directory)
        first = seen.setdefault((found.st_dev, found.st_ino), directory)
        if first != directory:
            # A link to what was read already, perhaps in a circle.
            directories[:], files = [], []
            digest.update(f'{os.path.relpath(directory, place)}\0'
                          f'{os.path.relpath(first, place)}/\n'.encode())
        directories[:] = sorted(each for each in directories
                                if each != _IGNORED)
        for name in sorted(files):
            path = os.path.join(directory, name)
            if stat.S_ISREG(os.stat(path).st_mode):
                digest.update(f'{os.path.relpath(path, place)}\0'
                              f'{of_file(path)}\n'.encode())
    return digest.hexdigest()


def of_text(*parts: str) -> str:
    """One digest of several texts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f'{len(part)}:{part}'.encode())
    return digest.hexdigest()


def _identity(found: os.stat_result) -> _Identity:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns,
            found.st_ctime_ns)
