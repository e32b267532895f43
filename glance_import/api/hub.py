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
import email.utils
import errno
import functools
import http.client
import io
import logging
import os
import queue
import re
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
from glance_import.api import framing

LOG = logging.getLogger(__name__)
ACCESS_LOG = logging.getLogger('glance_import.access')

# Native threads that requests without a body share, and those for sendfile.
REQUEST_THREADS = 20
DISK_THREADS = 8
# Requests with a body at once; each has a thread of about 15 KiB.
MAX_BODIES = 1000
MAX_CONNECTIONS = 8192
MAX_HEADERS = 65536
MAX_HEADER_LINES = 100
# Seconds a receive waits for more of a flowing body before it gives its
# buffer back, and how much it likes to find when it wakes up.
PATIENCE = 0.05
LOW_WATER = 256 << 10
# A refused client may go on sending for this long (in all, and between two
# pieces), or its system would throw the answer away.
LINGER = 10.0
LINGER_IDLE = 2.0
# An unread rest of a body up to this size is swallowed to keep a connection.
SWALLOW = 64 << 10
# Seconds a new connection may take to send a request while the server stops.
FRESH = 2.0
# Seconds for applications to act on connections that a stop has cut.
CUT = 5.0
SENDFILE = 8 << 20
LOG_REST = 0.02

WSGIApp = collections.abc.Callable[..., collections.abc.Iterable[bytes]]
Job = collections.abc.Callable[[], object]

_NO_BODY = frozenset({204, 304})
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


class MalformedHead(Exception):
    """Lines that no honest client sends."""


class TooManyHeaders(Exception):
    """More lines than MAX_HEADER_LINES."""


_VERSION = re.compile(r'HTTP/(\d{1,9})\.(\d{1,9})', re.ASCII)
_HEADER = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*\r?\n", re.DOTALL)


class Headers:
    """The lines of a request's head after the first.

    The standard parser takes a lone CR for the end of a line and folds
    lines, both of which have let requests be smuggled past a proxy, and
    takes longer for a few headers than everything else here.
    """

    def __init__(self, reader: Reader, line_limit: int) -> None:
        self._reader = reader
        self._line_limit = line_limit
        self._total = 0

    def read(self) -> http.client.HTTPMessage:
        """All of them.

        :raises MalformedHead: a line is none that HTTP/1.1 knows
        :raises TooManyHeaders: there are more than MAX_HEADER_LINES
        :raises wsgi.HeaderLineTooLong, wsgi.HeadersTooLarge: too much
        """
        headers = http.client.HTTPMessage()
        for number in range(MAX_HEADER_LINES + 1):
            line = self._line()
            if line in (b'\r\n', b'\n'):
                return headers
            match = _HEADER.fullmatch(line)
            if match is None:
                raise MalformedHead
            headers.set_raw(match[1].decode('ascii'),
                            match[2].decode('latin-1'))
        raise TooManyHeaders

    def _line(self) -> bytes:
        line = self._reader.readline(self._line_limit + 1)
        self._total += len(line)
        if len(line) > self._line_limit:
            raise wsgi.HeaderLineTooLong
        if self._total > MAX_HEADERS:
            raise wsgi.HeadersTooLarge
        content = line.removesuffix(b'\n').removesuffix(b'\r')
        if (not line.endswith(b'\n') or line[:1] in b' \t'
                or b'\r' in content or b'\0' in content):
            raise MalformedHead
        return line


