"""A client's socket: receiving, sending, and its end.

Bodies are received in native threads, which may block; heads and slow
answers belong to the event loop, which may not. Touches the socket.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time

from glance_import.server import errors
from glance_import.server import runtime as runtimes

# Largest read while a head is expected, and of what is thrown away.
SMALL = 64 << 10
# Seconds a receive waits for more of a flowing body before it gives its
# buffer back, and how many bytes are worth waking up for.
FLOW_WAIT = 0.05
LOW_WATER = 256 << 10
# Seconds that a native thread waits for a client that reads to have read.
WRITE_WAIT = 0.005
# A refused client may go on sending for this long (in all, and between two
# pieces), or its system would throw the answer away.
LINGER = 10.0
LINGER_IDLE = 2.0

_PEER_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN,
                        errno.ENOTCONN, errno.EBADF, errno.ETIMEDOUT})


class Transport:
    """A connected socket that does not block.

    :param address: of the client, as the socket module has it
    """

    def __init__(self, runtime: runtimes.Runtime, sock: socket.socket,
                 address: tuple) -> None:
        self.runtime = runtime
        self.address = address
        #: No request follows, and what the client still sends is ignored.
        self.lingering = False
        self._sock = sock
        self._low_water = 1
        # Answers are sent whole; waiting to fill packets only delays them.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        return self._sock.fileno()

    def has_data(self) -> bool:
        """Whether the client has sent something that was not read yet."""
        with contextlib.suppress(OSError):
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        return False

    def shut_down(self) -> None:
        """Whoever waits for this client sees it gone."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    # -- in a native thread ---------------------------------------------

    def receive(self, view: memoryview) -> int | None:
        """Fill ``view`` as far as data flows.

        :returns: bytes; 0 at the end, None when none came for a while
        """
        got = 0
        while True:
            try:
                count = self._sock.recv_into(view[got:])
            except BlockingIOError:
                if 0 < got < SMALL:
                    return got
                self._set_low_water(min(LOW_WATER, len(view) - got))
                if self._poll(select.POLLIN, FLOW_WAIT):
                    continue
                self._set_low_water(1)
                return self._last_try(view, got)
            except OSError as failure:
                if failure.errno not in _PEER_GONE:
                    raise
                count = 0
            got += count
            if not count or got == len(view):
                return got

    def _last_try(self, view: memoryview, got: int) -> int | None:
        # Less than the low-water mark may have come.
        try:
            count = self._sock.recv_into(view[got:])
        except BlockingIOError:
            return got or None
        except OSError:
            count = 0
        return got + count

    def _set_low_water(self, size: int) -> None:
        """Bytes that have to be there before the socket is readable."""
        if size != self._low_water:
            self._low_water = size
            with contextlib.suppress(OSError):
                self._sock.setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def wait(self) -> None:
        """Until more of a body comes.

        :raises errors.BodyTimeout: nothing did
        """
        self._set_low_water(1)
        limit = self.runtime.socket_timeout
        if not self._poll(select.POLLIN, limit):
            raise errors.BodyTimeout(
                f'the client sent nothing for {limit:g} seconds')

    def end_of_body(self) -> None:
        """What follows is a head, of which every byte counts."""
        self._set_low_water(1)

    def send_continue(self) -> None:
        self.send_all(b'HTTP/1.1 100 Continue\r\n\r\n')

    def send_all(self, data: bytes) -> None:
        """Wait until all of it is sent.

        :raises TimeoutError: the client takes nothing for too long
        """
        while data := data[self.send_some(data):]:
            if not self._poll(select.POLLOUT, self.runtime.socket_timeout):
                raise TimeoutError('the client takes nothing')

    def send_some(self, data: bytes) -> int:
        """Send as much as the system takes at once; bytes."""
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0

    def writable_soon(self) -> bool:
        """Whether the client takes more very soon."""
        return self._poll(select.POLLOUT, WRITE_WAIT)

    def _poll(self, event: int, seconds: float | None) -> bool:
        poll = select.poll()
        poll.register(self._sock, event)
        return bool(poll.poll(None if seconds is None else 1000 * seconds))

    # -- on the event loop ----------------------------------------------

    def receive_before(self, deadline: float | None) -> bytes:
        """Some bytes, none at the end.

        :param deadline: monotonic seconds, None for never
        :raises TimeoutError: nothing came in time
        """
        while True:
            limit = self.runtime.socket_timeout
            if deadline is not None:
                left = max(0.0, deadline - time.monotonic())
                limit = left if limit is None else min(left, limit)
            self.runtime.loop.wait_readable(self.fileno(), limit)
            with contextlib.suppress(BlockingIOError):
                return self._sock.recv(SMALL)

    def wait_until_writable(self) -> None:
        """:raises TimeoutError: the client takes nothing for too long"""
        limits = self.runtime.limits
        limits.stalls(self)
        self.runtime.loop.wait_writable(self.fileno(),
                                        self.runtime.socket_timeout)
        limits.is_served(self)

    def send(self, data: bytes | memoryview) -> None:
        """All of it."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view):]
            except BlockingIOError:
                self.wait_until_writable()

    def linger(self) -> None:
        """Let a client that is still sending see the answer.

        Closing a socket with unread data resets the connection, and the
        reset overtakes the answer (RFC 9112, 9.6).
        """
        self.runtime.limits.waits(self)
        self.lingering = True
        self._set_low_water(1)
        deadline = time.monotonic() + LINGER
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            while (now := time.monotonic()) < deadline:
                if not self.receive_before(min(deadline, now + LINGER_IDLE)):
                    break
                # A client that floods must not have the loop to itself.
                self.runtime.loop.sleep(0)
