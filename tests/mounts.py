"""Filesystems of a test's own: small, full, read-only or of another kind.

Mounting takes root. Who is not, or may not mount, or lacks a mkfs, skips the
test, and fails it under ``CI=true``.
"""

from __future__ import annotations

import collections.abc
import contextlib
import os
import pathlib
import subprocess

from tests import servers


@contextlib.contextmanager
def mounted(place: pathlib.Path, source: str | os.PathLike, *options: str
            ) -> collections.abc.Iterator[pathlib.Path]:
    """``source`` at ``place``, which is made, until the block ends."""
    if os.geteuid() != 0:
        servers.missing('only root mounts')
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(['mount', *options, source, place],
                          capture_output=True, text=True)
    if done.returncode:
        servers.missing(f'cannot mount: {done.stderr.strip()}')
    try:
        yield place
    finally:
        # Lazily: a process that is still ending may hold a file of it, and
        # what stays mounted is what a later clean-up would walk into.
        subprocess.run(['umount', '--lazy', place], check=True)


def memory(place: pathlib.Path, size: str
           ) -> contextlib.AbstractContextManager[pathlib.Path]:
    """A tmpfs of ``size`` (as mount says it: 1M) at ``place``."""
    return mounted(place, 'tmpfs', '-t', 'tmpfs', '-o',
                   f'size={size},mode=0700')


@contextlib.contextmanager
def disk(directory: pathlib.Path, kind: str, mebibytes: int = 330
         ) -> collections.abc.Iterator[pathlib.Path]:
    """A filesystem of ``kind`` (ext4, xfs) in a file below ``directory``."""
    make = servers.program(f'mkfs.{kind}', '/usr/sbin', '/sbin')
    image = directory / 'disk'
    with open(image, 'wb') as file:
        file.truncate(mebibytes << 20)
    subprocess.run([make, '-q', image], check=True, capture_output=True)
    with mounted(directory / 'disk.mnt', image, '-o', 'loop') as place:
        yield place


def libraries(place: pathlib.Path, source: str | os.PathLike
              ) -> contextlib.AbstractContextManager[pathlib.Path]:
    """The directory ``source`` at ``place`` too, where nothing can be changed.

    Read-only because the directory is the developer's: nothing that a test
    does, or that cleans up after it, may reach it.
    """
    return mounted(place, source, '-o', 'bind,ro')
