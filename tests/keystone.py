"""A real Keystone for tests: from the package index, on SQLite.

Runs under gunicorn on a free port of 127.0.0.1 in a directory of its own,
with the projects and users that the tests ask for, and is ended by its pid.
"""

from __future__ import annotations

import contextlib
import getpass
import grp
import os
import pathlib
import shutil
import signal
import subprocess
import time
import typing

import requests

from tests import environments
from tests import servers

READY_SECONDS = 90
PASSWORD = 'secret'

CONF = '''
[DEFAULT]
log_dir = {top}
[database]
connection = sqlite:///{top}/keystone.sqlite?timeout=60
[token]
provider = fernet
[fernet_tokens]
key_repository = {top}/fernet
[credential]
key_repository = {top}/credentials
[cache]
enabled = true
backend = dogpile.cache.memory
[resource]
admin_project_domain_name = Default
admin_project_name = admin
[identity]
password_hash_algorithm = bcrypt
password_hash_rounds = 4
[unified_limit]
driver = sql
'''

# SQLite refuses to turn a reader into a writer while another one writes, so
# each transaction says at its beginning that it may write.
GUNICORN = '''
wsgi_app = 'keystone.wsgi.api:application'
bind = '127.0.0.1:{port}'
threads = 8


def post_fork(server, worker):
    import sqlalchemy
    from sqlalchemy import event

    @event.listens_for(sqlalchemy.engine.Engine, 'before_cursor_execute',
                       retval=True)
    def immediate(connection, cursor, statement, *rest):
        if statement == 'BEGIN':
            statement = 'BEGIN IMMEDIATE'
        return statement, rest[0]
'''


