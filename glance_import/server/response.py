"""The bytes of a response: its head, and the framing of its body.

By RFC 9112, sections 4 to 6; whether the connection can be used again is
decided with the head (section 9). Touches nothing.
"""

from __future__ import annotations

import collections.abc
import email.utils
import functools
import http.client
import re
import time

from glance_import.server import head

_UNSENDABLE = re.compile(r'[\r\n\0]')
# RFC 9110, 6.4.1: these have no body, nor has the answer to HEAD.
_NO_BODY = frozenset({204, 304})


class Response:
    """What one request is answered with.

    :param request: that request
    :param may_keep: whether another request may follow on the connection;
        called when the head is made
    """

    def __init__(self, request: head.Head,
                 may_keep: collections.abc.Callable[[], bool]) -> None:
        self._request = request
        self._may_keep = may_keep
        self._headers: list[tuple[str, str]] = []
        self._values: dict[str, str] = {}
        self._bodyless = False
        self._chunked = False
        self.status = ''
        #: Its head has been made.
        self.started = False
        #: The connection ends with it.
        self.closes = request.closes
        #: Bytes of the body that are promised and not made yet, if known.
        self.left: int | None = None
        #: Bytes of the body so far.
        self.sent = 0

    def begin(self, status: str, headers: list[tuple[str, str]]) -> None:
        """What ``start_response`` of PEP 3333 is given.

        :raises ValueError: a header cannot be sent
        """
        if _UNSENDABLE.search(''.join(map(''.join, headers))):
            raise ValueError('a header holds CR, LF or NUL')
        self.status = status
        self._headers = list(headers)
        self._values = {name.lower(): value for name, value in headers}
        code = int(status[:3])
        self._bodyless = (code in _NO_BODY or code < 200
                          or self._request.method == 'HEAD')

    def fail(self, code: int, text: str) -> list[bytes]:
        """An error instead; nothing when the response has begun already."""
        self.closes = True
        if self.started:
            # Nor an end: the client is to see that it is not whole.
            self._chunked, self.left = False, None
            return []
        data = (text + '\n').encode()
        self.begin(f'{code} {http.client.responses[code]}', [
            ('Content-Type', 'text/plain; charset=UTF-8'),
            ('Content-Length', str(len(data)))])
        return [data]

    def header(self, name: str) -> str | None:
        return self._values.get(name.lower())

    def set_length(self, size: int) -> None:
        """How long the body is, unless the application has said so."""
        if 'content-length' in self._values or (
                self._bodyless and self._request.method != 'HEAD'):
            return
        self._headers.append(('Content-Length', str(size)))
        self._values['content-length'] = str(size)

    def whole(self, pieces: collections.abc.Sequence[bytes]) -> bytes:
        """All of it, as it goes on the wire."""
        data = b''.join(pieces)
        self.set_length(len(data))
        return self.part(data) + self.end()

    def part(self, data: bytes) -> bytes:
        """A piece of the body, the first one behind the head."""
        begin = b''
        if not self.started:
            if not self.status:
                raise AssertionError('write before start_response')
            begin = self._head()
            self.started = True
        if self._bodyless:
            data = b''
        if self.left is not None:
            data = data[:self.left]
            self.left -= len(data)
        self.sent += len(data)
        if data and self._chunked:
            data = b'%x\r\n%b\r\n' % (len(data), data)
        return begin + data if begin else data

    def end(self) -> bytes:
        """The last chunk, if there are any; the head, if there is no body.
        """
        begin = b'' if self.started else self.part(b'')
        if self.left:
            # Fewer bytes than promised: only an end tells the client.
            self.closes = True
        return begin + (b'0\r\n\r\n' if self._chunked else b'')

    def _head(self) -> bytes:
        version = self._request.version
        lines = [f'HTTP/1.1 {self.status}']
        lines += [f'{name}: {value}' for name, value in self._headers
                  if name.lower() not in ('connection', 'keep-alive')]
        if 'date' not in self._values:
            lines.append(f'Date: {_date(int(time.time()))}')
        length = self._values.get('content-length')
        if length is not None:
            self.left = 0 if self._bodyless else int(length)
        elif not self._bodyless:
            # RFC 9112, 6.3: chunks, or the end of the connection.
            self._chunked = version == 'HTTP/1.1'
            self.closes = self.closes or not self._chunked
            if self._chunked:
                lines.append('Transfer-Encoding: chunked')
        if not self._keeps():
            self.closes = True
            lines.append('Connection: close')
        elif version == 'HTTP/1.0':
            lines.append('Connection: keep-alive')
        return '\r\n'.join([*lines, '', '']).encode('latin-1')

    def _keeps(self) -> bool:
        return not self.closes and 'close' not in head.members(
            self._values.get('connection', '')) and self._may_keep()


def refusal(code: int, reason: str, text: str, *headers: str) -> bytes:
    """An answer that the application is not needed for; the last one."""
    data = (text + '\n').encode()
    lines = [f'HTTP/1.1 {code} {reason}', 'Connection: close',
             'Content-Type: text/plain', f'Content-Length: {len(data)}',
             *headers, '', '']
    return '\r\n'.join(lines).encode() + data


@functools.lru_cache(maxsize=2)
def _date(now: int) -> str:
    return email.utils.formatdate(now, usegmt=True)
