"""One store's part in a pass over the source: with the others, or behind them.

A lane takes the blocks of the pass as they come. One that may be late keeps
a few of them, and when it has too many reads the rest of the source for
itself, so that a slow store holds up no other. Touches the attempt, and the
source it is given.
"""

from __future__ import annotations

import collections
import collections.abc
import threading

from glance_import.staging import pipeline
from glance_import.stores import base
from glance_import.stores import copying

# Bytes that wait for a slow store before it goes on alone.
WINDOW = 32 << 20

# Waits until so many bytes may go to a store, and calls what may end that.
Pace = collections.abc.Callable[
    [str, int, collections.abc.Callable[[], None]], None]


class Lane:
    """Keeps one store's failure from stopping the others."""

    is_late = False

    def __init__(self, attempt: base.Attempt, fatal: bool) -> None:
        self.attempt = attempt
        self._fatal = fatal
        self.failure: Exception | None = None

    def write(self, block: pipeline.Block) -> None:
        """The next block of the pass."""
        if self.failure is not None:
            return
        try:
            self.attempt.write(memoryview(block))
        except (OSError, base.StoreError) as failure:
            self.failure = failure
            if self._fatal:
                raise

    def finish(self) -> None:
        """The pass is over; returns when every byte was written.

        :raises OSError, base.StoreError: it was not
        """
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """Nothing that it writes is wanted any more."""


class Group:
    """Lanes of one pass, which go as fast as the fastest of them."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.lanes: list[OwnSpeed] = []

    def is_held_up_by(self, slow: OwnSpeed) -> bool:
        """Whether another has nearly nothing left to do."""
        return any(lane is not slow and lane.is_hungry()
                   for lane in self.lanes)


class OwnSpeed(Lane):
    """The same in a thread of its own, which may fall behind.

    :param fd: the source, whose bytes stay as they are for so long
    :param pace: holds up what goes to the store
    """

    def __init__(self, attempt: base.Attempt, group: Group, fd: int,
                 pace: Pace | None) -> None:
        super().__init__(attempt, False)
        self._fd = fd
        self._pace = pace
        self._group = group
        self._changed = group.changed
        group.lanes.append(self)
        self._waiting: collections.deque[pipeline.Block] = collections.deque()
        self._held = self._taken = 0
        self._complete = self._ended = False
        threading.Thread(target=self._work, daemon=True,
                         name=f'lane-{attempt.store.id}').start()

    def write(self, block: pipeline.Block) -> None:
        """Waits for the store, until another waits for it too."""
        def is_free() -> bool:
            return (not self._held or self._held + len(block) <= WINDOW
                    or self.is_late or self.failure is not None)

        with self._changed:
            while not is_free():
                if self._group.is_held_up_by(self):
                    self.is_late = True
                else:
                    self._changed.wait()
            if not self.is_late and self.failure is None:
                self._waiting.append(block)
                self._held += len(block)
                self._taken += len(block)
            self._changed.notify_all()

    def is_hungry(self) -> bool:
        """Whether it takes what comes, and has little of it."""
        return (not self.is_late and self.failure is None
                and self._held < WINDOW // 4)

    def finish(self) -> None:
        """See ``Lane.finish``."""
        with self._changed:
            self._complete = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ended)
        super().finish()

    def stop(self) -> None:
        """See ``Lane.stop``; a block that is being written is not waited
        for.
        """
        with self._changed:
            self.failure = self.failure or base.Cancelled(
                'storing the data was cancelled')
            self._ended = True
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            for block in self._blocks():
                if self._pace is not None:
                    self._pace(self.attempt.store.id, len(block),
                               self._check_stop)
                self.attempt.write(memoryview(block))
        except (OSError, base.StoreError) as failure:
            self.failure = self.failure or failure
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _check_stop(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _blocks(self) -> collections.abc.Iterator[pipeline.Block]:
        """Those of the pass, and then what was not waited for."""
        while (block := self._next()) is not None:
            yield block
        if self.is_late:
            for late in copying.blocks_of(self._fd, self._taken):
                if self.failure is not None:
                    return
                yield late

    def _next(self) -> pipeline.Block | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting or self.is_late or self._complete
                or self.failure is not None)
            if self.failure is not None or not self._waiting:
                return None
            block = self._waiting.popleft()
            self._held -= len(block)
            self._changed.notify_all()
            return block
