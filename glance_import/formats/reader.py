"""Bounded reads at places that a header names.

A header may name any place and any length; what does not lie in the file is
an error of the file, never of ours.
"""

from __future__ import annotations

import os
import struct
import typing

# No structure that is looked at is larger.
MOST = 1 << 20


class UnsafeFormat(Exception):
    """The file is not one to accept; the text is half a sentence why."""


class Reader:
    """Data to be read in places, wherever it lies; ``size`` in bytes."""

    size: int

    def _read(self, offset: int, length: int) -> bytes:
        """What lies there; fewer bytes where the data has become shorter."""
        raise NotImplementedError

    def at(self, offset: int, length: int) -> bytes:
        """``length`` bytes at ``offset``.

        :raises UnsafeFormat: they are not there, or more than any
            structure has
        """
        if offset < 0 or not 0 <= length <= MOST:
            raise UnsafeFormat('it has a header with impossible values')
        if offset + length > self.size:
            raise UnsafeFormat(
                'it is truncated, or its header lies about places')
        found = self._read(offset, length)
        if len(found) != length:
            raise UnsafeFormat('it is truncated')
        return found

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
