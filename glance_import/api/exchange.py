"""One request and its answer, on the hub's side of it.

Hands the request to the application in a native thread, and sends what comes
of it: whole, in pieces, or by sendfile. How bytes move is the connection's
business, what a request means the application's.
"""

from __future__ import annotations

import collections.abc
import email.utils
import functools
import http.client
import io
import logging
import os
import re
import sys
import threading
import time
import typing

from glance_import.api import body
from glance_import.api import framing
from glance_import.api import green
from glance_import.api import head

if typing.TYPE_CHECKING:
    from glance_import.api import connection as connections

LOG = logging.getLogger(__name__)
ACCESS_LOG = logging.getLogger('glance_import.access')

# An unread rest of a body up to this size is swallowed to keep a connection.
SWALLOW = 64 << 10
# Bytes that a file is sent by before others have their turn.
SENDFILE = 8 << 20

Result = collections.abc.Iterable[bytes]
WSGIApp = collections.abc.Callable[..., Result]
_UNSENDABLE = re.compile(r'[\r\n\0]')
_NO_BODY = frozenset({204, 304})


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


class Exchange:
    """One request and its answer.

    :param errand: that of a native thread which has answered another
        request of this connection, and goes on with this one
    """

    def __init__(self, connection: connections.Connection,
                 errand: green.Errand | None = None) -> None:
        self.connection = connection
        self.server = connection.server
        self.errand = errand or connection.new_errand()
        self.input = connection.new_input(self.errand)
        self.begun = time.monotonic()
        self.status = ''
        self.headers: list[tuple[str, str]] = []
        self.named: dict[str, str] = {}
        self.bodyless = False
        self.started = False
        self.chunked = False
        self.left: int | None = None
        self.sent = 0

    def run(self) -> None:
        """On the hub: until the answer has been sent or cannot be.

        Requests that follow at once may have been answered as well.
        """
        server = self.server
        if self.input.complete:
            left = self.errand.run(
                server.requests.start, self._answer_and_stay)
            if left is not None:
                last, unsent = left
                last._conclude(unsent)
        elif server.bodies >= server.max_bodies:
            self.status = '503'
            self._log()
            self.connection.refuse(
                503, 'Service Unavailable', 'There are too many requests '
                'with a body.', 'Retry-After: 10')
        else:
            server.bodies += 1
            try:
                result = self.errand.run(start_thread, self._call)
            finally:
                # The thread has ended: what is left costs a connection.
                server.bodies -= 1
            self._conclude(result)

    def _answer_and_stay(self) -> tuple[Exchange, Result | bytes] | None:
        """In a native thread: until no other request follows at once.

        :returns: an exchange whose answer the hub has to send, or the rest
            of it; None when all is sent
        """
        current = self
        while True:
            result = current._call()
            if not isinstance(result, (list, tuple)):
                return current, result
            unsent = current._send_now(result)
            if unsent:
                return current, unsent
            current._log()
            if not self.connection.follow():
                return None
            current = Exchange(self.connection, self.errand)

    def _send_now(self, result: collections.abc.Sequence[bytes]) -> bytes:
        """In a native thread: send a whole answer; the rest of it, if any.

        A client that reads slowly is the hub's to wait for.
        """
        try:
            wire = self._whole(result)
        except Exception:
            LOG.exception('the application failed while answering')
            wire = self._whole(self._failure(500, 'Internal Server Error'))
        try:
            return wire[self.connection.send_now(wire):]
        except OSError as failure:
            self.connection.closing = True
            LOG.debug('connection lost: %s', failure)
            return b''

    def _call(self) -> Result:
        """In a native thread: what the application answers."""
        environ = self.connection.environ()
        environ['wsgi.input'] = self.input
        try:
            return self.server.app(environ, self._start_response)
        except body.BodyError as failure:
            return self._failure(
                408 if isinstance(failure, body.BodyTimeout) else 400,
                str(failure))
        except Exception:
            LOG.exception('the application failed')
            return self._failure(500, 'Internal Server Error')

    def _failure(self, code: int, reason: str) -> list[bytes]:
        """What is answered instead; nothing when an answer has begun."""
        self.connection.closing = True
        if self.started:
            # No end either: the client is to see that it is not whole.
            self.chunked, self.left = False, None
            return []
        text = (reason + '\n').encode()
        self._promise(f'{code} {http.client.responses[code]}', [
            ('Content-Type', 'text/plain; charset=UTF-8'),
            ('Content-Length', str(len(text)))])
        return [text]

    def _conclude(self, unsent: Result | bytes) -> None:
        """On the hub: send the answer, or what is left of it."""
        connection = self.connection
        try:
            try:
                if isinstance(unsent, bytes):
                    connection.send(unsent)
                else:
                    self._send_result(unsent)
            except (OSError, body.BodyError):
                raise
            except Exception:
                LOG.exception('the application failed while answering')
                self._send_result(
                    self._failure(500, 'Internal Server Error'))
            finally:
                close = getattr(unsent, 'close', None)
                if close is not None:
                    self.errand.run(self.server.requests.start, close)
        except (OSError, body.BodyError) as failure:
            connection.closing = True
            LOG.debug('connection lost: %s', failure)
        finally:
            connection.end_of_body()
            self._log()
        if connection.closing and not self.input.complete:
            connection.linger()

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
            if _UNSENDABLE.search(f'{name}{value}'):
                raise ValueError(f'header {name!r} cannot be sent')
        self._promise(status, headers)
        return lambda data: self.errand.ask(lambda: self._send(data))

    def _promise(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.status = status
        self.headers = list(headers)
        self.named = {name.lower(): value for name, value in headers}
        code = int(status[:3])
        self.bodyless = (code in _NO_BODY or code < 200
                         or self.connection.head.method == 'HEAD')

    # -- sending, on the hub --------------------------------------------

    def _send_result(self, result: Result) -> None:
        if isinstance(result, FileWrapper) and self._send_file(result):
            return
        if isinstance(result, (list, tuple)):
            self.connection.send(self._whole(result))
            return
        self._send_pieces(iter(result))
        self.connection.send(self._end())

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
        while left:
            count = self.errand.run(
                self.server.disk.start,
                functools.partial(self._send_some, fd, offset, left))
            if count is None:
                self.connection.wait_until_writable()
                continue
            if not count:
                break
            offset += count
            left -= count
            self.sent += count
            self.left = (self.left or 0) - count
        if self.left:
            self.connection.closing = True
        return True

    def _send_some(self, fd: int, offset: int, size: int) -> int | None:
        """In a native thread: send from a file what the client takes.

        A client that reads fast is waited for here, a slow one is the hub's.

        :returns: bytes sent, 0 at the end of the file, None if none were
            taken
        """
        connection, threads = self.connection, self.server.disk
        done = 0
        while done < size and not (threads.waiting and done >= SENDFILE):
            try:
                count = os.sendfile(connection.fileno(), fd, offset + done,
                                    min(size - done, SENDFILE))
            except BlockingIOError:
                if threads.waiting or not threads.stay(connection.writable):
                    return done or None
                continue
            if not count:
                break
            done += count
        return done

    def _default_length(self, size: int) -> None:
        if 'content-length' in self.named or (
                self.bodyless and self.connection.head.method != 'HEAD'):
            return
        self.headers.append(('Content-Length', str(size)))
        self.named['content-length'] = str(size)

    def _send(self, data: bytes) -> None:
        self.connection.send(self._wire(data))

    def _whole(self, result: collections.abc.Sequence[bytes]) -> bytes:
        """An answer as it goes on the wire."""
        data = b''.join(result)
        self._default_length(len(data))
        return self._wire(data) + self._end()

    def _wire(self, data: bytes) -> bytes:
        """A piece of it, the first one behind its head."""
        begin = b''
        if not self.started:
            if not self.status:
                raise AssertionError('write before start_response')
            begin = self._head()
            self.started = True
        if self.bodyless:
            data = b''
        if self.left is not None:
            data = data[:self.left]
            self.left -= len(data)
        self.sent += len(data)
        if data and self.chunked:
            data = b'%x\r\n%b\r\n' % (len(data), data)
        return begin + data if begin else data

    def _end(self) -> bytes:
        """What goes on the wire when all pieces have."""
        if self.left:
            # Fewer bytes than promised: only an end tells the client.
            self.connection.closing = True
        return ((b'' if self.started else self._wire(b''))
                + (b'0\r\n\r\n' if self.chunked else b''))

    def _head(self) -> bytes:
        connection = self.connection
        names = self.named
        lines = [f'HTTP/1.1 {self.status}']
        lines += [f'{name}: {value}' for name, value in self.headers
                  if name.lower() not in ('connection', 'keep-alive')]
        if 'date' not in names:
            lines.append(f'Date: {_date(int(time.time()))}')
        if 'content-length' in names:
            self.left = (0 if self.bodyless
                         else int(names['content-length']))
        elif not self.bodyless:
            if connection.head.version == 'HTTP/1.1':
                self.chunked = True
                lines.append('Transfer-Encoding: chunked')
            else:
                connection.closing = True
        if not self._keeps(names):
            connection.closing = True
            lines.append('Connection: close')
        elif connection.head.version == 'HTTP/1.0':
            lines.append('Connection: keep-alive')
        return '\r\n'.join([*lines, '', '']).encode('latin-1')

    def _keeps(self, names: dict[str, str]) -> bool:
        """Whether another request may follow on this connection."""
        if (self.connection.closing or not self.server.keepalive
                or self.server.stopping
                or 'close' in head.members(names.get('connection', ''))):
            return False
        return self.input.complete or self._swallow()

    def _swallow(self) -> bool:
        """Read a small rest of the body, if it is there already."""
        unread = self.input
        ahead = self.connection.ahead
        if (isinstance(unread, framing.LengthInput)
                and unread.left <= min(SWALLOW, len(ahead))):
            del ahead[:unread.left]
            unread.left = 0
            unread.complete = True
        return unread.complete

    def _log(self) -> None:
        log(self.connection, self.connection.head.line, self.status[:3],
            self.named.get('x-openstack-request-id', '-'), self.sent,
            time.monotonic() - self.begun)


def log(connection: connections.Connection, line: str, status: str,
        request_id: str = '-', sent: int = 0, seconds: float = 0.0) -> None:
    """A line of the access log, written by a thread of its own.

    :param line: the first one of the request, as it came
    """
    if not (line.isascii() and line.isprintable()):
        line = line.encode('unicode_escape').decode()
    values = (connection.address[0], request_id, line, status or '-', sent,
              seconds)
    connection.server.log_lines.start(lambda: ACCESS_LOG.info(
        '%s [%s] "%s" status: %s bytes: %d seconds: %.4f', *values))


@functools.lru_cache(maxsize=2)
def _date(now: int) -> str:
    return email.utils.formatdate(now, usegmt=True)


def start_thread(job: green.Job) -> None:
    threading.Thread(target=job, daemon=True, name='body').start()
