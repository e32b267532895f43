"""API and conductor as two users of one group, each with its own state.

A service as the install page describes it, without systemd: numeric users,
real capabilities, real permissions.
"""

import contextlib
import http.client
import os
import pathlib
import signal
import stat
import subprocess
import time

import pytest

from tests import servers
from tests import service as services
from tests import users

LONG = bool(os.environ.get('LONG_TESTS'))
SIZE = 1 << 30 if LONG else 8 << 20


class Node(services.Service):
    """One node; ``spawn`` starts each process as its own user."""

    def __init__(self, directory: pathlib.Path) -> None:
        super().__init__(directory, options={
            'DEFAULT': {'state_path': directory / 'api'},
            'taskflow_executor': {'embedded_conductor': False,
                                  # It is woken, or nothing happens in time.
                                  'poll_interval': 30},
            'database': {'connection':
                         f'sqlite:///{directory}/database/glance.sqlite'},
            'image_import_opts': {'image_import_plugins': '[format_report]'},
        })
        self.conductor = None
        self.capabilities = ''
        for name, user, mode in (
                ('api', users.API, 0o700), ('conductor', users.CONDUCTOR,
                                            0o700),
                ('database', users.API, 0o2770),
                ('staging', users.API, 0o2770),
                ('images', users.API, 0o2770)):
            path = directory / name
            path.mkdir()
            os.chown(path, user, users.GROUP)
            path.chmod(mode)
        own = directory / 'own'
        own.mkdir()
        (own / 'conductor.conf').write_text(
            f'[DEFAULT]\nstate_path = {directory}/conductor\n')

    def words(self, name):
        user = users.API if name == 'api' else users.CONDUCTOR
        words = ['--config-dir', str(self.conf)]
        if name == 'conductor':
            words += ['--config-dir', str(self.directory / 'own')]
        return users.command(
            name, *words, user=user,
            capabilities=self.capabilities if name == 'conductor' else '')

    def spawn(self, name):
        with open(self.log, 'ab') as log:
            return subprocess.Popen(
                self.words(name), env=users.environment(),
                cwd='/', stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True)

    def begin(self):
        self.start()
        self.conductor = self.spawn('conductor')
        services.wait_for(lambda: 'runs up to' in self.text())

    def end(self):
        self.kill()
        if self.conductor is not None and self.conductor.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.conductor.pid, signal.SIGKILL)
            self.conductor.wait(10)

    def stage_zeros(self, image_id, size):
        """Over HTTP, a block at a time."""
        block = bytes(1 << 20)
        connection = http.client.HTTPConnection('127.0.0.1', self.port,
                                                timeout=600)
        connection.request(
            'PUT', f'/v2/images/{image_id}/stage',
            body=(block for _ in range(size // len(block))),
            headers={'Content-Type': 'application/octet-stream',
                     'Content-Length': str(size)})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status == 204, text


@contextlib.contextmanager
def running(capabilities):
    users.python()
    servers.program('bwrap')
    with users.directory() as directory:
        made = Node(directory)
        made.capabilities = capabilities
        try:
            made.begin()
            yield made
        finally:
            made.end()


@pytest.fixture(scope='module')
def node():
    with running('lease,fowner') as made:
        yield made


def test_by_reference_under_both_users(node):
    """The very file that the API staged is what the store has then."""
    image_id = node.create()
    node.stage_zeros(image_id, SIZE)
    staged = (node.staging / image_id).stat()
    assert (staged.st_uid, staged.st_gid) == (users.API, users.GROUP)
    assert stat.S_IMODE(staged.st_mode) == 0o640
    begun = time.monotonic()
    assert node.start_import(image_id).status == 202
    image = node.wait_status(image_id, 'active')
    assert image['size'] == SIZE
    # The conductor looks by itself every 30 seconds: the API has woken it.
    assert time.monotonic() - begun < 25
    stored = (node.images / image_id).stat()
    assert stored.st_ino == staged.st_ino
    assert (stored.st_uid, stored.st_gid) == (users.API, users.GROUP)
    assert stat.S_IMODE(stored.st_mode) == 0o440
    assert node.staged() == []
    # The plugin ran, in a sandbox that bubblewrap has made for a process
    # with capabilities.
    events = node.tasks(image_id)[0]
    assert events['status'] == 'success', events
    connection = http.client.HTTPConnection('127.0.0.1', node.port)
    connection.request('GET', f'/v2/images/{image_id}/file')
    answer = connection.getresponse()
    got = 0
    while block := answer.read(1 << 20):
        assert not any(block[::4096])
        got += len(block)
    connection.close()
    assert got == SIZE
    # Reloaded it is another program in the same process, and as able.
    os.kill(node.conductor.pid, signal.SIGHUP)
    services.wait_for(lambda: node.text().count('runs up to') == 2)
    again = node.create()
    node.stage_zeros(again, 1 << 20)
    staged = (node.staging / again).stat()
    assert node.start_import(again).status == 202
    node.wait_status(again, 'active')
    assert (node.images / again).stat().st_ino == staged.st_ino
    for each in (image_id, again):
        assert node.request('DELETE', f'/v2/images/{each}').status == 204
    assert node.stored() == []
    assert 'Traceback' not in node.text()


def test_what_belongs_to_whom(node):
    image_id = node.ask(b'data' * 1000)
    node.wait_status(image_id, 'active')
    mode = {path.name: stat.S_IMODE(path.stat().st_mode)
            for path in (*node.staging.iterdir(),
                         *(node.directory / 'database').iterdir())}
    assert mode['.staging_area_id'] == 0o660
    assert mode['.conductor.wake'] == 0o660
    assert all(mode[name] == 0o660 for name in mode
               if name.startswith('glance.sqlite')), mode
    for name, user in (('api', users.API), ('conductor', users.CONDUCTOR)):
        for path in (node.directory / name).iterdir():
            assert path.stat().st_uid == user, path
            assert not path.stat().st_mode & 0o077, path
    # Neither can look into the other's.
    for user, other in ((users.API, 'conductor'), (users.CONDUCTOR, 'api')):
        done = subprocess.run(
            ['setpriv', f'--reuid={user}', f'--regid={users.GROUP}',
             '--clear-groups', 'ls', str(node.directory / other)],
            capture_output=True)
        assert done.returncode != 0, done
    done = subprocess.run(
        users.command('status', '--config-dir', str(node.conf), 'upgrade',
                      'check', '--json', user=users.API),
        env=users.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert 'shared with its group' in done.stdout


def test_without_the_capabilities_it_is_copied():
    """Slower and right."""
    with running('') as node:
        _copied(node)


def _copied(node):
    image_id = node.create()
    node.stage_zeros(image_id, 1 << 20)
    staged = (node.staging / image_id).stat()
    assert node.start_import(image_id).status == 202
    node.wait_status(image_id, 'active')
    stored = (node.images / image_id).stat()
    assert stored.st_ino != staged.st_ino
    assert stored.st_uid == users.CONDUCTOR
    assert node.download(image_id) == bytes(1 << 20)
    assert node.request('DELETE', f'/v2/images/{image_id}').status == 204
