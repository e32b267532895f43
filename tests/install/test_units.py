"""Units, users and directories that are shipped, and what a unit is told."""

import configparser
import contextlib
import os
import pathlib
import socket
import subprocess
import types

import pytest

from glance_import.server import notify
from glance_import.server import parent
from glance_import.server import settings
from tests import servers
from tests import users

TOP = pathlib.Path(__file__).resolve().parents[2]
UNITS = ('glance-import-api', 'glance-import-conductor')
# Below it systemd calls a service fine; above it says why not.
EXPOSURE = 3.0


def unit(name):
    return TOP / f'etc/systemd/{name}.service'


def lines(name):
    return [line for line in unit(name).read_text().splitlines()
            if line and not line.startswith('#')]


@pytest.mark.parametrize('name', UNITS)
def test_units_are_understood(tmp_path, name):
    """By systemd, with commands that are there."""
    analyze = servers.program('systemd-analyze')
    text = unit(name).read_text()
    assert f'/opt/glance-import/bin/{name} ' in text
    path = tmp_path / f'{name}.service'
    path.write_text(text.replace(f'/opt/glance-import/bin/{name} ',
                                 '/bin/true '))
    done = subprocess.run([analyze, 'verify', '--man=no', str(path)],
                          capture_output=True, text=True)
    said = [line for line in (done.stdout + done.stderr).splitlines()
            if name in line]
    assert (done.returncode, said) == (0, []), done


@pytest.mark.parametrize('name', UNITS)
def test_units_are_hardened(name):
    analyze = servers.program('systemd-analyze')
    done = subprocess.run(
        [analyze, 'security', '--offline=true', '--no-pager',
         f'--threshold={EXPOSURE * 10:.0f}', str(unit(name))],
        capture_output=True, text=True, env={**os.environ, 'LANG': 'C.UTF-8'})
    overall = done.stdout.rpartition('Overall exposure level')[2]
    assert done.returncode == 0, overall
    assert float(overall.split(': ')[1].split()[0]) < EXPOSURE, overall


def test_the_conductor_alone_has_capabilities():
    api, conductor = lines(UNITS[0]), lines(UNITS[1])
    assert 'CapabilityBoundingSet=' in api
    assert 'AmbientCapabilities=' in api
    assert 'AmbientCapabilities=CAP_LEASE CAP_FOWNER' in conductor
    for each in (api, conductor):
        assert 'NoNewPrivileges=yes' in each
        assert 'Type=notify' in each
        # Not by /bin/kill, which a small system does not have.
        assert 'ExecReload=/bin/sh -c "kill -HUP $MAINPID"' in each
        # These would take /proc from the sandbox of plugins.
        assert not [line for line in each if line.startswith(
            ('ProtectKernelTunables', 'ProtectKernelLogs', 'ProcSubset',
             'ProtectHostname'))]


def test_users_and_directories_agree(tmp_path):
    """Made in a root of their own, by systemd's own tools."""
    sysusers = servers.program('systemd-sysusers')
    tmpfiles = servers.program('systemd-tmpfiles')
    if os.geteuid() != 0:
        servers.missing('only root makes users')
    (tmp_path / 'etc').mkdir()
    subprocess.run([sysusers, f'--root={tmp_path}',
                    str(TOP / 'etc/sysusers.d/glance-import.conf')],
                   check=True, capture_output=True)
    passwd = {line.split(':')[0]: line.split(':') for line in
              (tmp_path / 'etc/passwd').read_text().splitlines()}
    group = {line.split(':')[0]: line.split(':') for line in
             (tmp_path / 'etc/group').read_text().splitlines()}
    assert set(group['glance'][3].split(',')) == {
        'glance-api', 'glance-conductor'}
    for name in ('glance-api', 'glance-conductor'):
        assert passwd[name][6].endswith('nologin')
        # Its own group, as a supplementary one of the unit too.
        assert group[name][3] == name
    subprocess.run([tmpfiles, '--create', f'--root={tmp_path}',
                    str(TOP / 'etc/tmpfiles.d/glance-import.conf')],
                   check=True, capture_output=True)
    for name, user, mode in (
            ('api', 'glance-api', 0o40700),
            ('conductor', 'glance-conductor', 0o40700),
            ('staging', 'glance-api', 0o42770),
            ('images', 'glance-api', 0o42770),
            ('database', 'glance-api', 0o42770)):
        found = (tmp_path / 'var/lib/glance' / name).stat()
        assert (found.st_mode, found.st_uid, found.st_gid) == (
            mode, int(passwd[user][2]), int(group['glance'][2])), name


def test_what_is_shipped_is_in_the_package():
    """Each directory of etc/ is installed by pip."""
    parser = configparser.ConfigParser()
    parser.read(TOP / 'setup.cfg')
    said = parser['files']['data_files']
    for name in ('systemd', 'sysusers.d', 'tmpfiles.d', 'logrotate.d',
                 'nginx', 'haproxy'):
        assert f'etc/{name}/' in said, name
        assert list((TOP / 'etc' / name).iterdir()), name


def test_logrotate_reads_it(tmp_path):
    program = servers.program('logrotate', '/usr/sbin')
    text = (TOP / 'etc/logrotate.d/glance-import').read_text()
    path = tmp_path / 'logrotate'
    logs = tmp_path / 'logs'
    (logs / 'api').mkdir(parents=True)
    (logs / 'api/api.log').write_text('a line\n')
    path.write_text(text.replace('/var/log/glance', str(logs)))
    path.chmod(0o644)
    done = subprocess.run(
        [program, '--force', '--state', str(tmp_path / 'state'), str(path)],
        capture_output=True, text=True)
    assert done.returncode == 0, done
    assert (logs / 'api/api.log').read_text() == ''
    assert (logs / 'api/api.log.1').read_text() == 'a line\n'


