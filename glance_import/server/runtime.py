"""What all connections of a worker share.

Touches nothing by itself.
"""

from __future__ import annotations

import collections.abc
import logging
import sys
import typing

from glance_import.server import file_wrapper
from glance_import.server import idle
from glance_import.server import limits
from glance_import.server import loop
from glance_import.server import settings as options
from glance_import.server import threads

Result = collections.abc.Iterable[bytes]
WSGIApp = collections.abc.Callable[..., Result]

# Native threads for requests without a body, and those for sendfile.
REQUEST_THREADS = 20
FILE_THREADS = 8
# Seconds that the thread of the access log sleeps between its lines, so that
# a request does not wake it.
LOG_REST = 0.02


class Runtime:
    """One for each worker process, made on its event loop."""

    def __init__(self, settings: options.Settings, app: WSGIApp) -> None:
        self.settings = settings
        self.app = app
        self.loop = loop.Loop()
        self.socket_timeout = settings.socket_timeout or None
        self.head_timeout = settings.head_timeout or None
        self.limits: limits.ConnectionLimits = limits.ConnectionLimits(
            limits.affordable(settings.max_connections),
            settings.max_connections_per_address,
            settings.unbounded_addresses)
        self.idle = idle.IdleConnections()
        self.requests_awake = loop.Flag()
        self.requests_idle = loop.Flag()
        self.requests = threads.RequestThreads(
            REQUEST_THREADS, self.idle,
            on_awake=lambda: self.loop.call(self.requests_awake.set),
            on_idle=lambda: self.loop.call(self.requests_idle.set))
        self.files = threads.ThreadPool(FILE_THREADS, 'send')
        self._log_lines = threads.ThreadPool(1, 'access-log', LOG_REST)
        self._access_log = logging.getLogger(settings.access_log)
        #: Requests whose body is being received; changed on the loop alone.
        self.bodies = 0
        #: The worker stops: no request is to follow on any connection.
        self.stopping = False
        self.environ: dict[str, typing.Any] = {
            'wsgi.version': (1, 0), 'wsgi.errors': sys.stderr,
            'wsgi.url_scheme': 'http', 'wsgi.multithread': True,
            'wsgi.multiprocess': settings.workers > 1,
            'wsgi.run_once': False,
            'wsgi.file_wrapper': file_wrapper.FileWrapper,
            'wsgi.input_terminated': True, 'SCRIPT_NAME': '',
            'GATEWAY_INTERFACE': 'CGI/1.1', **settings.environ}

    def log(self, address: str, line: str, status: str,
            request_id: str = '-', sent: int = 0, seconds: float = 0.0,
            who: collections.abc.Sequence[str | None] = ()) -> None:
        """A line of the access log, written by a thread of its own.

        :param line: the first one of the request, as it came
        :param who: user and project, if they are known
        """
        def write() -> None:
            user, project = [_readable(each or '-')
                             for each in who] or ('-', '-')
            self._access_log.info(
                '%s [%s %s %s] "%s" status: %s bytes: %d seconds: %.4f',
                address, request_id, user, project, _readable(line),
                status or '-', sent, seconds,
                extra={'extra': {
                    'client': address, 'asked_as': request_id, 'user': user,
                    'project': project, 'status': status, 'bytes': sent,
                    'seconds': round(seconds, 4)}})

        self._log_lines.start(write)

    def flush_log(self) -> None:
        """On the loop: until all lines so far have been written."""
        self.loop.run_in(self._log_lines.start, lambda: None)


def _readable(text: str) -> str:
    """As a line of a log can have it."""
    if text.isascii() and text.isprintable():
        return text
    return text.encode('unicode_escape').decode()
