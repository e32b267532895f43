"""One server process: eventlet moves the bytes, native threads think.

The hub (eventlet's event loop, not monkey-patched) accepts connections,
waits for requests, receives and sends, and does nothing that can block. The
application runs in native threads: requests without a body share a few; a
request with a body has a thread of its own, which is parked while the hub
receives for it, so that slow uploads hold up nobody. Files are sent with
sendfile by yet other threads, so that a disk that is slow holds up neither.

Touches sockets and threads; what a request means is the application's
business.
"""

from __future__ import annotations

import collections.abc
import contextlib
import errno
import logging
import os
import resource
import socket
import sys
import typing

import eventlet  # type: ignore[import-untyped]
from eventlet import event
from eventlet import greenio

from glance_import.api import connection
from glance_import.api import exchange
from glance_import.api import green
from glance_import.api import places

LOG = logging.getLogger(__name__)

# Native threads that requests without a body share, and those for sendfile.
REQUEST_THREADS = 20
DISK_THREADS = 8
# Descriptors that are not for connections, each of which may need another
# one for the file that it is sent.
SPARE_DESCRIPTORS = 200
# Seconds a new connection may take to send a request while the server stops.
FRESH = 2.0
# Seconds for applications to act on connections that a stop has cut.
CUT = 5.0
LOG_REST = 0.02
# Seconds between two signs that the hub turns.
BEAT = 1.0


class Server:
    """All connections of one process.

    :param turn: called on the hub about once a second
    """

    def __init__(self, listener: greenio.GreenSocket, app: exchange.WSGIApp,
                 conf: typing.Any,
                 turn: collections.abc.Callable[[], None]) -> None:
        connections = affordable(conf.max_connections)
        self.app = app
        self.keepalive = conf.http_keepalive
        self.line_limit = conf.max_header_line
        self.socket_timeout = conf.client_socket_timeout or None
        self.head_timeout = conf.client_header_timeout or None
        self.max_bodies = conf.max_request_bodies
        self.environ = {
            'wsgi.version': (1, 0), 'wsgi.errors': sys.stderr,
            'wsgi.url_scheme': 'http', 'wsgi.multithread': True,
            'wsgi.multiprocess': conf.workers > 1, 'wsgi.run_once': False,
            'wsgi.file_wrapper': exchange.FileWrapper,
            'wsgi.input_terminated': True, 'SCRIPT_NAME': '',
            'GATEWAY_INTERFACE': 'CGI/1.1',
            'glance_import.server': 'eventlet'}
        self.bridge = green.Bridge()
        self.requests = green.Threads(REQUEST_THREADS, 'request')
        self.disk = green.Threads(DISK_THREADS, 'send')
        self.log_lines = green.Threads(1, 'access-log', LOG_REST)
        self.bodies = 0
        self.places = places.Places(
            connections, conf.max_connections_per_address,
            conf.unbounded_addresses)
        self.stopping = False
        self._turn = turn
        self._beat = min(BEAT, (conf.worker_hang_timeout or BEAT) / 4)
        self._listener = listener
        self._pool = eventlet.GreenPool(connections)
        self._accepting: typing.Any = None
        self._stopped = event.Event()

    def run(self) -> None:
        """Serve until told to stop, and until the last request is done."""
        eventlet.spawn(self._tell_turns)
        self._accepting = eventlet.spawn(self._accept)
        self._stopped.wait()
        self._pool.waitall()
        # The last lines of the access log.
        green.Errand(self.bridge).run(self.log_lines.start, lambda: None)

    def stop(self, seconds: float | None) -> None:
        """On the hub: accept no more; cut what runs on after ``seconds``.

        None means that requests may take as long as they like.
        """
        if not self.stopping:
            self.stopping = True
            self._accepting.kill()
            self._listener.close()
            for each in self.places:
                each.close_idle()
            eventlet.spawn_after(FRESH, self._close_fresh)
            self._stopped.send()
        if seconds is not None:
            eventlet.spawn_after(seconds, self._cut)

    def _tell_turns(self) -> None:
        """The parent replaces a process that does not come by here."""
        while True:
            self._turn()
            eventlet.sleep(self._beat)

    def _accept(self) -> None:
        while True:
            try:
                client, address = self._listener.accept()
            except OSError as failure:
                if failure.errno in (errno.EBADF, errno.EINVAL):
                    return
                # Out of descriptors or memory, or a client that has gone.
                LOG.warning('cannot accept a connection: %s',
                            failure.strerror)
                self.places.make_room()
                eventlet.sleep(0.1)
                continue
            client.settimeout(self.socket_timeout)
            made = connection.Connection(self, client, address)
            try:
                self.places.enter(made)
            except places.TurnedAway as refusal:
                made.turn_away(refusal)
            else:
                self._pool.spawn_n(self._serve, made)
            # Those who come on and on must not have the hub to themselves.
            eventlet.sleep(0)

    def _serve(self, served: connection.Connection) -> None:
        try:
            served.serve()
        except (OSError, EOFError, eventlet.Timeout) as failure:
            LOG.debug('connection lost: %s', failure)
        except Exception:
            LOG.exception('a connection failed')
        finally:
            self.places.leave(served)
            with contextlib.suppress(OSError):
                served.close()

    def _close_fresh(self) -> None:
        for each in self.places:
            if each.idle:
                each.shut_down()

    def _cut(self) -> None:
        """Applications see their bodies end too early and act on it."""
        for each in self.places:
            LOG.warning('cutting a request of %s that takes too long',
                        each.address[0])
            each.shut_down()
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


def affordable(connections: int) -> int:
    """How many of them there can be.

    Each costs descriptors, of which the usual 1024 are too few.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * connections + SPARE_DESCRIPTORS
    if resource.RLIM_INFINITY in (soft, hard):
        limit = wanted
    else:
        limit = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            soft = limit
    if soft == resource.RLIM_INFINITY:
        return connections
    found = max(1, min(connections, (soft - SPARE_DESCRIPTORS) // 2))
    if found < connections:
        LOG.warning('the limit of %d open files leaves room for %d '
                    'connections', soft, found)
    return found


class Worker:
    """A server process from its first to its last breath."""

    def __init__(self, listener: socket.socket, app: exchange.WSGIApp,
                 conf: typing.Any,
                 turn: collections.abc.Callable[[], None]) -> None:
        self._timeout = conf.graceful_shutdown_timeout or None
        self._server = Server(greenio.GreenSocket(listener), app, conf, turn)

    def stop(self) -> None:
        """From a signal handler: running requests have their time."""
        self._server.bridge.call(self._server.stop, self._timeout)

    def retire(self) -> None:
        """From a signal handler: running requests have all time."""
        self._server.bridge.call(self._server.stop, None)

    def run(self) -> None:
        self._server.run()
