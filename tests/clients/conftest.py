"""The real clients, in an environment of their own, and two services.

One believes the token, the other asks a real Keystone. The libraries walk
with both, the commands, which take a second each, with Keystone alone.
"""

from __future__ import annotations

import dataclasses
import os
import pty
import subprocess

import pytest

from tests import environments
from tests import keystone as keystones
from tests import service as services

SECONDS = 120


@dataclasses.dataclass
class Cloud:
    """A service, and how a client gets to it as some user."""

    service: services.Service
    environment: environments.Environment
    variables: dict[str, dict[str, str]]
    tokens: dict[str, str]
    projects: dict[str, str]

    home: str

    def run(self, program: str, *arguments: str, user: str = 'ann',
            check: bool = True) -> subprocess.CompletedProcess:
        """A command of the clients' environment, to its end."""
        # openstack takes image data from a stdin that is no terminal.
        master, terminal = pty.openpty()
        try:
            done = subprocess.run(
                [self.environment.program(program), *arguments],
                env={**_bare(), 'HOME': self.home,
                     **self.variables[user]}, text=True,
                capture_output=True, timeout=SECONDS, stdin=terminal)
        finally:
            os.close(master)
            os.close(terminal)
        if check:
            assert done.returncode == 0, (arguments, done.stdout,
                                          done.stderr,
                                          self.service.text()[-3000:])
        return done


def _bare() -> dict[str, str]:
    return {name: value for name, value in os.environ.items()
            if not name.startswith('OS_')} | {'PYTHONWARNINGS': 'ignore'}


@pytest.fixture(scope='session')
def cache(request):
    return request.config.cache.mkdir('environments')


@pytest.fixture(scope='session')
def clients(cache):
    return environments.make('clients', cache)


@pytest.fixture(scope='session')
def compute(cache):
    return environments.make('compute', cache)


@pytest.fixture(scope='session')
def keystone(cache, tmp_path_factory):
    """A running Keystone with the users of the walks."""
    running = keystones.Keystone(
        environments.make('keystone', cache),
        tmp_path_factory.mktemp('keystone'))
    running.prepare()
    running.start()
    try:
        for project in ('service', 'red', 'blue'):
            running.add_project(project)
        running.add_user('glance', 'service', 'admin', 'service')
        running.add_user('ann', 'red', 'member', 'reader')
        running.add_user('eve', 'red', 'reader')
        running.add_user('bob', 'blue', 'member', 'reader')
        running.add_user('root', 'red', 'admin', 'member', 'reader')
        yield running
    finally:
        running.stop()


@pytest.fixture(scope='session')
def behind_keystone(keystone, tmp_path_factory):
    """A service that asks Keystone."""
    service = services.Service(
        tmp_path_factory.mktemp('behind-keystone'),
        options={'DEFAULT': {'enabled_import_methods': '[glance-direct,'
                             'web-download,glance-download]'},
                 'import_filtering_opts': {
                     'allowed_addresses': '[127.0.0.1/32]',
                     'allowed_ports': '[]'},
                 # Uploads go through it as well.
                 'image_import_opts': {'image_import_plugins': '[no_op]'},
                 'paste_deploy': {'flavor': 'keystone'},
                 'keystone_authtoken': keystone.middleware()})
    service.start()
    keystone.add_endpoint('image', 'glance',
                          f'http://127.0.0.1:{service.port}')
    yield service
    service.kill()


USERS = {'ann': ('red', 'member,reader'), 'eve': ('red', 'reader'),
         'bob': ('blue', 'member,reader'),
         'root': ('red', 'admin,member,reader')}


@pytest.fixture(scope='session')
def believing(clients, tmp_path_factory):
    """A service that believes the token, and clients that are told one."""
    service = services.Service(
        tmp_path_factory.mktemp('fakeauth'), token=services.MEMBER,
        options={'paste_deploy': {'flavor': 'fakeauth'}})
    service.start()
    url = f'http://127.0.0.1:{service.port}/v2'
    tokens = {user: f'{user}:{project}:{roles}'
              for user, (project, roles) in USERS.items()}
    yield Cloud(
        service, clients, {user: {
            'OS_AUTH_TYPE': 'admin_token', 'OS_ENDPOINT': url,
            'OS_TOKEN': token} for user, token in tokens.items()}, tokens,
        {'red': 'red', 'blue': 'blue'}, str(service.directory))
    service.kill()


@pytest.fixture(scope='session')
def authenticated(clients, keystone, behind_keystone):
    tokens = {user: keystone.token(user, project)
              for user, (project, _) in USERS.items()}
    behind_keystone.token = tokens['ann']
    return Cloud(
        behind_keystone, clients,
        {user: keystone.variables(user, project)
         for user, (project, _) in USERS.items()}, tokens,
        dict(keystone.projects), str(behind_keystone.directory))


@pytest.fixture(scope='session', params=['fakeauth', 'keystone'])
def cloud(request):
    return request.getfixturevalue(
        {'fakeauth': 'believing', 'keystone': 'authenticated'}[request.param])
