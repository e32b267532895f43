"""The processes of the API: a parent that listens, children that serve.

The parent binds the socket and starts ``workers`` children, also when that
is one: it holds no application, so it is small, and it is what starts a
child again and what reloads the configuration. Children stay in its process
group and die with it. Only a child imports eventlet (see ``hub``), so that
no event loop is ever carried over a fork. Touches processes and signals.

Signals to the parent: SIGTERM or SIGINT ends the service when running
requests are done (a second one ends it at once); SIGHUP reads the
configuration again and replaces the children one generation by the next
without refusing a connection: new ones are up before old ones stop. SIGUSR1
and SIGUSR2 write to the log what its threads are doing, and so in a child.

A child whose event loop stands still is killed and replaced; the others do
not notice.
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

from glance_import.api import pulse
from glance_import import signals

LOG = logging.getLogger(__name__)

WSGIApp = collections.abc.Callable[..., collections.abc.Iterable[bytes]]

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
# One that nobody sends by hand.
_RETIRE = signal.SIGRTMIN


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


def serve(conf: typing.Any, load_app: collections.abc.Callable[[], WSGIApp],
          *, reload: collections.abc.Callable[[], None] | None = None,
          on_worker_start: collections.abc.Callable[[], None] | None = None,
          ) -> int:
    """Serve until told to stop.

    :param conf: options of ``glance_import.conf.api``
    :param load_app: called in each child, after the fork
    :param reload: called in the parent on SIGHUP; brings ``conf`` up to
        date. When it raises, or when the new children do not come up, the
        old ones go on
    :param on_worker_start: called in each child when its application is
        loaded, before it accepts connections
    :returns: exit status of the process
    """
    try:
        listener = listen(conf.bind_host, conf.bind_port, conf.backlog)
    except CannotListen as failure:
        _tell(str(failure))
        return 1
    LOG.info('listening on %s port %d', *listener.getsockname()[:2])
    parent = Parent(conf, listener, load_app, reload, on_worker_start)
    return parent.run()


@dataclasses.dataclass
class Child:
    """A process that was started; times are monotonic seconds."""

    pid: int
    pidfd: int
    ready: int
    started: float
    pulse: pulse.Pulse
    up: bool = False
    hung: bool = False
    retired: bool = False

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stacks(self) -> str:
        """What its threads are doing, as far as it tells."""
        # Its green threads, if it can still run a handler; by its own log.
        self.signal(signals.REPORT[0])
        try:
            return self.pulse.stacks(self.pid)
        except ProcessLookupError:
            return ''

    def close(self) -> None:
        """Give back what it took in this process."""
        os.close(self.pidfd)
        os.close(self.ready)
        self.pulse.close()


class Parent:
    """Keeps the wanted number of children alive."""

    def __init__(self, conf: typing.Any, listener: socket.socket,
                 load_app: collections.abc.Callable[[], WSGIApp],
                 reload: collections.abc.Callable[[], None] | None,
                 on_worker_start: collections.abc.Callable[[], None] | None,
                 ) -> None:
        self._conf = conf
        self._listener = listener
        self._load_app = load_app
        self._reload = reload
        self._on_worker_start = on_worker_start
        self._children: dict[int, Child] = {}
        self._young_deaths = 0
        self._next_start = 0.0
        self._stopping = False
        self._kill_at: float | None = None

    def run(self) -> int:
        # Signals wait until they are asked for, so none is lost between a
        # look at the children and the wait.
        signals.survive()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            if not self._start_generation():
                self._kill_all()
                return 1
            LOG.info('ready: %d worker(s)', len(self._children))
            while self._children or not self._stopping:
                self._turn()
            return 0
        finally:
            self._listener.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _turn(self) -> None:
        found = signal.sigtimedwait(_HANDLED, 0.5)
        number = found.si_signo if found else None
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP and not self._stopping:
            self._renew()
        self._reap()
        self._look_after()
        if not self._stopping:
            self._fill_up()
        elif self._kill_at is not None and time.monotonic() > self._kill_at:
            self._kill_all()

    # -- starting -------------------------------------------------------

    def _current(self) -> list[Child]:
        return [child for child in self._children.values()
                if not child.retired]

    def _start_generation(self) -> bool:
        """Start as many children as configured; whether all came up."""
        started = [self._start() for _ in range(self._conf.workers)]
        deadline = time.monotonic() + START_LIMIT
        for child in started:
            if not _wait_until_up(child, deadline):
                for other in started:
                    other.retired = True
                    other.signal(signal.SIGKILL)
                return False
        return True

    def _start(self) -> Child:
        ready, told = os.pipe2(os.O_CLOEXEC)
        beat = pulse.Pulse()
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            os.close(told)
            child = Child(pid, os.pidfd_open(pid), ready, time.monotonic(),
                          beat)
            self._children[pid] = child
            return child
        # From here on this is the child, and it never returns.
        try:
            os.close(ready)
            _die_with(parent)
            self._be_child(told, beat)
        except BaseException as failure:  # noqa: BLE001
            _report(failure)
        finally:
            os._exit(1)

    def _be_child(self, told: int, beat: pulse.Pulse) -> typing.NoReturn:
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
        from glance_import.api import hub
        app = self._load_app()
        if self._on_worker_start is not None:
            self._on_worker_start()
        self._listener.setblocking(False)
        worker = hub.Worker(self._listener, app, self._conf, beat.turn)
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        signal.signal(_RETIRE, lambda *_: worker.retire())
        os.write(told, b'1')
        os.close(told)
        worker.run()
        hub.leave(0)

    def _fill_up(self) -> None:
        missing = self._conf.workers - len(self._current())
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
                self._mourn(child, os.waitstatus_to_exitcode(status))

    def _look_after(self) -> None:
        """Kill whoever stands still; it is replaced like any that dies."""
        for child in self._children.values():
            limit = (self._conf.worker_hang_timeout if child.up
                     else START_LIMIT)
            silence = child.pulse.silence()
            if not limit or silence < limit or child.hung:
                continue
            child.hung = True
            LOG.error('worker %d has not moved for %.0f seconds and is '
                      'killed; its threads: %s', child.pid, silence,
                      child.stacks() or 'it does not tell')
            child.signal(signal.SIGKILL)

    def _mourn(self, child: Child, code: int) -> None:
        how = f'signal {-code}' if code < 0 else f'status {code}'
        LOG.error('worker %d ended with %s; starting another', child.pid, how)
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
        self._stopping = True
        self._listener.close()
        limit = self._conf.graceful_shutdown_timeout
        if limit:
            self._kill_at = time.monotonic() + limit + KILL_MARGIN
        for child in self._children.values():
            child.signal(signal.SIGTERM)

    def _kill_all(self) -> None:
        for child in self._children.values():
            child.signal(signal.SIGKILL)

    # -- renewing -------------------------------------------------------

    def _renew(self) -> None:
        old = self._current()
        LOG.info('reloading the configuration')
        try:
            if self._reload is not None:
                self._reload()
        except Exception as failure:  # noqa: BLE001
            LOG.error('not reloaded: %s', _one_line(failure))
            return
        for child in old:
            child.retired = True
        if not self._start_generation():
            LOG.error('not reloaded: the new workers did not come up; '
                      'the old ones go on')
            for child in old:
                child.retired = False
            return
        for child in old:
            child.signal(_RETIRE)
        LOG.info('reloaded')


def _wait_until_up(child: Child, deadline: float) -> bool:
    left = max(0.0, deadline - time.monotonic())
    select.select([child.ready], [], [], left)
    child.up = _is_up(child)
    return child.up


def _is_up(child: Child) -> bool:
    """Whether it has said so; a dead one says nothing and closes the pipe."""
    if child.up or not select.select([child.ready], [], [], 0)[0]:
        return child.up
    return bool(os.read(child.ready, 1))


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # It ended before the kernel was told.
        os._exit(1)


def _one_line(failure: BaseException) -> str:
    return ' '.join(str(failure).split()) or type(failure).__name__


def _report(failure: BaseException) -> None:
    """Why a child could not start: one line for people, all for the log."""
    if isinstance(failure, SystemExit):
        text = '' if isinstance(failure.code, int) else str(failure.code)
    else:
        text = _one_line(failure)
    LOG.debug('worker failed', exc_info=failure)
    if text:
        _tell(f'cannot serve: {text}')


def _tell(text: str) -> None:
    """One line on the terminal, and in the log where that is elsewhere."""
    print(text, file=sys.stderr, flush=True)
    streams = [getattr(handler, 'stream', None)
               for handler in logging.getLogger().handlers]
    if sys.stderr not in streams:
        LOG.critical('%s', text)
