"""Threads that wait for one store, so that nobody else has to.

A store that does not answer takes the threads that were set aside for it,
and no others: who is behind them is told so when his time is over. They are
daemons, so that a call which nothing can interrupt is left behind when the
process ends. Touches threads.
"""

from __future__ import annotations

import collections.abc
from concurrent import futures
import os
import queue
import threading
import typing

from oslo_log import log

from glance_import.stores import base

LOG = log.getLogger(__name__)
Job = collections.abc.Callable[[], object]
# Threads for each store in each process, and seconds after which one that
# has nothing to do ends.
THREADS = 64
IDLE_SECONDS = 30


class Bulkhead:
    """Those of one store; safe to use from many threads, and after a fork.

    :param seconds: how long a call is waited for
    """

    def __init__(self, store_id: str, seconds: float,
                 most: int = THREADS) -> None:
        self._store_id = store_id
        self._seconds = seconds
        self._most = most
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        # Threads do not survive a fork.
        self._pid = os.getpid()
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._threads = self._busy = 0

    def start(self, job: Job) -> None:
        """Have one of the threads run it, in the order of arrival."""
        with self._lock:
            if self._pid != os.getpid():
                self._begin()
            self._busy += 1
            self._jobs.put(job)
            if self._threads >= min(self._busy, self._most):
                return
            self._threads += 1
        threading.Thread(target=self._work, daemon=True,
                         name=f'store-{self._store_id}').start()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._threads -= 1
                        return
                continue
            try:
                job()
            except Exception as failure:  # noqa: BLE001
                # Of what nobody waits for; the thread is everybody's.
                LOG.warning('store %s: %r', self._store_id, failure)
            finally:
                with self._lock:
                    self._busy -= 1

    def call(self, function: collections.abc.Callable[[], typing.Any],
             seconds: float | None = None) -> typing.Any:
        """What ``function`` returns or raises in one of the threads.

        :param seconds: how long it is waited for; one that has not begun by
            then is not called any more
        :raises base.StoreSilent: it was waited for in vain
        """
        made = _Call(function)
        self.start(made.run)
        seconds = self._seconds if seconds is None else seconds
        if not made.done.wait(seconds) and made.give_up():
            raise base.StoreSilent(
                f'store {self._store_id} has not answered for '
                f'{seconds:.0f} s')
        if made.failure is not None:
            raise made.failure
        return made.result


class _Call:
    """One call, and whether anybody waits for it."""

    def __init__(self, function: collections.abc.Callable[[], typing.Any]
                 ) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._given_up = False
        self.done = threading.Event()
        self.result: typing.Any = None
        self.failure: BaseException | None = None

    def run(self) -> None:
        if self._given_up:
            return
        try:
            result = self._function()
        except BaseException as failure:  # noqa: BLE001
            self._end(None, failure)
        else:
            self._end(result, None)

    def _end(self, result: typing.Any, failure: BaseException | None
             ) -> None:
        with self._lock:
            self.result, self.failure = result, failure
            self.done.set()
            if self._given_up and hasattr(result, 'close'):
                # Nobody will read it.
                result.close()

    def give_up(self) -> bool:
        """Whether nothing has come of it so far, and nobody waits now."""
        with self._lock:
            self._given_up = not self.done.is_set()
            return self._given_up


class Daemons(futures.Executor):
    """A few threads of one attempt, which keep no process from ending.

    Those of concurrent.futures are waited for when the interpreter ends,
    however long a store has not answered.
    """

    def __init__(self, count: int, name: str) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._count = count
        for number in range(count):
            threading.Thread(target=self._work, daemon=True,
                             name=f'{name}-{number}').start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def submit(self, fn: collections.abc.Callable, /, *args: typing.Any,
               **more: typing.Any) -> futures.Future:
        """See ``concurrent.futures.Executor.submit``."""
        future: futures.Future = futures.Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **more)
            except BaseException as failure:  # noqa: BLE001
                future.set_exception(failure)
            else:
                future.set_result(result)
        self._jobs.put(job)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False
                 ) -> None:
        """Have the threads end after what they were given; never waits."""
        for _ in range(self._count):
            self._jobs.put(None)
