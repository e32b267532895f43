"""Which image format bytes have, found while they pass.

The inspectors are oslo.utils'. They want plain bytes and look at a few
places only, so once they agree nothing is handed to them any more. ``of_file``
reads a file; all else touches nothing but memory.
"""

from __future__ import annotations

import copy
import typing

from oslo_utils.imageutils import format_inspector

from glance_import.staging import pipeline

UNKNOWN = 'raw'
# Blocks are shown in pieces: the places of interest are small, and most
# inspectors have seen enough after the first piece.
PIECE = 16 << 10


class Detector:
    """Give every block in order to ``update``; then ask ``detected``."""

    def __init__(self) -> None:
        self._piece = b''
        self._inspectors: format_inspector.InspectWrapper | None = (
            format_inspector.InspectWrapper(
                typing.cast(typing.IO[bytes], self)))
        self._found: str | None = None

    def update(self, block: pipeline.Block) -> None:
        """Never raises for what the bytes are."""
        if self._inspectors is None:
            return
        view = memoryview(block)
        for start in range(0, len(view), PIECE):
            self._piece = bytes(view[start:start + PIECE])
            self._inspectors.read(PIECE)
            if self._inspectors.formats is not None:
                self._decide()
                return

    def read(self, size: int) -> bytes:
        """What the wrapper of the inspectors reads from."""
        piece, self._piece = self._piece, b''
        return piece

    def detected(self) -> str:
        """The format, or several with commas; ``raw`` when it is none.

        Nothing may be given to ``update`` afterwards.
        """
        if self._inspectors is not None:
            self._inspectors.close()
            self._decide()
        assert self._found is not None
        return self._found

    @property
    def decided(self) -> bool:
        """Whether more bytes would change nothing."""
        return self._inspectors is None

    def copy(self) -> Detector:
        return copy.deepcopy(self)

    def _decide(self) -> None:
        assert self._inspectors is not None
        self._found = ','.join(sorted(
            str(each) for each in self._inspectors.formats or ())) or UNKNOWN
        self._inspectors = None


def of_file(path: str) -> str:
    """The format of a file, read only as far as it takes to tell.

    :raises OSError: it cannot be read
    """
    detector = Detector()
    with open(path, 'rb') as file:
        while not detector.decided and (block := file.read(PIECE)):
            detector.update(block)
    return detector.detected()
