"""One Ceph for all tests of a run: a monitor, a manager, an OSD, a radosgw.

Debian's own programs, in memory, on free ports of loopback, with cephx. The
first of the processes that run tests starts ``python -m tests.ceph
DIRECTORY``, which starts the daemons and ends them, by their pids, when no
process uses them any more: each holds a shared lock on a file as long as it
does, so that a killed one is not waited for.
"""

from __future__ import annotations

import base64
import collections.abc
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
import typing
import uuid

import pytest

from tests import s3
from tests import servers

SECONDS = 90
DEBIAN = pathlib.Path('/usr/lib/python3/dist-packages')
PROGRAMS = ('ceph-mon', 'ceph-mgr', 'ceph-osd', 'radosgw', 'monmaptool')
MIB = 1 << 20
# Who may do what, as the documentation has it.
USERS = {
    'mon.': {'mon': 'allow *'},
    'client.admin': {'mon': 'allow *', 'osd': 'allow *', 'mgr': 'allow *',
                     'mds': 'allow *'},
    'mds.a': {'mon': 'allow profile mds', 'osd': 'allow *',
              'mgr': 'allow profile mds'},
    'mgr.x': {'mon': 'allow profile mgr', 'osd': 'allow *'},
    'osd.0': {'mon': 'allow profile osd', 'osd': 'allow *',
              'mgr': 'allow profile osd'},
    'client.rgw.a': {'mon': 'allow rw', 'osd': 'allow rwx'},
    'client.glance': {'mon': 'profile rbd',
                      'osd': 'profile rbd pool=images, '
                             'profile rbd pool=small, '
                             'profile rbd pool=served'},
    'client.nova': {'mon': 'profile rbd',
                    'osd': 'profile rbd pool=vms, '
                           'profile rbd-read-only pool=images'},
}
# "small" is the one with a quota, "served" that of whole services.
POOLS = ('images', 'small', 'served', 'vms')


def link_modules(here: pathlib.Path | None = None) -> None:
    """Let a virtual environment import Debian's ``rados`` and ``rbd``.

    :param here: its site-packages; by default of the one that runs
    """
    here = here or pathlib.Path(sysconfig.get_path('platlib'))
    for name in ('rados', 'rbd'):
        module = f'{name}.{sysconfig.get_config_var("SOABI")}.so'
        if (here / module).exists():
            continue
        if not (DEBIAN / module).exists():
            servers.missing(f'python3-{name} of this Python is not installed')
        with contextlib.suppress(FileExistsError):
            (here / module).symlink_to(DEBIAN / module)