class FileWrapper:
    """``wsgi.file_wrapper``: a file that the server sends by itself.

    :param file: a binary file standing where sending is to begin
    :param block_size: of reads, where somebody iterates over it instead
    :param length: bytes to send, None for up to the end of the file

    WebOb asks ``app_iter_range`` for parts of it, so ranges are sent in the
    same way.
    """

    def __init__(self, file: typing.BinaryIO, block_size: int = 1 << 20,
                 length: int | None = None) -> None:
        self.file = file
        self.block_size = block_size
        self.length = length

    def app_iter_range(self, start: int, stop: int | None) -> FileWrapper:
        """A wrapper of the bytes from ``start`` to before ``stop``."""
        self.file.seek(start, os.SEEK_CUR)
        self.length = None if stop is None else stop - start
        return self

    def __iter__(self) -> collections.abc.Iterator[bytes]:
        left = sys.maxsize if self.length is None else self.length
        while left and (block := self.file.read(min(self.block_size, left))):
            left -= len(block)
            yield block

    def close(self) -> None:
        self.file.close()

    def extent(self) -> tuple[int, int, int] | None:
        """Descriptor, offset and bytes; None when it is no real file."""
        try:
            fd = self.file.fileno()
            offset = self.file.tell()
            there = max(0, os.fstat(fd).st_size - offset)
        except (OSError, AttributeError, io.UnsupportedOperation):
            return None
        wanted = there if self.length is None else min(there, self.length)
        return fd, offset, wanted


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
        try:
            if not self._parse_line():
                return False
            with self._time_limit():
                self.headers = Headers(
                    self.reader, self.server.line_limit).read()
        except MalformedHead:
            self.request_version = 'HTTP/1.1'
            return self.refuse(400, 'Bad Request')
        except TooManyHeaders:
            return self.refuse(431, 'Request Header Fields Too Large')
        wish = self.headers.get('connection', '').lower()
        if wish in ('close', 'keep-alive'):
            self.close_connection = wish == 'close'
        return self._check_head()

    def _parse_line(self) -> bool:
        """Method, target and version of the first line.

        :raises MalformedHead: it is not those three
        """
        self.close_connection = True
        self.requestline = self.raw_requestline.decode('latin-1').rstrip(
            '\r\n')
        words = self.requestline.split()
        version = _VERSION.fullmatch(words[-1]) if len(words) == 3 else None
        if version is None:
            raise MalformedHead
        number = int(version[1]), int(version[2])
        if number >= (2, 0):
            return self.refuse(505, 'HTTP Version Not Supported')
        self.command, self.path, self.request_version = words
        # An absolute path that begins with // would look like a host.
        if self.path.startswith('//'):
            self.path = '/' + self.path.lstrip('/')
        self.close_connection = number < (1, 1)
        return True

    def _check_head(self) -> bool:
        headers = self.headers
        lengths = headers.get_all('content-length', [])
        if len(lengths) > 1 or not all(
                text.isascii() and text.isdigit() for text in lengths):
            return self.refuse(400, 'Bad Request')
        codings = headers.get_all('transfer-encoding', [])
        if codings and (lengths or self.request_version < 'HTTP/1.1'):
            return self.refuse(400, 'Bad Request')
        if codings and [c.strip().lower() for c in codings] != ['chunked']:
            return self.refuse(501, 'Not Implemented')
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
            'wsgi.file_wrapper': FileWrapper,
            'wsgi.input_terminated': True,
            'glance_import.server': 'eventlet',
        })
        return environ

    # -- one request ----------------------------------------------------

    def handle_one_response(self) -> None:
        Exchange(self).run()

    def new_input(self, errand: Errand) -> framing.Input:
        source = Source(self, errand)
        if self.headers.get('transfer-encoding'):
            return framing.ChunkedInput(source, self.reader.ahead)
        return framing.LengthInput(
            source, self.reader.ahead,
            int(self.headers.get('content-length') or 0))

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


