"""How native threads and the event loop work for each other.

A green thread of eventlet's hub has a function run in a native thread and
waits for it; the function may ask the green one for something that only the
hub does, such as receiving. Touches threads and the hub, no socket.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import logging
import os
import queue
import threading
import time
import typing

from eventlet import event  # type: ignore[import-untyped]
from eventlet import hubs

LOG = logging.getLogger(__name__)

Job = collections.abc.Callable[[], object]


class Threads:
    """A fixed number of native threads that run jobs in order of arrival.

    :param rest: seconds a thread sleeps when it has nothing to do, so that
        many small jobs do not wake it for each
    """

    def __init__(self, count: int, name: str, rest: float = 0.0) -> None:
        self._rest = rest
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        # A deque: handing on what it holds takes no lock.
        self._leaves: collections.deque = collections.deque(range(count // 2))
        for number in range(count):
            threading.Thread(target=self._work, daemon=True,
                             name=f'{name}-{number}').start()

    def start(self, job: Job) -> None:
        self._jobs.put(job)

    @property
    def waiting(self) -> bool:
        """Whether jobs wait for a thread."""
        return not self._jobs.empty()

    def stay(self, wait: collections.abc.Callable[[], bool]) -> bool:
        """What ``wait`` says: whether more of the same work has come.

        It runs in the calling thread, one of these. At most half of them
        wait at once; for others the answer is no.
        """
        try:
            leave = self._leaves.pop()
        except IndexError:
            return False
        try:
            return wait()
        finally:
            self._leaves.append(leave)

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