class Keystone:
    """``start`` it, then make projects and users; ``remove`` at the end."""

    def __init__(self, environment: environments.Environment,
                 directory: pathlib.Path) -> None:
        self._environment = environment
        self.directory = directory
        self.port = servers.free_port()
        self.url = f'http://127.0.0.1:{self.port}/v3'
        self._process: subprocess.Popen | None = None
        self._admin: dict[str, str] = {}
        self.projects: dict[str, str] = {}

    def prepare(self) -> None:
        """Configuration, keys, database and an administrator."""
        top = self.directory
        (top / 'keystone.conf').write_text(CONF.format(top=top))
        (top / 'gunicorn.conf.py').write_text(
            GUNICORN.format(port=self.port))
        user = getpass.getuser()
        group = grp.getgrgid(os.getgid()).gr_name
        for setup in ('fernet_setup', 'credential_setup'):
            self._manage(setup, '--keystone-user', user,
                         '--keystone-group', group)
        # The slow part, and the same each time.
        template = self._environment.directory / 'keystone.sqlite'
        if template.exists():
            shutil.copyfile(template, top / 'keystone.sqlite')
        else:
            self._manage('db_sync')
            kept = template.with_suffix(f'.{os.getpid()}')
            shutil.copyfile(top / 'keystone.sqlite', kept)
            kept.replace(template)
        self._manage(
            'bootstrap', '--bootstrap-password', PASSWORD,
            '--bootstrap-username', 'admin', '--bootstrap-project-name',
            'admin', '--bootstrap-role-name', 'admin',
            '--bootstrap-service-name', 'keystone', '--bootstrap-region-id',
            'RegionOne', '--bootstrap-public-url', self.url,
            '--bootstrap-admin-url', self.url, '--bootstrap-internal-url',
            self.url)

    def _manage(self, *arguments: str) -> None:
        subprocess.run(
            [self._environment.program('keystone-manage'), '--config-file',
             str(self.directory / 'keystone.conf'), *arguments], check=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)

    def start(self) -> None:
        """Start, and wait for the first answer."""
        # Keystone reads the command line itself, so gunicorn gets none.
        with open(self.directory / 'out', 'ab') as out:
            self._process = subprocess.Popen(
                [self._environment.program('gunicorn')],
                cwd=self.directory, stdout=out, stderr=out,
                start_new_session=True, env={
                    **os.environ, 'OS_KEYSTONE_CONFIG_FILES': str(
                        self.directory / 'keystone.conf')})
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException):
                if requests.get(self.url, timeout=30).ok:
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError('Keystone does not answer:\n'
                             + (self.directory / 'out').read_text()[-5000:])

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            # Quickly: a graceful end waits for kept connections.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(15)

    # -- what is in it

    def token(self, user: str = 'admin', project: str = 'admin') -> str:
        """A new token for a project; its text goes into X-Auth-Token."""
        return self.scoped_token(user, {'project': {
            'name': project, 'domain': {'id': 'default'}}})

    def scoped_token(self, user: str, scope: typing.Any,
                     domain: str = 'default') -> str:
        """A new token; ``scope`` as Keystone has it in a request.

        None is a token without any.
        """
        asked: dict[str, typing.Any] = {
            'identity': {'methods': ['password'], 'password': {'user': {
                'name': user, 'domain': {'id': domain},
                'password': PASSWORD}}}}
        asked['scope'] = 'unscoped' if scope is None else scope
        answer = requests.post(f'{self.url}/auth/tokens',
                               json={'auth': asked}, timeout=60)
        assert answer.status_code == 201, answer.text
        return answer.headers['X-Subject-Token']

    def call(self, method: str, path: str, body: typing.Any = None
             ) -> typing.Any:
        """One request as the administrator."""
        if not self._admin:
            self._admin = {'X-Auth-Token': self.token()}
        answer = requests.request(method, self.url + path, json=body,
                                  headers=self._admin, timeout=60)
        assert answer.ok, (method, path, answer.text)
        return answer.json() if answer.content else None

    def role(self, name: str) -> str:
        for found in self.call('GET', '/roles')['roles']:
            if found['name'] == name:
                return found['id']
        return self.call('POST', '/roles', {'role': {'name': name}}
                         )['role']['id']

    def add_domain(self, name: str) -> str:
        """Its id."""
        return self.call('POST', '/domains', {'domain': {'name': name}}
                         )['domain']['id']

    def add_project(self, name: str, domain: str = 'default') -> str:
        made = self.call('POST', '/projects', {'project': {
            'name': name, 'domain_id': domain}})
        self.projects[name] = made['project']['id']
        return self.projects[name]

    def add_user(self, name: str, project: str, *roles: str) -> None:
        self.add_user_of(name, 'default')
        for role in roles:
            self.grant(f'projects/{self.projects[project]}', name, role)

    def add_user_of(self, name: str, domain: str) -> None:
        """A user without any role, in a domain."""
        self.call('POST', '/users', {'user': {
            'name': name, 'domain_id': domain, 'password': PASSWORD}})

    def grant(self, where: str, name: str, role: str) -> None:
        """A role of a user's; ``where`` is a path such as domains/ID."""
        user, = (each['id'] for each in self.call(
            'GET', f'/users?name={name}')['users'])
        self.call('PUT', f'/{where}/users/{user}/roles/{self.role(role)}')

    def grant_system(self, name: str, role: str) -> None:
        """A role of a user's on the whole of the system."""
        self.grant('system', name, role)

    def add_region(self, name: str) -> None:
        self.call('POST', '/regions', {'region': {'id': name}})

    def add_endpoint(self, kind: str, name: str, url: str,
                     region: str = 'RegionOne') -> str:
        """The id of the public one."""
        service = self.call('POST', '/services', {'service': {
            'type': kind, 'name': name}})['service']['id']
        made = [self.call('POST', '/endpoints', {'endpoint': {
            'service_id': service, 'interface': interface,
            'url': url, 'region': region}})['endpoint']['id']
            for interface in ('public', 'internal', 'admin')]
        return made[0]

    def remove_endpoints(self, url: str) -> None:
        """Of a service that is gone, so that no client is led there."""
        for each in self.call('GET', '/endpoints')['endpoints']:
            if each['url'] == url:
                self.call('DELETE', f'/endpoints/{each["id"]}')

    def variables(self, user: str, project: str) -> dict[str, str]:
        """What clients read from the environment."""
        return {
            'OS_AUTH_URL': self.url, 'OS_USERNAME': user,
            'OS_PASSWORD': PASSWORD, 'OS_PROJECT_NAME': project,
            'OS_USER_DOMAIN_ID': 'default',
            'OS_PROJECT_DOMAIN_ID': 'default',
            'OS_REGION_NAME': 'RegionOne',
            'OS_IDENTITY_API_VERSION': '3'}

    def middleware(self) -> dict[str, str]:
        """[keystone_authtoken] of a service."""
        return {
            'www_authenticate_uri': self.url, 'auth_url': self.url,
            'auth_type': 'password', 'username': 'glance',
            'password': PASSWORD, 'project_name': 'service',
            'user_domain_id': 'default', 'project_domain_id': 'default',
            'service_token_roles_required': 'true',
            'http_connect_timeout': '5', 'http_request_max_retries': '0'}
