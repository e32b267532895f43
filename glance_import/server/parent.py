"""The processes: a parent that listens, and workers that serve.

The parent binds the socket and starts the workers, also when that is one: it
holds no application, so it is small, and it is what starts a worker again and
what reloads the configuration. Workers stay in its process group and die with
it. Only a worker imports ``worker``, so that no event loop is ever carried
over a fork. Touches processes and signals.

Signals to the parent: SIGTERM or SIGINT ends the service when running
requests are done (a second one ends it at once); SIGHUP reads the
configuration again and replaces the workers one generation by the next
without refusing a connection: new ones are up before old ones stop.

A worker whose event loop hangs is killed and replaced; the others do not
notice.
"""

from __future__ import annotations

import collections.abc
import contextlib
import ctypes
import dataclasses
import logging
import os
import select
import signal
import socket
import sys
import time
import typing

from glance_import.server import heartbeat
from glance_import.server import notify
from glance_import.server import settings as options

LOG = logging.getLogger(__name__)

WSGIApp = collections.abc.Callable[..., collections.abc.Iterable[bytes]]
LoadApp = collections.abc.Callable[[], WSGIApp]

# Seconds a child may take to load the application.
START_LIMIT = 60
# Seconds before a child that died is replaced: the first is immediate, then
# this and twice as much each time, as long as they die young.
BACKOFF = 1.0
BACKOFF_LIMIT = 30.0
# A child that lived this long was healthy.
HEALTHY = 30.0
# Seconds past the graceful time-out before a child is killed.
KILL_MARGIN = 10.0

_PR_SET_PDEATHSIG = 1
_HANDLED = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP,
                      signal.SIGCHLD})
# Sent to a worker of an old generation; nobody sends it by hand.
_RETIRE = signal.SIGRTMIN


@dataclasses.dataclass(frozen=True)
class Generation:
    """What workers are started with.

    :param load_app: called in each worker, after the fork
    :param decided: called in the parent of new workers: whether all of them
        came up, or the old ones go on
    """

    settings: options.Settings
    load_app: LoadApp
    decided: collections.abc.Callable[[bool], None] = lambda up: None


Reload = collections.abc.Callable[[], Generation]


class CannotListen(Exception):
    """The address cannot be had; the text is one line."""


def listen(host: str, port: int, backlog: int) -> socket.socket:
    """A listening TCP socket.

    :raises CannotListen: the address is taken, foreign or unknown
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, proto)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(backlog)
        except OSError:
            listener.close()
            raise
    except OSError as failure:
        raise CannotListen(f'cannot listen on {host} port {port}: '
                           f'{failure.strerror}') from failure
    return listener


def serve(first: Generation, *, reload: Reload | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    :param reload: called in the parent on SIGHUP; what the next workers are
        started with, which keep the address. When it raises, or when the
        new workers do not come up, the old ones go on, and so does what
        they were started with
    :returns: exit status of the process
    """
    settings = first.settings
    try:
        listener = listen(settings.bind_host, settings.bind_port,
                          settings.backlog)
    except CannotListen as failure:
        _print_error(str(failure))
        return 1
    LOG.info('listening on %s port %d', *listener.getsockname()[:2])
    return Parent(first, listener, reload).run()


@dataclasses.dataclass
class Child:
    """A worker process; times are monotonic seconds."""

    pid: int
    pidfd: int
    # The reading end of a pipe, written to when the worker is up.
    ready: int
    started: float
    heartbeat: heartbeat.Heartbeat
    up: bool = False
    hung: bool = False
    retired: bool = False

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stacks(self) -> str:
        """What its native threads are doing; empty if it does not write it.
        """
        try:
            return self.heartbeat.stacks(self.pid)
        except ProcessLookupError:
            return ''

    def close(self) -> None:
        """Give back what it took in this process."""
        os.close(self.pidfd)
        os.close(self.ready)
        self.heartbeat.close()


