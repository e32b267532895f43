"""One server process: eventlet moves the bytes, native threads think.

The hub (eventlet's event loop, not monkey-patched) accepts connections,
parses HTTP, receives and sends, and does nothing that can block. The
application runs in native threads: requests without a body share a few;
a request with a body has a thread of its own, which is parked while the hub
receives for it, so that slow uploads hold up nobody. Files are sent with
sendfile by yet other threads, so that a disk that is slow holds up neither.

The only module that names eventlet. Touches sockets and threads; what a
request means is the application's business.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import errno
import http.client
import logging
import os
import queue
import resource
import socket
import sys
import threading
import time
import typing
import warnings

with warnings.catch_warnings():
    # It says that eventlet is only maintained, not developed. Known.
    warnings.filterwarnings('ignore', message=r'\s*Eventlet is deprecated')
    import eventlet  # type: ignore[import-untyped]
    from eventlet import event
    from eventlet import greenio
    from eventlet import hubs
    from eventlet import wsgi

from glance_import.api import body
from glance_import.api import exchange
from glance_import.api import framing
from glance_import.api import head

LOG = logging.getLogger(__name__)

# Native threads that requests without a body share, and those for sendfile.
REQUEST_THREADS = 20
DISK_THREADS = 8
MAX_CONNECTIONS = 8192
# Seconds a receive waits for more of a flowing body before it gives its
# buffer back, and how much it likes to find when it wakes up.
PATIENCE = 0.05
LOW_WATER = 256 << 10
# A refused client may go on sending for this long (in all, and between two
# pieces), or its system would throw the answer away.
LINGER = 10.0
LINGER_IDLE = 2.0
# Seconds a new connection may take to send a request while the server stops.
FRESH = 2.0
# Seconds for applications to act on connections that a stop has cut.
CUT = 5.0
LOG_REST = 0.02

Job = exchange.Job
WSGIApp = collections.abc.Callable[..., collections.abc.Iterable[bytes]]

_PEER_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN,
                        errno.ENOTCONN, errno.EBADF, errno.ETIMEDOUT})


class Threads:
    """A fixed number of native threads that run jobs in order of arrival.

    :param rest: seconds a thread sleeps when it has nothing to do, so that
        many small jobs do not wake it for each
    """

    def __init__(self, count: int, name: str, rest: float = 0.0) -> None:
        self._rest = rest
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._work, daemon=True,
                             name=f'{name}-{number}').start()

    def start(self, job: Job) -> None:
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            except Exception:
                LOG.exception('a job of the server failed')
            del job
            if self._rest and self._jobs.empty():
                time.sleep(self._rest)


class Bridge:
    """How a native thread gets something done by the hub."""

    def __init__(self) -> None:
        self._calls: collections.deque = collections.deque()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        hub = hubs.get_hub()
        hub.add(hub.READ, self._fd, self._drain, lambda *exc: None,
                lambda: None)

    def call(self, function: collections.abc.Callable, *args: object) -> None:
        """From any thread or signal handler: run on the hub, soon.

        The function may not wait.
        """
        self._calls.append((function, args))
        os.eventfd_write(self._fd, 1)

    def _drain(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(fd)
        while self._calls:
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                LOG.exception('a call to the hub failed')


class Errand:
    """A function run in a native thread on behalf of a green one.

    While it runs it may ``ask`` the green thread to do something, such as
    receiving; one question at a time.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._mail: event.Event = event.Event()
        self._answered = threading.Lock()
        self._answered.acquire()
        self._answer: tuple[typing.Any, BaseException | None] = (None, None)
        self._over = True

    def run(self, start: collections.abc.Callable[[Job], None],
            function: collections.abc.Callable[[], typing.Any]) -> typing.Any:
        """On the hub: what ``function`` returns or raises."""
        self._over = False
        start(lambda: self._carry_out(function))
        while True:
            done, result, failure = self._mail.wait()
            self._mail = event.Event()
            if done:
                self._over = True
                if failure is not None:
                    raise failure
                return result
            try:
                self._answer = (result(), None)
            except BaseException as failure:  # noqa: BLE001
                # Whatever went wrong, the native thread must go on.
                self._answer = (None, failure)
            self._answered.release()

    def ask(self, question: collections.abc.Callable[[], typing.Any]
            ) -> typing.Any:
        """In the native thread: have the green one call ``question``."""
        if self._over:
            raise ValueError('the request is over')
        self._bridge.call(self._post, (False, question, None))
        self._answered.acquire()
        result, failure = self._answer
        self._answer = (None, None)
        if failure is not None:
            raise failure
        return result

    def _carry_out(self, function: collections.abc.Callable) -> None:
        result, failed = None, None
        try:
            result = function()
        except BaseException as failure:  # noqa: BLE001
            failed = failure
        self._bridge.call(self._post, (True, result, failed))

    def _post(self, message: tuple) -> None:
        self._mail.send(message)


