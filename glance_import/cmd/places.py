"""Where a long run of a command is, so that it goes on where it stopped.

In files below state_path, which hold the id of the last image of each
question that was asked. Touches those files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import typing

from oslo_config import cfg

from glance_import.plugin import entry_points


class Place:
    """Where a run is: the id of the last image that it has judged."""

    def __init__(self, fd: int, question: str) -> None:
        self._fd = fd
        self._question = question

    def _all(self) -> dict[str, typing.Any]:
        try:
            found = json.loads(os.pread(self._fd, 1 << 20, 0))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def read(self) -> str | None:
        """None when there is nothing to go on with."""
        found = self._all().get(self._question)
        return found if isinstance(found, str) else None

    def write(self, image_id: str | None) -> None:
        """None when the run is over."""
        places = self._all()
        places.pop(self._question, None)
        if image_id is not None:
            places[self._question] = image_id
        data = json.dumps(places).encode()
        # A cut write is no JSON, and a run then begins anew.
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)


@contextlib.contextmanager
def kept(conf: cfg.ConfigOpts, name: str, question: str
         ) -> typing.Iterator[Place]:
    """The file of that name, held so that no two runs write it at a time.

    :raises extensions.ExtensionError: it cannot be written, or is held
    """
    path = os.path.join(conf.state_path, name)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                     | os.O_NOFOLLOW, 0o600)
    except OSError as failure:
        raise entry_points.ExtensionError(
            f'{path}: {failure.strerror}') from failure
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as failure:
            raise entry_points.ExtensionError(
                f'{path}: another run is under way') from failure
        yield Place(fd, question)
    finally:
        os.close(fd)


def rate(text: str) -> float:
    """Of an argument: :raises ValueError: it is no number above 0"""
    value = float(text)
    if not 0 < value < float('inf'):
        raise ValueError
    return value
