"""One client: its requests one after the other, answered in that order.

While it waits for a request it is idle, and watched with all others that are.
A request without a body that came in one piece is served by the thread that
finds it; the event loop has those that take time: incomplete heads, uploads,
slow answers. Touches the transport.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
import typing
from urllib import parse

from glance_import.server import exchange
from glance_import.server import head
from glance_import.server import limits
from glance_import.server import response
from glance_import.server import runtime as runtimes
from glance_import.server import threads
from glance_import.server import transport

LOG = logging.getLogger(__name__)

# Bytes of a head that is refused, in the access log.
LOGGED = 200


class Connection(transport.Transport):
    """A client and its read-ahead buffer.

    The buffer takes the place of ``socket.makefile()``: of a body only what
    came with its head passes through it, the rest is received into buffers
    that are as large as it flows fast.

    It is idle (in ``runtime.idle``, from where one thread takes it), or with
    a request thread, or on the event loop; what is not idle is not touched
    by others, but that they may shut it down.
    """

    def __init__(self, runtime: runtimes.Runtime, sock: socket.socket,
                 address: tuple) -> None:
        super().__init__(runtime, sock, address)
        self._ahead = bytearray()
        # No byte of a request has come yet.
        self._fresh = True
        # The event loop waits for the rest of a head.
        self._head_begun = False
        # Monotonic seconds at which it is idle for too long.
        self._deadline = _later(
            runtime.head_timeout or runtime.socket_timeout)
        host, port = sock.getsockname()[:2]
        self._environ = {
            **runtime.environ,
            'SERVER_NAME': host, 'SERVER_PORT': str(port),
            'REMOTE_ADDR': address[0], 'REMOTE_PORT': str(address[1])}

    # -- in a request thread --------------------------------------------

    def serve(self) -> None:
        """Answer what has come, or have the event loop do it."""
        try:
            self._serve()
        except Exception:
            LOG.exception('a connection failed')
            self.runtime.loop.call(self.close)

    def _serve(self) -> None:
        if not self._ahead and not self._receive_head():
            return
        del self._ahead[:head.empty_lines(self._ahead)]
        if not self._ahead:
            self.become_idle()
            return
        deadline = self._head_deadline()
        self._fresh = False
        limit = self.runtime.settings.max_line
        try:
            size = head.size(self._ahead, limit)
            request = head.parse(self._ahead[:size], limit) if size else None
        except head.Refused as refusal:
            self._to_loop(self._refuse_head, refusal)
            return
        if request is None:
            self._to_loop(self._complete_head, deadline)
            return
        del self._ahead[:request.size]
        self.runtime.limits.is_served(self)
        made = exchange.Exchange(self, request, self._environ_of(request),
                                 self._ahead)
        if request.has_body:
            self._to_loop(self._receive_body, made, request.line)
        elif made.answer():
            self._continue_after(made)
        else:
            self._to_loop(self._conclude, made)

    def _head_deadline(self) -> float | None:
        """When the head that begins has to be there, in monotonic seconds.
        """
        limit = self.runtime.head_timeout
        return self._deadline if self._fresh and limit else _later(limit)

    def _receive_head(self) -> bool:
        """Whether something has come."""
        try:
            self._ahead += self._sock.recv(transport.SMALL)
        except BlockingIOError:
            self.become_idle()
            return False
        except OSError as failure:
            LOG.debug('connection lost: %s', failure)
        if not self._ahead:
            self.runtime.loop.call(self.close)
        return bool(self._ahead)

    def _environ_of(self, request: head.Head) -> dict[str, typing.Any]:
        """As PEP 3333 has it, but for ``wsgi.input``."""
        path, _, query = request.target.partition('?')
        return {
            **self._environ, **request.variables(),
            'REQUEST_METHOD': request.method,
            'RAW_PATH_INFO': path,
            'PATH_INFO': (parse.unquote(path, 'latin-1') if '%' in path
                          else path),
            'QUERY_STRING': query,
            'SERVER_PROTOCOL': request.version}

    # -- in any thread --------------------------------------------------

    def become_idle(self) -> None:
        """Wait for a request with all others that do."""
        runtime = self.runtime
        if not self._fresh:
            self._deadline = _later(runtime.socket_timeout)
        runtime.limits.waits(self)
        runtime.idle.add(self)
        if runtime.stopping:
            runtime.loop.call(self.close_idle)

    def _continue_after(self, made: exchange.Exchange) -> None:
        if made.closes:
            self.runtime.loop.call(self.close)
        elif self._ahead:
            # It is pipelined; others have their turn first.
            self.runtime.requests.start(self.serve)
        else:
            self.become_idle()

    def _to_loop(self, function: typing.Callable[..., None],
                 *args: object) -> None:
        loop = self.runtime.loop
        loop.call(loop.spawn, self._run, function, *args)

    # -- on the event loop ----------------------------------------------

    def _run(self, function: typing.Callable[..., None],
             *args: object) -> None:
        try:
            function(*args)
        except OSError as failure:
            LOG.debug('connection lost: %s', failure)
            self.close()
        except BaseException:
            LOG.exception('a connection failed')
            self.close()

    def _complete_head(self, deadline: float | None) -> None:
        """Wait for the rest of one that has begun."""
        limit = self.runtime.settings.max_line
        self._head_begun = True
        seen = len(self._ahead)
        try:
            while True:
                data = self.receive_before(deadline)
                if not data:
                    self.close()
                    return
                self._ahead += data
                if head.size(self._ahead, limit, seen):
                    break
                seen = len(self._ahead)
        except head.Refused as refusal:
            self._refuse_head(refusal)
            return
        except TimeoutError:
            self._refuse_head(head.Refused(
                408, 'The head of the request did not come in time.'))
            return
        self._head_begun = False
        self.runtime.limits.is_served(self)
        self.runtime.requests.start(self.serve)

    def _refuse_head(self, refusal: head.Refused) -> None:
        line = bytes(self._ahead[:LOGGED]).lstrip(b'\r\n').partition(
            b'\r\n')[0]
        self.runtime.log(self.address[0], line.decode('latin-1'),
                         str(refusal.code))
        self._refuse(refusal.code, refusal.reason, str(refusal))

    def _refuse(self, code: int, reason: str, text: str,
                *headers: str) -> None:
        """Answer without the application, and close."""
        self.send(response.refusal(code, reason, text, *headers))
        self.linger()
        self.close()

    def _receive_body(self, made: exchange.Exchange, line: str) -> None:
        """Serve a request with a body, in a thread of its own.

        That thread is parked while the client sends nothing, so that slow
        uploads hold up nobody.
        """
        runtime = self.runtime
        if runtime.bodies >= runtime.settings.max_bodies:
            runtime.log(self.address[0], line, '503')
            self._refuse(503, 'Service Unavailable', 'There are too many '
                         'requests with a body.', 'Retry-After: 10')
            return
        runtime.bodies += 1
        try:
            runtime.loop.run_in(threads.start_thread, made.call)
        finally:
            # The thread has ended: what is left costs a connection.
            runtime.bodies -= 1
        self._conclude(made)

    def _conclude(self, made: exchange.Exchange) -> None:
        made.conclude()
        self._continue_after(made)

    def make_room(self) -> bool:
        """End, unless more of a request has come; whether it ends."""
        if self.lingering:
            self.shut_down()
            return True
        if self._head_begun:
            if self.has_data():
                return False
            self.shut_down()
            return True
        return self._close_silent()

    def close_idle(self, fresh: bool = False) -> None:
        """Close it if no request is on its way.

        :param fresh: also when it has not sent any, and still may
        """
        if fresh or not self._fresh:
            self._close_silent()

    def close_late(self, now: float) -> None:
        """Close it if it has been idle for too long.

        :param now: monotonic seconds
        """
        if self._deadline is not None and self._deadline < now:
            self._close_silent()

    def _close_silent(self) -> bool:
        """Close it if it is idle and nothing has come; whether so."""
        if not self.runtime.idle.take(self):
            return False
        if self.has_data():
            self.runtime.idle.add(self)
            return False
        self.close()
        return True

    def turn_away(self, refusal: limits.Refusal) -> None:
        """It has no place; answer, without waiting, and close."""
        with contextlib.suppress(OSError):
            self.send_some(response.refusal(*refusal, 'Retry-After: 10'))
        self.close()

    def close(self) -> None:
        self.runtime.limits.leave(self)
        self.runtime.idle.forget(self)
        self.shut_down()
        self._sock.close()


def _later(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds
