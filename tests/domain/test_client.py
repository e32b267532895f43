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
