"""A sample of data that lies in a store: what a judge of images looks at.

Head, tail and what a header names in between, read in ranges and kept in a
scratch file at the places where they are, with holes for the rest. So data of
any size is judged by a few megabytes of it, also by programs that want a
file. Touches the store and the staging area.
"""

from __future__ import annotations

import collections.abc
import contextlib
import typing

from glance_import.formats import inspection
from glance_import.formats import reader
from glance_import.staging import scratch as scratches
from glance_import.stores import base as stores

if typing.TYPE_CHECKING:
    from glance_import import services

_BLOCK = 64 << 10
# The most that is read for one image, and of no image is needed: bytes.
_MOST = 64 << 20
# (bytes that are about to be read) -> when they may be.
Pace = collections.abc.Callable[[int], None]


def at_once(_length: int) -> None:
    """As fast as it goes."""


class Sample(reader.Reader):
    """See ``of``; ``path`` is that of the file with holes."""

    # Each of them may be a request.
    most_tables = 2 << 20

    def __init__(self, store: stores.Store, url: str, size: int,
                 scratch: scratches.Scratch, pace: Pace) -> None:
        self._store = store
        self._url = url
        self.size = size
        self._scratch = scratch
        self._pace = pace
        # Numbers of the blocks that are there.
        self._there: set[int] = set()
        self._fetched = 0
        scratch.truncate(size)

    @property
    def path(self) -> str:
        return self._scratch.path

    def passing(self, at: int, block: bytes) -> None:
        """Keep the head and the tail of data that is read for its own sake.

        To be given all of it, in order.

        :raises stores.StoreUnavailable: they cannot be kept
        """
        head = block[:max(inspection.HEAD - at, 0)]
        self._keep(at, head)
        tail = max(self._tail() - at, len(head))
        self._keep(at + tail, block[tail:])

    def passed(self) -> None:
        """All of it has passed."""
        self._there.update(self._blocks(0, min(inspection.HEAD, self.size)))
        self._there.update(self._blocks(self._tail(), self.size))

    def _tail(self) -> int:
        """Where the tail begins, at the beginning of a block."""
        return max(self.size - inspection.TAIL, 0) // _BLOCK * _BLOCK

    @staticmethod
    def _blocks(start: int, stop: int) -> range:
        return range(start // _BLOCK, (stop + _BLOCK - 1) // _BLOCK)

    def _keep(self, at: int, data: bytes) -> None:
        try:
            self._scratch.write(data, at)
        except OSError as failure:
            raise _full(failure) from failure

    def _read(self, offset: int, length: int) -> bytes:
        missing = [number for number in self._blocks(offset, offset + length)
                   if number not in self._there]
        if missing:
            start, stop = missing[0] * _BLOCK, (missing[-1] + 1) * _BLOCK
            if start < inspection.HEAD:
                # What is read piece by piece comes in one.
                stop = max(stop, inspection.HEAD)
            self._fetch(start, min(stop, self.size))
        return self._scratch.read(offset, length)

    def _fetch(self, start: int, stop: int) -> None:
        length = stop - start
        self._fetched += length
        if self._fetched > _MOST:
            raise reader.UnsafeFormat('it keeps what it says of itself in too '
                                      'many places')
        self._pace(length)
        with self._store.open(self._url, offset=start) as stream:
            done = 0
            while done < length and (
                    block := stream.read(min(length - done, 1 << 20))):
                self._keep(start + done, block)
                done += len(block)
        if done < length:
            raise reader.UnsafeFormat('it has fewer bytes than its store says')
        self._there.update(self._blocks(start, stop))


@contextlib.contextmanager
def of(services: services.Services, store: stores.Store, url: str, size: int,
       pace: Pace = at_once) -> collections.abc.Iterator[Sample]:
    """A sample of what is at a URL of a store.

    Reading it raises what the store raises.

    :param size: bytes
    :raises stores.StoreUnavailable, staging.StagingError: this host cannot
        keep it
    """
    with services.area.scratch() as scratch:
        try:
            sample = Sample(store, url, size, scratch, pace)
        except OSError as failure:
            raise _full(failure) from failure
        yield sample


def _full(failure: OSError) -> stores.StoreUnavailable:
    return stores.StoreUnavailable(
        'a sample of the data cannot be kept in the staging area: '
        f'{failure.strerror}')