class Exchange:
    """One request and its answer, seen from the hub."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.server = connection.server
        self.errand = Errand(self.server.bridge)
        self.input = connection.new_input(self.errand)
        self.status = ''
        self.headers: list[tuple[str, str]] = []
        self.started = False
        self.chunked = False
        self.left: int | None = None
        self.sent = 0

    def run(self) -> None:
        connection = self.connection
        begun = time.monotonic()
        try:
            self._answer()
        except (OSError, body.BodyError) as failure:
            connection.close_connection = True
            LOG.debug('connection lost: %s', failure)
        finally:
            connection.end_of_body()
            self._log(time.monotonic() - begun)
        if connection.close_connection and not self.input.complete:
            connection.linger()

    def _answer(self) -> None:
        server = self.server
        if self.input.complete:
            self._respond(server.requests.start)
        elif server.bodies >= MAX_BODIES:
            self.connection.refuse(
                503, 'Service Unavailable', 'Retry-After: 10')
            self.status = '503'
        else:
            server.bodies += 1
            try:
                self._respond(start_thread)
            finally:
                server.bodies -= 1

    def _respond(self, start: collections.abc.Callable[[Job], None]) -> None:
        environ = self.connection.environ
        environ['wsgi.input'] = self.input
        try:
            result = self.errand.run(
                start, lambda: self.server.app(environ, self._start_response))
        except body.BodyError as failure:
            self._fail(408 if isinstance(failure, body.BodyTimeout) else 400,
                       str(failure))
            return
        except Exception:
            LOG.exception('the application failed')
            self._fail(500, 'Internal Server Error')
            return
        try:
            self._send_result(result)
        except (OSError, body.BodyError):
            raise
        except Exception:
            LOG.exception('the application failed while answering')
            self._fail(500, 'Internal Server Error')
        finally:
            close = getattr(result, 'close', None)
            if close is not None:
                self.errand.run(self.server.requests.start, close)

    def _fail(self, code: int, reason: str) -> None:
        self.connection.close_connection = True
        if not self.started:
            text = (reason + '\n').encode()
            self.status = f'{code} {http.client.responses[code]}'
            self.headers = [('Content-Type', 'text/plain; charset=UTF-8'),
                            ('Content-Length', str(len(text)))]
            self._send(text)

    def _start_response(self, status: str, headers: list[tuple[str, str]],
                        exc_info: typing.Any = None
                        ) -> collections.abc.Callable[[bytes], None]:
        if exc_info and self.started:
            try:
                raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        if self.status and not exc_info:
            raise AssertionError('start_response was called twice')
        for name, value in headers:
            if any(c in name + value for c in '\r\n\0'):
                raise ValueError(f'header {name!r} cannot be sent')
        self.status = status
        self.headers = list(headers)
        return lambda data: self.errand.ask(lambda: self._send(data))

    # -- sending, on the hub --------------------------------------------

    def _send_result(self, result: collections.abc.Iterable[bytes]) -> None:
        if isinstance(result, FileWrapper) and self._send_file(result):
            return
        if isinstance(result, (list, tuple)):
            whole = b''.join(result)
            self._default_length(len(whole))
            self._send(whole)
        else:
            self._send_pieces(iter(result))
        if not self.started:
            self._send(b'')
        if self.chunked:
            self.connection.send(b'0\r\n\r\n')
        if self.left:
            # Fewer bytes than promised: only an end tells the client.
            self.connection.close_connection = True

    def _send_pieces(self, pieces: collections.abc.Iterator[bytes]) -> None:
        start = self.server.requests.start
        while True:
            # In any thread that is free: a slow reader holds none.
            piece = self.errand.run(start, lambda: next(pieces, None))
            if piece is None:
                return
            if piece:
                self._send(piece)

    def _send_file(self, wrapper: FileWrapper) -> bool:
        extent = wrapper.extent()
        if extent is None:
            return False
        fd, offset, size = extent
        self._default_length(size)
        self._send(b'')
        left = min(size, self.left or 0)
        sock = self.connection.connection.fd
        while left:
            count = self.errand.run(
                self.server.disk.start,
                functools.partial(
                    send_some, sock.fileno(), fd, offset, left))
            if count is None:
                hubs.trampoline(sock, write=True,
                                timeout=self.server.socket_timeout,
                                timeout_exc=TimeoutError())
                continue
            if not count:
                break
            offset += count
            left -= count
            self.sent += count
            self.left = (self.left or 0) - count
        if self.left:
            self.connection.close_connection = True
        return True

    def _default_length(self, size: int) -> None:
        if (self._bodyless() and self.connection.command != 'HEAD') or any(
                name.lower() == 'content-length' for name, _ in self.headers):
            return
        self.headers.append(('Content-Length', str(size)))

    def _bodyless(self) -> bool:
        code = int(self.status[:3])
        return (code in _NO_BODY or code < 200
                or self.connection.command == 'HEAD')

    def _send(self, data: bytes) -> None:
        head = b''
        if not self.started:
            if not self.status:
                raise AssertionError('write before start_response')
            self.started = True
            head = self._head()
        if self._bodyless():
            data = b''
        if self.left is not None:
            data = data[:self.left]
            self.left -= len(data)
        self.sent += len(data)
        if data and self.chunked:
            data = b'%x\r\n%b\r\n' % (len(data), data)
        if len(data) > framing.SMALL:
            self.connection.send(head)
            self.connection.send(data)
        else:
            self.connection.send(head + data)

    def _head(self) -> bytes:
        connection = self.connection
        names = {name.lower(): value for name, value in self.headers}
        lines = [f'HTTP/1.1 {self.status}']
        lines += [f'{name}: {value}' for name, value in self.headers
                  if name.lower() not in ('connection', 'keep-alive')]
        if 'date' not in names:
            lines.append(f'Date: {_date(int(time.time()))}')
        if 'content-length' in names:
            self.left = (0 if self._bodyless()
                         else int(names['content-length']))
        elif not self._bodyless():
            if connection.request_version >= 'HTTP/1.1':
                self.chunked = True
                lines.append('Transfer-Encoding: chunked')
            else:
                connection.close_connection = True
        if not self._keeps(names):
            connection.close_connection = True
            lines.append('Connection: close')
        elif connection.request_version < 'HTTP/1.1':
            lines.append('Connection: keep-alive')
        return '\r\n'.join([*lines, '', '']).encode('latin-1')

    def _keeps(self, names: dict[str, str]) -> bool:
        """Whether another request may follow on this connection."""
        if (self.connection.close_connection or not self.server.keepalive
                or self.server.stopping
                or names.get('connection', '').lower() == 'close'):
            return False
        return self.input.complete or self._swallow()

    def _swallow(self) -> bool:
        """Read a small rest of the body, if it is there already."""
        unread = self.input
        ahead = self.connection.reader.ahead
        if (isinstance(unread, framing.LengthInput)
                and unread.left <= min(SWALLOW, len(ahead))):
            del ahead[:unread.left]
            unread.left = 0
            unread.complete = True
        return unread.complete

    def _log(self, seconds: float) -> None:
        connection = self.connection
        request_id = next(
            (value for name, value in self.headers
             if name.lower() == 'x-openstack-request-id'), '-')
        values = (connection.client_address[0], request_id,
                  connection.requestline.encode('unicode_escape').decode(),
                  self.status[:3] or '-', self.sent, seconds)
        self.server.log_lines.start(lambda: ACCESS_LOG.info(
            '%s [%s] "%s" status: %s bytes: %d seconds: %.4f', *values))


@functools.lru_cache(maxsize=2)
def _date(now: int) -> str:
    return email.utils.formatdate(now, usegmt=True)


def send_some(to: int, fd: int, offset: int, size: int) -> int | None:
    """Send from a file until the socket takes no more.

    :returns: bytes sent, 0 at the end of the file, None if none were taken
    """
    done = 0
    while done < min(size, SENDFILE):
        try:
            count = os.sendfile(to, fd, offset + done,
                                min(size - done, SENDFILE - done))
        except BlockingIOError:
            return done or None
        if not count:
            break
        done += count
    return done


def start_thread(job: Job) -> None:
    threading.Thread(target=job, daemon=True, name='body').start()


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