# -- what a service manager is told

class Manager:
    """The socket of one."""

    def __init__(self, place):
        self.path = str(place / 'notify')
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(30)

    def environment(self, seconds):
        return {'NOTIFY_SOCKET': self.path,
                'WATCHDOG_USEC': str(int(seconds * 1e6))}

    def wait(self, word):
        while word not in (said := self.socket.recv(4096).decode()):
            pass
        return said

    def is_silent(self, seconds):
        self.drain()
        self.socket.settimeout(seconds)
        try:
            return not self.socket.recv(4096)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(30)

    def drain(self):
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.socket.recv(4096)
        self.socket.settimeout(30)


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path)
    yield made
    made.socket.close()


def test_the_api_is_ready_when_it_answers(make_service, manager):
    service = make_service()
    service.environment.update(manager.environment(1))
    service.process = service.spawn('api')
    said = manager.wait('READY=1')
    assert f'MAINPID={service.process.pid}' in said
    # Ready is ready: no waiting here.
    assert service.request('GET', '/versions').status in (200, 300)
    manager.wait('WATCHDOG=1')
    # It is the parent's to say, alone.
    pid = service.conductor_pid()
    environment = pathlib.Path(f'/proc/{pid}/environ').read_bytes()
    assert b'NOTIFY_SOCKET' not in environment
    process = service.process
    service.stop()
    manager.wait('STOPPING=1')
    assert process.poll() == 0


@pytest.mark.parametrize('workers, turns', [
    ([], False),
    ([(True, 0.0)], True),
    # Not up yet; hung; one that hangs beside one that does not.
    ([(False, 0.0)], False),
    ([(True, 40.0)], False),
    ([(True, 40.0), (True, 0.1)], True)])
def test_pings_are_for_loops_that_turn(workers, turns):
    keeper = parent.Parent(parent.Generation(
        settings.Settings(hang_timeout=30), None), None, None)
    for pid, (up, silence) in enumerate(workers):
        beat = types.SimpleNamespace(silence=lambda silence=silence: silence)
        keeper._children[pid] = parent.Child(
            pid, -1, -1, 0.0, beat, up=up)
    assert keeper._any_turns() is turns


def test_the_conductor_is_ready_when_it_is_announced(make_service, manager):
    service = make_service()
    assert service.run('manage', 'db', 'sync').returncode == 0
    service.environment.update(manager.environment(1))
    conductor = service.spawn('conductor')
    try:
        said = manager.wait('READY=1')
        assert f'MAINPID={conductor.pid}' in said
        assert len(service.execute(
            'SELECT name FROM import_conductors')) == 1
        manager.wait('WATCHDOG=1')
    finally:
        conductor.terminate()
        assert conductor.wait(30) == 0


def test_nobody_listens(monkeypatch):
    """And whoever is not meant is not pinged for."""
    monkeypatch.setenv('NOTIFY_SOCKET', '/nowhere/notify')
    notify.say('READY=1')
    monkeypatch.setenv('WATCHDOG_USEC', '1000000')
    monkeypatch.setenv('WATCHDOG_PID', '1')
    watchdog = notify.Watchdog()
    assert watchdog._pause == 0
    monkeypatch.delenv('NOTIFY_SOCKET')
    notify.say('READY=1')


def test_an_abstract_socket(monkeypatch):
    name = f'glance-import-test-{os.getpid()}'
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f'\0{name}')
        sock.settimeout(10)
        monkeypatch.setenv('NOTIFY_SOCKET', f'@{name}')
        notify.say('READY=1')
        assert sock.recv(100) == b'READY=1'


def test_capabilities_are_not_handed_on():
    """What a process has as ambient ones, its programs have not."""
    setpriv = servers.program('setpriv')
    if os.geteuid() != 0:
        servers.missing('only root gives capabilities')
    script = (
        'import subprocess, sys\n'
        f'sys.path.insert(0, {str(TOP)!r})\n'
        'from glance_import import ambient\n'
        'show = ["/bin/grep", "-E", "CapAmb|CapEff", "/proc/self/status"]\n'
        'own = lambda: [l.split()[1] for l in open("/proc/self/status")'
        ' if l.startswith("CapEff")][0]\n'
        'run = lambda: subprocess.run(show, capture_output=True, text=True,'
        ' check=True).stdout.split()[1::2]\n'
        'print(own(), *run())\n'
        'ambient.keep()\n'
        'print(own(), *run())\n'
        'ambient.hand_on()\n'
        'print(own(), *run())\n')
    done = subprocess.run(
        [setpriv, '--reuid=4711', '--regid=4713', '--clear-groups',
         '--inh-caps=+lease,+fowner', '--ambient-caps=+lease,+fowner',
         users.python(), '-c', script], env=users.environment(),
        capture_output=True, text=True)
    assert done.returncode == 0, done
    some, none = f'{1 << 28 | 1 << 3:016x}', f'{0:016x}'
    assert done.stdout.splitlines() == [
        f'{some} {some} {some}', f'{some} {none} {none}',
        f'{some} {some} {some}'], done.stdout
