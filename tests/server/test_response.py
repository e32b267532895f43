"""Responses as bytes: where they end, and whether another may follow."""

import re

import pytest

from glance_import.server import head
from glance_import.server import response

TEXT = [('Content-Type', 'text/plain')]
SHORT = [*TEXT, ('Content-Length', '5')]


def begin(status, headers, method='GET', version='HTTP/1.1', keep=True):
    fields = {'host': 'test'}
    if version == 'HTTP/1.0':
        fields['connection'] = 'keep-alive'
    request = head.Head(f'{method} / {version}', method, '/', version,
                        fields, 0)
    made = response.Response(request, lambda: keep)
    made.begin(status, headers)
    return made


def without_date(wire):
    return re.sub(rb'Date: [^\r]*\r\n', b'', wire)


@pytest.mark.parametrize('made, wire, closes', [
    (begin('200 OK', TEXT),
     b'Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello', False),
    (begin('200 OK', TEXT, 'HEAD'),
     b'Content-Type: text/plain\r\nContent-Length: 5\r\n\r\n', False),
    (begin('204 No Content', []), b'\r\n', False),
    (begin('304 Not Modified', [('ETag', '"a"')]), b'ETag: "a"\r\n\r\n',
     False),
    (begin('200 OK', TEXT, version='HTTP/1.0'),
     b'Content-Type: text/plain\r\nContent-Length: 5\r\n'
     b'Connection: keep-alive\r\n\r\nhello', False),
    (begin('200 OK', [('Connection', 'close')]),
     b'Content-Length: 5\r\nConnection: close\r\n\r\nhello', True),
    (begin('200 OK', [], keep=False),
     b'Content-Length: 5\r\nConnection: close\r\n\r\nhello', True),
    (begin('200 OK', [('Content-Length', '3')]),
     b'Content-Length: 3\r\n\r\nhel', False),
    (begin('200 OK', [('Content-Length', '7')]),
     b'Content-Length: 7\r\n\r\nhello', True)])
def test_whole(made, wire, closes):
    status = made.status.encode()
    assert without_date(made.whole([b'he', b'llo'])) == (
        b'HTTP/1.1 ' + status + b'\r\n' + wire)
    assert made.closes == closes


@pytest.mark.parametrize('version, wire, closes', [
    ('HTTP/1.1', b'Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n'
     b'0\r\n\r\n', False),
    ('HTTP/1.0', b'Connection: close\r\n\r\nhello', True)])
def test_in_parts(version, wire, closes):
    made = begin('200 OK', [], version=version)
    assert without_date(
        made.part(b'he') + made.part(b'') + made.part(b'llo') + made.end()
        ) == b'HTTP/1.1 200 OK\r\n' + wire
    assert made.closes == closes
    assert made.sent == 5


def test_a_failure_behind_the_head_has_no_end():
    made = begin('200 OK', [])
    made.part(b'he')
    assert made.whole(made.fail(500, 'no')) == b''
    assert made.closes


@pytest.mark.parametrize('header', [
    ('A', 'b\r\nC: d'), ('A\n', 'b'), ('A', 'b\0')])
def test_headers_that_cannot_be_sent(header):
    with pytest.raises(ValueError):
        begin('200 OK', [header])
