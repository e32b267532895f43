"""Heads that RFC 9112 does not know, over real sockets, and some it does."""

import json
import socket

import pytest

from test_http_server import ask_json
from test_http_server import chunk
from test_http_server import get
from test_http_server import head
from test_http_server import response
from test_http_server import status

HOST = b'Host: test\r\n'
GET = b'GET /environ HTTP/1.1\r\n' + HOST
PUT = b'PUT /upload HTTP/1.1\r\n' + HOST
MANY = b'9' * 5000

LINES = [
    # Where the parts of the first line end.
    (b'nonsense', 400), (b'GET /environ', 400),
    (b'GET  /environ HTTP/1.1', 400),
    (b' GET /environ HTTP/1.1', 400), (b'GET /environ HTTP/1.1 ', 400),
    (b'GET /environ  HTTP/1.1', 400), (b'GET\t/environ HTTP/1.1', 400),
    (b'GET\xa0/environ HTTP/1.1', 400), (b'GET /environ\xa0HTTP/1.1', 400),
    (b'GET /environ\x85HTTP/1.1', 400), (b'GET /environ\x1cHTTP/1.1', 400),
    (b'GET /environ\x0bHTTP/1.1', 400), (b'GET /a b HTTP/1.1', 400),
    # What they may be.
    (b'G\xc4T /environ HTTP/1.1', 400), (b'GE(T /environ HTTP/1.1', 400),
    (b'GET environ HTTP/1.1', 400), (b'GET ?x HTTP/1.1', 400),
    (b'GET /a\xa0b HTTP/1.1', 400), (b'GET /\x7f HTTP/1.1', 400),
    (b'GET /a#b HTTP/1.1', 400), (b'GET * HTTP/1.1', 400),
    (b'GET ftp://test/ HTTP/1.1', 400), (b'GET http:///x HTTP/1.1', 400),
    (b'GET http://user@test/x HTTP/1.1', 400),
    (b'GET http://test:99999/x HTTP/1.1', 400),
    (b'GET test:80 HTTP/1.1', 400), (b'CONNECT test:80 HTTP/1.1', 501),
    (b'GET /environ HTTP/9.9', 505), (b'GET /environ HTTP/1.2', 505),
    (b'GET /environ HTTP/0.9', 505), (b'PRI * HTTP/2.0', 505),
    (b'GET /environ http/1.1', 400), (b'GET /environ HTTP/1.10', 400),
    (b'GET /environ HTTP/01.1', 400), (b'GET /environ HTTP/1', 400),
    (b'GET /environ HTTP/\xb9.1', 400), (b'GET /environ ICY/1.1', 400),
    (b'GET /environ HTTP/' + MANY + b'.1', 400),
    (b'GET /' + b'x' * 20000 + b' HTTP/1.1', 414)]

HEADERS = [
    (b'Host x', 400), (b'A: b\r\n folded', 400), (b'A: b\r\n\tfolded', 400),
    (b' A: b', 400), (b': b', 400), (b'A : b', 400), (b'A\xa0: b', 400),
    (b'\xc4: b', 400), (b'A(: b', 400),
    (b'A: b\rContent-Length: 3', 400), (b'A: b\nB: c', 400),
    *((b'A: b%cc' % code, 400) for code in [*range(9), *range(10, 32), 127]),
    # Whom the request is for (RFC 9110, 7.2).
    (b'Host: test', 400), (b'HOST: other', 400),
    # Where the body ends.
    (b'Content-Length : 3', 400), (b'Content-Length: -1', 400),
    (b'Content-Length: +1', 400), (b'Content-Length: 1_0', 400),
    (b'Content-Length: 0x1', 400), (b'Content-Length: 1 ;', 400),
    (b'Content-Length: 1,1', 400), (b'Content-Length:', 400),
    (b'Content-Length: \xb2', 400), (b'Content-Length: \xa01', 400),
    (b'Content-Length: 1\r\nContent-Length: 2', 400),
    (b'Content-Length: ' + MANY, 400),
    (b'Content-Length: ' + b'0' * 5000, 400),
    (b'Content-Length: 5\r\nTransfer-Encoding: chunked', 400),
    (b'Transfer-Encoding: chunked, chunked', 400),
    (b'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked', 400),
    (b'Transfer-Encoding: chunked, gzip', 400),
    (b'Transfer-Encoding: gzip', 400), (b'Transfer-Encoding:', 400),
    (b'Transfer-Encoding: chunked\xa0', 400),
    (b'Transfer-Encoding: chunked\x85', 400),
    (b'Transfer-Encoding: "chunked"', 400),
    (b'Transfer-Encoding: chunked;x=y', 400),
    (b'Transfer-Encoding: gzip, chunked', 501),
    (b'Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked', 501),
    # How much there may be.
    (b'A: ' + b'x' * 20000, 400), (b'A: x\r\n' * 200, 431)]