class Ceph:
    """What the tests use of it: ``conf`` for clients, and commands."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.conf = str(directory / 'ceph.conf')
        known = json.loads((directory / 'ready').read_text())
        self.fsid: str = known['fsid']
        self.osd: int = known['osd']
        self.rgw_port: int = known['rgw']
        self._cluster: typing.Any = None
        self._is_alone = False

    @property
    def cluster(self) -> typing.Any:
        """A connection that may do everything."""
        if self._cluster is None:
            self._cluster = connect(self.conf)
        return self._cluster

    def command(self, prefix: str, **words: typing.Any) -> typing.Any:
        return command(self.cluster, prefix, **words)

    def rbd(self, *words: str, user: str = 'admin') -> str:
        """The command of that name. :returns: what it prints"""
        done = subprocess.run(
            [servers.program('rbd'), '-c', self.conf, '--id', user, *words],
            capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def images(self, pool: str) -> list[str]:
        """Names, without the second that the command takes."""
        import rbd

        with self.cluster.open_ioctx(pool) as io:
            return sorted(rbd.RBD().list(io))

    def wait_for_the_dead(self, pool: str) -> None:
        """Until no process counts as one that uses an image.

        A dead one does for ``osd_client_watch_timeout``.
        """
        import rbd

        def unwatched(io: typing.Any, name: str) -> bool:
            try:
                with rbd.Image(io, name, read_only=True) as image:
                    return not list(image.watchers_list())
            except rbd.ImageNotFound:
                return True
        with self.cluster.open_ioctx(pool) as io:
            _wait(f'the end of users of {pool}', lambda: all(
                unwatched(io, name) for name in rbd.RBD().list(io)), 0.2)

    def used(self, name: str, pool: str = 'images') -> int:
        """Bytes of an image that somebody has written."""
        return sum(each['length'] for each in json.loads(self.rbd(
            'diff', '--format', 'json', f'{pool}/{name}'))
            if each['exists'] == 'true')

    def wait_for_full(self, pool: str) -> None:
        """Until the manager has noticed what is in a pool."""
        _wait(f'the quota of {pool}', lambda: any(
            'full_quota' in each['flags_names']
            for each in self.command('osd dump')['pools']
            if each['pool_name'] == pool))

    @contextlib.contextmanager
    def alone(self) -> collections.abc.Iterator[None]:
        """No other process of the tests freezes it meanwhile."""
        if self._is_alone:
            yield
            return
        with open(self.directory / 'alone', 'a') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._is_alone = True
            try:
                yield
            finally:
                self._is_alone = False

    @contextlib.contextmanager
    def frozen(self) -> collections.abc.Iterator[None]:
        """The OSD takes requests and answers none."""
        with self.alone():
            os.kill(self.osd, signal.SIGSTOP)
            try:
                yield
            finally:
                os.kill(self.osd, signal.SIGCONT)

    def wait_for_rgw(self) -> None:
        _wait('radosgw', lambda: (self.directory / 'rgw').exists())

    def empty(self, *pools: str) -> None:
        """Remove every image, whatever became of it."""
        import rbd

        for pool in pools:
            with self.cluster.open_ioctx(pool) as io:
                io.set_osdmap_full_try()
                tool = rbd.RBD()
                for entry in tool.trash_list(io):
                    tool.trash_restore(io, entry['id'], entry['id'])
                names = tool.list(io)
                # Clones before what they are clones of.
                for name in sorted(names, key=lambda each: _depth(io, each)):
                    # What a service that was stopped goes on with.
                    with contextlib.suppress(rbd.ImageNotFound):
                        _remove(io, name)


def _depth(io: typing.Any, name: str) -> int:
    import rbd

    with contextlib.suppress(rbd.ImageNotFound), rbd.Image(
            io, name, read_only=True) as image:
        image.parent_info()
        return 0
    return 1


def _remove(io: typing.Any, name: str) -> None:
    import rbd

    with contextlib.suppress(rbd.ImageNotFound), \
            rbd.Image(io, name) as image:
        for snap in list(image.list_snaps()):
            if image.is_protected_snap(snap['name']):
                image.unprotect_snap(snap['name'])
            image.remove_snap(snap['name'])
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            rbd.RBD().remove(io, name)
            return
        except rbd.ImageBusy:
            # Whoever was killed counts as a watcher for half a minute.
            assert time.monotonic() < deadline
            time.sleep(0.5)


def connect(conf: str, user: str = 'admin') -> typing.Any:
    import rados

    found = rados.Rados(conffile=conf, rados_id=user, conf={
        'client_mount_timeout': str(SECONDS),
        'rados_osd_op_timeout': str(SECONDS),
        'rados_mon_op_timeout': str(SECONDS)})
    found.connect()
    return found


def command(cluster: typing.Any, prefix: str,
            **words: typing.Any) -> typing.Any:
    """A command to the monitors; a failure shows what they said."""
    status, out, said = cluster.mon_command(json.dumps(
        {'prefix': prefix, 'format': 'json', **words}), b'')
    assert status == 0, (prefix, words, said)
    return json.loads(out) if out.strip() else None


def _wait(what: str, look: collections.abc.Callable[[], typing.Any],
          pause: float = 0.05) -> typing.Any:
    deadline = time.monotonic() + SECONDS
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f'{what} does not come up'
        time.sleep(pause)


class Rgw(s3.Server):
    """The radosgw of the same cluster, as the S3 server of the tests is."""

    def __init__(self, port: int) -> None:
        self.port = port

    def clear(self) -> None:
        client = self.client()
        for key in self.keys():
            client.delete_object(Bucket=s3.BUCKET, Key=key)
        with contextlib.suppress(client.exceptions.NoSuchBucket):
            for each in client.list_multipart_uploads(
                    Bucket=s3.BUCKET).get('Uploads', ()):
                client.abort_multipart_upload(
                    Bucket=s3.BUCKET, Key=each['Key'],
                    UploadId=each['UploadId'])

    def stop(self) -> None:
        """With the cluster."""


# -- for the tests

@contextlib.contextmanager
def running(directory: pathlib.Path) -> collections.abc.Iterator[Ceph]:
    """The one of ``directory``, which all processes of a run share."""
    for name in PROGRAMS:
        servers.program(name, '/usr/sbin')
    link_modules()
    directory.mkdir(exist_ok=True)
    with open(directory / 'users', 'a') as users, \
            open(directory / 'starting', 'a') as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        # Waits for one that is just being ended.
        fcntl.flock(users, fcntl.LOCK_SH)
        if not (directory / 'place').exists():
            _start(directory)
        place = pathlib.Path((directory / 'place').read_text())
        fcntl.flock(starting, fcntl.LOCK_UN)
        yield Ceph(place)


def _start(directory: pathlib.Path) -> None:
    with open(directory / 'log', 'ab') as log:
        keeper = subprocess.Popen(
            [sys.executable, '-m', 'tests.ceph', str(directory)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True)

    def is_up() -> bool:
        assert keeper.poll() is None, (
            directory / 'log').read_text()[-4000:]
        return (directory / 'place').exists()
    _wait('Ceph', is_up)


@pytest.fixture(scope='session')
def ceph(tmp_path_factory):
    top = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        top = top.parent
    with running(top / 'ceph') as found:
        yield found


@pytest.fixture
def rgw(ceph):
    """It, empty."""
    servers.need_module('boto3')
    ceph.wait_for_rgw()
    found = Rgw(ceph.rgw_port)
    found.clear()
    return found


# -- the process that keeps it

CONF = '''
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
public_network = 127.0.0.0/8
ms_bind_msgr1 = false
ms_bind_port_min = {first}
ms_bind_port_max = {last}
# radosgw asks for the older way otherwise
ms_mon_client_mode = crc secure
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = {top}/keyring
run_dir = {top}
log_file = {top}/$name.log
log_to_stderr = false
admin_socket =
crash_dir = {top}
setuser_match_path =
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_data_avail_warn = 1
mon_data_avail_crit = 0
mon_max_pg_per_osd = 1000
rbd_default_features = 61
# An OSD that was frozen for longer than four fifths of this lets requests to
# some placement groups wait for ever.
osd_heartbeat_grace = 120
{more}
[mon]
mon_data = {top}/mon
mon_cluster_log_file = {top}/cluster.log
paxos_propose_interval = 0.1
paxos_min_wait = 0.02
[mgr]
mgr_data = {top}/mgr
mgr_initial_modules =
mgr_disabled_modules = *
mgr_stats_period = 1
mgr_tick_period = 1
[osd]
osd_data = {top}/osd
osd_objectstore = {kind}
memstore_device_bytes = {size}
bluestore_block_create = true
bluestore_block_size = {size}
osd_memory_target = 1073741824
osd_max_object_name_len = 1024
osd_class_update_on_start = false
osd_mclock_skip_benchmark = true
# Half a minute is long for a test of what somebody killed has left.
osd_client_watch_timeout = 2
[client.rgw.a]
rgw_frontends = beast endpoint=127.0.0.1:{rgw}
rgw_data = {top}/rgw.data
rgw_thread_pool_size = 16
rgw_multipart_min_part_size = 1024
rgw_enable_apis = s3, admin
rgw_enable_gc_threads = false
rgw_enable_lc_threads = false
rgw_run_sync_thread = false
'''


def _port() -> int:
    """Of the kernel's choice: this process runs beside those of the tests."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def _key() -> str:
    """A secret as cephx has it: type, when it was made, length, 16 bytes."""
    return base64.b64encode(struct.pack(
        '<hiih', 1, int(time.time()), 0, 16) + os.urandom(16)).decode()


