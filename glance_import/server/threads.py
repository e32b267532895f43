"""Native threads: pools for jobs, and those that answer requests.

Touches threads, and reads what the kernel counts of their processor time.
"""

from __future__ import annotations

import collections
import collections.abc
import logging
import math
import os
import queue
import threading
import time

from glance_import.server import idle

LOG = logging.getLogger(__name__)

Job = collections.abc.Callable[[], object]

# Seconds that a request thread waits for another request before it sleeps.
LINGER = 0.005
# Seconds between two decisions on how many threads are to be awake.
TICK = 0.01
# Seconds at one request after which a thread does not count as serving.
STUCK = 0.01
# The share of the time for which the threads run or are ready to run: below
# SLACK another one is of use, above FULL one is too many.
SLACK = 0.75
FULL = 0.9


def run(job: Job) -> None:
    """Run it; whatever it raises is logged."""
    try:
        job()
    except BaseException:
        LOG.exception('a job of the server failed')


def start_thread(job: Job) -> None:
    """Run it in a thread of its own."""
    threading.Thread(target=job, daemon=True, name='body').start()


class ThreadPool:
    """A fixed number of native threads that run jobs in order of arrival.

    :param rest: seconds a thread sleeps when it has nothing to do, so that
        many small jobs do not wake it for each
    """

    def __init__(self, count: int, name: str, rest: float = 0.0) -> None:
        self._rest = rest
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._work, daemon=True,
                             name=f'{name}-{number}').start()

    def start(self, job: Job) -> None:
        self._jobs.put(job)

    @property
    def has_waiting_jobs(self) -> bool:
        return not self._jobs.empty()

    def _work(self) -> None:
        while True:
            run(self._jobs.get())
            if self._rest and self._jobs.empty():
                time.sleep(self._rest)