class Reader:
    """The receiving side of a connection, with what came too early.

    In place of a buffered file: a body is received past it, into buffers of
    its own size, once ``ahead`` is used up.
    """

    def __init__(self, sock: greenio.GreenSocket) -> None:
        self._sock = sock
        self.ahead = bytearray()
        self.closed = False

    def readline(self, limit: int) -> bytes:
        """On the hub: a line, or what there is at the end or the limit."""
        start = 0
        while True:
            end = self.ahead.find(b'\n', start, limit)
            if end >= 0 or len(self.ahead) >= limit:
                break
            start = len(self.ahead)
            block = self._sock.recv(framing.SMALL)
            if not block:
                end = start - 1
                break
            self.ahead += block
        end = end + 1 if end >= 0 else min(limit, len(self.ahead))
        line = bytes(self.ahead[:end])
        del self.ahead[:end]
        return line

    def close(self) -> None:
        self.closed = True


class Connection(wsgi.HttpProtocol):
    """One client: requests one after the other, answers in that order."""

    server: Server

    def setup(self) -> None:
        super().setup()
        self.reader = Reader(self.connection)
        self.rfile = self.reader
        self._low_water = 1
        # Answers are sent whole; waiting to fill packets only delays them.
        with contextlib.suppress(OSError):
            self.connection.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # -- the head of a request ------------------------------------------

    def _read_request_line(self) -> bytes:
        with self._time_limit():
            line = super()._read_request_line()
        self.server.fresh.discard(id(self.conn_state))
        return line

    def _time_limit(self) -> contextlib.AbstractContextManager:
        limit = self.server.socket_timeout
        return (eventlet.Timeout(limit, TimeoutError()) if limit
                else contextlib.nullcontext())

    def parse_request(self) -> bool:
        self.close_connection = True
        self.requestline = self.raw_requestline.decode('latin-1').rstrip(
            '\r\n')
        self.request_version = 'HTTP/1.1'
        try:
            first = head.first_line(self.requestline)
            self.command, self.path, self.request_version, number = first
            with self._time_limit():
                self.headers = head.headers(
                    self.reader, self.server.line_limit)
            head.check_framing(self.headers, self.request_version)
        except head.Refused as refusal:
            return self.refuse(refusal.code, refusal.reason)
        wish = self.headers.get('connection', '').lower()
        self.close_connection = (
            wish == 'close' if wish in ('close', 'keep-alive')
            else number < (1, 1))
        return True

    def send_error(self, code: int, message: str | None = None,
                   explain: str | None = None) -> None:
        """For the parser of the standard library: no page, no echo."""
        self.refuse(code, http.client.responses.get(code, 'Error'))

    def log_message(self, format: str, *args: object) -> None:
        """The access log says it all."""

    def refuse(self, code: int, reason: str, *headers: str) -> bool:
        self.close_connection = True
        text = (reason + '\n').encode()
        head = [f'HTTP/1.1 {code} {reason}', 'Connection: close',
                'Content-Type: text/plain', f'Content-Length: {len(text)}',
                *headers, '', '']
        self.send('\r\n'.join(head).encode() + text)
        self.linger()
        return False

    def get_environ(self) -> dict[str, typing.Any]:
        environ = super().get_environ()
        for name in ('eventlet.input', 'eventlet.posthooks',
                     'eventlet.set_idle', 'headers_raw'):
            environ.pop(name, None)
        environ.update({
            'SERVER_PROTOCOL': self.request_version,
            'QUERY_STRING': environ.get('QUERY_STRING', ''),
            'wsgi.file_wrapper': exchange.FileWrapper,
            'wsgi.input_terminated': True,
            'glance_import.server': 'eventlet',
        })
        return environ

    # -- one request ----------------------------------------------------

    def handle_one_response(self) -> None:
        exchange.Exchange(self).run()

    def new_input(self, errand: Errand) -> framing.Input:
        source = Source(self, errand)
        if self.headers.get('transfer-encoding'):
            return framing.ChunkedInput(source, self.reader.ahead)
        return framing.LengthInput(
            source, self.reader.ahead,
            int(self.headers.get('content-length') or 0))

    def new_errand(self) -> Errand:
        """How a native thread works for this connection's green one."""
        return Errand(self.server.bridge)

    def wait_until_writable(self) -> None:
        """:raises TimeoutError: the client takes nothing for too long"""
        hubs.trampoline(self.connection.fd, write=True,
                        timeout=self.server.socket_timeout,
                        timeout_exc=TimeoutError())

    def send(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[self.connection.send(view):]

    # -- receiving a body, on the hub -----------------------------------

    def receive(self, view: memoryview) -> int | None:
        """Fill ``view`` as far as data flows; None when none came."""
        got = 0
        while True:
            try:
                count = self.connection.fd.recv_into(view[got:])
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
            count = self.connection.fd.recv_into(view[got:])
        except BlockingIOError:
            return got or None
        except OSError:
            count = 0
        return got + count

    def _wait_for_more(self, room: int) -> bool:
        self._set_low_water(min(LOW_WATER, room))
        try:
            hubs.trampoline(self.connection.fd, read=True, timeout=PATIENCE,
                            timeout_exc=TimeoutError())
            return True
        except TimeoutError:
            self._set_low_water(1)
            return False

    def _set_low_water(self, size: int) -> None:
        if size != self._low_water:
            self._low_water = size
            with contextlib.suppress(OSError):
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def wait_for_body(self) -> None:
        self._set_low_water(1)
        try:
            hubs.trampoline(self.connection.fd, read=True,
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
        deadline = time.monotonic() + LINGER
        scrap = bytearray(framing.SMALL)
        self._set_low_water(1)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while time.monotonic() < deadline:
                self.connection.settimeout(LINGER_IDLE)
                if not self.connection.recv_into(scrap):
                    break
                # A client that floods must not have the hub to itself.
                eventlet.sleep(0)

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()


class Source:
    """``framing.Source`` for a native thread: asks the hub."""

    def __init__(self, connection: Connection, errand: Errand) -> None:
        self._connection = connection
        self._ask = errand.ask
        self.expected = (
            connection.request_version >= 'HTTP/1.1' and
            connection.headers.get('expect', '').lower() == '100-continue')

    def receive(self, view: memoryview) -> int | None:
        return self._ask(lambda: self._connection.receive(view))

    def wait(self) -> None:
        self._ask(self._connection.wait_for_body)

    def proceed(self) -> None:
        if self.expected:
            self.expected = False
            self._ask(self._connection.proceed)


class Server(wsgi.Server):
    """All connections of one process."""

    def __init__(self, listener: greenio.GreenSocket, app: WSGIApp,
                 conf: typing.Any) -> None:
        super().__init__(
            listener, listener.getsockname(), app, log=LOG,
            environ={'wsgi.multiprocess': conf.workers > 1},
            protocol=Connection, keepalive=conf.http_keepalive,
            log_output=False, debug=False,
            url_length_limit=conf.max_header_line,
            socket_timeout=conf.client_socket_timeout or None)
        self.line_limit = conf.max_header_line
        self.bridge = Bridge()
        self.requests = Threads(REQUEST_THREADS, 'request')
        self.disk = Threads(DISK_THREADS, 'send')
        self.log_lines = Threads(1, 'access-log', LOG_REST)
        self.bodies = 0
        self.stopping = False
        # Connections that have not sent a request yet.
        self.fresh: set = set()
        self._connections: dict[int, list] = {}
        self._pool = eventlet.GreenPool(MAX_CONNECTIONS)
        self._accepting: typing.Any = None
        self._stopped = event.Event()

    def run(self) -> None:
        """Serve until told to stop, and until the last request is done."""
        self._accepting = eventlet.spawn(self._accept)
        self._stopped.wait()
        self._pool.waitall()
        # The last lines of the access log.
        Errand(self.bridge).run(self.log_lines.start, lambda: None)

    def stop(self, seconds: float | None) -> None:
        """On the hub: accept no more; cut what runs on after ``seconds``.

        None means that requests may take as long as they like.
        """
        if not self.stopping:
            self.stopping = True
            self._accepting.kill()
            self.socket.close()
            for state in list(self._connections.values()):
                self._close_idle(state)
            eventlet.spawn_after(FRESH, self._close_fresh)
            self._stopped.send()
        if seconds is not None:
            eventlet.spawn_after(seconds, self._cut)

    def _accept(self) -> None:
        while True:
            try:
                client, address = self.socket.accept()
            except OSError as failure:
                if failure.errno in (errno.EBADF, errno.EINVAL):
                    return
                # Out of descriptors or memory, or a client that has gone.
                LOG.warning('cannot accept a connection: %s',
                            failure.strerror)
                eventlet.sleep(0.1)
                continue
            client.settimeout(self.socket_timeout)
            state = [address, client, wsgi.STATE_IDLE]
            self._connections[id(state)] = state
            self.fresh.add(id(state))
            self._pool.spawn_n(self._serve, state)

    def _serve(self, state: list) -> None:
        try:
            self.process_request(state)
        except (OSError, EOFError, eventlet.Timeout) as failure:
            LOG.debug('connection lost: %s', failure)
        except Exception:
            LOG.exception('a connection failed')
        finally:
            self._connections.pop(id(state), None)
            self.fresh.discard(id(state))
            state[2] = wsgi.STATE_CLOSE
            greenio.shutdown_safe(state[1])
            state[1].close()

    def _close_idle(self, state: list) -> None:
        """A request that is on its way is still answered."""
        if state[2] != wsgi.STATE_IDLE or id(state) in self.fresh:
            return
        try:
            state[1].fd.recv(1, socket.MSG_PEEK)
        except OSError:
            greenio.shutdown_safe(state[1])

    def _close_fresh(self) -> None:
        for state in list(self._connections.values()):
            if state[2] == wsgi.STATE_IDLE:
                greenio.shutdown_safe(state[1])

    def _cut(self) -> None:
        """Applications see their bodies end too early and act on it."""
        for state in list(self._connections.values()):
            LOG.warning('cutting a request of %s that takes too long',
                        state[0][0])
            greenio.shutdown_safe(state[1])
        eventlet.spawn_after(CUT, self._give_up)

    def _give_up(self) -> None:
        LOG.warning('requests do not end; leaving them')
        leave(0)


def leave(code: int) -> typing.NoReturn:
    """End the process without waiting for threads that may never end."""
    logging.shutdown()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def raise_descriptor_limit() -> None:
    """Each connection costs a descriptor; the usual 1024 is too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * MAX_CONNECTIONS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Worker:
    """A server process from its first to its last breath."""

    def __init__(self, listener: socket.socket, app: WSGIApp,
                 conf: typing.Any) -> None:
        raise_descriptor_limit()
        self._timeout = conf.graceful_shutdown_timeout or None
        self._server = Server(greenio.GreenSocket(listener), app, conf)

    def stop(self) -> None:
        """From a signal handler: running requests have their time."""
        self._server.bridge.call(self._server.stop, self._timeout)

    def retire(self) -> None:
        """From a signal handler: running requests have all time."""
        self._server.bridge.call(self._server.stop, None)

    def run(self) -> None:
        self._server.run()
