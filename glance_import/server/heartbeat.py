"""The watchdog: whether the event loop of a worker still turns.

The loop counts its turns in memory that parent and child share. One that
hangs cannot tell why, so its stacks are written by ``faulthandler`` without
its help, into a file that both have open. Touches that memory, that file, and
one signal.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import time

# Has a process write the stacks of its native threads.
_STACKS = signal.SIGRTMIN + 1
# Most that one call of ``silence`` adds to it. A parent that calls later was
# stopped itself, and probably so was the child.
STEP = 1.0
# Seconds that writing the stacks may take.
DUMP_TIMEOUT = 1.0
MAX_STACKS = 256 << 10


class Heartbeat:
    """Made by the parent before it forks; one for each child."""

    def __init__(self) -> None:
        self._turns = mmap.mmap(-1, 8)
        self._file = os.memfd_create('stacks', os.MFD_CLOEXEC)
        self._turns_before = 0
        self._checked = time.monotonic()
        self._silence = 0.0

    # -- in the child

    def begin(self) -> None:
        faulthandler.register(_STACKS, file=self._file, all_threads=True)

    def turn(self) -> None:
        self._write(self._read() + 1)

    # -- in the parent

    def silence(self) -> float:
        """Seconds that the loop has not turned for, as far as was checked.
        """
        now = time.monotonic()
        passed, self._checked = now - self._checked, now
        turns = self._read()
        if turns != self._turns_before:
            self._turns_before, self._silence = turns, 0.0
        else:
            self._silence += min(passed, STEP)
        return self._silence

    def stacks(self, pid: int) -> str:
        """What the native threads of the child are doing.

        Empty when it writes none, as one that was stopped.

        :raises ProcessLookupError: it has ended
        """
        os.kill(pid, _STACKS)
        deadline = time.monotonic() + DUMP_TIMEOUT
        size = 0
        while time.monotonic() < deadline:
            time.sleep(0.1)
            before, size = size, os.fstat(self._file).st_size
            if size and size == before:
                break
        return os.pread(self._file, MAX_STACKS, 0).decode('ascii', 'replace')

    def close(self) -> None:
        self._turns.close()
        os.close(self._file)

    def _read(self) -> int:
        return int.from_bytes(self._turns[:8], 'little')

    def _write(self, turns: int) -> None:
        self._turns[:8] = turns.to_bytes(8, 'little')
