"""The examples for nginx and HAProxy, as they are, before a real service.

Only the port, the certificate and the name are those of a test. What passes:
a large image, an upload that is gone on with, and a client that is cut off in
the middle, whose half image must never be taken for a whole one.
"""

import contextlib
import hashlib
import http.client
import os
import pathlib
import socket
import ssl
import subprocess
import time

import pytest

from tests import servers
from tests import service as services

TOP = pathlib.Path(__file__).resolve().parents[2]
LONG = bool(os.environ.get('LONG_TESTS'))
SIZE = 1 << 30 if LONG else 64 << 20
BLOCK = os.urandom(1 << 20)
NAME = 'images.example.org'
STAGED = {'Content-Type': 'application/octet-stream'}
TUS = {'Content-Type': 'application/offset+octet-stream',
       'Tus-Resumable': '1.0.0'}


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    made = services.Service(
        tmp_path_factory.mktemp('service'),
        options={
            # Without Keystone it answers to no other name.
            'DEFAULT': {'public_endpoint': f'https://{NAME}'},
            'oslo_middleware': {'enable_proxy_headers_parsing': True}})
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope='module')
def certificate(tmp_path_factory):
    """(certificate, key, both in one file)."""
    place = tmp_path_factory.mktemp('tls')
    key, pem, both = (place / name for name in ('key', 'pem', 'both'))
    subprocess.run(
        [servers.program('openssl'), 'req', '-x509', '-newkey', 'rsa:2048',
         '-nodes', '-days', '2', '-subj', f'/CN={NAME}', '-addext',
         f'subjectAltName=DNS:{NAME}', '-keyout', key, '-out', pem],
        check=True, capture_output=True)
    both.write_bytes(pem.read_bytes() + key.read_bytes())
    return pem, key, both


