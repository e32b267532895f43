"""OpenStack Swift of the tests' own: one proxy, one replica, a small Keystone.

Debian's packages. Each server is one process on a free port of 127.0.0.1,
below a temporary directory, and is ended by its pid.
"""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time
import typing

import pytest

from tests import servers

SECONDS = 60
KINDS = ('account', 'container', 'object')
CONTAINER = 'images'
USER, KEY = 'test:tester', 'testing'
_STORAGE = """[DEFAULT]
devices = {top}/devices
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {top}
log_address = /nowhere
disable_fallocate = true
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
conn_timeout = 30
node_timeout = 60
"""
_PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {top}
log_address = /nowhere
[pipeline:main]
pipeline = catch_errors cache tempauth container-quotas slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
# A busy machine is none whose servers are away.
conn_timeout = 30
node_timeout = 60
error_suppression_limit = 1000000
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:container-quotas]
use = egg:swift#container_quotas
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


class Keystone(http.server.BaseHTTPRequestHandler):
    """POST /v3/auth/tokens: tempauth's token, as Keystone would give one."""

    swift: typing.ClassVar[Server]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(
            int(self.headers['Content-Length'])))
        user = asked['auth']['identity']['password']['user']
        storage, token = self.swift.client().get_auth()
        known = user['password'] == KEY
        self.send_response(201 if known else 401)
        self.send_header('X-Subject-Token', token)
        body = json.dumps({'token': {
            'methods': ['password'], 'expires_at': '2040-01-01T00:00:00Z',
            'user': {'id': '1', 'name': 'u', 'domain': {'id': 'd'}},
            'catalog': [{'type': 'object-store', 'id': '1', 'endpoints': [
                {'interface': 'public', 'url': storage, 'region': 'one',
                 'region_id': 'one', 'id': '2'}]}]}}).encode()
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server:
    """Swift, empty when it starts."""

    def __init__(self) -> None:
        for program in ('swift-proxy-server', 'swift-ring-builder',
                        'memcached'):
            servers.program(program)
        self.top = pathlib.Path(tempfile.mkdtemp(prefix='swift-'))
        self.processes: list[subprocess.Popen] = []
        (self.top / 'devices' / 'sda1').mkdir(parents=True)
        (self.top / 'swift.conf').write_text(
            '[swift-hash]\nswift_hash_path_suffix = tests\n')
        for kind in KINDS:
            port = servers.free_port()
            self._ring(kind, port)
            self._start(kind, _STORAGE.format(top=self.top, port=port,
                                              kind=kind))
        self.port, tokens = servers.free_port(), servers.free_port()
        self._run([servers.program('memcached'), '-l', '127.0.0.1', '-p',
                   str(tokens), '-u', 'nobody'])
        self.proxy = self._start('proxy', _PROXY.format(
            top=self.top, port=self.port, memcached=tokens))
        self._wait()
        Keystone.swift = self
        self.keystone = http.server.ThreadingHTTPServer(('127.0.0.1', 0),
                                                        Keystone)
        threading.Thread(target=self.keystone.serve_forever,
                         daemon=True).start()

    def _ring(self, kind: str, port: int) -> None:
        for arguments in (
                ['create', '4', '1', '1'],
                ['add', f'r1z1-127.0.0.1:{port}/sda1', '1'], ['rebalance']):
            subprocess.run(
                ['swift-ring-builder', f'{self.top}/{kind}.builder',
                 *arguments], check=True, stdout=subprocess.DEVNULL)

    def _start(self, kind: str, text: str) -> subprocess.Popen:
        path = self.top / f'{kind}-server.conf'
        path.write_text(text)
        return self._run([servers.program(f'swift-{kind}-server'), str(path)])

    def _run(self, command: list[str]) -> subprocess.Popen:
        process = subprocess.Popen(
            [servers.program('setpriv'), '--pdeathsig=KILL', *command],
            env={**os.environ, 'PYTHONPATH': ''},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def _wait(self) -> None:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                client = self.client()
                client.put_container(CONTAINER)
                # Each kind of server has to answer.
                client.put_object(CONTAINER, 'first', b'there')
                client.delete_object(CONTAINER, 'first')
                return
            except Exception as failure:
                if time.monotonic() > deadline:
                    self.stop()
                    raise AssertionError(
                        f'Swift does not answer: {failure}') from failure
            time.sleep(0.2)

    @property
    def auth(self) -> str:
        """The address that tokens are asked of."""
        return f'http://127.0.0.1:{self.port}/auth/v1.0'

    def options(self, **more: typing.Any) -> dict[str, typing.Any]:
        """What a store's section says to use it."""
        return {'swift_store_auth_address':
                f'http://127.0.0.1:{self.keystone.server_port}/v3',
                'swift_store_user': USER, 'swift_store_key': KEY,
                'swift_store_container': CONTAINER,
                'swift_store_create_container_on_put': True, **more}

    def client(self) -> typing.Any:
        """swiftclient's own, to look with."""
        import swiftclient

        return swiftclient.Connection(self.auth, USER, KEY,
                                      auth_version='1', retries=0)

    def names(self, container: str = CONTAINER) -> list[str]:
        """Every object, segments too."""
        import swiftclient

        try:
            return [each['name'] for each in self.client().get_container(
                container, full_listing=True)[1]]
        except swiftclient.ClientException:
            return []

    def clear(self) -> None:
        """Remove everything that was stored."""
        client = self.client()
        for container in client.get_account()[1]:
            for name in self.names(container['name']):
                client.delete_object(container['name'], name)

    def stop(self) -> None:
        if hasattr(self, 'keystone'):
            self.keystone.shutdown()
            self.keystone.server_close()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(SECONDS)
        shutil.rmtree(self.top)


@pytest.fixture(scope='session')
def swift_server():
    servers.need_module('swiftclient')
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def swift(swift_server):
    """The server, empty."""
    swift_server.clear()
    return swift_server
