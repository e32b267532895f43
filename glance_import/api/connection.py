"""One client: its requests one after the other, answered in that order.

The hub waits for a request and receives bodies; what a request is answered
with is ``exchange``'s business. Touches the connection's socket.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
import typing
from urllib import parse

import eventlet  # type: ignore[import-untyped]
from eventlet import greenio
from eventlet import hubs

from glance_import.api import body
from glance_import.api import exchange
from glance_import.api import framing
from glance_import.api import green
from glance_import.api import head
from glance_import.api import places

if typing.TYPE_CHECKING:
    from glance_import.api import hub

# Seconds a receive waits for more of a flowing body before it gives its
# buffer back, and how much it likes to find when it wakes up.
PATIENCE = 0.05
LOW_WATER = 256 << 10
# Milliseconds that a native thread waits for a client that it has just
# answered to ask for more, or for one that reads to have read.
STAY = 5
# A refused client may go on sending for this long (in all, and between two
# pieces), or its system would throw the answer away.
LINGER = 10.0
LINGER_IDLE = 2.0

# Bytes of a head that is refused, in the access log.
SAID = 200

_PEER_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN,
                        errno.ENOTCONN, errno.EBADF, errno.ETIMEDOUT})


class Connection:
    """A client's socket, and what it sent before it was wanted (``ahead``).

    In place of a buffered file: a body is received past it, into buffers of
    its own size, once ``ahead`` is used up.
    """

    def __init__(self, server: hub.Server, sock: greenio.GreenSocket,
                 address: tuple) -> None:
        self.server = server
        self.address = address
        self.ahead = bytearray()
        self.head: head.Head
        self.closing = False
        #: Waits for a request, so that nothing is lost when it is closed.
        self.idle = True
        #: No request has come yet.
        self.fresh = True
        #: The last answer has been sent.
        self.finished = False
        self._green = sock
        self._sock: socket.socket = sock.fd
        self._low_water = 1
        host, port = sock.getsockname()[:2]
        self._environ = {
            **server.environ,
            'SERVER_NAME': host, 'SERVER_PORT': str(port),
            'REMOTE_ADDR': address[0], 'REMOTE_PORT': str(address[1])}
        # Answers are sent whole; waiting to fill packets only delays them.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def serve(self) -> None:
        """On the hub: until the client or the server wants no more."""
        while not self.closing:
            self.idle = True
            self.server.places.waits(self)
            if self.server.stopping:
                self.close_idle()
            try:
                found = self._receive_head()
            except head.Refused as refusal:
                self._refuse_head(refusal)
                return
            except TimeoutError:
                if self.ahead:
                    self._refuse_head(head.Refused(
                        408, 'The head of the request did not come in time.'))
                return
            if not found:
                return
            self.server.places.busy(self)
            exchange.Exchange(self).run()

    def _refuse_head(self, refusal: head.Refused) -> None:
        line = bytes(self.ahead[:SAID]).lstrip(b'\r\n').partition(b'\r\n')[0]
        exchange.log(self, line.decode('latin-1'), str(refusal.code))
        self.refuse(refusal.code, refusal.reason, str(refusal))

    # -- the head of a request ------------------------------------------

    def _receive_head(self) -> bool:
        """On the hub: wait for a request; False when none will come.

        :raises head.Refused: it is none
        """
        if self.fresh:
            # Its time begins when the client has connected; that of others
            # with their first byte.
            with self._time_limit():
                return self._wait_for_head() and self._read_head()
        return self._wait_for_head() and self._read_head()

    def _wait_for_head(self) -> bool:
        """Until it has begun; empty lines before it do not count."""
        while True:
            del self.ahead[:head.empty_lines(self.ahead)]
            if self.ahead:
                self.idle = self.fresh = False
                return True
            if not self._receive_some():
                return False

    def _read_head(self) -> bool:
        limit = self.server.line_limit
        size = head.size(self.ahead, limit)
        if not size:
            with self._time_limit():
                while not size:
                    seen = len(self.ahead)
                    if not self._receive_some():
                        return False
                    size = head.size(self.ahead, limit, seen)
        self._take(head.parse(self.ahead[:size], limit))
        return True

    def _receive_some(self) -> bool:
        data = self._green.recv(framing.SMALL)
        self.ahead += data
        return bool(data)

    def _time_limit(self) -> contextlib.AbstractContextManager:
        limit = self.server.head_timeout
        return (eventlet.Timeout(limit, TimeoutError()) if limit
                else contextlib.nullcontext())

    def _take(self, request: head.Head) -> None:
        self.head = request
        self.closing = request.last
        del self.ahead[:request.size]

    def follow(self) -> bool:
        """In a native thread: take a request that follows at once.

        Most clients ask one thing after the other, and the way to the hub
        and back costs more than many an answer. A request with a body, or
        one that is wrong or not whole, is left to the hub.
        """
        if (self.closing or self.server.stopping
                or self.server.requests.waiting
                or not (self.ahead or self._came())):
            return False
        limit = self.server.line_limit
        try:
            size = head.size(self.ahead, limit)
            request = head.parse(self.ahead[:size], limit) if size else None
        except head.Refused:
            return False
        if request is None or request.has_body:
            return False
        self._take(request)
        return True

    def _came(self) -> bool:
        if not self.server.requests.stay(self._readable):
            return False
        with contextlib.suppress(OSError):
            self.ahead += self._sock.recv(framing.SMALL)
        return bool(self.ahead)

    def _readable(self) -> bool:
        return self._poll(select.POLLIN)

    def writable(self) -> bool:
        """In a native thread: whether the client takes more very soon."""
        return self._poll(select.POLLOUT)

    def _poll(self, wish: int) -> bool:
        poll = select.poll()
        poll.register(self._sock, wish)
        return bool(poll.poll(STAY))

    def environ(self) -> dict[str, typing.Any]:
        """The request as PEP 3333 has it, but for ``wsgi.input``."""
        request = self.head
        path, _, query = request.target.partition('?')
        return {
            **self._environ, **request.variables(),
            'REQUEST_METHOD': request.method,
            'RAW_PATH_INFO': path,
            'PATH_INFO': (parse.unquote(path, 'latin-1') if '%' in path
                          else path),
            'QUERY_STRING': query,
            'SERVER_PROTOCOL': request.version}

    # -- one request ----------------------------------------------------

    def new_input(self, errand: green.Errand) -> framing.Input:
        return framing.input_of(self.head, Source(self, errand), self.ahead)

    def new_errand(self) -> green.Errand:
        """How a native thread works for this connection's green one."""
        return green.Errand(self.server.bridge)

    def fileno(self) -> int:
        return self._sock.fileno()

    def wait_until_writable(self) -> None:
        """:raises TimeoutError: the client takes nothing for too long"""
        self.server.places.stalls(self)
        hubs.trampoline(self._sock, write=True,
                        timeout=self.server.socket_timeout,
                        timeout_exc=TimeoutError())
        self.server.places.busy(self)

    def send(self, data: bytes | memoryview) -> None:
        """On the hub: all of it."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view):]
            except BlockingIOError:
                self.wait_until_writable()

    def send_now(self, data: bytes) -> int:
        """In a native thread: as much as the system takes."""
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0

    def refuse(self, code: int, reason: str, text: str,
               *headers: str) -> None:
        """On the hub: answer without asking the application, and close."""
        self.closing = True
        self.send(_refusal(code, reason, text, *headers))
        self.linger()

    # -- receiving a body, on the hub -----------------------------------

    def receive(self, view: memoryview) -> int | None:
        """Fill ``view`` as far as data flows; None when none came."""
        got = 0
        while True:
            try:
                count = self._sock.recv_into(view[got:])
            except BlockingIOError:
                if 0 < got < framing.SMALL:
                    return got
                if not self._wait_for_more(len(view) - got):
                    return self._last_try(view, got)
                continue
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

    def _wait_for_more(self, room: int) -> bool:
        self._set_low_water(min(LOW_WATER, room))
        try:
            hubs.trampoline(self._sock, read=True, timeout=PATIENCE,
                            timeout_exc=TimeoutError())
            return True
        except TimeoutError:
            self._set_low_water(1)
            return False

    def _set_low_water(self, size: int) -> None:
        if size != self._low_water:
            self._low_water = size
            with contextlib.suppress(OSError):
                self._sock.setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def wait_for_body(self) -> None:
        self._set_low_water(1)
        try:
            hubs.trampoline(self._sock, read=True,
                            timeout=self.server.socket_timeout,
                            timeout_exc=TimeoutError())
        except TimeoutError:
            raise body.BodyTimeout(
                'the client sent nothing for '
                f'{self.server.socket_timeout:g} seconds') from None

    def proceed(self) -> None:
        self.send(b'HTTP/1.1 100 Continue\r\n\r\n')

    def end_of_body(self) -> None:
        self._set_low_water(1)

    # -- the end --------------------------------------------------------

    def linger(self) -> None:
        """Let a client that is still sending see the answer.

        Closing a socket with unread data resets the connection, and the
        reset overtakes the answer.
        """
        self.server.places.waits(self)
        self.finished = True
        deadline = time.monotonic() + LINGER
        scrap = bytearray(framing.SMALL)
        self._set_low_water(1)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            while time.monotonic() < deadline:
                self._green.settimeout(LINGER_IDLE)
                if not self._green.recv_into(scrap):
                    break
                # A client that floods must not have the hub to itself.
                eventlet.sleep(0)

    def shut_down(self) -> None:
        """On the hub: whoever waits for this client sees it gone."""
        greenio.shutdown_safe(self._green)

    def give_way(self) -> bool:
        """On the hub: end, unless more of a request has come; whether so."""
        if not self.finished:
            with contextlib.suppress(OSError):
                if self._sock.recv(1, socket.MSG_PEEK):
                    return False
        self.shut_down()
        return True

    def turn_away(self, refusal: places.TurnedAway) -> None:
        """On the hub: it has no place; answer, without waiting, and close.
        """
        with contextlib.suppress(OSError):
            self._sock.send(_refusal(refusal.code, refusal.reason,
                                     str(refusal), 'Retry-After: 10'))
            self._sock.shutdown(socket.SHUT_WR)
        self.close()

    def close_idle(self) -> None:
        """On the hub: unless a request is on its way, it is still answered.
        """
        if not self.idle or self.fresh or self.ahead:
            return
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except OSError:
            self.shut_down()

    def close(self) -> None:
        self.idle = False
        self.shut_down()
        self._green.close()


def _refusal(code: int, reason: str, text: str, *headers: str) -> bytes:
    data = (text + '\n').encode()
    lines = [f'HTTP/1.1 {code} {reason}', 'Connection: close',
             'Content-Type: text/plain', f'Content-Length: {len(data)}',
             *headers, '', '']
    return '\r\n'.join(lines).encode() + data


class Source:
    """``framing.Source`` for a native thread: asks the hub."""

    def __init__(self, connection: Connection, errand: green.Errand) -> None:
        self._connection = connection
        self._ask = errand.ask
        self.expected = (
            connection.head.version == 'HTTP/1.1' and
            '100-continue' in head.members(
                connection.head.fields.get('expect', '')))

    def receive(self, view: memoryview) -> int | None:
        return self._ask(lambda: self._connection.receive(view))

    def wait(self) -> None:
        self._ask(self._connection.wait_for_body)

    def proceed(self) -> None:
        if self.expected:
            self.expected = False
            self._ask(self._connection.proceed)
