"""Private servers of job boards for tests: redis, etcd and ZooKeeper.

Like the databases of ``tests.servers``: from their Debian packages, on free
ports of 127.0.0.1, in directories of their own, ended with the tests.
"""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import time
import typing

import pytest

from tests import servers


class BoardServer(servers.Server):
    """``start``, ``stop``, ``kill``; ``options`` are the service's."""

    kind: str
    module: str

    def __init__(self) -> None:
        servers.need_module(self.module)
        self.program = self.find()
        super().__init__()

    def find(self) -> str:
        raise NotImplementedError

    def options(self, **more: typing.Any) -> dict[str, typing.Any]:
        """For [taskflow_executor]."""
        return {'jobboard': self.kind, 'jobboard_port': self.port, **more}

    def start(self) -> None:
        with open(self.path('log'), 'ab') as log:
            self.process = subprocess.Popen(
                self.command(*self.serve()), cwd=self.directory,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **self.environment()})
        deadline = time.monotonic() + servers.READY_SECONDS
        while not self.ready():
            if (time.monotonic() > deadline
                    or self.process.poll() is not None):
                with open(self.path('log'), encoding='utf-8') as log:
                    raise AssertionError(log.read()[-4000:])
            time.sleep(0.05)

    def environment(self) -> dict[str, str]:
        return {}

    def ready(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    def ask(self, question: bytes) -> bytes:
        try:
            with socket.create_connection(
                    ('127.0.0.1', self.port), 1) as sock:
                sock.sendall(question)
                return sock.recv(1000)
        except OSError:
            return b''

    def empty(self) -> None:
        """Throw away what it keeps; only while it is down."""
        shutil.rmtree(self.path('data'), ignore_errors=True)
        self.make_data()

    def make_data(self) -> None:
        os.makedirs(self.path('data'), exist_ok=True)
        owner = os.stat(self.directory)
        os.chown(self.path('data'), owner.st_uid, owner.st_gid)


class Redis(BoardServer):
    kind = module = 'redis'

    def find(self) -> str:
        return servers.program('redis-server')

    def serve(self) -> list[str]:
        self.make_data()
        return [self.program, '--port', str(self.port),
                '--bind', '127.0.0.1', '--dir', self.path('data'),
                '--appendonly', 'yes', '--appendfsync', 'no', '--save', '',
                '--requirepass', self.password]

    def options(self, **more: typing.Any) -> dict[str, typing.Any]:
        return super().options(jobboard_password=self.password, **more)

    def ready(self) -> bool:
        return self.ask(f'AUTH {self.password}\r\nPING\r\n'
                        .encode()).startswith(b'+OK')


class Etcd(BoardServer):
    kind = 'etcd'
    module = 'etcd3gw'

    def find(self) -> str:
        return servers.program('etcd')

    def serve(self) -> list[str]:
        self.make_data()
        os.chmod(self.path('data'), 0o700)
        here = f'http://127.0.0.1:{self.port}'
        self.peers = getattr(self, 'peers', servers.free_port())
        there = f'http://127.0.0.1:{self.peers}'
        return [self.program, '--data-dir', self.path('data'),
                '--listen-client-urls', here, '--advertise-client-urls',
                here, '--listen-peer-urls', there,
                '--initial-advertise-peer-urls', there,
                '--initial-cluster', f'default={there}',
                '--unsafe-no-fsync']

    def ready(self) -> bool:
        return b'"true"' in self.ask(
            b'GET /health HTTP/1.0\r\nHost: x\r\n\r\n')


class ZooKeeper(BoardServer):
    kind = 'zookeeper'
    module = 'kazoo'

    def find(self) -> str:
        if not glob.glob('/usr/share/java/zookeeper*.jar'):
            servers.missing('the program zookeeper is not installed')
        return servers.program('java')

    def serve(self) -> list[str]:
        self.make_data()
        config = self.write('zoo.cfg', (
            f'dataDir={self.path("data")}\nclientPort={self.port}\n'
            'clientPortAddress=127.0.0.1\ntickTime=200\n'
            'minSessionTimeout=400\nmaxSessionTimeout=60000\n'
            'admin.enableServer=false\nforceSync=no\nmaxClientCnxns=0\n'
            '4lw.commands.whitelist=ruok,srvr\n'))
        return [self.program, '-Xmx256m', '-cp',
                '/usr/share/java/zookeeper.jar:/usr/share/java/*',
                'org.apache.zookeeper.server.quorum.QuorumPeerMain', config]

    def ready(self) -> bool:
        return b'Zookeeper version' in self.ask(b'srvr')


def _fixture(kind: type[BoardServer]):
    def running():
        with servers.running(kind) as server:
            yield server
    return pytest.fixture(scope='session', name=kind.kind)(running)


redis, etcd, zookeeper = (
    _fixture(kind) for kind in (Redis, Etcd, ZooKeeper))
