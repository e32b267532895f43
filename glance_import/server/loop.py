"""The event loop, which is eventlet's; no other module knows that.

Nothing is monkey-patched: what runs on the loop are green threads that wait
by the functions below and must not block in any other way. Native threads
hand functions to the loop by ``call``. Touches the hub of eventlet, and one
eventfd.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import logging
import os
import typing
import weakref

import eventlet  # type: ignore[import-untyped]
from eventlet import event
from eventlet import hubs

LOG = logging.getLogger(__name__)

Function = collections.abc.Callable[..., typing.Any]
# Those that live, for who wants to tell what they are doing.
GREEN_THREADS: weakref.WeakSet = weakref.WeakSet()


class Flag:
    """What a green thread waits for; set on the loop alone."""

    def __init__(self) -> None:
        self._event = event.Event()

    def set(self) -> None:
        if not self._event.ready():
            self._event.send()

    def wait(self) -> None:
        """Until it is set; it is clear afterwards."""
        self._event.wait()
        self._event = event.Event()


class Loop:
    """That of the thread that makes it."""

    def __init__(self) -> None:
        self._calls: collections.deque = collections.deque()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        hub = hubs.get_hub()
        hub.add(hub.READ, self._fd, self._run_calls, lambda *exc: None,
                lambda: None)

    def call(self, function: Function, *args: object) -> None:
        """From any thread or signal handler: run on the loop, soon.

        The function may not wait.
        """
        self._calls.append((function, args))
        os.eventfd_write(self._fd, 1)

    def _run_calls(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(fd)
        while self._calls:
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                LOG.exception('a call to the event loop failed')

    # The rest is for functions that run on the loop.

    def spawn(self, function: Function, *args: object) -> typing.Any:
        """A green thread; what it returns has methods kill() and wait()."""
        thread = eventlet.spawn(function, *args)
        GREEN_THREADS.add(thread)
        return thread

    def after(self, seconds: float, function: Function, *args: object
              ) -> None:
        """The same, later."""
        GREEN_THREADS.add(eventlet.spawn_after(seconds, function, *args))

    def sleep(self, seconds: float) -> None:
        eventlet.sleep(seconds)

    def wait_readable(self, fd: int, seconds: float | None = None) -> None:
        """:raises TimeoutError: it has not become so in ``seconds``"""
        hubs.trampoline(fd, read=True, timeout=seconds,
                        timeout_exc=TimeoutError())

    def wait_writable(self, fd: int, seconds: float | None = None) -> None:
        """:raises TimeoutError: it has not become so in ``seconds``"""
        hubs.trampoline(fd, write=True, timeout=seconds,
                        timeout_exc=TimeoutError())

    def run_in(self, start: collections.abc.Callable[[Function], None],
               function: Function) -> typing.Any:
        """What ``function`` returns or raises in another thread.

        :param start: has some native thread call what it is given
        """
        done = event.Event()

        def job() -> None:
            result, failed = None, None
            try:
                result = function()
            except BaseException as failure:  # noqa: BLE001
                failed = failure
            self.call(done.send, (result, failed))
        start(job)
        result, failed = done.wait()
        if failed is not None:
            raise failed
        return result
