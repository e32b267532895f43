"""The head of a request: its first line and its headers, parsed.

By the grammar of RFC 9112 (sections 2 to 6), and no more willing than that:
what another server in front reads differently is how requests are smuggled
past it, so a line ends with CR LF, blanks are where the grammar has them, and
nothing is folded, repaired or guessed. Touches nothing but the bytes it is
given.
"""

from __future__ import annotations

import dataclasses
import functools
import http.client
import ipaddress
import re

MAX_BYTES = 65536
MAX_LINES = 100
# Digits of Content-Length: the number fits 64 bits wherever it goes.
MAX_DIGITS = 18

# A token (RFC 9110, 5.6.2).
NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_NAME = re.compile(NAME)
# Visible characters; no # because a fragment is never sent (RFC 3986).
_VISIBLE = '[!"$-~]'
# RFC 9112, 3: exactly one blank between the three parts.
_FIRST_LINE = re.compile(rf'({NAME}) ({_VISIBLE}+) (HTTP/[0-9]\.[0-9])')
# RFC 9112, 3.2.2: a URL, as clients send it to a proxy.
_ABSOLUTE_FORM = re.compile(
    rf'https?://(?P<host>[!"$-.0->@-~]+)(?P<path>[/?]{_VISIBLE}*|)', re.I)
# RFC 3986, 3.2.2 and 3.2.3
_HOST = re.compile(
    r'(?:\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\]'
    r"|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,255})"
    r'(?::(?P<port>[0-9]{0,5}))?', re.ASCII)
_FRAMING = frozenset({'content-length', 'transfer-encoding'})
# The end of a head, or a line that ends with a bare LF.
_END = re.compile(rb'\n(?:(?<!\r\n)|\r\n)')
# What no line may hold (RFC 9110, 5.5): control characters but HTAB.
_CONTROLS = bytes({*range(32), 127} - {9})


class Refused(Exception):
    """A head that is none, or not served here; the text says why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.reason = {
            413: 'Content Too Large',
            431: 'Request Header Fields Too Large'}.get(
                code, http.client.responses[code])


@dataclasses.dataclass(slots=True)
class Head:
    """A request but for its body.

    ``line`` is the first line; ``target`` is a path with its query, or
    ``*``; ``version`` is HTTP/1.0 or HTTP/1.1. ``fields`` has the names in
    lower case; the values of a name that comes more than once are joined by
    commas (RFC 9110, 5.3). ``size`` is that of the head, in bytes.
    """

    line: str
    method: str
    target: str
    version: str
    fields: dict[str, str]
    size: int

    @property
    def has_body(self) -> bool:
        return ('transfer-encoding' in self.fields
                or self.fields.get('content-length', '').strip('0') != '')

    @property
    def closes(self) -> bool:
        """Whether it is the last one on its connection (RFC 9112, 9.3)."""
        options = members(self.fields.get('connection', ''))
        return 'close' in options or (
            self.version == 'HTTP/1.0' and 'keep-alive' not in options)

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a 100 (RFC 9110, 10.1.1)."""
        expected = self.fields.get('expect', '')
        return (bool(expected) and self.version == 'HTTP/1.1'
                and '100-continue' in members(expected))

    def variables(self) -> dict[str, str]:
        """The headers as WSGI names them (PEP 3333).

        Names with an underscore are left out: WSGI cannot tell them from
        those with a hyphen.
        """
        return {_variable(name): value for name, value in self.fields.items()
                if '_' not in name}


@functools.lru_cache(maxsize=100)
def members(value: str) -> tuple[str, ...]:
    """Those of a list, in lower case (RFC 9110, 5.6.1)."""
    return tuple(member.strip(' \t').lower() for member in value.split(','))


@functools.lru_cache(maxsize=1000)
def _variable(name: str) -> str:
    name = name.upper().replace('-', '_')
    return (name if name in ('CONTENT_TYPE', 'CONTENT_LENGTH')
            else f'HTTP_{name}')


def empty_lines(received: bytearray) -> int:
    """Bytes of the empty lines before a request (RFC 9112, 2.2)."""
    count = 0
    while received.startswith(b'\r\n', count):
        count += 2
    return count


def size(received: bytearray, line_limit: int, seen: int = 0) -> int:
    """Bytes of the head that ``received`` begins with; 0: not whole yet.

    :param seen: bytes in which no end was found before
    :raises Refused: whatever follows, it is none
    """
    begin = empty_lines(received)
    end = _END.search(received, max(begin, seen - 3), MAX_BYTES)
    if end is not None and end[0] != b'\n':
        return end.end()
    first = received.find(b'\r\n', begin, begin + line_limit)
    if first >= 0:
        _first_line(received[begin:first].decode('latin-1'))
    elif len(received) >= begin + line_limit:
        raise Refused(414, 'The first line is too long.')
    if end is not None:
        raise Refused(400, 'A line must end with CR LF.')
    if len(received) >= MAX_BYTES:
        raise Refused(431, 'The head of the request is too long.')
    return 0


