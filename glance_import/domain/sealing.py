"""What is kept of a caller where nobody may read it: sealed by a key.

The key lies in the staging area and not in the database, so that whoever can
read the database alone learns nothing, and only the nodes of that area can
unseal. Touches the key's file.
"""

from __future__ import annotations

import contextlib
import json
import os
import typing
import uuid

from cryptography import fernet

from glance_import import state
from glance_import.stores import copying

if typing.TYPE_CHECKING:
    from glance_import.staging import area as staging_area

KEY_FILE = '.token_key'


class Unreadable(Exception):
    """It was sealed by another key, or is nothing that was sealed."""


class NoKey(Unreadable):
    """The key can be neither read nor made; the text says why."""


def seal(area: staging_area.Area, value: dict[str, typing.Any]) -> str:
    """JSON as text that says nothing without the key.

    :raises NoKey: there is none
    """
    packed = json.dumps(value).encode()
    return _key(area).encrypt(packed).decode('ascii')


def unseal(area: staging_area.Area, sealed: str | None
           ) -> dict[str, typing.Any]:
    """What ``seal`` was given.

    :raises Unreadable: this area's key does not open it
    """
    try:
        return json.loads(_key(area).decrypt((sealed or '').encode()))
    except fernet.InvalidToken as failure:
        raise Unreadable from failure


def _key(area: staging_area.Area) -> fernet.Fernet:
    """The key of a staging area, made at its first use."""
    path = os.path.join(area.directory, KEY_FILE)
    try:
        return _made(path)
    except OSError as failure:
        raise NoKey(f'{path}: {failure.strerror}') from failure
    except ValueError as failure:
        raise NoKey(f'{path} holds no key') from failure


def _made(path: str) -> fernet.Fernet:
    with contextlib.suppress(FileNotFoundError):
        return _read_key(path)
    fresh = f'{path}.{uuid.uuid4()}'
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, 'wb') as file:
            file.write(fernet.Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
            state.share(file.fileno(), os.path.dirname(path), 0o640)
        # Whoever was first has made the key.
        with contextlib.suppress(FileExistsError):
            copying.rename_new(fresh, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
    return _read_key(path)


def _read_key(path: str) -> fernet.Fernet:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, 'rb') as file:
        return fernet.Fernet(file.read())