def check_refused(server, wire, code):
    answer = server.ask(wire)
    assert status(answer) == code
    assert b'connection: close' in answer.lower()
    assert answer.count(b'HTTP/1.') == 1
    # It is said what is wrong, beside the name of the status.
    assert b'\r\n\r\n' in answer
    assert len(answer.partition(b'\r\n\r\n')[2].split()) > 3
    assert ask_json(server, '/state')['uploads'] == 0
    assert 'Traceback' not in server.output()


@pytest.mark.parametrize('line, code', LINES, ids=repr)
def test_first_lines_that_are_refused(shared, line, code):
    check_refused(shared, line + b'\r\n' + HOST + b'\r\n', code)


@pytest.mark.parametrize('header, code', HEADERS, ids=repr)
def test_headers_that_are_refused(shared, header, code):
    check_refused(shared, PUT + header + b'\r\n\r\n0\r\n\r\n', code)


@pytest.mark.parametrize('wire', [
    b'GET /environ HTTP/1.1\n' + HOST + b'\r\n', GET + b'\n',
    GET + b'A: b\n\n',
    b'\nGET /environ HTTP/1.1\r\n' + HOST + b'\r\n',
    b'PUT /upload HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    b'GET /environ HTTP/1.1\r\n\r\n',
    b'GET http://test/environ HTTP/1.1\r\n\r\n'])
def test_heads_that_are_refused(shared, wire):
    check_refused(shared, wire, 400)


@pytest.mark.parametrize('host', [
    b'', b'a b', b'a/b', b'a@b', b'a?b', b'a#b', b'http://a', b'a:b', b'a:-1',
    b'a:99999', b'a:1:2', b'a:' + MANY, b'[::1', b'::1', b'[::g]', b'[1]',
    b'[::1]x', b'a\xe4', b'%zz', b'a\\b', b'"a"', b'<a>', b'x' * 300])
@pytest.mark.parametrize('version', [b'0', b'1'])
def test_hosts_that_are_none(shared, host, version):
    check_refused(shared, b'GET /environ HTTP/1.%b\r\nHost: %b\r\n\r\n' % (
        version, host), 400)


@pytest.mark.parametrize('host', [
    'a', 'A-b_c.d~', 'a:', 'a:80', '192.0.2.7:65535', '[::1]',
    '[2001:db8::7]:1', '[::ffff:192.0.2.7]', 'a%41', 'a' * 255])
def test_hosts(shared, host):
    answer = shared.ask(b'GET /environ HTTP/1.1\r\nConnection: close\r\n'
                        b'Host: %b\r\n\r\n' % host.encode())
    assert json.loads(answer.partition(b'\r\n\r\n')[2])['HTTP_HOST'] == host


def ask_environ(server, wire):
    with server.send(wire) as sock:
        answer = response(sock)
    assert answer.status == 200
    return json.loads(answer.content)


def test_a_host_in_the_target_counts(shared):
    told = ask_environ(shared, b'GET HTTP://real:7/environ?a=b HTTP/1.1\r\n'
                       + HOST + b'\r\n')
    assert (told['HTTP_HOST'], told['PATH_INFO'], told['QUERY_STRING']) == (
        'real:7', '/environ', 'a=b')
    assert status(shared.ask(b'GET http://real HTTP/1.1\r\nConnection: close'
                             b'\r\n' + HOST + b'\r\n')) == 404


def test_all_visible_characters_may_be_in_a_target(shared):
    text = ''.join(map(chr, range(33, 127))).replace('#', '')
    told = ask_environ(shared, f'GET /environ?{text} HTTP/1.1\r\n'.encode()
                       + HOST + b'\r\n')
    assert told['QUERY_STRING'] == text


def test_options_of_the_server(shared):
    assert status(shared.ask(b'OPTIONS * HTTP/1.1\r\nConnection: close\r\n'
                             + HOST + b'\r\n')) == 404


