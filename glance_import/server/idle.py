"""Connections on which a request may come, watched all at once.

Any thread may add one, or wait; a connection that is taken out belongs to
whoever took it. Touches an epoll of its own, and no data.
"""

from __future__ import annotations

import contextlib
import select
import typing

# Connections that one call of wait() takes out at most.
BATCH = 64


class Connection(typing.Protocol):
    """What is needed of one."""

    def fileno(self) -> int:
        """The descriptor of its socket."""

    def serve(self) -> None:
        """Receive what has come, and answer it."""


class IdleConnections:
    """Each is in here, or in the hands of one thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        # Setting and popping an item are atomic: one thread gets it.
        self._members: dict[int, Connection] = {}

    def fileno(self) -> int:
        """Readable while something has come on a connection."""
        return self._epoll.fileno()

    def add(self, connection: Connection) -> None:
        """From now on another thread may take it."""
        fd = connection.fileno()
        self._members[fd] = connection
        events = select.EPOLLIN | select.EPOLLONESHOT
        try:
            self._epoll.modify(fd, events)
        except FileNotFoundError:
            self._epoll.register(fd, events)

    def take(self, connection: Connection) -> bool:
        """Take it out; False when somebody else has."""
        return self._members.pop(connection.fileno(), None) is not None

    def forget(self, connection: Connection) -> None:
        """Before its socket is closed."""
        fd = connection.fileno()
        self._members.pop(fd, None)
        # It may never have been added, or be closed already.
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(fd)

    def has_ready(self) -> bool:
        """Whether something has come on any of them."""
        poll = select.poll()
        poll.register(self._epoll, select.POLLIN)
        return bool(poll.poll(0))

    def wait(self, seconds: float) -> list[Connection]:
        """Take out those on which something has come, or comes soon."""
        return [member for fd, _ in self._epoll.poll(seconds, BATCH)
                if (member := self._members.pop(fd, None)) is not None]
