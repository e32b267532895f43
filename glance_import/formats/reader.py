"""Bounded reads at places that a header names.

A header may name any place and any length; what does not lie in the file is
an error of the file, never of ours.
"""

from __future__ import annotations

import heapq
import os
import struct
import typing

# No structure that is looked at in one piece is larger.
MOST = 1 << 20
_AGAIN = ('Compare its digest with that of the original, and upload it again '
          'or make it anew (qemu-img convert)')


class UnsafeFormat(Exception):
    """The file is not one to accept; the text is half a sentence why.

    :ivar where: the field or the bytes that say so; '' when it is the whole
    :ivar advice: what to do, a sentence without its end
    """

    def __init__(self, reason: str, where: str = '', advice: str = _AGAIN
                 ) -> None:
        super().__init__(reason)
        self.where = where
        self.advice = advice

    def sentence(self, name: str) -> str:
        """For the user. :param name: of the format, '' when it has none"""
        place = ', '.join(filter(None, (name, self.where)))
        return (f'The image is refused: {self}'
                + (f' [{place}]' if place else '') + f'. {self.advice}.')


class Reader:
    """Data to be read in places, wherever it lies; ``size`` in bytes."""

    size: int
    # Of tables that grow with the image, no more is looked at: bytes.
    most_tables = 256 << 20

    def _read(self, offset: int, length: int) -> bytes:
        """What lies there; fewer bytes where the data has become shorter."""
        raise NotImplementedError

    def at(self, offset: int, length: int) -> bytes:
        """``length`` bytes at ``offset``.

        :raises UnsafeFormat: they are not there, or more than any
            structure has
        """
        where = f'{length} bytes at {offset}'
        if offset < 0 or not 0 <= length <= MOST:
            raise UnsafeFormat('it has a header with impossible values',
                               where)
        if offset + length > self.size:
            raise UnsafeFormat(
                'it is truncated, or its header lies about places',
                f'{where} of {self.size}')
        found = self._read(offset, length)
        if len(found) != length:
            raise UnsafeFormat('it is truncated', where)
        return found

    def long(self, offset: int, length: int) -> bytes:
        """The same for a table that is longer than other structures.

        :raises UnsafeFormat: it is not there
        """
        return b''.join(self.at(offset + part, min(MOST, length - part))
                        for part in range(0, length, MOST))

    def greatest(self, layout: str, offset: int, number: int, keep: int,
                 mask: int = -1) -> list[int]:
        """The greatest values of a table, each once and without 0.

        :param layout: of one value, as struct has it
        :param number: how many values the table has
        :param keep: how many are wanted, which bounds the memory that it takes
        :param mask: bits of a value that count
        :raises UnsafeFormat: the table is not there
        """
        found: set[int] = set()
        size = struct.calcsize(layout)
        for part in range(0, number * size, MOST):
            data = self.at(offset + part, min(MOST, number * size - part))
            if data.strip(b'\0'):
                found.update(
                    value & mask for value in struct.unpack(
                        f'{layout[0]}{len(data) // size}{layout[1]}', data))
            if len(found) > keep + 1:
                found = set(heapq.nlargest(keep, found))
        return heapq.nlargest(keep, found - {0})

    def up_to(self, offset: int, length: int) -> bytes:
        """The same, or what there is of it."""
        length = min(length, max(self.size - offset, 0))
        return self.at(offset, length) if length else b''

    def unpack(self, layout: str, offset: int) -> tuple[typing.Any, ...]:
        """Values of a struct layout at ``offset``. :raises UnsafeFormat:"""
        return struct.unpack(layout, self.at(offset, struct.calcsize(layout)))


class File(Reader):
    """Of an open file."""

    def __init__(self, file: typing.BinaryIO) -> None:
        self._fd = file.fileno()
        self.size = os.fstat(self._fd).st_size

    def _read(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset)
