"""The head of a request: its first line and its headers, judged.

In place of the standard library's parser, which takes a lone CR for the end
of a line and folds lines, both of which have let requests be smuggled past a
proxy, and which takes longer for a few headers than the rest of a request.
Touches nothing but the bytes it is given.
"""

from __future__ import annotations

import dataclasses
import functools
import http.client
import re

MAX_BYTES = 65536
MAX_LINES = 100
_VERSION = re.compile(r'HTTP/(\d{1,9})\.(\d{1,9})', re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_END = re.compile(rb'\n\r?\n')


class Refused(Exception):
    """A head that is not answered as asked; status code and reason."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.reason = {
            431: 'Request Header Fields Too Large'}.get(
                code, http.client.responses[code])
        super().__init__(self.reason)


@dataclasses.dataclass(slots=True)
class Head:
    """What a request says of itself.

    ``fields`` has the names in lower case; the values of a name that comes
    more than once are joined by commas (RFC 9110, 5.3). ``size`` is that of
    the head, in bytes.
    """

    line: str
    method: str
    target: str
    version: str
    number: tuple[int, int]
    fields: dict[str, str]
    size: int

    @property
    def has_body(self) -> bool:
        return ('transfer-encoding' in self.fields
                or self.fields.get('content-length', '').strip('0') != '')

    @property
    def last(self) -> bool:
        """Whether the client wants no other answer on this connection."""
        wish = self.fields.get('connection', '').lower()
        if wish in ('close', 'keep-alive'):
            return wish == 'close'
        return self.number < (1, 1)

    def variables(self) -> dict[str, str]:
        """The headers as WSGI names them (PEP 3333).

        Names with an underscore are left out: they would pass for others.
        """
        return {_variable(name): value for name, value in self.fields.items()
                if '_' not in name}


@functools.lru_cache(maxsize=1000)
def _variable(name: str) -> str:
    name = name.upper().replace('-', '_')
    return (name if name in ('CONTENT_TYPE', 'CONTENT_LENGTH')
            else f'HTTP_{name}')


def size(received: bytearray, line_limit: int) -> int:
    """Bytes of the head that ``received`` begins with; 0: not whole yet.

    :raises Refused: whatever follows, it is none
    """
    end = _END.search(received, 0, MAX_BYTES)
    if end is not None:
        return end.end()
    first = received.find(b'\n', 0, line_limit)
    if first >= 0:
        _first_line(received[:first].decode('latin-1'))
    elif len(received) >= line_limit:
        raise Refused(414)
    if len(received) >= MAX_BYTES:
        raise Refused(400)
    return 0


def parse(received: bytes | bytearray, line_limit: int) -> Head:
    """A whole head, with the empty line at its end.

    :param line_limit: bytes that a line may have
    :raises Refused: it is none of HTTP/1, or too much, or where its body
        ends can be read in two ways
    """
    text = received.decode('latin-1').replace('\r\n', '\n')
    line, *lines = text.split('\n')
    if len(line) >= line_limit:
        raise Refused(414)
    method, target, version, number = _first_line(line)
    # Behind the last header come the empty line and what split() makes of
    # its end.
    if len(lines) - 2 > MAX_LINES:
        raise Refused(431)
    if '\r' in text or '\0' in text:
        raise Refused(400)
    fields: dict[str, str] = {}
    for header in lines[:-2]:
        name, colon, value = header.partition(':')
        if not (colon and _TOKEN.fullmatch(name)) \
                or len(header) >= line_limit:
            raise Refused(400)
        name, value = name.lower(), value.strip(' \t')
        fields[name] = f'{fields[name]},{value}' if name in fields else value
    _check_framing(fields, version)
    return Head(line, method, target, version, number, fields,
                len(received))


def _first_line(text: str) -> tuple[str, str, str, tuple[int, int]]:
    """Method, target, version and its number: ``GET /path HTTP/1.1``."""
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
    return method, target, name, number


def _check_framing(fields: dict[str, str], version: str) -> None:
    """Whether the end of the body can be read in one way only."""
    length = fields.get('content-length')
    if length is not None and not (length.isascii() and length.isdigit()):
        raise Refused(400)
    coding = fields.get('transfer-encoding')
    if coding is None:
        return
    if length is not None or version < 'HTTP/1.1':
        raise Refused(400)
    if coding.strip().lower() != 'chunked':
        raise Refused(501)
