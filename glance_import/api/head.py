"""The head of a request: its first line and its headers, judged.

In place of the standard library's parser, which takes a lone CR for the end
of a line and folds lines, both of which have let requests be smuggled past a
proxy, and which takes longer for a few headers than the rest of a request.
Touches nothing but the lines it is given.
"""

from __future__ import annotations

import http.client
import re
import typing

MAX_BYTES = 65536
MAX_LINES = 100
_VERSION = re.compile(r'HTTP/(\d{1,9})\.(\d{1,9})', re.ASCII)
_HEADER = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*\r?\n", re.DOTALL)


class Refused(Exception):
    """A head that is not answered as asked; status code and reason."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.reason = {
            431: 'Request Header Fields Too Large'}.get(
                code, http.client.responses[code])
        super().__init__(self.reason)


class Lines(typing.Protocol):
    """Where the lines come from."""

    def readline(self, limit: int) -> bytes:
        """A line with its end, or what there is up to the limit."""


class First(typing.NamedTuple):
    """The first line: ``GET /path HTTP/1.1``."""

    method: str
    target: str
    version: str
    number: tuple[int, int]


def first_line(text: str) -> First:
    """:raises Refused: it is no request of HTTP/1"""
    words = text.split()
    version = _VERSION.fullmatch(words[-1]) if len(words) == 3 else None
    if version is None:
        raise Refused(400)
    number = int(version[1]), int(version[2])
    if number >= (2, 0):
        raise Refused(505)
    method, target, name = words
    # An absolute path that begins with // would look like a host.
    if target.startswith('//'):
        target = '/' + target.lstrip('/')
    return First(method, target, name, number)


def headers(lines: Lines, line_limit: int) -> http.client.HTTPMessage:
    """All lines up to the empty one.

    :param line_limit: bytes that one may have
    :raises Refused: one is none that HTTP/1.1 knows, or they are too much
    """
    found = http.client.HTTPMessage()
    total = 0
    for _ in range(MAX_LINES + 1):
        line = lines.readline(line_limit + 1)
        total += len(line)
        if line in (b'\r\n', b'\n'):
            return found
        match = _HEADER.fullmatch(line)
        if len(line) > line_limit or total > MAX_BYTES or match is None \
                or b'\r' in match[2] or b'\n' in match[2] \
                or b'\0' in match[2]:
            raise Refused(400)
        found.set_raw(match[1].decode('ascii'), match[2].decode('latin-1'))
    raise Refused(431)


def check_framing(found: http.client.HTTPMessage, version: str) -> None:
    """Whether the end of the body can be read in one way only.

    :raises Refused: it cannot
    """
    lengths = found.get_all('content-length', [])
    if len(lengths) > 1 or not all(
            text.isascii() and text.isdigit() for text in lengths):
        raise Refused(400)
    codings = found.get_all('transfer-encoding', [])
    if codings and (lengths or version < 'HTTP/1.1'):
        raise Refused(400)
    if codings and [c.strip().lower() for c in codings] != ['chunked']:
        raise Refused(501)
