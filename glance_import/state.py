"""The directory that ``state_path`` names: this node's locks and database.

What lies in it decides whose claims are freed, where the database is and who
is woken, so that nobody else may put anything there. An existing directory
that others own or can write is refused; what is opened in it is never a link
to somewhere else, nor a file of somebody else's. Touches that directory.

A directory that is shared with a group on purpose (mode 2770: the bit that
sets the group, and a group that this process is of) may belong to another
user of that group, and so may what lies in it.
"""

from __future__ import annotations

import os
import pwd
import stat

_LINKS = os.O_NOFOLLOW | os.O_CLOEXEC


class StateError(Exception):
    """The directory, or a file in it, cannot be relied on; one line."""


def prepare(path: str) -> None:
    """Make the directory, or see that an existing one is the service's.

    :raises StateError: it cannot be made, or others can change what is in it
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as failure:
        raise StateError(
            f'{path}: {failure.strerror or failure}') from failure
    check_directory(path)


def check_directory(path: str) -> None:
    """See that a directory is the service's; makes nothing.

    :raises StateError: it is not there, or others can change what is in it
    """
    try:
        link, found = os.lstat(path), os.stat(path)
    except OSError as failure:
        raise StateError(
            f'{path}: {failure.strerror or failure}') from failure
    if stat.S_ISLNK(link.st_mode):
        _check_owner(f'the link {path}', link)
    if not _is_shared(found):
        _check_owner(path, found)
    _check_mode(path, found)


def is_shared(directory: str) -> bool:
    """Whether it is shared, on purpose, with a group of this process."""
    try:
        return _is_shared(os.stat(directory))
    except OSError:
        return False


def share(fd: int, directory: str, mode: int) -> None:
    """Give what was made there to the group, if there is one, once.

    :param mode: of the file then, whatever the umask is
    :raises OSError: it is somebody else's
    """
    if stat.S_IMODE(os.fstat(fd).st_mode) != mode and is_shared(directory):
        os.fchmod(fd, mode)


def open_file(directory: str, name: str, flags: int) -> int:
    """A descriptor of a file in the directory, made with mode 0600 if asked.

    :raises OSError: it is not there, or a link
    :raises StateError: it is somebody else's
    """
    path = os.path.join(directory, name)
    fd = os.open(path, flags | _LINKS, 0o600)
    try:
        found = os.fstat(fd)
        if not (_is_of_our_group(found) and is_shared(directory)):
            _check_owner(path, found)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_file(path: str) -> None:
    """See that a file which somebody else opens by its name is the service's.

    :raises StateError: it is somebody else's, or their link
    """
    try:
        found = os.lstat(path)
    except OSError:
        return
    _check_owner(path, found)


def _check_owner(path: str, found: os.stat_result) -> None:
    """Of root, or of the user of this process."""
    if found.st_uid not in (0, os.geteuid()):
        raise StateError(
            f'{path} belongs to {_user(found.st_uid)}, and this process runs '
            f'as {_user(os.geteuid())}: run it as that user, or give it a '
            'directory of its own')


def _check_mode(path: str, found: os.stat_result) -> None:
    """Nobody else can write, but for a group on purpose.

    A directory is shared with a group by its set-group-id bit (mode 2770),
    when the process is of that group; a mode that happens to let a group
    write, as a umask of 002 makes it, is none.
    """
    if found.st_mode & stat.S_IWOTH:
        raise StateError(f'{path} can be written by everybody; try: chmod '
                         f'go-w {path}')
    if found.st_mode & stat.S_IWGRP and not _is_shared(found):
        raise StateError(
            f'{path} can be written by the group {found.st_gid}; try: chmod '
            f'g-w {path} (or chmod g+s to share it with a group of this '
            'service)')


def _is_shared(found: os.stat_result) -> bool:
    return bool(found.st_mode & stat.S_ISGID and found.st_mode & stat.S_IWGRP
                and not found.st_mode & stat.S_IWOTH
                and _is_of_our_group(found))


def _is_of_our_group(found: os.stat_result) -> bool:
    return found.st_gid in (os.getegid(), *os.getgroups())


def _user(number: int) -> str:
    try:
        return f'the user {pwd.getpwuid(number).pw_name}'
    except KeyError:
        return f'the user {number}'