def nginx(place, port, places, certificate, example='glance-import'):
    """What runs it. :param places: ports by what the example has there"""
    pem, key, _both = certificate
    text = (TOP / f'etc/nginx/{example}.conf').read_text()
    for old, new in (
            ('listen 443 ssl', f'listen 127.0.0.1:{port} ssl'),
            *((f'127.0.0.1:{old}', f'127.0.0.1:{new}')
              for old, new in places.items()),
            ('/etc/nginx/images.example.org.pem', str(pem)),
            ('/etc/nginx/images.example.org.key', str(key))):
        assert old in text
        text = text.replace(old, new)
    path = place / 'nginx.conf'
    temporary = ''.join(
        f'{name}_temp_path {place}/{name};\n' for name in (
            'client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
    path.write_text(
        f'daemon off;\nuser root;\npid {place}/pid;\n'
        f'error_log {place}/error.log;\nworker_processes 1;\n'
        'events { worker_connections 256; }\n'
        f'http {{ access_log off;\n{temporary}{text}}}\n')
    return [servers.program('nginx', '/usr/sbin'), '-p', str(place), '-c',
            str(path)]


def haproxy(place, port, places, certificate, example='glance-import'):
    """Likewise."""
    text = (TOP / f'etc/haproxy/{example}.cfg').read_text()
    for old, new in (
            ('bind :443', f'bind 127.0.0.1:{port}'),
            *((f'127.0.0.1:{old}', f'127.0.0.1:{new}')
              for old, new in places.items()),
            ('/etc/haproxy/images.example.org.pem', str(certificate[2]))):
        assert old in text
        text = text.replace(old, new)
    path = place / 'haproxy.cfg'
    path.write_text('global\n    maxconn 256\n' + text)
    program = servers.program('haproxy', '/usr/sbin')
    done = subprocess.run([program, '-c', '-f', str(path)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done
    assert 'warning' not in (done.stdout + done.stderr).lower(), done
    return [program, '-db', '-f', str(path)]


class Proxy:
    """TLS to one of them."""

    def __init__(self, port, certificate):
        self.port = port
        self.context = ssl.create_default_context(cafile=str(certificate[0]))

    def raw(self):
        plain = socket.create_connection(('127.0.0.1', self.port), 60)
        return self.context.wrap_socket(plain, server_hostname=NAME)

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(NAME, timeout=600)
        connection.sock = self.raw()
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value
                               in answer.getheaders()}, text


@pytest.fixture(scope='module', params=[nginx, haproxy],
                ids=['nginx', 'haproxy'])
def proxy(request, tmp_path_factory, service, certificate):
    place = tmp_path_factory.mktemp(request.param.__name__)
    with running(request.param, place, {9292: service.port},
                 certificate) as made:
        yield made


@contextlib.contextmanager
def running(make, place, places, certificate, **which):
    """A proxy, until the end of the block."""
    port = servers.free_port()
    log = place / 'log'
    with log.open('wb') as file:
        process = subprocess.Popen(
            make(place, port, places, certificate, **which), stdout=file,
            stderr=file, stdin=subprocess.DEVNULL)
    made = Proxy(port, certificate)

    def answers():
        assert process.poll() is None, log.read_text()
        try:
            return made.request('GET', '/versions')[0] in (200, 300)
        except OSError:
            return False
    try:
        services.wait_for(answers, 20)
        yield made
    finally:
        process.terminate()
        process.wait(20)


def test_a_large_image(service, proxy):
    """Staged, imported and downloaded, and not kept on the way."""
    image_id = service.create()
    count = SIZE // len(BLOCK)
    status, _, text = proxy.request(
        'PUT', f'/v2/images/{image_id}/stage', (BLOCK for _ in range(count)),
        {**STAGED, 'Content-Length': str(SIZE)})
    assert status == 204, text
    assert service.start_import(image_id).status == 202
    image = service.wait_status(image_id, 'active')
    digest = hashlib.sha512()
    for _ in range(count):
        digest.update(BLOCK)
    assert image['os_hash_value'] == digest.hexdigest()
    status, headers, data = proxy.request(
        'GET', f'/v2/images/{image_id}/file')
    assert (status, len(data)) == (200, SIZE)
    assert hashlib.sha512(data).hexdigest() == digest.hexdigest()
    service.request('DELETE', f'/v2/images/{image_id}')


@pytest.mark.parametrize('make', [nginx, haproxy])
def test_the_examples_beside_glance(make, certificate, tmp_path):
    """They are read; tests/clients/test_beside_glance.py tries them."""
    words = make(tmp_path, servers.free_port(), {9292: 1, 9393: 2},
                 certificate, example='beside-glance')
    if make is nginx:
        done = subprocess.run([*words, '-t'], capture_output=True, text=True)
        assert done.returncode == 0, done


def test_links_are_the_proxys(proxy):
    _, _, text = proxy.request('GET', '/versions', headers={
        'X-Forwarded-Host': 'evil.example.org',
        'X-Forwarded-Proto': 'gopher'})
    assert f'https://{NAME}'.encode() in text, text
    assert b'evil' not in text and b'gopher' not in text


@pytest.mark.parametrize('framing', ['length', 'chunked'])
def test_a_client_that_is_cut_off(service, proxy, framing):
    """The half that came is not an image."""
    image_id = service.create()
    sock = proxy.raw()
    head = ('Transfer-Encoding: chunked' if framing == 'chunked'
            else f'Content-Length: {len(BLOCK) * 4}')
    sock.sendall((f'PUT /v2/images/{image_id}/stage HTTP/1.1\r\n'
                  f'Host: {NAME}\r\n{head}\r\n'
                  'Content-Type: application/octet-stream\r\n\r\n').encode())
    part = BLOCK if framing == 'length' else (
        f'{len(BLOCK):x}\r\n'.encode() + BLOCK + b'\r\n')
    sock.sendall(part)
    # It is under way: bytes have reached the staging area.
    services.wait_for(lambda: any(
        (service.staging / name).stat().st_size
        for name in service.staged() if name.startswith(image_id)), 20)
    assert service.show(image_id)['status'] != 'active'
    sock.close()

    def again():
        # 409 for as long as the cut was not seen.
        assert image_id not in service.staged()
        assert service.start_import(image_id).status == 409
        return proxy.request('PUT', f'/v2/images/{image_id}/stage',
                             BLOCK[:1000], STAGED)[0] == 204
    services.wait_for(again, 20)
    assert (service.staging / image_id).stat().st_size == 1000
    service.request('DELETE', f'/v2/images/{image_id}')


def test_an_upload_that_is_gone_on_with(service, proxy):
    """By tus: cut in the middle of a part, asked where, resumed."""
    image_id = service.create()
    path = f'/v2/images/{image_id}/stage'
    total = 4 * len(BLOCK)
    headers = {**TUS, 'Upload-Length': str(total)}
    status, _, text = proxy.request(
        'PATCH', path, BLOCK, {**headers, 'Upload-Offset': '0'})
    assert status == 204, text
    sock = proxy.raw()
    lines = {**headers, 'Upload-Offset': str(len(BLOCK)), 'Host': NAME,
             'Content-Length': str(3 * len(BLOCK))}
    sock.sendall((f'PATCH {path} HTTP/1.1\r\n' + ''.join(
        f'{name}: {value}\r\n' for name, value in lines.items())
        + '\r\n').encode())
    sock.sendall(BLOCK + BLOCK[:1000])
    services.wait_for(lambda: any(
        (service.staging / name).stat().st_size > len(BLOCK)
        for name in service.staged() if name.startswith(image_id)), 20)
    sock.close()

    def offset():
        found, answered, _ = proxy.request('HEAD', path, headers=TUS)
        at = int(answered.get('upload-offset', 0)) if found == 200 else 0
        return at if at > len(BLOCK) else None

    at = services.wait_for(offset)
    data = BLOCK * 4
    deadline = time.monotonic() + 60
    while True:
        status, _, text = proxy.request(
            'PATCH', path, data[at:], {**headers, 'Upload-Offset': str(at)})
        if status == 204 or time.monotonic() > deadline:
            break
        # The end of the one before was not seen yet.
        assert status in (409, 423), (status, text)
        at = offset()
    assert status == 204, text
    assert service.start_import(image_id).status == 202
    image = service.wait_status(image_id, 'active')
    assert image['os_hash_value'] == hashlib.sha512(data).hexdigest()


@pytest.mark.parametrize('proxy', [haproxy], ids=['haproxy'], indirect=True)
def test_it_leaves_out_a_node_that_is_not_ready(service, proxy):
    """And takes it back; nginx has no probe of its own."""
    away = service.directory / 'away'
    service.staging.rename(away)
    try:
        services.wait_for(
            lambda: proxy.request('GET', '/versions')[0] == 503)
    finally:
        away.rename(service.staging)
    services.wait_for(
        lambda: proxy.request('GET', '/versions')[0] in (200, 300))
