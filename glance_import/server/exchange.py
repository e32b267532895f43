"""One request and its response: calls the application, sends.

The application is called in a native thread, which sends a response that is
ready and that the client takes at once. All others are sent from the event
loop: in pieces, or from a file by threads of their own, so that neither a
slow client nor a slow disk holds up a request. Touches the transport.
"""

from __future__ import annotations

import collections.abc
import functools
import logging
import os
import time
import typing

from glance_import.server import body
from glance_import.server import errors
from glance_import.server import file_wrapper
from glance_import.server import head
from glance_import.server import response
from glance_import.server import runtime as runtimes
from glance_import.server import threads
from glance_import.server import transport as transports

LOG = logging.getLogger(__name__)

# An unread rest of a body up to this size is skipped to keep a connection.
SKIP = 64 << 10
# Bytes that a file is sent by before others have their turn.
SENDFILE = 8 << 20


class Exchange:
    """A request that has been received but for its body.

    :param environ: of PEP 3333, but for ``wsgi.input``
    :param ahead: the read-ahead buffer of the connection
    """

    def __init__(self, transport: transports.Transport, request: head.Head,
                 environ: dict[str, typing.Any], ahead: bytearray) -> None:
        self._transport = transport
        self._runtime: runtimes.Runtime = transport.runtime
        self._request = request
        self._environ = environ
        self._begun = time.monotonic()
        self._response = response.Response(request, self._may_keep)
        self._result: runtimes.Result = ()
        # Of a response that was ready, what the client did not take at once.
        self._rest = b''
        # What the application is called again with, when it asks for that.
        self._unused: dict[str, typing.Any] | None = None
        self._again = False
        self.input = body.input_of(request, transport, ahead)

    @property
    def closes(self) -> bool:
        """Whether the connection ends with it."""
        return self._response.closes

    # -- in a native thread ---------------------------------------------

    def answer(self) -> bool:
        """Call the application, and send what can be sent at once.

        Whether all is sent; if not, ``conclude`` has to do the rest.
        """
        self._unused = dict(self._environ)
        self._environ['server.again'] = _again
        self.call()
        if self._again or not isinstance(self._result, (list, tuple)):
            return False
        try:
            wire = self._response.whole(self._result)
        except Exception:
            LOG.exception('the application failed while answering')
            wire = self._response.whole(self._failure())
        try:
            self._rest = wire[self._transport.send_some(wire):]
        except OSError as failure:
            self._lose(failure)
        if self._rest:
            return False
        self._end()
        return True

    def call(self) -> None:
        """Have the application answer; ``conclude`` sends it."""
        environ = self._environ
        environ['wsgi.input'] = self.input
        try:
            self._result = self._runtime.app(environ, self._start_response)
        except errors.Again:
            self._again = True
        except errors.BodyTimeout as failure:
            self._result = self._response.fail(408, failure.client_text)
        except errors.BodyError as failure:
            self._result = self._response.fail(400, failure.client_text)
        except BaseException:
            # SystemExit too: the thread is not the application's to end.
            LOG.exception('the application failed')
            self._result = self._failure()

    def _start_response(self, status: str, headers: list[tuple[str, str]],
                        exc_info: typing.Any = None
                        ) -> collections.abc.Callable[[bytes], None]:
        if exc_info and self._response.started:
            try:
                raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        if self._response.status and not exc_info:
            raise AssertionError('start_response was called twice')
        self._response.begin(status, headers)
        return self._write

    def _write(self, data: bytes) -> None:
        """The ``write`` of PEP 3333, for old applications."""
        self._transport.send_all(self._response.part(data))

    def _failure(self) -> list[bytes]:
        return self._response.fail(500, 'Internal Server Error')

    def _may_keep(self) -> bool:
        runtime = self._runtime
        return (runtime.settings.keepalive and not runtime.stopping
                and self.input.skip(SKIP))

    # -- on the event loop ----------------------------------------------

    def conclude(self) -> None:
        """Send the response, or what is left of it."""
        try:
            try:
                if self._again:
                    self._call_again()
                self._send()
            except (OSError, errors.BodyError):
                raise
            except Exception:
                LOG.exception('the application failed while answering')
                self._transport.send(self._response.whole(self._failure()))
            finally:
                close = getattr(self._result, 'close', None)
                if close is not None:
                    self._runtime.loop.run_in(
                        getattr(self._result, 'start',
                                self._runtime.requests.start), close)
        except (OSError, errors.BodyError) as failure:
            self._lose(failure)
        finally:
            self._transport.end_of_body()
            self._end()
        if self.closes and not self.input.complete:
            self._transport.linger()

    def _call_again(self) -> None:
        """In a thread of its own, of which there are as many as of bodies."""
        runtime = self._runtime
        assert self._unused is not None
        self._environ = self._unused
        if runtime.bodies >= runtime.settings.max_bodies:
            self._result = self._response.fail(
                503, 'There are too many requests that wait.')
            return
        runtime.bodies += 1
        try:
            runtime.loop.run_in(threads.start_thread, self.call)
        finally:
            runtime.bodies -= 1

    def _send(self) -> None:
        transport, result = self._transport, self._result
        if self._rest:
            transport.send(self._rest)
        elif isinstance(result, (list, tuple)):
            transport.send(self._response.whole(result))
        elif not (isinstance(result, file_wrapper.FileWrapper)
                  and self._send_file(result)):
            self._send_pieces(
                iter(result),
                getattr(result, 'start', self._runtime.requests.start))
            transport.send(self._response.end())

    def _send_pieces(self, pieces: collections.abc.Iterator[bytes],
                     start: collections.abc.Callable[[threads.Job], None]
                     ) -> None:
        while True:
            # In any thread that is free: a slow reader occupies none.
            piece = self._runtime.loop.run_in(
                start, lambda: next(pieces, None))
            if piece is None:
                return
            if piece:
                self._transport.send(self._response.part(piece))

    def _send_file(self, wrapper: file_wrapper.FileWrapper) -> bool:
        """Whether it is a file that the kernel can send."""
        extent = wrapper.extent()
        if extent is None:
            return False
        fd, offset, size = extent
        answer, runtime = self._response, self._runtime
        answer.set_length(size)
        self._transport.send(answer.part(b''))
        left = min(size, answer.left or 0)
        while left:
            count = runtime.loop.run_in(
                runtime.files.start,
                functools.partial(self._send_extent, fd, offset, left))
            if count is None:
                self._transport.wait_until_writable()
                continue
            if not count:
                break
            offset += count
            left -= count
            wrapper.sent += count
            answer.sent += count
            answer.left = (answer.left or 0) - count
        answer.end()
        return True

    def _send_extent(self, fd: int, offset: int, size: int) -> int | None:
        """In a native thread: send from a file what the client takes.

        A client that reads fast is waited for here, a slow one on the loop.

        :returns: bytes sent, 0 at the end of the file, None if none were
            taken
        """
        transport, files = self._transport, self._runtime.files
        sent = 0
        while sent < size and not (
                files.has_waiting_jobs and sent >= SENDFILE):
            try:
                count = os.sendfile(transport.fileno(), fd, offset + sent,
                                    min(size - sent, SENDFILE))
            except BlockingIOError:
                if files.has_waiting_jobs or not transport.writable_soon():
                    return sent or None
                continue
            if not count:
                break
            sent += count
        return sent

    # -- in either ------------------------------------------------------

    def _lose(self, failure: Exception) -> None:
        self._response.closes = True
        LOG.debug('connection lost: %s', failure)

    def _end(self) -> None:
        self.input.end()
        answer = self._response
        if self._environ.get('server.quiet'):
            return
        self._runtime.log(
            self._transport.address[0], self._request.line,
            answer.status[:3],
            answer.header(self._runtime.settings.request_id_header) or '-',
            answer.sent, time.monotonic() - self._begun,
            self._environ.get('server.who', ()))


def _again() -> typing.NoReturn:
    """What ``server.again`` is; see the package."""
    raise errors.Again
