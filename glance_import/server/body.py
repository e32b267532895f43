"""``wsgi.input``: the body of a request, to its end or to an error.

The framing is that of RFC 9112: section 6 where the length is announced,
section 7.1 for chunks. A body that stops before its end raises, so a cut one
is never taken for complete. Runs in the thread of the request, and touches
nothing but the *source* that the bytes come from.
"""

from __future__ import annotations

import io
import re
import typing

from glance_import.server import errors
from glance_import.server import head

Block = bytes | bytearray | memoryview

# Largest buffer a flowing body is received into, and what it starts with.
BLOCK = 1 << 20
SMALL = 64 << 10
# What one that trickles is received into.
LEAST = 4 << 10
# Longest chunk-size line with its extensions, and most bytes of trailers.
LINE_LIMIT = 4096
TRAILER_LIMIT = 16384
_NAME = head.NAME.encode()
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
# A size, which fits 64 bits, and extensions (RFC 9112, 7.1.1), which are
# ignored. No blanks between them: the grammar allows them, but other servers
# refuse them.
_CHUNK = re.compile(rb'([0-9a-fA-F]{1,15})(?:;%b(?:=(?:%b|%b))?)*' % (
    _NAME, _NAME, _QUOTED))
# Fields of framing and routing must not be trailers (RFC 9110, 6.5.1).
_NO_TRAILERS = frozenset({'content-length', 'transfer-encoding', 'host'})


class Source(typing.Protocol):
    """The receiving side of a connection; all of it may block."""

    def receive(self, view: memoryview) -> int | None:
        """Bytes received: 0 at the end, None when nothing came for a while.
        """

    def wait(self) -> None:
        """Until something can be received. :raises errors.BodyTimeout:"""

    def send_continue(self) -> None:
        """Send ``100 Continue`` (RFC 9110, 15.2.1)."""