class RequestThreads:
    """Threads that serve connections when something comes on them.

    As a rule one of them is awake. It serves whoever has sent something, one
    after the other, waits for more by itself, and so hands the interpreter to
    nobody between two requests, from however many connections they come. If
    each request woke a thread of its own, the threads would take the lock of
    the interpreter from each other whenever one of them reads from a database
    or a socket, and a request would cost the more the more clients there are.

    More of them are awake when those that are leave the processor unused
    while requests wait, as with a database that is far away, and instead of
    those that have long been at one request.

    :param connections: where requests come
    :param on_awake: called when the first of them is woken: from then on
        ``relieve`` is to be called
    :param on_idle: called when none of them waits for requests any more:
        from then on somebody else has to watch ``connections``, until
        something comes, and to call ``take_over``
    """

    def __init__(self, count: int, connections: idle.IdleConnections,
                 on_awake: Job, on_idle: Job) -> None:
        self._count = count
        self._connections = connections
        self._on_awake = on_awake
        self._on_idle = on_idle
        self._jobs: collections.deque[Job] = collections.deque()
        # Held by the one that polls, that is, waits for requests.
        self._polling = threading.Lock()
        # Seconds spent in that.
        self._polled = 0.0
        # Held to change who is awake.
        self._lock = threading.Lock()
        self._awake: set[_RequestThread] = set()
        self._asleep: list[_RequestThread] = []
        # How many may be awake beside those that are stuck.
        self._limit = 1
        self._stuck = 0
        # Somebody else watches the connections.
        self._watched = True
        # When that was decided, in monotonic seconds but for polling.
        self._adjusted = 0.0
        for number in range(count):
            thread = _RequestThread()
            self._asleep.append(thread)
            threading.Thread(target=self._work, args=(thread,), daemon=True,
                             name=f'request-{number}').start()

    @property
    def awake(self) -> int:
        """How many of them are."""
        return len(self._awake)

    @property
    def polling(self) -> bool:
        """Whether one of them waits for requests."""
        return self._polling.locked()

    def start(self, job: Job) -> None:
        """From any thread: have one of them run ``job``."""
        self._jobs.append(job)
        with self._lock:
            # A thread that waits for requests does not see it.
            missing = self.polling or len(self._awake) <= self._stuck
        if missing:
            self.wake()

    def wake(self) -> None:
        """From any thread: wake one, unless all are awake."""
        with self._lock:
            if not self._asleep:
                return
            first = not self._awake
            thread = self._asleep.pop()
            self._awake.add(thread)
        thread.bell.release()
        if first:
            self._on_awake()

    def take_over(self) -> None:
        """Called by who watches ``connections``: something has come."""
        # In this order; a thread checks them in the other one when it ends
        # polling, so that one of both sees what has come.
        self._watched = False
        if not self.polling:
            self.wake()

    def relieve(self) -> None:
        """From time to time while any is awake: see that one can serve."""
        awake = self._count_stuck()
        if self.polling or not awake or self._stuck < len(awake):
            return
        if self._jobs or self._connections.has_ready():
            self.wake()
        else:
            self._leave_watch()

    def _count_stuck(self) -> list[_RequestThread]:
        """Count those that are at one request for long; all that are awake.
        """
        with self._lock:
            awake = list(self._awake)
        limit = time.monotonic() - STUCK
        self._stuck = sum(thread.begun < limit for thread in awake)
        return awake

    def _adjust(self) -> None:
        """Each ``TICK`` while requests are served: how many serve them?"""
        share = self._share(self._count_stuck())
        if share is None:
            return
        if share > FULL:
            self._limit = max(1, self._limit - 1)
        elif share < SLACK and (self._jobs or self._connections.has_ready()):
            self._limit = min(self._limit + 1, self._count)
            self.wake()

    def _leave_watch(self) -> None:
        """None of the threads polls: have the connections watched."""
        if not self._watched:
            self._watched = True
            self._on_idle()

    def _share(self, awake: list[_RequestThread]) -> float | None:
        """How much of the time since the last call they could use.

        None when nothing is known of that time. More than 1 when they could
        use more than one processor at a time.
        """
        used = sum(thread.usage() for thread in awake)
        now = time.monotonic() - self._polled
        passed = now - self._adjusted
        self._adjusted = now
        return used / passed if TICK / 2 < passed < 10 * TICK else None

    # -- in each of the threads

    def _work(self, thread: _RequestThread) -> None:
        thread.begin()
        while True:
            thread.bell.acquire()
            self._run_jobs(thread)
            while not self._sleeps(thread):
                self._run_jobs(thread)

    def _run_jobs(self, thread: _RequestThread) -> None:
        while (job := self._next_job()) is not None:
            thread.begun = now = time.monotonic()
            if now - self._polled - self._adjusted > TICK:
                self._adjust()
            run(job)
            del job
        thread.begun = math.inf

    def _sleeps(self, thread: _RequestThread) -> bool:
        """Whether there is nothing for it to do any more."""
        with self._lock:
            if self._jobs and not self._too_many():
                return False
            self._awake.discard(thread)
            self._asleep.append(thread)
            last = not self._awake
        if last:
            self._leave_watch()
        return True

    def _too_many(self) -> bool:
        return len(self._awake) - self._stuck > self._limit

    def _next_job(self) -> Job | None:
        """What to do, waiting for it a little; None when to sleep."""
        while not self._too_many():
            try:
                return self._jobs.popleft()
            except IndexError:
                pass
            if not self._polling.acquire(blocking=False):
                return None
            try:
                came = bool(self._jobs) or self._wait()
            finally:
                self._polling.release()
            if not came:
                self._leave_watch()
                return None
        return None

    def _wait(self) -> bool:
        begun = time.monotonic()
        found = self._connections.wait(LINGER)
        self._polled += time.monotonic() - begun
        self._jobs.extend(connection.serve for connection in found)
        if len(found) > 1 and self.awake - self._stuck < self._limit:
            self.wake()
        return bool(found)


class _RequestThread:
    """What is known of one of them."""

    def __init__(self) -> None:
        # It sleeps by waiting for it.
        self.bell = threading.Lock()
        self.bell.acquire()
        #: When its job has begun, in monotonic seconds.
        self.begun = math.inf
        self._fd: int | None = None
        self._usage_before = 0

    def begin(self) -> None:
        """In the thread itself."""
        try:
            self._fd = os.open(
                f'/proc/self/task/{threading.get_native_id()}/schedstat',
                os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            # The kernel does not count it: as if none were used.
            LOG.debug('no schedstat')

    def usage(self) -> float:
        """Seconds since the last call that it ran, or waited to run."""
        if self._fd is None:
            return 0.0
        ran, waited, _ = os.pread(self._fd, 100, 0).split()
        usage = int(ran) + int(waited)
        before, self._usage_before = self._usage_before, usage
        return (usage - before) / 1e9
