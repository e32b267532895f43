"""Blocks of bytes handed to several workers at once, each in order.

One upload is written and hashed by independent *lanes* (write, md5, sha512,
...). A lane has no thread of its own: when a block comes it borrows one from
a pool that all uploads of the process share, works until it has caught up,
and gives it back. So a stalled upload holds no thread, and one that flows
uses a core for each digest. Touches nothing but memory; what a lane does
with a block is the caller's business.
"""

from __future__ import annotations

import collections
import collections.abc
from concurrent import futures
import os
import threading

# In flight for one upload, in bytes. Full means that write() waits: that is
# all the back-pressure there is, and it reaches the client by TCP.
WINDOW = 8 << 20
# A lane lets others have its thread after this many blocks.
TURN = 16

Work = collections.abc.Callable[['Block'], object]
Block = bytes | bytearray | memoryview


class Pools:
    """Native threads that lanes borrow: for the disk, and for digests.

    Separate, because a disk that hangs must not keep digests of uploads to
    other places from finishing, and more digest threads than cores only
    cost switches.
    """

    def __init__(self) -> None:
        cores = len(os.sched_getaffinity(0))
        self.disk = futures.ThreadPoolExecutor(8, 'staging-disk')
        self.digest = futures.ThreadPoolExecutor(
            max(2, cores), 'staging-digest')


_pools: dict[int, Pools] = {}
_pools_lock = threading.Lock()


def pools() -> Pools:
    """The pools of this process; threads do not survive a fork."""
    with _pools_lock:
        mine = _pools.get(os.getpid())
        if mine is None:
            _pools.clear()
            mine = _pools[os.getpid()] = Pools()
        return mine


class Lane:
    """One worker on a pipeline: takes each block once, in order."""

    def __init__(self, owner: Pipeline, pool: futures.Executor,
                 work: Work) -> None:
        self._owner = owner
        self._pool = pool
        self._work = work
        self._waiting: collections.deque = collections.deque()
        self._running = False

    def put(self, item: _Item) -> None:
        """Caller holds the owner's lock."""
        self._waiting.append(item)
        if not self._running:
            self._running = True
            self._pool.submit(self._run)

    def _run(self) -> None:
        owner = self._owner
        for _ in range(TURN):
            with owner.lock:
                if not self._waiting:
                    self._running = False
                    return
                item = self._waiting.popleft()
            if owner.failure is None:
                try:
                    self._work(item.block)
                except BaseException as failure:  # noqa: BLE001
                    # Whatever it is, the uploader must hear of it.
                    owner.fail(failure)
            owner.done(item)
            # Not to be kept alive while this thread waits for the lock.
            del item
        self._pool.submit(self._run)


class _Item:
    __slots__ = ('block', 'left', 'size')

    def __init__(self, block: Block, left: int) -> None:
        self.block = block
        self.left = left
        self.size = len(block)


class Pipeline:
    """The lanes of one upload and the window they share."""

    def __init__(self, window: int = WINDOW) -> None:
        self.lock = threading.Lock()
        self.failure: BaseException | None = None
        self._room = threading.Condition(self.lock)
        self._lanes: list[Lane] = []
        self._window = window
        self._in_flight = 0

    def add(self, pool: futures.Executor, work: Work) -> None:
        """``work(block)`` is called for each block, in a borrowed thread."""
        self._lanes.append(Lane(self, pool, work))

    @property
    def idle(self) -> bool:
        """Whether everything handed over has been worked on."""
        return self._in_flight == 0

    def put(self, block: Block) -> None:
        """Hand a block over; waits while the window is full.

        The block belongs to the lanes from now on. After a failure of any
        lane blocks are dropped: look at ``failure``.
        """
        item = _Item(block, len(self._lanes))
        with self.lock:
            while (self._in_flight and not self.failure
                   and self._in_flight + item.size > self._window):
                self._room.wait()
            if self.failure is not None:
                return
            self._in_flight += item.size
            for lane in self._lanes:
                lane.put(item)

    def drain(self) -> None:
        """Wait until every lane has caught up."""
        with self.lock:
            while self._in_flight:
                self._room.wait()

    def done(self, item: _Item) -> None:
        with self.lock:
            item.left -= 1
            if not item.left:
                self._in_flight -= item.size
                self._room.notify_all()

    def fail(self, failure: BaseException) -> None:
        with self.lock:
            if self.failure is None:
                self.failure = failure
            self._room.notify_all()
