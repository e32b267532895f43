"""``wsgi.file_wrapper``: a file that is sent without being read.

Touches the file that it is given.
"""

from __future__ import annotations

import collections.abc
import io
import os
import sys
import typing


class FileWrapper:
    """What PEP 3333 asks for, and a part of a file.

    :param file: a binary file standing where sending is to begin
    :param block_size: bytes of a read, where somebody iterates over it
        instead
    :param length: bytes to send, None for up to the end of the file

    WebOb calls ``app_iter_range`` for parts of it, so ranges are sent in the
    same way.

    :ivar sent: bytes that have gone to the client so far
    :ivar on_close: told them at the end, if it is set
    """

    on_close: collections.abc.Callable[[int], object] | None = None

    def __init__(self, file: typing.BinaryIO, block_size: int = 1 << 20,
                 length: int | None = None) -> None:
        self.file = file
        self.block_size = block_size
        self.length = length
        self.sent = 0

    def app_iter_range(self, start: int, stop: int | None) -> FileWrapper:
        """A wrapper of the bytes from ``start`` to before ``stop``."""
        self.file.seek(start, os.SEEK_CUR)
        self.length = None if stop is None else stop - start
        return self

    def __iter__(self) -> collections.abc.Iterator[bytes]:
        left = sys.maxsize if self.length is None else self.length
        while left and (block := self.file.read(min(self.block_size, left))):
            left -= len(block)
            yield block
            self.sent += len(block)

    def close(self) -> None:
        self.file.close()
        if self.on_close is not None:
            self.on_close(self.sent)

    def extent(self) -> tuple[int, int, int] | None:
        """Descriptor, offset and bytes; None when it is no real file."""
        try:
            fd = self.file.fileno()
            offset = self.file.tell()
            rest = max(0, os.fstat(fd).st_size - offset)
        except (OSError, AttributeError, io.UnsupportedOperation):
            return None
        return fd, offset, rest if self.length is None else min(
            rest, self.length)