def parse(received: bytes | bytearray, line_limit: int) -> Head:
    """A whole head, with the empty line at its end.

    :param line_limit: bytes that a line may have
    :raises Refused: it is none of HTTP/1, or too much, or where its body
        ends can be read in two ways
    """
    line, *lines = received.decode('latin-1').lstrip('\r\n').split('\r\n')
    if len(line) >= line_limit:
        raise Refused(414, 'The first line is too long.')
    method, target, version, host = _first_line(line)
    # Behind the last header come the empty line and what split() makes of
    # its end.
    if len(lines) - 2 > MAX_LINES:
        raise Refused(431, f'More than {MAX_LINES} headers.')
    if not only_text(received):
        raise Refused(400, 'There is a control character in the head.')
    fields: dict[str, str] = {}
    for header in lines[:-2]:
        if len(header) >= line_limit:
            raise Refused(400, 'A header is too long.')
        name, value = field(header)
        if header.endswith('\t') and name in _FRAMING:
            # Allowed, but llhttp does not take it for a blank.
            raise Refused(400, f'{name} must not end with a tab.')
        if name not in fields:
            fields[name] = value
        elif name == 'host':
            raise Refused(400, 'There is more than one Host header.')
        else:
            fields[name] += f',{value}'
    _check_host(fields, version)
    if host:
        # It replaces Host (RFC 9112, 3.2.2).
        fields['host'] = host
    _check_framing(fields, version)
    return Head(line, method, target, version, fields, len(received))


def only_text(lines: bytes | bytearray) -> bool:
    """Whether they hold no control characters but HTAB and whole CR LF."""
    rest = len(lines.translate(None, _CONTROLS))
    return len(lines) - rest == 2 * lines.count(b'\r\n')


def field(line: str) -> tuple[str, str]:
    """A header's name, in lower case, and its value (RFC 9112, 5).

    :raises Refused: it is none, or goes on from the line before
    """
    name, colon, value = line.partition(':')
    known = _name(name) if colon else ''
    if not known:
        raise Refused(400, 'A header must be of the form "Name: value".')
    return known, value.strip(' \t')


@functools.lru_cache(maxsize=1000)
def _name(text: str) -> str:
    """In lower case; empty when it is none."""
    return text.lower() if _NAME.fullmatch(text) else ''


def _first_line(text: str) -> tuple[str, str, str, str]:
    """Method, target, version, and the host of an absolute form or ''."""
    parts = _FIRST_LINE.fullmatch(text)
    if parts is None:
        raise Refused(400, 'The first line must be a method, a target and '
                           'a version, with one blank between them.')
    method, target, version = parts.groups()
    if version not in ('HTTP/1.1', 'HTTP/1.0'):
        raise Refused(505, 'This version of HTTP is not spoken here.')
    if method == 'CONNECT':
        raise Refused(501, 'This is no proxy.')
    if target[0] == '/':
        # An absolute path that begins with // would look like a host.
        return (method, '/' + target.lstrip('/') if target[:2] == '//'
                else target, version, '')
    if target == '*' and method == 'OPTIONS':
        return method, target, version, ''
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is None or not _is_host(absolute['host']):
        raise Refused(400, 'The target must be a path or an http URL.')
    return (method, '/' + absolute['path'].lstrip('/'), version,
            absolute['host'])


def _check_host(fields: dict[str, str], version: str) -> None:
    """RFC 9112, 3.2."""
    host = fields.get('host')
    if host is None and version == 'HTTP/1.1':
        raise Refused(400, 'A Host header is needed.')
    if host is not None and not _is_host(host):
        raise Refused(400, 'Host must be of the form name[:port].')


@functools.lru_cache(maxsize=100)
def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    if found is None or int(found['port'] or 0) > 65535:
        return False
    if found['ipv6']:
        try:
            ipaddress.IPv6Address(found['ipv6'])
        except ValueError:
            return False
    return True


def _check_framing(fields: dict[str, str], version: str) -> None:
    """Whether the end of the body can be read in one way only.

    RFC 9112, 6.1 to 6.3.
    """
    length = fields.get('content-length')
    if length is not None and not (
            length.isascii() and length.isdigit()
            and len(length) <= MAX_DIGITS):
        raise Refused(400, 'Content-Length must be one number, of at most '
                           f'{MAX_DIGITS} digits.')
    coding = fields.get('transfer-encoding')
    if coding is None:
        return
    if length is not None or version == 'HTTP/1.0':
        raise Refused(400, 'Transfer-Encoding cannot be used with '
                           'Content-Length, nor in version 1.0.')
    codings = members(coding)
    if codings[-1] != 'chunked' or codings.count('chunked') > 1:
        raise Refused(400, 'The last transfer coding must be chunked, once.')
    if len(codings) > 1:
        raise Refused(501, 'No transfer coding but chunked is known.')
