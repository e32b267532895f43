"""What our reader of requests accepts, llhttp and h11 read in the same way.

Requests are made up of parts that parsers have disagreed about, then
damaged. Whatever ours takes for a request, the others must take for one with
the same first line, the same headers, the same body, and the same bytes left
for the next request; that they accept more is no matter. ``LONG_TESTS=1``
asks for ten times as many.
"""

import collections
import os
import random
import re

import h11
import httptools
import pytest

from glance_import.server import body
from glance_import.server import errors
from glance_import.server import head

COUNT = 200_000 if os.environ.get('LONG_TESTS') else 20_000
PARTS = 4
LIMIT = 16384

# What is usual, and what parsers have disagreed about.
METHODS = [b'GET', b'PUT', b'POST', b'HEAD', b'PATCH', b'OPTIONS', b'DELETE']
TARGETS = ([b'/', b'/v2/images', b'/a?b=c&d', b'http://a/b'],
           [b'*', b'/%41%zz', b'//a/b', b'http://a:80?c', b'https://[::1]',
            b'/{}|\\^`"<>', b'/a:b@c;d', b'a', b'/\xe4', b'/#', b'HTTP://a//b',
            b'/??', b'http://a;b=c/d', b'http://u@a/', b'http://[a]/',
            b'ws://a', b'http://%41/',
            b"http://!$&'()*+,;=-._~/", b'http://a:/'])
VERSIONS = ([b'HTTP/1.1', b'HTTP/1.1', b'HTTP/1.0'],
            [b'HTTP/1.2', b'HTTP/2.0', b'http/1.1', b'HTTP/1.1 ', b'HTTP/0.9'])
HOSTS = ([b'Host: a', b'hOST:a:80 ', b'Host: [::1]:9'],
         [b'Host:', b'Host: a\r\nHost: a', b'Host: a,b', b'X: y',
          b"Host: !$&'()*+,;=-._~%41:"])
HEADERS = (
    [b'Accept: */*', b'A: b', b'a:b', b'A:\t b\t ', b'A:', b'A: \xe4\xff',
     b'A: "b, c"', b'X_Y: z', b"!#$%&'*+.^`|~: t", b'A: b\r\nA: c',
     b'A: ' + b'x' * 300, b'Connection: close', b'Connection: keep-alive',
     b'Connection: a, Close', b'Connection: upgrade\r\nUpgrade: websocket',
     b'Upgrade: h2c', b'Expect: 100-continue', b'Content_Length: 7',
     b'Content-Type: application/octet-stream'],
    [b'A : b', b' A: b', b'A: b\r\n c', b'A: b\rc', b'A: b\nC: d', b'A: \0',
     b'A: \x01', b'A: \x7f', b'A\xe4: b', b': b', b'A', b'Content-Length: 0',
     b'Content-Length: 3', b'Content-Length:5', b'Content-Length: +3',
     b'Content-Length: 3, 3', b'Content-Length: 0x3', b'Content-Length: 0003',
     b'Content-Length: 99999999999999999999', b'Content-Length : 3',
     b'Content-Length: 3\t', b'Transfer-Encoding: chunked\t',
     b'Content-Length: 3\x0b', b'Transfer-Encoding: chunked',
     b'transfer-encoding:CHUNKED ', b'Transfer-Encoding: gzip, chunked',
     b'Transfer-Encoding: identity', b'Transfer-Encoding: chunked, identity',
     b'Transfer-Encoding: xchunked', b'Transfer-Encoding: chunked\xa0',
     b'Transfer-Encoding: chunked;q=1', b'Transfer-Encoding:\x0bchunked',
     b'Transfer-Encoding: "chunked"', b'Transfer-Encoding: chunked\r\n'
     b'Transfer-Encoding: chunked', b'Transfer-Encoding: , chunked'])
SIZES = ([b'%x', b'%X', b'0%x', b'%x;a', b'%x;a=b;c="d;\\"e"'],
         [b'0x%x', b'+%x', b'%x ', b' %x', b'%x ;a', b'%x; a', b'%x;', b'-%x',
          b'%x;a=', b'%x;"b"', b'%x;a="\xe4"', b'%x,', b'%x\t', b'%x;a=b c',
          b'1%x', b'%xg', b'%x_0', b'%x\r', b'%x;a\n', b'%x;a="b'])
