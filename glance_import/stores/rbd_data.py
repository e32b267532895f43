"""Bytes into an RBD image and out of it, several requests at a time.

Touches the RBD image it is given.
"""

from __future__ import annotations

import collections
import io
import threading
import typing

from glance_import.stores import base
from glance_import.stores import ceph
from glance_import.stores import copying

MIB = 1 << 20
# Writes on their way: so many, of so many bytes in all.
WRITES = 32
WRITE_BYTES = 32 * MIB
LARGEST_WRITE = 4 * MIB
# What is all zeros is looked for in steps of this size.
GRAIN = 64 << 10
_ZEROS = bytes(GRAIN)
# Reads ahead: so many at most, of so many bytes each.
READS = 8
READ_BYTES = MIB


class Writer:
    """Writes blocks in order; does not wait for what it has sent.

    With ``thin`` zeros are not written: what nobody has written to is read
    as zeros and takes no room.
    """

    def __init__(self, cluster: ceph.Cluster, image: typing.Any, size: int,
                 object_size: int, *, thin: bool,
                 cancelled: base.IsCancelled | None) -> None:
        self._cluster = cluster
        self._image = image
        self._size = size
        self._piece = min(object_size, LARGEST_WRITE)
        self._thin = thin
        self._cancelled = cancelled
        self._position = 0
        # What comes next to each other and has not been sent.
        self._pending: list[base.Block] = []
        self._pending_bytes = 0
        self._changed = threading.Condition()
        self._writes = 0
        self._bytes = 0
        self._error = 0

    def write(self, block: base.Block) -> None:
        """The next bytes; waits while too many are on their way.

        :raises base.StoreError: what was sent before was not taken
        """
        if self._position + len(block) > self._size:
            raise base.ObjectChanged(
                f'more than the {self._size} bytes came that were expected')
        if self._thin and copying.is_hole(block):
            self._send_pending()
            self._position += len(block)
            return
        while len(block):
            # Requests end where objects of the cluster do.
            room = self._piece - self._position % self._piece
            taken = block[:room]
            self._pending.append(taken)
            self._pending_bytes += len(taken)
            self._position += len(taken)
            block = block[len(taken):]
            if len(taken) == room:
                self._send_pending()

    def finish(self, size: int) -> None:
        """Wait for all of it.

        :raises base.ObjectChanged: other than ``size`` bytes came
        """
        self._send_pending()
        with self._changed:
            self._wait(lambda: not self._writes)
        if size != self._position or size != self._size:
            raise base.ObjectChanged(
                f'{self._position} bytes came, {self._size} were expected')

    def _send_pending(self) -> None:
        if not self._pending:
            return
        data = (bytes(self._pending[0]) if len(self._pending) == 1
                else b''.join(self._pending))
        at = self._position - self._pending_bytes
        self._pending, self._pending_bytes = [], 0
        if not self._thin:
            self._send(data, at)
            return
        for begin, end in runs(data):
            self._send(data if end - begin == len(data)
                       else data[begin:end], at + begin)

    def _send(self, data: bytes, at: int) -> None:
        with self._changed:
            self._wait(lambda: self._writes < WRITES
                       and self._bytes + len(data) <= WRITE_BYTES)
            self._writes += 1
            self._bytes += len(data)

        def done(completion: typing.Any) -> None:
            # In a thread of librbd's; ``data`` has been kept until now.
            result = completion.get_return_value()
            with self._changed:
                self._writes -= 1
                self._bytes -= len(data)
                if result < 0 and not self._error:
                    self._error = -result
                self._changed.notify_all()
        with self._cluster.errors():
            self._image.aio_write(data, at, done)

    def _wait(self, condition: typing.Callable[[], bool]) -> None:
        """The caller holds ``_changed``."""
        while not self._error and not condition():
            self._changed.wait(ceph.NOTICE_SECONDS)
            if self._cancelled is not None and self._cancelled():
                raise base.Cancelled('storing the data was cancelled')
        if self._error:
            raise self._cluster.error(
                self._error, f'a write failed (error {self._error})')


def runs(data: bytes) -> list[tuple[int, int]]:
    """Where there is something else than zeros: begins and ends."""
    found: list[tuple[int, int]] = []
    for begin in range(0, len(data), GRAIN):
        end = min(begin + GRAIN, len(data))
        if data.startswith(_ZEROS[:end - begin], begin):
            continue
        if found and found[-1][1] == begin:
            found[-1] = found[-1][0], end
        else:
            found.append((begin, end))
    return found


class _Read:
    """One request that is on its way."""

    def __init__(self, image: typing.Any, at: int, length: int) -> None:
        self._length = length
        self._done = threading.Event()
        self._data: bytes | None = None
        self._result = 0
        image.aio_read(at, length, self._take)

    def _take(self, completion: typing.Any, data: bytes | None) -> None:
        self._result, self._data = completion.get_return_value(), data
        self._done.set()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    def data(self, cluster: ceph.Cluster) -> bytes:
        """:raises base.StoreError: they did not come"""
        if not self._done.wait(2 * ceph.OPERATION_SECONDS):
            raise base.StoreUnavailable('the cluster does not answer')
        if self._result < 0:
            raise cluster.error(-self._result,
                                f'a read failed (error {-self._result})')
        if self._data is None or len(self._data) != self._length:
            raise base.StoreUnavailable('the cluster gave too few bytes')
        return self._data


class Reader(io.RawIOBase):
    """An image's bytes: more is asked for ahead the longer it is read."""

    def __init__(self, cluster: ceph.Cluster, image: typing.Any, offset: int,
                 size: int) -> None:
        self._cluster = cluster
        self._image = image
        self._next = offset
        self._size = size
        self._ahead = 1
        self._reads: collections.deque[_Read] = collections.deque()
        self._rest = memoryview(b'')

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: typing.Any) -> int:
        """:raises base.StoreError: the cluster stopped answering"""
        if not self._rest:
            self._ask()
            if not self._reads:
                return 0
            self._rest = memoryview(self._reads.popleft().data(self._cluster))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _ask(self) -> None:
        with self._cluster.errors():
            while self._next < self._size and len(self._reads) < self._ahead:
                length = min(READ_BYTES, self._size - self._next)
                self._reads.append(_Read(self._image, self._next, length))
                self._next += length
        self._ahead = min(2 * self._ahead, READS)

    def close(self) -> None:
        if self.closed:
            return
        reads, self._reads = self._reads, collections.deque()
        if all(each.is_done for each in reads):
            self._image.close()
        else:
            # It would wait for what is on its way.
            threading.Thread(target=self._image.close, daemon=True).start()
        super().close()
