"""What a plugin makes the kernel keep, which no limit of a process counts.

A directory, a lock, a byte waiting in a socket cost memory of the kernel. The
host looks at them from outside, by the first process in the sandbox, and ends
a plugin that has too many. Reads /proc and the temporary directory.
"""

from __future__ import annotations

import os

# Byte-range locks of all its processes together.
LOCKS = 4096
# More of /proc/locks than that many locks take.
_LOCKS_BYTES = LOCKS * 96
# What a socket of a family that is let in may hold: wmem_default of socket(7).
_SOCKET_DEFAULT = 212_992
_SETTING = '/proc/sys/net/core/wmem_default'


def files_of(root: str, directory: str) -> int:
    """Files and directories in a temporary file system, without its top.

    :param root: the root directory of who sees it, as /proc/PID/root
    :raises OSError: it is gone, or cannot be looked at
    """
    found = os.statvfs(root + directory)
    return found.f_files - found.f_ffree - 1


def files_below(directory: str, most: int) -> int:
    """The same of an ordinary directory; it counts no further than most."""
    count = 0
    for _place, directories, files in os.walk(directory):
        count += len(directories) + len(files)
        if count > most:
            break
    return count


def locks_of(root: str) -> int:
    """Byte-range locks held by who sees this root's /proc.

    :raises OSError: it is gone
    """
    with open(f'{root}/proc/locks', 'rb') as file:
        return file.read(_LOCKS_BYTES).count(b'\n')


def socket_bytes(pid: int) -> int:
    """Bytes that the unix sockets of a network namespace may hold.

    By their number: no system call that would enlarge them gets through.

    :raises OSError: the process is gone
    """
    with open(f'/proc/{pid}/net/unix', 'rb') as file:
        number = sum(block.count(b'\n') for block in iter(
            lambda: file.read(1 << 16), b''))
    return max(number - 1, 0) * _socket_bytes()


def _socket_bytes() -> int:
    try:
        with open(_SETTING) as file:
            return int(file.read())
    except (OSError, ValueError):
        return _SOCKET_DEFAULT