LASTS = ([b'0', b'000', b'0;a'], [b'-0', b'', b'0x0', b'00 ', b'0;'])
TRAILERS = ([b'', b'T: x\r\n', b'T:\r\nU: y\r\n', b'Connection: close\r\n'],
            [b' T: x\r\n', b'T : x\r\n', b'T\r\n', b'T: \0\r\n', b'T: x\n',
             b'T: x\r\n y\r\n', b'Content-Length: 3\r\n', b'Host: b\r\n',
             b'Transfer-Encoding: chunked\r\n'])
ENDS = ([b'\r\n'], [b'\n', b'\r', b'\r\r\n', b' \r\n', b'', b'\n\r\n'])
BEFORE = ([b''], [b'\r\n', b'\r\n\r\n', b'\n', b' ', b'\r'])
RESTS = [b'', b'', b'GET /next HTTP/1.1\r\nHost: b\r\n\r\n', b'\r\n', b'x',
         b'0\r\n\r\n', b'\r\n\r\nG', b'PUT / HTTP/1.1\r\n']
ODD = 0.04
SALT = [b'\r', b'\n', b'\r\n', b' ', b'\t', b'\0', b'\x0b', b'\x0c', b'\x1f',
        b'\x7f', b'\x85', b'\xa0', b'\xe4', b':', b';', b',', b'=', b'"',
        b'\\', b'/', b'?', b'#', b'*', b'0', b'9', b'f', b'+', b'-', b'_',
        b'%', b'x', b'chunked', b'close', b'Host: c\r\n', b'[',
        b'Content-Length: 3\r\n', b'@', b'|',
        b'Transfer-Encoding: chunked\r\n', b'HTTP/1.1', b'\r\n\r\n']


def one(rng, choices):
    usual, odd = choices
    return rng.choice(odd if rng.random() < ODD else usual)


def make(rng):
    """The bytes of a request, right or nearly so, and of what follows."""
    lines = [one(rng, HOSTS)]
    lines += [one(rng, HEADERS) for _ in range(rng.randrange(4))]
    data = b''
    kind = rng.randrange(4)
    if kind == 1:
        data = rng.randbytes(rng.randrange(20))
        lines.append(b'Content-Length: %d' % len(data))
    elif kind > 1:
        lines.append(b'Transfer-Encoding: chunked')
        data = chunks(rng)
    rng.shuffle(lines)
    version = b'HTTP/1.1' if kind > 1 else one(rng, VERSIONS)
    lines = [b' '.join([rng.choice(METHODS), one(rng, TARGETS), version]),
             *lines, b'']
    wire = one(rng, BEFORE) + b''.join(
        line + one(rng, ENDS) for line in lines) + data + rng.choice(RESTS)
    for _ in range(rng.choice([0, 0, 1, 2])):
        wire = damaged(rng, wire)
    return wire


def chunks(rng):
    wire = b''
    for _ in range(rng.randrange(4)):
        data = rng.randbytes(rng.randrange(1, 40))
        size = one(rng, SIZES).replace(b'%x', b'%x' % len(data)).replace(
            b'%X', b'%X' % len(data))
        wire += size + one(rng, ENDS) + data + one(rng, ENDS)
    return wire + one(rng, LASTS) + one(rng, ENDS) + one(
        rng, TRAILERS) + b'\r\n'


def damaged(rng, wire):
    at = rng.randrange(len(wire) + 1)
    to = min(len(wire), at + rng.choice([0, 1, 1, 2, 5]))
    kind = rng.randrange(4)
    if kind == 0:
        return wire[:at] + rng.choice(SALT) + wire[at:]
    if kind == 1:
        return wire[:at] + wire[to:]
    if kind == 2:
        return wire[:to] + wire[at:]
    return wire[:at] + rng.choice(SALT) + wire[to:]


class Pieces:
    """The receiving side of a connection, with everything on its way."""

    def __init__(self, rng, wire):
        self._rng = rng
        self.left = memoryview(wire)

    def receive(self, view):
        size = min(len(view), len(self.left), self._rng.randrange(1, 50))
        view[:size], self.left = self.left[:size], self.left[size:]
        return size

    def wait(self):
        raise AssertionError('it never has to wait')

    def send_continue(self):
        pass


