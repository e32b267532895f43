"""Requests by a proxy, and what is sent to whom."""

import http.server
import os
import socket
import threading

import pytest

from glance_import.net import addresses
from glance_import.net import client
from glance_import.net import resolver
from glance_import.net import urls
from tests import origins

DATA = os.urandom(300_001)
OPEN = urls.Filter(allowed_ports=frozenset(), ranges=addresses.Rules(
    opened=addresses.networks(['127.0.0.1/32'])))


class Proxy(http.server.ThreadingHTTPServer):
    """Passes on what it is asked for to 127.0.0.1, whatever the host."""

    daemon_threads = True

    def __init__(self):
        self.asked = []
        super().__init__(('127.0.0.1', 0), ProxyHandler)
        threading.Thread(target=self.serve_forever, args=(0.05,),
                         daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.shutdown()
        self.server_close()


class ProxyHandler(http.server.BaseHTTPRequestHandler):
    def _note(self):
        self.server.asked.append(
            (self.command, self.path, self.headers['Host'],
             self.headers.get('Proxy-Authorization')))

    def do_CONNECT(self):
        self._note()
        port = int(self.path.rpartition(':')[2])
        with socket.create_connection(('127.0.0.1', port)) as there:
            self.wfile.write(b'HTTP/1.1 200 Connected\r\n\r\n')
            up = threading.Thread(target=pump, args=(self.connection, there),
                                  daemon=True)
            up.start()
            pump(there, self.connection)

    def do_GET(self):
        self._note()
        port = int(self.path.split('/')[2].rpartition(':')[2])
        with socket.create_connection(('127.0.0.1', port)) as there:
            there.sendall(b'GET /image HTTP/1.0\r\n\r\n')
            pump(there, self.connection)

    def log_message(self, *_args):
        pass


def pump(source, sink):
    try:
        while block := source.recv(65536):
            sink.sendall(block)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def unknown(_host):
    raise resolver.NameUnknown('nobody knows it here')


def by(proxy, **more):
    return client.Settings(**{
        'filter': OPEN, 'resolve': unknown,
        'proxy': f'http://me:p%40ss@127.0.0.1:{proxy.server_address[1]}',
        **more})


AUTHORIZATION = 'Basic bWU6cEBzcw=='


def test_http_by_a_proxy(monkeypatch):
    monkeypatch.setenv('http_proxy', 'http://127.0.0.1:9')
    with origins.Origin(origins.serve(DATA)) as origin, Proxy() as proxy:
        url = origin.url(host='mirror.example')
        with client.get(by(proxy), url) as response:
            assert response.read(1 << 20) == DATA
        assert proxy.asked == [(
            'GET', url, f'mirror.example:{origin.port}', AUTHORIZATION)]


def test_https_by_a_proxy(tmp_path):
    tls = origins.certificate(tmp_path, 'mirror.example')
    with origins.Origin(origins.serve(DATA), tls=tls) as origin, \
            Proxy() as proxy:
        how = by(proxy, ca_file=str(tls / 'cert.pem'))
        with client.get(how, origin.url(host='mirror.example')) as response:
            assert response.read(1 << 20) == DATA
        place = f'mirror.example:{origin.port}'
        assert proxy.asked == [('CONNECT', place, place, AUTHORIZATION)]
        # The proxy's password is for the proxy.
        assert 'Proxy-Authorization' not in origin.requests[0][1]


def test_what_is_known_here_is_judged_by_a_proxy_too():
    with Proxy() as proxy:
        how = by(proxy, resolve=lambda host: [
            addresses.ipaddress.ip_address('10.0.0.1')])
        for scheme in ('http', 'https'):
            with pytest.raises(urls.UrlRefused):
                client.get(how, f'{scheme}://inner.example/')
        with pytest.raises(urls.UrlRefused):
            client.get(how, 'http://192.168.0.1/')
        assert not proxy.asked


@pytest.mark.parametrize('text, good', (
    ('http://proxy', True), ('http://proxy:3128', True),
    ('http://u:p@proxy:3128/', True), ('https://proxy', False),
    ('proxy:3128', False), ('http://', False), ('http://proxy:x', False),
    ('http://proxy/path', False)))
def test_what_a_proxy_is(text, good):
    assert client.is_proxy(text) is good


@pytest.mark.parametrize('text, found', (
    ('10.0.0.1', ('10.0.0.1', 53)), ('10.0.0.1:5353', ('10.0.0.1', 5353)),
    ('::1', ('::1', 53)), ('[::1]', ('::1', 53)),
    ('[::1]:5353', ('::1', 5353))))
def test_name_servers(text, found):
    assert resolver.split_server(text) == found


@pytest.mark.parametrize('text', ('', 'ns.example', '10.0.0.1:0',
                                  '10.0.0.1:x', '10.0.0.1:70000'))
def test_what_is_no_name_server(text):
    with pytest.raises(ValueError):
        resolver.split_server(text)


def test_a_body_that_is_too_large_to_read():
    with origins.Origin(origins.serve(DATA)) as origin:
        how = client.Settings(filter=OPEN)
        with client.get(how, origin.url()) as response, \
                pytest.raises(client.FetchError):
            response.read(1000)


# -- redirects that their server has not encoded

def latin(text):
    """As the header comes out of the library."""
    return text.encode().decode('latin-1')


@pytest.mark.parametrize('location, leads_to', [
    ('/my images/disk.img', '/my%20images/disk.img'),
    ('  /a \t', '/a'), ('my image.img', '/x/my%20image.img'),
    ('/a%20b c%2Fd', '/a%20b%20c%2Fd'),
    ('/i?name=my disk&x=\u00e9', '/i?name=my%20disk&x=%C3%A9'),
    ('/b\u00fccher/\u00c5\u2026\u00e0',
     '/b%C3%BCcher/%C3%85%E2%80%A6%C3%A0'),
    ('/\u65e5\u672c\u8a9e/\U0001f4bf.img',
     '/%E6%97%A5%E6%9C%AC%E8%AA%9E/%F0%9F%92%BF.img'),
    ('//other.example/a b', 'http://other.example/a%20b'),
    ('https://other.example:8443/\u00fc',
     'https://other.example:8443/%C3%BC'),
    ('http://stra\u00dfe.example/', 'http://xn--strae-oqa.example/'),
    ('//FA\u00df.example:81/\u00df', 'http://xn--fa-hia.example:81/%C3%9F'),
    ('http://\u03b2\u03cc\u03bb\u03bf\u03c2.example/',
     'http://xn--nxasmm1c.example/'),
    ('http://b\u00fccher.example:81/a', 'http://xn--bcher-kva.example:81/a'),
])
def test_what_a_redirect_means(location, leads_to):
    if leads_to.startswith('/'):
        leads_to = 'http://one.example' + leads_to
    assert urls.redirected('http://one.example/x/y', latin(location)
                           ) == leads_to
    urls.parse(leads_to)


def test_bytes_that_are_no_utf_8_are_sent_back():
    assert urls.redirected('http://one.example/', '/b\xfccher') \
        == 'http://one.example/b%FCcher'
    with pytest.raises(urls.UrlRefused):
        urls.redirected('http://one.example/', 'http://\xff.example/')


@pytest.mark.parametrize('location', [
    '/a\\b', 'http:\\\\evil.example/', '/a\x00b', '/a\x7f', '/a\x0bb',
    'http://a b.example/', 'http://%31%30.0.0.1/',
    'http://\u00fc\uff1a81/', 'http://\u00fc:\uff18/', 'http://[::\u00fc]/',
    'http://\uff11\uff10.0.0.1/', 'http://%c3%bc.example/',
    'http://\u00fc.example%2Fx/',
    'http://u\u00fc@one.example/', 'http://[::1/',
    'http://' + '\u00fc' * 80 + '.example/', 'http://\u00fc..example/',
    'ftp://one.example/a b', 'file:///a b', '/' + '\u00fc' * 400])
def test_redirects_that_are_refused(location):
    with pytest.raises(urls.UrlRefused):
        OPEN.check(urls.redirected('http://one.example/', latin(location)))


def test_redirects_are_followed_in_bytes():
    def answer(handler):
        if handler.path == '/a':
            handler.wfile.write(
                b'HTTP/1.1 302 Found\r\nLocation: /b\xc3\xbc \xc3\x85 '
                b'\xc3\xa0\r\nContent-Length: 0\r\n\r\n')
        else:
            origins.serve(DATA)(handler)
    with origins.Origin(answer) as origin:
        how = client.Settings(filter=OPEN)
        with client.get(how, origin.url('/a')) as response:
            assert response.read(1 << 20) == DATA
            assert response.asked == origin.url('/a')
            assert response.url == origin.url('/b%C3%BC%20%C3%85%20%C3%A0')


# -- what comes before the answer, and how much of it is read

EARLY = (b'HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n')


@pytest.mark.parametrize('before', [
    EARLY, EARLY * 3, b'HTTP/1.1 102 Processing\r\n\r\n' + EARLY,
    b'HTTP/1.1 100 Continue\r\n\r\n' + EARLY
    + b'HTTP/1.1 100 Continue\r\n\r\n', b'HTTP/1.1 199 x\r\n\r\n',
    b'HTTP/1.0 103\r\n\r\n'], ids=range(6))
def test_interim_answers_are_passed_over(before):
    def answer(handler):
        handler.wfile.write(before)
        origins.serve(DATA)(handler)
    with origins.Origin(answer) as origin, client.get(
            client.Settings(filter=OPEN), origin.url()) as response:
        assert response.read(1 << 20) == DATA


def head_of(lines):
    return (b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n'
            + b''.join(lines) + b'\r\nx')


@pytest.mark.parametrize('head', [
    head_of(b'X-%d: 1\r\n' % i for i in range(200)),
    head_of([b'X: ' + b'1' * 70_000 + b'\r\n']),
    b'HTTP/1.1 200 ' + b'O' * 70_000 + b'\r\n\r\n',
    b'HTTP/1.1 103 x\r\n' + b'Link: x\r\n' * 200 + b'\r\n'],
    ids=('many', 'long', 'status', 'early'))
def test_a_head_that_is_too_much_is_said_at_once(head):
    with origins.Origin(lambda handler: handler.wfile.write(head)
                        ) as origin, pytest.raises(
            client.FetchError, match='head of the answer') as caught:
        client.get(client.Settings(filter=OPEN), origin.url())
    assert not isinstance(caught.value, client.Passing)


def test_chunks_whose_lines_are_too_long():
    def answer(handler):
        handler.begin(Transfer_Encoding='chunked')
        handler.wfile.write(b'1;' + b'x' * 70_000 + b'\r\n')
    with origins.Origin(answer) as origin, client.get(
            client.Settings(filter=OPEN), origin.url()) as response, \
            pytest.raises(client.FetchError, match='too long') as caught:
        response.read(1)
    assert not isinstance(caught.value, client.Passing)


def test_switching_protocols_is_no_interim_answer():
    with origins.Origin(lambda handler: handler.begin(101)) as origin, \
            pytest.raises(client.FetchError, match='101'):
        client.get(client.Settings(filter=OPEN), origin.url())


# -- where an answer ends (RFC 9112, 6.3)

CHUNKS = b'3\r\nabc\r\n0\r\n\r\n'


def fetch(answer):
    with origins.Origin(lambda handler: handler.wfile.write(
            b'HTTP/1.1 200 OK\r\n' + answer)) as origin, client.get(
            client.Settings(filter=OPEN), origin.url()) as response:
        return response.read(100)


@pytest.mark.parametrize('answer', [
    b'Content-Length: 3, 3\r\n\r\nabcd',
    b'Content-Length: 3\r\ncontent-length:3 \r\n\r\nabcd',
    b'Content-Length: 03\r\n\r\nabcd',
    b'Content-Length:\r\n 3\r\n\r\nabcd',
    b'Content-Length: 3\nX: \xff a:b\n\nabcd',
    b'Content-Type: multipart/mixed; boundary=x\r\nContent-Length: 3\r\n'
    b'\r\nabcd',
    b'Content-Type: message/rfc822\r\nContent-Length: 3\r\n\r\nabcd',
    b'Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabcd',
    b'Transfer-Encoding: Chunked \r\nContent-Length: 9\r\n\r\n' + CHUNKS,
    b'Transfer-Encoding: ,chunked\r\n\r\n' + CHUNKS,
    b'Transfer-Encoding: chunked\r\n\r\n03 ;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n',
], ids=range(11))
def test_where_an_answer_ends(answer):
    assert fetch(answer) == b'abc'


@pytest.mark.parametrize('answer, word', [
    *((b'Content-Length: %b\r\n\r\nabcd' % each, 'Content-Length')
      for each in (b'3\r\nContent-Length: 4', b'3, 4', b'1_0', b'+3', b'-3',
                   b'', b'3,', b'0x3', b'3.0', b'3 4', b'\xb3',
                   b'9' * 5000)),
    *((b'Transfer-Encoding: %b\r\nContent-Length: 3\r\n\r\n' % each + CHUNKS,
       'Transfer-Encoding')
      for each in (b'gzip, chunked', b'gzip', b'chunked, chunked',
                   b'chunked\r\nTransfer-Encoding: gzip', b'chunked;q=1',
                   b'xchunked', b'chunked\x0b')),
    *((b'Content-Length: 3\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\n'
       % each + CHUNKS, 'no header')
      for each in (b'Foo Bar', b'Foo : bar', b': x', b'From me', b'F\xfc: x',
                   b'X: a\rContent-Length: 1', b'X: a\0b', b'\r')),
    (b' folded: 1\r\nContent-Length: 3\r\n\r\nabc', 'no header'),
    *((b'Transfer-Encoding: chunked\r\n\r\n%b' % each, 'as HTTP says')
      for each in (b'+3\r\nabc\r\n0\r\n\r\n', b'0x3\r\nabc\r\n0\r\n\r\n',
                   b'0_3\r\nabc\r\n0\r\n\r\n', b'\r\n', b'-1\r\n',
                   b'3\r\nabcde\r\n0\r\n\r\n'))], ids=range(34))
def test_answers_whose_end_is_not_sure(answer, word):
    with pytest.raises(client.FetchError, match=word) as caught:
        fetch(answer)
    assert not isinstance(caught.value, client.Passing)


@pytest.mark.parametrize('answer', [
    b'Content-Length: 3\r\nX: y\r\n', b'Content-Length: 3\r\nTransf',
    b'Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n',
    b'Transfer-Encoding: chunked\r\n\r\n3\r\nabc',
    b'Transfer-Encoding: chunked\r\n\r\n1'], ids=range(5))
def test_answers_that_are_cut(answer):
    with pytest.raises(client.Passing):
        fetch(answer)