class Parent:
    """Keeps the number of workers that the settings name."""

    def __init__(self, first: Generation, listener: socket.socket,
                 reload: Reload | None) -> None:
        self._generation = first
        self._listener = listener
        self._reload = reload
        self._children: dict[int, Child] = {}
        self._young_deaths = 0
        self._next_start = 0.0
        self._stopping = False
        self._kill_at: float | None = None
        self._watchdog = notify.Watchdog()

    @property
    def _settings(self) -> options.Settings:
        return self._generation.settings

    def run(self) -> int:
        # Signals wait for sigtimedwait(), so none is lost between a check of
        # the children and the wait.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            if not self._start_generation():
                self._kill_all()
                return 1
            LOG.info('ready: %d worker(s)', len(self._children))
            notify.say(f'READY=1\nMAINPID={os.getpid()}')
            while self._children or not self._stopping:
                self._turn()
            return 0
        finally:
            self._listener.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _turn(self) -> None:
        received = signal.sigtimedwait(_HANDLED, 0.5)
        number = received.si_signo if received else None
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP and not self._stopping:
            self._replace_all()
        self._reap()
        self._kill_hung()
        if self._any_turns():
            self._watchdog.ping()
        if not self._stopping:
            self._start_missing()
        elif self._kill_at is not None and time.monotonic() > self._kill_at:
            self._kill_all()

    # -- starting -------------------------------------------------------

    def _current(self) -> list[Child]:
        return [child for child in self._children.values()
                if not child.retired]

    def _start_generation(self) -> bool:
        """Start as many workers as configured; whether all came up."""
        started = [self._start() for _ in range(self._settings.workers)]
        deadline = time.monotonic() + START_LIMIT
        for child in started:
            if not _wait_until_up(child, deadline):
                for other in started:
                    other.retired = True
                    other.signal(signal.SIGKILL)
                return False
        return True

    def _start(self) -> Child:
        ready, write_ready = os.pipe2(os.O_CLOEXEC)
        beat = heartbeat.Heartbeat()
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            os.close(write_ready)
            child = Child(pid, os.pidfd_open(pid), ready, time.monotonic(),
                          beat)
            self._children[pid] = child
            return child
        # From here on this is the child, and it never returns.
        try:
            os.close(ready)
            _die_with(parent)
            self._run_worker(write_ready, beat)
        except BaseException as failure:  # noqa: BLE001
            _report_failure(failure)
        finally:
            os._exit(1)

    def _run_worker(self, write_ready: int, beat: heartbeat.Heartbeat
                    ) -> typing.NoReturn:
        beat.begin()
        for number in _HANDLED:
            signal.signal(number, signal.SIG_DFL)
        # The parent decides; a Ctrl-C reaches the whole process group.
        # Not SIG_IGN, which programs started from here would inherit.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGHUP, lambda *_: None)
        for child in self._children.values():
            child.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        from glance_import.server import worker as workers
        app = self._generation.load_app()
        self._listener.setblocking(False)
        worker = workers.Worker(self._listener, app, self._settings,
                                beat.turn)
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        signal.signal(_RETIRE, lambda *_: worker.retire())
        os.write(write_ready, b'1')
        os.close(write_ready)
        worker.run()
        if (close := getattr(app, 'close', None)) is not None:
            close()
        workers.leave(0)

    def _start_missing(self) -> None:
        missing = self._settings.workers - len(self._current())
        if missing <= 0 or time.monotonic() < self._next_start:
            return
        for _ in range(missing):
            self._start()

    # -- ending ---------------------------------------------------------

    def _reap(self) -> None:
        for child in list(self._children.values()):
            child.up = child.up or _is_up(child)
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            del self._children[pid]
            child.close()
            if not (child.retired or self._stopping):
                self._log_death(child, os.waitstatus_to_exitcode(status))

    def _kill_hung(self) -> None:
        """They are replaced like any that dies."""
        for child in self._children.values():
            limit = (self._settings.hang_timeout if child.up
                     else START_LIMIT)
            silence = child.heartbeat.silence()
            if not limit or silence < limit or child.hung:
                continue
            child.hung = True
            if self._settings.report_signal is not None:
                # Its green threads too, if it can still run a handler.
                child.signal(self._settings.report_signal)
            LOG.error('worker %d has not moved for %.0f seconds and is '
                      'killed; its threads: %s', child.pid, silence,
                      child.stacks() or 'it does not tell')
            child.signal(signal.SIGKILL)

    def _any_turns(self) -> bool:
        """Whether the event loop of a worker does.

        The parent itself sees to one that hangs beside others.
        """
        limit = self._settings.hang_timeout
        return any(child.up and not child.hung
                   and (not limit or child.heartbeat.silence() < limit)
                   for child in self._children.values())

    def _log_death(self, child: Child, code: int) -> None:
        cause = f'signal {-code}' if code < 0 else f'status {code}'
        LOG.error('worker %d ended with %s; starting another', child.pid,
                  cause)
        now = time.monotonic()
        if now - child.started > HEALTHY:
            self._young_deaths = 0
            self._next_start = now
            return
        delay = min(BACKOFF * 2 ** (self._young_deaths - 1), BACKOFF_LIMIT
                    ) if self._young_deaths else 0.0
        self._young_deaths += 1
        self._next_start = now + delay

    def _stop(self) -> None:
        if self._stopping:
            self._kill_all()
            return
        LOG.info('stopping')
        notify.say('STOPPING=1')
        self._stopping = True
        self._listener.close()
        limit = self._settings.graceful_timeout
        if limit:
            self._kill_at = time.monotonic() + limit + KILL_MARGIN
        for child in self._children.values():
            child.signal(signal.SIGTERM)

    def _kill_all(self) -> None:
        for child in self._children.values():
            child.signal(signal.SIGKILL)

    # -- reloading ------------------------------------------------------

    def _replace_all(self) -> None:
        old, before = self._current(), self._generation
        LOG.info('reloading the configuration')
        wrong = None
        try:
            if self._reload is not None:
                self._generation = self._reload()
        except Exception as failure:  # noqa: BLE001
            wrong = _one_line(failure)
        if wrong is not None:
            LOG.error('not reloaded: %s', wrong)
            return
        for child in old:
            child.retired = True
        fresh, up = self._generation, self._start_generation()
        if up:
            for child in old:
                child.signal(_RETIRE)
        else:
            self._generation = before
            for child in old:
                child.retired = False
        fresh.decided(up)
        if up:
            LOG.info('reloaded')
        else:
            LOG.error('not reloaded: the new workers did not come up; '
                      'the old ones go on')


