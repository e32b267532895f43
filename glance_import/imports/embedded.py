"""One conductor beside the API, as a process of its own.

Every server process calls ``start``; the first to take a lock on this node
keeps a conductor alive: started at once, started again when it dies, ended
with its parent. It is a process of its own so that an import never costs a
request its turn, and works the same under any WSGI server. Who has no
conductor, because another service has the lock or none is to be started here,
says when imports wait for one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess  # nosec B404
import sys
import threading
import time

from oslo_config import cfg
from oslo_log import log

from glance_import.imports import queue_watch
from glance_import import state

LOG = log.getLogger(__name__)
LOCK_FILE = 'embedded.lock'
# Tells a conductor which process has started it and judged the files.
FLAG = '--embedded-in='
CONDUCTOR = 'glance_import.cmd.conductor'
RETRY_SECONDS = 1.0
# A conductor that dies at once is not started again without end of hurry.
MAX_RETRY_SECONDS = 30.0
STOP_SECONDS = 65.0

_PR_SET_PDEATHSIG = 1
_SERVERS_SIGNALS = frozenset({
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD,
    signal.SIGUSR1, signal.SIGUSR2})
# Held while a program is started and over every fork. A child that is forked
# in between would keep the pipe open on which subprocess waits for the exec.
_starting = threading.Lock()
os.register_at_fork(before=_starting.acquire,
                    after_in_parent=_starting.release,
                    after_in_child=_starting.release)


class Supervisor:
    """Keeps this node's conductor alive while this process lives.

    Where none is to be started (embedded_conductor) it watches the queue.
    """

    def __init__(self, conf: cfg.ConfigOpts, arguments: list[str]) -> None:
        self._state_path = conf.state_path
        self._arguments = arguments
        self._stop = threading.Event()
        self._child: subprocess.Popen | None = None
        self._lock_fd: int | None = None
        self._wanted = conf.taskflow_executor.embedded_conductor
        self._identity = queue_watch.identity(conf)
        self._watch = queue_watch.QueueWatch(conf, _starting)
        # What the queue is watched by from the next look on.
        self._fresh: cfg.ConfigOpts | None = None
        self._said = ''
        self._pid = os.getpid()
        # The conductor follows the death of the thread that started it, so
        # this one must live as long as the process.
        self._thread = threading.Thread(target=self._run, daemon=True,
                                        name='embedded-conductor')

    def start(self) -> None:
        """Return at once; the rest happens in a thread."""
        start_without_signals(self._thread)

    def stop(self) -> None:
        """End the conductor and wait for it."""
        self._stop.set()
        child = self._child
        if child is not None and os.getpid() == self._pid:
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()

    def reload(self, conf: cfg.ConfigOpts) -> None:
        """Have the conductor read its files again; ``conf`` is them, read."""
        self._identity = queue_watch.identity(conf)
        self._fresh = conf
        if self._lock_fd is not None:
            self._sign(self._lock_fd)
        child = self._child
        if child is not None and os.getpid() == self._pid:
            child.send_signal(signal.SIGHUP)

    def forget(self) -> None:
        """In a forked child: the lock and the conductor are the parent's."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None
        self._watch.forget()

    def _run(self) -> None:
        while not self._stop.is_set() and not (self._wanted
                                               and self._take_lock()):
            if self._fresh is not None:
                self._watch.forget()
                self._watch = queue_watch.QueueWatch(self._fresh, _starting)
                self._fresh = None
            if not self._wanted or self._is_of_another_service():
                self._watch.check()
            self._stop.wait(RETRY_SECONDS)
        pause = RETRY_SECONDS
        while not self._stop.is_set():
            begun = time.monotonic()
            self._child = spawn(
                command([f'{FLAG}{os.getpid()}', *self._arguments]))
            status = self._child.wait()
            if self._stop.is_set():
                return
            if status < 0 or time.monotonic() - begun > MAX_RETRY_SECONDS:
                # Killed, or it had worked: what it left shall not wait.
                pause = 0.0
            LOG.error('the conductor ended with status %d; starting it '
                      'again in %.0f s', status, pause)
            self._stop.wait(pause)
            pause = min(max(pause * 2, RETRY_SECONDS), MAX_RETRY_SECONDS)

    def _take_lock(self) -> bool:
        try:
            fd = queue_watch.take_lock(self._state_path, LOCK_FILE)
            if fd is not None:
                self._sign(fd)
        except (OSError, state.StateError) as failure:
            self._say(f'cannot start a conductor: {failure}')
            return False
        self._lock_fd = fd
        return fd is not None

    def _sign(self, fd: int) -> None:
        """Say in the lock file whose it is."""
        os.ftruncate(fd, 0)
        os.pwrite(fd, f'{self._identity} {self._pid}'.encode(), 0)

    def _is_of_another_service(self) -> bool:
        """Whether who has the lock runs no imports of ours; said once."""
        try:
            fd = state.open_file(self._state_path, LOCK_FILE, os.O_RDONLY)
        except (OSError, state.StateError):
            # What is wrong with it was said.
            return True
        try:
            holder, _, pid = os.pread(fd, 80, 0).decode('ascii', 'replace'
                                                        ).partition(' ')
        finally:
            os.close(fd)
        if holder in ('', self._identity):
            return False
        self._say(
            'no conductor is started for this service: the process '
            f'{pid or "of a service"} has {self._state_path}/{LOCK_FILE}, '
            'for a service with another database or staging area. Imports '
            'that are accepted here wait. Give each service on a host a '
            'state_path of its own, or run glance-import-conductor with the '
            'files of this one')
        return True

    def _say(self, problem: str) -> None:
        if problem != self._said:
            self._said = problem
            LOG.error('%s', problem)


def start_without_signals(thread: threading.Thread) -> None:
    """Start a thread beside a server, which waits for signals in its own.

    One that the kernel gave to this one would end the process on the spot.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SERVERS_SIGNALS)
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def spawn(words: list[str]) -> subprocess.Popen:
    """Start a program by exec alone, beside threads that fork."""
    with _starting:
        # Our own interpreter on our own module, with the words that this
        # process was started with.
        return subprocess.Popen(words, env=_environment())  # nosec B603


def _environment() -> dict[str, str]:
    """Ours, without what is for the process that the manager started."""
    return {name: value for name, value in os.environ.items()
            if name not in ('NOTIFY_SOCKET', 'WATCHDOG_USEC',
                            'WATCHDOG_PID')}


def command(arguments: list[str], module: str = CONDUCTOR) -> list[str]:
    """What starts a conductor, or another of our commands, with these words.

    With the Python that runs us: uWSGI calls itself sys.executable.
    """
    interpreter = sys.executable
    if not os.path.basename(interpreter).startswith('python'):
        interpreter = os.path.join(sys.prefix, 'bin', 'python3')
    return [interpreter, '-m', module, *arguments]


def follow_parent(word: str) -> None:
    """In a conductor that was started beside an API: end with its parent.

    The signals that the thread of the parent takes none of are blocked here
    too: SIGHUP stays so until the conductor has a handler for it.

    :param word: of the command line, beginning with ``FLAG``
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK,
                           _SERVERS_SIGNALS - {signal.SIGHUP})
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(word.removeprefix(FLAG)):
        # It had died before.
        raise SystemExit(1)