def _keyring() -> str:
    lines = []
    for name, rights in USERS.items():
        lines += [f'[{name}]', f'key = {_key()}']
        lines += [f'caps {of} = "{what}"' for of, what in rights.items()]
    return '\n'.join(lines) + '\n'


class Keeper:
    """Starts the daemons, one after the other, and ends them."""

    def __init__(self, top: pathlib.Path, *, kind: str = 'memstore',
                 size: int = 4096 * MIB, more: str = '') -> None:
        """:param more: lines for the section [global]"""
        self.top = top
        self.conf = str(top / 'ceph.conf')
        self.processes: dict[str, subprocess.Popen] = {}
        first = 21000 + os.getpid() % 40 * 200
        self.ports = {'mon': _port(), 'rgw': _port()}
        self.fsid = str(uuid.uuid4())
        for name in ('mon', 'mgr', 'osd', 'rgw.data'):
            (top / name).mkdir()
        (top / 'keyring').write_text(_keyring())
        (top / 'ceph.conf').write_text(CONF.format(
            top=top, fsid=self.fsid, kind=kind, size=size, first=first,
            last=first + 199, more=more, **self.ports))
        self.cluster: typing.Any = None

    def run(self, *words: str) -> None:
        program = servers.program(words[0], '/usr/sbin')
        done = subprocess.run(
            [program, *words[1:]], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout

    def spawn(self, name: str, *words: str) -> None:
        with open(self.top / f'{name}.out', 'ab') as out:
            self.processes[name] = subprocess.Popen(
                [servers.program('setpriv'), '--pdeathsig=KILL',
                 servers.program(words[0], '/usr/sbin'), *words[1:],
                 '-c', self.conf, '-f'],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def start(self, pools: collections.abc.Sequence[str] = POOLS) -> None:
        keyring, monmap = str(self.top / 'keyring'), str(self.top / 'monmap')
        self.run('monmaptool', '--create', '--fsid', self.fsid, '--addv',
                 'a', f'[v2:127.0.0.1:{self.ports["mon"]}]', monmap)
        self.run('ceph-mon', '-c', self.conf, '--mkfs', '-i', 'a', '--monmap',
                 monmap, '--keyring', keyring)
        self.spawn('mon', 'ceph-mon', '-i', 'a')
        self.cluster = connect(self.conf)
        self.spawn('mgr', 'ceph-mgr', '-i', 'x')
        name = str(uuid.uuid4())
        command(self.cluster, 'osd new', uuid=name)
        self.run('ceph-osd', '-c', self.conf, '-i', '0', '--mkfs',
                 '--osd-uuid', name, '--keyring', keyring)
        command(self.cluster, 'osd crush add', id=0, weight=1.0,
                args=['root=default', 'host=h'])
        command(self.cluster, 'osd set-require-min-compat-client',
                version='mimic')
        self.spawn('osd', 'ceph-osd', '-i', '0')
        _wait('the OSD', lambda: command(
            self.cluster, 'osd stat')['num_up_osds'])
        import rbd

        for pool in pools:
            command(self.cluster, 'osd pool create', pool=pool)
            command(self.cluster, 'osd pool application enable', pool=pool,
                    app='rbd')
            with self.cluster.open_ioctx(pool) as io:
                rbd.RBD().pool_init(io, True)

    def start_rgw(self) -> None:
        self.spawn('rgw', 'radosgw', '-n', 'client.rgw.a')

    def wait_for_rgw(self) -> None:
        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(
                    ('127.0.0.1', self.ports['rgw']), 1):
                return True
            return False
        _wait('radosgw', answers, 0.2)
        self.run('radosgw-admin', '-c', self.conf, 'user', 'create', '--uid',
                 'glance', '--display-name', 'glance', '--access-key', 'key',
                 '--secret-key', 'secret')

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(SECONDS)


def keep(directory: pathlib.Path) -> None:
    """Until no process of the tests uses it."""
    # Paths of sockets are short.
    top = pathlib.Path(tempfile.mkdtemp(prefix='glance-import-ceph-'))
    keeper = Keeper(top)
    try:
        keeper.start()
        (top / 'ready').write_text(json.dumps({
            'fsid': keeper.fsid, 'osd': keeper.processes['osd'].pid,
            'rgw': keeper.ports['rgw']}))
        _publish(directory / 'place', str(top))
        keeper.start_rgw()
        keeper.wait_for_rgw()
        (top / 'rgw').touch()
        with open(directory / 'users') as users:
            fcntl.flock(users, fcntl.LOCK_EX)
            (directory / 'place').unlink()
            # Whoever comes now waits for the end of this process.
            keeper.stop()
    finally:
        keeper.stop()
        shutil.rmtree(top, ignore_errors=True)


def _publish(path: pathlib.Path, text: str) -> None:
    part = path.with_suffix('.part')
    part.write_text(text)
    part.rename(path)


if __name__ == '__main__':
    # An interrupted run interrupts this too, which has to clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    keep(pathlib.Path(sys.argv[1]))