def _wait_until_up(child: Child, deadline: float) -> bool:
    left = max(0.0, deadline - time.monotonic())
    select.select([child.ready], [], [], left)
    child.up = _is_up(child)
    return child.up


def _is_up(child: Child) -> bool:
    """Whether it has written to the pipe; a dead one closes it instead."""
    if child.up or not select.select([child.ready], [], [], 0)[0]:
        return child.up
    return bool(os.read(child.ready, 1))


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # It ended before prctl().
        os._exit(1)


def _one_line(failure: BaseException) -> str:
    return ' '.join(str(failure).split()) or type(failure).__name__


def _report_failure(failure: BaseException) -> None:
    """Why a child could not start: one line for people, all for the log."""
    if isinstance(failure, SystemExit):
        text = '' if isinstance(failure.code, int) else str(failure.code)
    else:
        text = _one_line(failure)
    LOG.debug('worker failed', exc_info=failure)
    if text:
        _print_error(f'cannot serve: {text}')


def _print_error(text: str) -> None:
    """One line on the terminal, and in the log where that is elsewhere."""
    print(text, file=sys.stderr, flush=True)
    streams = [getattr(handler, 'stream', None)
               for handler in logging.getLogger().handlers]
    if sys.stderr not in streams:
        LOG.critical('%s', text)