def test_values_of_all_other_characters(shared):
    text = bytes([9, *range(32, 127), *range(128, 256)])
    told = ask_environ(shared, GET + b'A: x' + text + b'x\r\n\r\n')
    assert told['HTTP_A'] == 'x' + text.decode('latin-1') + 'x'
    told = ask_environ(shared, GET + b'A:\t b \t\r\nB:\r\n\r\n')
    assert (told['HTTP_A'], told['HTTP_B']) == ('b', '')


@pytest.mark.parametrize('empty', [b'\r\n', b'\r\n\r\n'])
def test_empty_lines_before_a_request(shared, empty):
    answer = shared.ask(empty + get('/state') + empty + get(
        '/state', 'Connection: close'))
    assert answer.count(b'HTTP/1.1 200 OK') == 2
    with shared.send(empty + get('/state')) as sock:
        assert response(sock).status == 200
        # Behind a body, as some old clients send it, and torn.
        sock.sendall(head(3) + b'abc' + empty)
        assert response(sock).status == 200
        for byte in empty + get('/state'):
            sock.sendall(bytes([byte]))
        assert response(sock).status == 200


@pytest.mark.parametrize('version, headers, closes', [
    (1, [], False), (1, ['keep-alive'], False), (1, ['close'], True),
    (1, ['Close'], True), (1, ['close, TE'], True), (1, ['TE ,\tclose'], True),
    (1, ['TE', 'close'], True), (1, ['keep-alive, close'], True),
    (1, ['closed'], False), (1, ['close;'], False), (1, ['x-close'], False),
    (0, [], True), (0, ['keep-alive'], False), (0, ['TE, Keep-Alive'], False),
    (0, ['TE', 'keep-alive'], False), (0, ['keep-alive, close'], True)])
def test_connection_is_a_list(shared, version, headers, closes):
    lines = [f'GET /state HTTP/1.{version}', 'Host: test',
             *(f'Connection: {value}' for value in headers), '', '']
    with shared.send('\r\n'.join(lines).encode()) as sock:
        answer = response(sock)
        assert answer.status == 200
        if closes:
            assert answer.getheader('Connection') == 'close'
            assert sock.recv(1) == b''
        else:
            sock.sendall(get('/state'))
            assert response(sock).status == 200


def test_expectations_are_a_list(shared):
    with shared.send(head(3, '/upload', 'Expect: 100-Continue, x')) as sock:
        assert sock.recv(25, socket.MSG_WAITALL) == (
            b'HTTP/1.1 100 Continue\r\n\r\n')


@pytest.mark.parametrize('size', [
    b'', b'+3', b'-3', b'0x3', b'3_0', b' 3', b'3 ', b'\t3', b'3\t', b'3 ;a',
    b'3; a', b'3;', b'3;a=', b'3;=b', b'3;a b', b'3;a="b', b'3;a=b"c"',
    b'3;\xe4', b'3;a=\xe4', b'3;a="\x01"', b'3,a', b'\xb3', b'3\x00', b'3\xa0',
    b'3.0', b'3e0x', b'g', b'0' * 16 + b'3', b'f' * 16, b'f' * 5000])
def test_sizes_of_chunks_that_are_none(shared, size):
    with shared.send(head() + size + b'\r\nabc\r\n0\r\n\r\n') as sock:
        answer = response(sock)
    assert answer.status == 400
    assert json.loads(answer.content)['error'] == 'BodyMalformed'


@pytest.mark.parametrize('size', [
    b'3', b'0003', b'3;a', b'3;a=b', b'3;a=b;c', b'3;a="b;c\\"\xe4"',
    b'3;a=""'])
def test_sizes_of_chunks(shared, size):
    with shared.send(head() + size + b'\r\nabc\r\n0\r\n\r\n') as sock:
        assert json.loads(response(sock).content)['size'] == 3


@pytest.mark.parametrize('trailer', [
    b'x', b': x', b' A: x', b'A : x', b'A: x\r\n y', b'A: \0', b'A: x\rB: y',
    b'Content-Length: 3', b'transfer-encoding: chunked', b'Host: other'])
def test_trailers_that_are_none(shared, trailer):
    with shared.send(head() + chunk(b'abc') + b'0\r\n' + trailer
                     + b'\r\n\r\n') as sock:
        answer = response(sock)
    assert answer.status == 400
    assert json.loads(answer.content)['error'] == 'BodyMalformed'
