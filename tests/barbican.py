"""A key manager for tests: what Barbican and Keystone say on the wire.

As much of both as castellan and keystonemiddleware ask, on one port of
loopback: tokens for a password or for a token, their validation, a catalog,
and the secrets of projects. It can be told to be away, or to refuse. And a
real Barbican from the package index, on SQLite, that believes those tokens.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time
import uuid

import requests

from tests import environments
from tests import servers

PROJECT = 'red'


class Barbican(http.server.ThreadingHTTPServer):
    """``tokens`` has user and project of each; ``secrets`` their projects.

    ``trouble`` is a status that every request for a secret is answered with;
    ``key_manager`` is the URL that the catalog has for one.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.url = f'http://127.0.0.1:{self.server_port}'
        self.key_manager = self.url
        self.tokens: dict[str, tuple[str, str]] = {}
        self.secrets: dict[str, str] = {}
        self.trouble: int | None = None
        self.asked: list[tuple[str, str]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def token(self, user: str, project: str = PROJECT) -> str:
        made = uuid.uuid4().hex
        self.tokens[made] = (user, project)
        return made

    def secret(self, project: str = PROJECT) -> str:
        made = str(uuid.uuid4())
        self.secrets[made] = project
        return made

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Barbican
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def _answer(self, status, body=None, **headers):
        data = b'' if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _version(self, path, **more):
        return {'id': 'v3' if 'v3' in path else 'v1', 'status': 'CURRENT',
                'links': [{'rel': 'self', 'href': self.server.url + path}],
                **more}

    def _token(self, user, project):
        def endpoints(url):
            return [{'id': each, 'interface': each, 'region': 'R',
                     'region_id': 'R', 'url': url}
                    for each in ('public', 'internal', 'admin')]
        return {'token': {
            'methods': ['password'], 'issued_at': '2026-01-01T00:00:00.0Z',
            'expires_at': '2099-01-01T00:00:00.0Z',
            'user': {'id': user, 'name': user,
                     'domain': {'id': 'default', 'name': 'Default'}},
            'project': {'id': project, 'name': project,
                        'domain': {'id': 'default', 'name': 'Default'}},
            'roles': [{'id': each, 'name': each}
                      for each in ('member', 'reader')],
            'catalog': [
                {'type': 'key-manager', 'id': 'k', 'name': 'barbican',
                 'endpoints': endpoints(self.server.key_manager)},
                {'type': 'identity', 'id': 'i', 'name': 'keystone',
                 'endpoints': endpoints(self.server.url + '/v3')}]}}

    def do_GET(self):
        if self.path.rstrip('/') == '/v3':
            self._answer(200, {'version': self._version('/v3/')})
        elif self.path.startswith('/v3/auth/tokens'):
            known = self.server.tokens.get(
                self.headers.get('X-Subject-Token'))
            self._answer(*((200, self._token(*known)) if known else (404,)))
        elif self.path.startswith('/v1/secrets/'):
            self._secret(delete=False)
        else:
            self._answer(300, {'versions': [self._version(
                '/v1/', min_version='1.0', max_version='1.1')]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(
            int(self.headers['Content-Length'])))['auth']['identity']
        if 'token' in asked['methods']:
            known = self.server.tokens.get(asked['token']['id'])
        else:
            known = (asked['password']['user']['name'], 'service')
        if known is None:
            self._answer(401, {'error': {'code': 401, 'message': 'no'}})
        else:
            self._answer(201, self._token(*known),
                         X_Subject_Token=self.server.token(*known))

    def do_DELETE(self):
        self._secret(delete=True)

    def _secret(self, *, delete):
        name = self.path.split('?')[0].rsplit('/', 1)[1]
        user, project = self.server.tokens.get(
            self.headers.get('X-Auth-Token'), (None, None))
        if delete:
            self.server.asked.append((user, name))
        if self.server.trouble:
            self._answer(self.server.trouble, {'title': 'no', 'code': 0})
        elif user is None:
            self._answer(401, {})
        elif name not in self.server.secrets:
            self._answer(404, {'title': 'Secret not found.', 'code': 404})
        elif self.server.secrets[name] != project:
            self._answer(403, {'title': 'Forbidden', 'code': 403})
        elif delete:
            del self.server.secrets[name]
            self._answer(204)
        else:
            self._answer(200, {'name': 'key', 'status': 'ACTIVE',
                               'created': '2026-01-01T00:00:00',
                               'secret_type': 'symmetric'})


CONF = """
[DEFAULT]
host_href = {url}
[database]
connection = {database}
[secretstore]
enabled_secretstore_plugins = store_crypto
[crypto]
enabled_crypto_plugins = simple_crypto
[simple_crypto_plugin]
kek = {key}
[keystone_authtoken]
auth_type = password
auth_url = {keystone}/v3
www_authenticate_uri = {keystone}/v3
username = barbican
password = secret
project_name = service
user_domain_id = default
project_domain_id = default
"""
APPLICATION = """
import os
import sys

from paste import deploy

sys.argv = ['barbican']
application = deploy.loadapp(
    'config:' + os.getcwd() + '/barbican-api-paste.ini')
"""


class RealBarbican:
    """Barbican itself, whose tokens a ``Barbican`` knows."""

    def __init__(self, environment: environments.Environment,
                 directory: pathlib.Path, keystone: Barbican) -> None:
        self._environment, self._directory = environment, directory
        self._keystone = keystone
        port = servers.free_port()
        self.url = keystone.key_manager = f'http://127.0.0.1:{port}'
        self._bind = f'127.0.0.1:{port}'
        self._process: subprocess.Popen | None = None
        database = f'sqlite:///{directory}/barbican.sqlite'
        (directory / 'barbican.conf').write_text(CONF.format(
            url=self.url, database=database, keystone=keystone.url,
            key=base64.b64encode(os.urandom(32)).decode()))
        (directory / 'application.py').write_text(APPLICATION)
        shutil.copy(environment.directory / 'etc' / 'barbican'
                    / 'barbican-api-paste.ini', directory)
        subprocess.run(
            [environment.program('barbican-manage'), 'db', 'upgrade',
             '--db-url', database], check=True, cwd=directory,
            env=self._variables(), capture_output=True, timeout=300)

    def _variables(self) -> dict[str, str]:
        # Where it looks for its configuration.
        return {**os.environ, 'HOME': str(self._directory)}

    def start(self) -> None:
        with open(self._directory / 'out', 'ab') as out:
            self._process = subprocess.Popen(
                [self._environment.program('gunicorn'), '--bind', self._bind,
                 'application:application'], cwd=self._directory, stdout=out,
                stderr=out, env=self._variables(), start_new_session=True)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(requests.RequestException):
                requests.get(self.url, timeout=30)
                return
            time.sleep(0.1)
        raise AssertionError((self._directory / 'out').read_text()[-5000:])

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def secret(self, token: str) -> str:
        """The id of a new one."""
        answer = requests.post(
            f'{self.url}/v1/secrets', headers={'X-Auth-Token': token},
            json={'name': 'key', 'payload': 'secret',
                  'payload_content_type': 'text/plain'}, timeout=30)
        assert answer.status_code == 201, answer.text
        return answer.json()['secret_ref'].rsplit('/', 1)[1]

    def has(self, token: str, secret: str) -> bool:
        return requests.get(
            f'{self.url}/v1/secrets/{secret}', headers={
                'X-Auth-Token': token, 'Accept': 'application/json'},
            timeout=30).status_code == 200
