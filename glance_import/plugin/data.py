"""The bytes a plugin reads, and the place it writes replacements to.

Plain descriptors below, opened by whoever starts the plugin. Standard library
only; touches those two descriptors.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import collections.abc

BLOCK = 256 * 1024


def _nothing() -> None:
    pass


class Data:
    """Read-only data of an image: ``for block in data:``, or as a file.

    ``size`` is in bytes. ``read``, ``seek`` and ``tell`` are those of a
    binary file; iterating goes on from the current position. ``path`` is a
    name by which programs and libraries can open it, read-only; None where
    there is no sandbox to give one.
    """

    def __init__(self, fd: int, size: int, *, block: int = BLOCK,
                 beat: collections.abc.Callable[[], None] = _nothing,
                 path: str | None = None) -> None:
        self.path = path
        self._fd = fd
        self._block = block
        self._beat = beat
        self._done = False
        self.size = size
        self.position = 0
        # Bytes handed out, those read twice counted twice.
        self.bytes_read = 0

    def __iter__(self) -> collections.abc.Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._done:
            raise StopIteration
        # Not through _pread: this is called for every block of every image.
        block = os.pread(self._fd, self._block, self.position)
        if not block:
            raise StopIteration
        size = len(block)
        self.position += size
        self.bytes_read += size
        self._beat()
        return block

    def read(self, n: int = -1) -> bytes:
        """At most ``n`` bytes, b'' at the end; all that is left for -1.

        Fewer than ``n`` only at the end of the data.
        """
        if n is None or n < 0:
            n = max(self.size - self.position, 0)
        parts = []
        while n > 0:
            part = self._pread(n)
            if not part:
                break
            parts.append(part)
            n -= len(part)
        return parts[0] if len(parts) == 1 else b''.join(parts)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to ``offset``; the new position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position,
                os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError('a position cannot be below 0')
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        """The position of the next byte."""
        return self.position

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def done(self) -> None:
        """The rest need not be read: iteration ends here."""
        self._done = True

    def _pread(self, n: int) -> bytes:
        block = os.pread(self._fd, min(n, 1 << 30), self.position)
        self.position += len(block)
        self.bytes_read += len(block)
        self._beat()
        return block


class SinkFull(OSError):
    """More was written to a sink than its limit allows."""


class Sink:
    """Where ``transform`` writes the data that replaces the image's.

    ``limit`` and ``written`` are in bytes.
    """

    def __init__(self, fd: int, limit: int, *,
                 beat: collections.abc.Callable[[], None] = _nothing) -> None:
        self._fd = fd
        self._beat = beat
        self.limit = limit
        self.written = 0

    def write(self, block: bytes) -> int:
        """Append all of ``block``; its length.

        :raises SinkFull: the limit would be passed
        """
        view = memoryview(block).cast('B')
        if self.written + len(view) > self.limit:
            raise SinkFull(
                f'the replacement may have at most {self.limit} bytes')
        rest = view
        while rest:
            rest = rest[os.write(self._fd, rest):]
        self.written += len(view)
        self._beat()
        return len(view)

    def writable(self) -> bool:
        return True
