"""The head of an HTTP answer, and where its body ends.

Stricter than the library below: what two programs could understand in two
ways is refused. Touches the connection that it is given to read.
"""

from __future__ import annotations

import http.client
import re
import typing


class FetchError(Exception):
    """A request did not bring what was asked for; one sentence why."""


# A line of a head, and one that goes on with the last (RFC 9112, 5). The
# library passes over all that follows a line that is neither.
_FIELD = re.compile(rb'[\x21-\x39\x3b-\x7e]+:[^\r\n\0]*\r?\n')
_FOLDED = re.compile(rb'[ \t][^\r\n\0]*\r?\n')
_LONGEST = 1 << 16
_CHUNK = re.compile(rb'([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n')


class _Lines:
    """What is read of a head, line by line."""

    def __init__(self, stream: typing.Any) -> None:
        self._stream = stream
        self.read: list[bytes] = []

    def readline(self, most: int) -> bytes:
        self.read.append(self._stream.readline(most))
        return self.read[-1]

    def close(self) -> None:
        self._stream.close()


class Answer(http.client.HTTPResponse):
    """The final one, whose end is found as RFC 9112, 6.3 has it.

    The library passes over 100 alone of the interim, and takes whatever
    looks like a length or a chunk.
    """

    fp: typing.Any
    headers: http.client.HTTPMessage

    def begin(self) -> None:
        """:raises FetchError: the head can be understood in two ways"""
        stream = self.fp
        self.fp = self._lines = _Lines(stream)
        try:
            super().begin()
        finally:
            self.fp = self.fp and stream
        _check_head(self._lines.read)
        self._frame()

    def _list(self, name: str) -> list[str]:
        return [each.strip(' \t\r\n') for line in
                self.headers.get_all(name, []) for each in line.split(',')]

    def _frame(self) -> None:
        codings = [each.lower() for each in self._list('Transfer-Encoding')
                   if each.lower() not in ('', 'identity')]
        if codings not in ([], ['chunked']):
            raise FetchError(
                f'the server sends the data as {", ".join(codings)[:40]} '
                '(Transfer-Encoding), which was not asked for')
        self.chunked = bool(codings)
        self.chunk_left = None
        lengths = self._list('Content-Length')
        if self.chunked:
            self.length = None
        elif lengths:
            self._set_length(lengths)

    def _set_length(self, said: list[str]) -> None:
        """One length, which may be said several times."""
        if not all(re.fullmatch('[0-9]{1,19}', each) for each in said):
            raise FetchError('the Content-Length of the answer is no number: '
                             + ', '.join(said)[:40])
        if len(set(map(int, said))) > 1:
            raise FetchError('the answer has several lengths '
                             f'(Content-Length): {", ".join(said)[:60]}')
        if self.length != 0:
            self.length = int(said[0])

    def _get_chunk_left(self) -> int | None:
        """Bytes left of a chunk, None behind the last (RFC 9112, 7.1).

        :raises ValueError: there is none
        """
        if not self.chunk_left:
            if self.chunk_left == 0 and self._line().strip(b'\r\n'):
                raise ValueError('a chunk is not as long as it says')
            found = _CHUNK.fullmatch(self._line())
            if found is None:
                raise ValueError('a chunk without a size')
            self.chunk_left = int(found[1], 16)
            if not self.chunk_left:
                self._read_and_discard_trailer()  # type: ignore[attr-defined]
                self._close_conn()  # type: ignore[attr-defined]
                self.chunk_left = None
        return self.chunk_left

    def _line(self) -> bytes:
        """A whole line beside the data of chunks."""
        line: bytes = self.fp.readline(_LONGEST)
        if line.endswith(b'\n'):
            return line
        if len(line) == _LONGEST:
            raise http.client.LineTooLong('chunk size')
        raise http.client.IncompleteRead(b'')

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            found = super()._read_status()  # type: ignore[misc]
            self._lines.read.clear()
            # Early Hints and the like (RFC 9110, 15.2; RFC 8297). Nobody
            # asked to switch protocols.
            if not 100 < found[1] < 200 or found[1] == 101:
                return found
            http.client.parse_headers(self.fp)


def _check_head(lines: list[bytes]) -> None:
    """:raises FetchError: a line of a head is none

    :raises http.client.IncompleteRead: it is cut
    """
    if lines[-1] not in (b'\r\n', b'\n'):
        raise http.client.IncompleteRead(b'')
    for number, line in enumerate(lines[:-1]):
        if not (_FIELD.fullmatch(line) or number and _FOLDED.fullmatch(line)):
            raise FetchError(
                'the head of the answer has a line that is no header: '
                + ascii(line[:40].decode('latin-1')))