def ours(rng, wire):
    """What we take it for, as the connection does; None when for nothing."""
    source, ahead, seen, size = Pieces(rng, wire), bytearray(), 0, 0
    buffer = memoryview(bytearray(100))
    try:
        while not size:
            got = source.receive(buffer)
            if not got:
                return None
            seen = len(ahead)
            ahead += buffer[:got]
            size = head.size(ahead, LIMIT, seen)
        found = head.parse(ahead[:size], LIMIT)
        del ahead[:size]
        data = body.input_of(found, source, ahead).read()
    except (head.Refused, errors.BodyError):
        return None
    return (found.line.encode('latin-1').split(b' '),
            lowered(found.fields), data,
            bytes(ahead) + bytes(source.left))


class Heard:
    """What httptools tells of one request."""

    def __init__(self):
        self.target = self.data = b''
        self.headers = []
        self.told = self.over = False

    def on_url(self, target):
        self.target += target

    def on_header(self, name, value):
        if not self.told:
            self.headers.append((name, value))

    def on_headers_complete(self):
        self.told = True

    def on_body(self, data):
        self.data += data

    def on_message_complete(self):
        self.over = True


def by_llhttp(wire):
    heard = Heard()
    parser = httptools.HttpRequestParser(heard)
    for at in range(len(wire)):
        try:
            parser.feed_data(wire[at:at + 1])
        except httptools.HttpParserUpgrade:
            assert heard.over
        if heard.over:
            line = [parser.get_method(), heard.target,
                    b'HTTP/' + parser.get_http_version().encode()]
            return line, joined(heard.headers), heard.data, wire[at + 1:]
    raise AssertionError('not at its end')


def by_h11(wire):
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65536)
    connection.receive_data(wire)
    request = connection.next_event()
    data = b''
    while True:
        event = connection.next_event()
        if isinstance(event, h11.EndOfMessage):
            break
        assert isinstance(event, h11.Data), event
        data += event.data
    line = [request.method, request.target, b'HTTP/' + request.http_version]
    return (line, joined(request.headers), data,
            connection.trailing_data[0])


def joined(headers):
    fields = {}
    for name, value in headers:
        name = name.decode('latin-1').lower()
        value = value.decode('latin-1').strip(' \t')
        fields[name] = f'{fields[name]},{value}' if name in fields else value
    return lowered(fields)


def lowered(fields):
    """As h11 has it: the names of codings are the same in any case."""
    if 'transfer-encoding' in fields:
        fields['transfer-encoding'] = fields['transfer-encoding'].lower()
    return fields


def check(found, wire):
    """``wire`` begins with ``found``, the others say as well."""
    # h11 knows no empty lines before a request, llhttp no other methods than
    # those of its list; both may (RFC 9112, 2.2; RFC 9110, 9.1).
    wire = wire[head.empty_lines(wire):]
    method = found[0][0]
    if method not in METHODS:
        wire = b'PUT' + wire.removeprefix(method)
        found[0][0] = b'PUT'
    if not found[0][1].startswith((b'/', b'*')):
        # The target says it, whatever Host does.
        found[1].pop('host')
    for reader in (by_h11, by_llhttp):
        if reader is by_llhttp and 'upgrade' in found[1]:
            # httptools grants every wish for another protocol, we none.
            begin, end, rest = wire.partition(b'\r\n\r\n')
            wire = re.sub(rb'(?i)\r\nupgrade:', b'\r\nother:', begin
                          ) + end + rest
            found[1]['other'] = found[1].pop('upgrade')
        line, fields, data, rest = reader(wire)
        if not line[1].startswith((b'/', b'*')):
            fields.pop('host', None)
        assert (line, fields, data, rest) == found, reader


@pytest.mark.parametrize('part', range(PARTS))
def test_what_we_accept_others_read_in_the_same_way(part):
    counts = collections.Counter()
    for number in range(part, COUNT, PARTS):
        wire = make(random.Random(number))
        found = ours(random.Random(number), wire)
        if found is None:
            counts['refused'] += 1
            continue
        counts['accepted'] += 1
        counts['chunked'] += 'transfer-encoding' in found[1]
        counts['with a body'] += bool(found[2])
        counts['with a rest'] += bool(found[3])
        try:
            check(found, wire)
        except Exception as failure:
            raise AssertionError(f'number {number}: {wire!r} is {found}') \
                from failure
    print(dict(counts))
    # Neither side is for nothing.
    for kind in ('accepted', 'refused'):
        assert counts[kind] > COUNT / PARTS / 5, counts
    for kind in ('chunked', 'with a body', 'with a rest'):
        assert counts[kind] > COUNT / PARTS / 20, counts