class Input(io.BufferedIOBase):
    """What both framings share; ``read_block`` copies less than ``read``.

    :param ahead: the read-ahead buffer of the connection: what was received
        together with the head. What belongs to the next request is left there
    :param expects_continue: whether the client waits for a ``100 Continue``
    """

    #: The whole body has been read.
    complete = False

    def __init__(self, source: Source, ahead: bytearray,
                 expects_continue: bool) -> None:
        self._source = source
        self._ahead = ahead
        self._size = SMALL
        self._expects_continue = expects_continue
        self._over = False
        self._left_over: memoryview = memoryview(b'')

    def skip(self, limit: int) -> bool:
        """Read a rest of at most ``limit`` bytes that has come already.

        Whether the body is complete then.
        """
        return self.complete

    def end(self) -> None:
        """The request is over: what comes now is no part of it."""
        self._over = True

    def read_block(self, limit: int = BLOCK) -> Block:
        """Some bytes, at most ``limit``; empty at the end of the body.

        The block belongs to the caller.

        :raises errors.BodyError: the body stopped before its end
        :raises ValueError: the request is over
        """
        if self._over and not self.complete:
            raise ValueError('the request is over')
        if self._left_over:
            block = self._left_over[:limit]
            self._left_over = self._left_over[limit:]
            return block
        if self._expects_continue and not self.complete:
            self._expects_continue = False
            if not self._ahead:
                self._source.send_continue()
        block = memoryview(self._next_block(limit))
        if len(block) > limit:
            self._left_over = block[limit:]
            block = block[:limit]
        return block

    def _next_block(self, limit: int) -> Block:
        raise NotImplementedError

    def _receive(self, limit: int) -> memoryview:
        """At most ``limit`` bytes off the wire, empty at the end of it.

        While nothing comes no buffer is held.
        """
        if self._ahead:
            block = bytes(self._ahead[:limit])
            del self._ahead[:limit]
            return memoryview(block)
        while True:
            buffer = bytearray(min(self._size, limit))
            got = self._source.receive(memoryview(buffer))
            if got is not None:
                break
            del buffer
            self._size = min(self._size, SMALL)
            self._source.wait()
        if got == len(buffer):
            self._size = min(4 * self._size, BLOCK)
        elif 4 * got < len(buffer):
            self._size = max(self._size // 4, LEAST)
        return memoryview(buffer)[:got]

    # The rest is what io.BufferedIOBase makes the file of PEP 3333 of.

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        left = -1 if size is None else size
        blocks = []
        while left and (block := self.read_block(
                BLOCK if left < 0 else min(left, BLOCK))):
            left -= len(block) if left > 0 else 0
            blocks.append(block)
        return b''.join(blocks)


class LengthInput(Input):
    """A body whose length was announced."""

    def __init__(self, source: Source, ahead: bytearray,
                 expects_continue: bool, length: int) -> None:
        super().__init__(source, ahead, expects_continue)
        self._length = length
        self._left = length
        self.complete = not length

    def skip(self, limit: int) -> bool:
        if self._left <= min(limit, len(self._ahead)):
            del self._ahead[:self._left]
            self._left = 0
            self.complete = True
        return self.complete

    def _next_block(self, limit: int) -> Block:
        if self.complete:
            return b''
        block = self._receive(min(limit, self._left))
        if not block:
            raise errors.BodyCut.after(self._length - self._left,
                                       self._length)
        self._left -= len(block)
        self.complete = not self._left
        return block


class ChunkedInput(Input):
    """A chunked body.

    Received in large pieces and taken apart here, so that small chunks cost
    no system call each; what follows the body is put back.
    """

    def __init__(self, source: Source, ahead: bytearray,
                 expects_continue: bool) -> None:
        super().__init__(source, ahead, expects_continue)
        self._got = 0
        self._raw: memoryview = memoryview(b'')
        self._chunk = 0
        self._failure: errors.BodyError | None = None

    def _next_block(self, limit: int) -> Block:
        if self._failure is not None:
            raise self._failure
        try:
            return self._take(limit)
        except errors.BodyError as failure:
            # Raised again for an application that reads on after it.
            self._failure = failure
            raise

    def _take(self, limit: int) -> Block:
        joined = bytearray()
        while not self.complete:
            if not self._raw and joined:
                break
            if not self._chunk:
                self._begin_chunk()
                continue
            if not self._raw:
                self._fill()
            piece = self._raw[:min(self._chunk, limit - len(joined))]
            self._raw = self._raw[len(piece):]
            self._chunk -= len(piece)
            self._got += len(piece)
            if not self._chunk:
                self._end_chunk()
            if not joined and len(piece) >= limit // 2:
                return piece
            joined += piece
            if len(joined) >= limit:
                break
        return joined

    def _fill(self) -> None:
        self._raw = self._receive(BLOCK)
        if not self._raw:
            raise errors.BodyCut.after(self._got, None)

    def _begin_chunk(self) -> None:
        found = _CHUNK.fullmatch(self._line(LINE_LIMIT))
        if not found:
            raise errors.BodyMalformed('a chunk does not begin with its size')
        self._chunk = int(found[1], 16)
        if not self._chunk:
            self._skip_trailers()
            self.complete = True
            # Pipelined: the next request came in the same piece.
            self._ahead[:0] = self._raw
            self._raw = memoryview(b'')

    def _end_chunk(self) -> None:
        if self._line(2):
            raise errors.BodyMalformed('a chunk is longer than its size')

    def _skip_trailers(self) -> None:
        left = TRAILER_LIMIT
        while line := self._line(left):
            left -= len(line)
            _check_trailer(line)

    def _line(self, limit: int) -> bytes:
        """A line without its end, of at most ``limit`` bytes."""
        line = bytearray()
        while True:
            if not self._raw:
                self._fill()
            head = bytes(self._raw[:limit + 2 - len(line)])
            end = head.find(b'\n')
            if end >= 0:
                line += head[:end + 1]
                self._raw = self._raw[end + 1:]
                break
            line += head
            self._raw = self._raw[len(head):]
            if len(line) >= limit + 2:
                raise errors.BodyMalformed(
                    'a line of the chunked data is too long')
        if line[-2:-1] != b'\r':
            raise errors.BodyMalformed(
                'a line of the chunked data does not end with CR LF')
        return bytes(line[:-2])


def input_of(request: head.Head, source: Source, ahead: bytearray) -> Input:
    """The body of a request (RFC 9112, 6.3)."""
    expects_continue = request.expects_continue
    if 'transfer-encoding' in request.fields:
        return ChunkedInput(source, ahead, expects_continue)
    return LengthInput(source, ahead, expects_continue,
                       int(request.fields.get('content-length', 0)))


def _check_trailer(line: bytes) -> None:
    """Of the form of a header (RFC 9112, 7.1.2); it is then dropped."""
    try:
        name, _ = head.field(line.decode('latin-1'))
    except head.Refused as refusal:
        raise errors.BodyMalformed(
            f'behind the last chunk: {refusal}') from refusal
    if name in _NO_TRAILERS or not head.only_text(line):
        raise errors.BodyMalformed('this trailer must not be sent')
