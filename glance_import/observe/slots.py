"""The files that the processes of a node count in, and who has which.

Each process that counts takes the lowest slot that no living process has,
and goes on in the files of that slot where its predecessor stopped: however
often processes are replaced, there are no more files than there were ever
processes at once, and no counter falls. A slot is had by a lock that the
kernel takes off when its process ends. When nobody counts any more, the next
one begins at zero. Touches the directory ``metrics`` under ``state_path``.
"""

from __future__ import annotations

import collections.abc
import contextlib
import fcntl
import glob
import os
import threading

from glance_import import state

DIRECTORY = 'metrics'
LOCK_FILE = '.lock'
_SLOT = 'slot-{}'
# The kinds of prometheus_client's files that there are, and the bytes of each:
# more than all series that the labels allow.
KINDS = ('counter', 'histogram')
SIZE = 2 << 20
# More than a node has processes.
MAX_SLOTS = 4096
# (process, directory) -> the slots it has. A lock of the kernel's does not
# keep a process from what it has itself.
_held: dict[tuple[int, str], set[int]] = {}
_taking = threading.Lock()
os.register_at_fork(before=_taking.acquire, after_in_parent=_taking.release,
                    after_in_child=_taking.release)


class Slots:
    """The slots of a node, by its ``state_path``."""

    def __init__(self, state_path: str) -> None:
        self.path = os.path.join(state_path, DIRECTORY)
        self._state_path = state_path

    def take(self) -> int:
        """The number of a slot that this process has until it ends.

        :raises OSError, state.StateError: the directory cannot be used
        """
        state.prepare(self._state_path)
        state.prepare(self.path)
        with _taking:
            return self._take()

    @contextlib.contextmanager
    def reading(self) -> collections.abc.Iterator[list[str]]:
        """The files, none of which comes or goes inside.

        Nothing is made: there are none before somebody counts.
        """
        try:
            fd = state.open_file(self.path, LOCK_FILE, os.O_RDONLY)
        except FileNotFoundError:
            yield []
            return
        with _locked(fd, fcntl.LOCK_SH):
            yield sorted(glob.glob(os.path.join(glob.escape(self.path),
                                                '*.db')))

    def _take(self) -> int:
        with _locked(self._open(LOCK_FILE), fcntl.LOCK_EX):
            held = _held.setdefault((os.getpid(), self.path), set())
            if not held and not self._anybody():
                for name in os.listdir(self.path):
                    if name != LOCK_FILE:
                        os.unlink(os.path.join(self.path, name))
            for number in range(MAX_SLOTS):
                if number in held:
                    continue
                fd = self._open(_SLOT.format(number))
                if not _is_ours(fd):
                    os.close(fd)
                    continue
                try:
                    self._make_room(number)
                except BaseException:
                    os.close(fd)
                    raise
                # Kept open: the lock ends with this process.
                held.add(number)
                return number
        raise OSError(f'no slot of {MAX_SLOTS} is free in {self.path}')

    def _make_room(self, number: int) -> None:
        """Have the disk keep room for the files of a slot.

        They are written through a mapping: where there is no room for a page
        of it, the kernel ends the process.
        """
        for kind in KINDS:
            name = f'{kind}_{number}.db'
            fd = self._open(name)
            try:
                if os.fstat(fd).st_size < SIZE:
                    os.posix_fallocate(fd, 0, SIZE)
            except OSError:
                os.unlink(os.path.join(self.path, name))
                raise
            finally:
                os.close(fd)

    def _anybody(self) -> bool:
        """Whether a living process has a slot."""
        for path in glob.glob(os.path.join(glob.escape(self.path),
                                           _SLOT.format('*'))):
            fd = self._open(os.path.basename(path))
            free = _is_ours(fd)
            os.close(fd)
            if not free:
                return True
        return False

    def _open(self, name: str) -> int:
        return state.open_file(self.path, name, os.O_RDWR | os.O_CREAT)


@contextlib.contextmanager
def _locked(fd: int, how: int) -> collections.abc.Iterator[None]:
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)


def _is_ours(fd: int) -> bool:
    """Lock it for this process alone, which no child of its inherits."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
