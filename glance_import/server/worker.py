"""One server process: its event loop, from the first client to the last.

The loop accepts connections, and waits for clients that take their time; the
application runs in native threads. Touches the listening socket.
"""

from __future__ import annotations

import collections.abc
import contextlib
import errno
import logging
import os
import socket
import sys
import time
import typing

from glance_import.server import connection
from glance_import.server import limits
from glance_import.server import loop
from glance_import.server import runtime as runtimes
from glance_import.server import settings as options

LOG = logging.getLogger(__name__)

# Seconds a new connection may take to send a request while the server stops.
FRESH = 2.0
# Seconds for applications to act on connections that a stop has cut.
CUT = 5.0
# Seconds after which another request thread is woken if those that are awake
# are stuck; and how much longer than it has run late the loop sleeps.
RELIEF = 0.02
RELIEF_LATE = 4
# How often room for a client is looked for, and seconds between two tries.
ROOM_TRIES = 5
ROOM_WAIT = 0.002
# Seconds between two signs that the loop turns.
BEAT = 1.0
# Seconds between two checks for connections that have ended, while stopping.
DRAIN_POLL = 0.05


class Worker:
    """Serves the connections of one listening socket.

    :param listener: does not block
    :param turn: called on the loop about once a second
    """

    def __init__(self, listener: socket.socket, app: runtimes.WSGIApp,
                 settings: options.Settings,
                 turn: collections.abc.Callable[[], None]) -> None:
        self._listener = listener
        self._settings = settings
        self._turn = turn
        self._beat = min(BEAT, (settings.hang_timeout or BEAT) / 4)
        self._runtime = runtimes.Runtime(settings, app)
        self._loop = self._runtime.loop
        self._accepting: typing.Any = None
        self._stopped = loop.Flag()

    def stop(self) -> None:
        """From a signal handler: running requests have their time."""
        self._loop.call(self._stop, self._settings.graceful_timeout or None)

    def retire(self) -> None:
        """From a signal handler: running requests have all time."""
        self._loop.call(self._stop, None)

    def run(self) -> None:
        """Serve until ``stop`` or ``retire``, and the last request is done.
        """
        self._loop.spawn(self._tell_turns)
        self._loop.spawn(self._watch_idle)
        self._loop.spawn(self._relieve_threads)
        self._accepting = self._loop.spawn(self._accept)
        self._stopped.wait()
        while len(self._runtime.limits):
            self._loop.sleep(DRAIN_POLL)
        self._runtime.flush_log()

    # -- on the loop ----------------------------------------------------

    def _accept(self) -> None:
        runtime = self._runtime
        while True:
            try:
                client, address = self._listener.accept()
            except BlockingIOError:
                self._loop.wait_readable(self._listener.fileno())
                continue
            except OSError as failure:
                if failure.errno in (errno.EBADF, errno.EINVAL):
                    return
                # Out of descriptors or memory, or a client that has gone.
                LOG.warning('cannot accept a connection: %s',
                            failure.strerror)
                runtime.limits.make_room()
                self._loop.sleep(0.1)
                continue
            client.setblocking(False)
            made = connection.Connection(runtime, client, address)
            if runtime.limits.is_crowded(made):
                self._turn_away(made, limits.CROWDED)
            elif not self._admit(made):
                # In a thread that goes on if the accepting is stopped.
                self._loop.spawn(self._admit_later, made).wait()
            # A flood of clients must not have the loop to itself.
            self._loop.sleep(0)

    def _admit(self, made: connection.Connection) -> bool:
        """Whether there is room for it."""
        if not self._runtime.limits.find_room():
            return False
        self._runtime.limits.enter(made)
        made.become_idle()
        return True

    def _admit_later(self, made: connection.Connection) -> None:
        """Try again: what others have sent may be about to be read."""
        for _ in range(ROOM_TRIES):
            self._loop.sleep(ROOM_WAIT)
            if self._admit(made):
                return
        self._turn_away(made, limits.FULL)

    def _turn_away(self, made: connection.Connection,
                   refusal: limits.Refusal) -> None:
        self._runtime.limits.log_refusal(refusal, made)
        made.turn_away(refusal)

    def _watch_idle(self) -> None:
        """Wake a thread for requests while none waits for them itself."""
        runtime = self._runtime
        while True:
            self._loop.wait_readable(runtime.idle.fileno())
            runtime.requests.take_over()
            runtime.requests_idle.wait()

    def _relieve_threads(self) -> None:
        """While request threads work, see that one can serve.

        On a busy machine the loop runs late, and a thread that it interrupts
        waits for it: then it interrupts them less often.
        """
        runtime = self._runtime
        while True:
            runtime.requests_awake.wait()
            pause = RELIEF
            while runtime.requests.awake:
                due = time.monotonic() + pause
                self._loop.sleep(pause)
                pause = max(RELIEF, RELIEF_LATE * (time.monotonic() - due))
                runtime.requests.relieve()

    def _tell_turns(self) -> None:
        """The parent replaces a process that does not come by here."""
        while True:
            self._turn()
            now = time.monotonic()
            for client in self._runtime.limits:
                client.close_late(now)
            self._loop.sleep(self._beat)

    def _stop(self, seconds: float | None) -> None:
        """Accept no more; cut what still runs after ``seconds``.

        None means that requests may take as long as they like.
        """
        if not self._runtime.stopping:
            self._runtime.stopping = True
            self._accepting.kill()
            self._listener.close()
            for client in self._runtime.limits:
                client.close_idle()
            self._loop.after(FRESH, self._close_fresh)
            self._stopped.set()
        if seconds is not None:
            self._loop.after(seconds, self._cut)

    def _close_fresh(self) -> None:
        for client in self._runtime.limits:
            client.close_idle(fresh=True)

    def _cut(self) -> None:
        """Applications see their bodies stop too early and act on it."""
        for client in self._runtime.limits:
            LOG.warning('cutting a request of %s that takes too long',
                        client.address[0])
            client.shut_down()
        self._loop.after(CUT, self._give_up)

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
