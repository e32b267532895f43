"""A private RabbitMQ for tests, from its Debian package.

Like the servers of ``tests.servers``: on free ports of 127.0.0.1, its epmd
too, in a directory of its own, as an unprivileged user, ended with the tests.
"""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import time

import pytest

from tests import servers

PLACE = '/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin'


class RabbitMQ(servers.Server):
    """``start``, ``stop``, ``kill``; ``transport`` is its URL."""

    def __init__(self) -> None:
        self.program = servers.program('rabbitmq-server', PLACE)
        # The one in the PATH of a Debian machine is for root alone.
        found = sorted(pathlib.Path('/').glob(
            f'{PLACE.lstrip("/")}/rabbitmq-server'))
        if found:
            self.program = str(found[-1])
        super().__init__()
        self.epmd: subprocess.Popen | None = None
        self.epmd_port = servers.free_port()
        self.write('rabbitmq.conf', '\n'.join((
            f'listeners.tcp.1 = 127.0.0.1:{self.port}',
            'default_user = glance', f'default_pass = {self.password}',
            'log.console = true', 'log.file = false', '')))
        self.write('plugins', '[].\n')

    @property
    def transport(self) -> str:
        return f'rabbit://glance:{self.password}@127.0.0.1:{self.port}/'

    def start(self) -> None:
        environment = {
            **os.environ, 'HOME': self.directory,
            'ERL_EPMD_PORT': str(self.epmd_port),
            'ERL_EPMD_ADDRESS': '127.0.0.1',
            'RABBITMQ_NODENAME': f'test{self.port}@localhost',
            'RABBITMQ_CONFIG_FILE': self.path('rabbitmq.conf'),
            'RABBITMQ_ENABLED_PLUGINS_FILE': self.path('plugins'),
            'RABBITMQ_MNESIA_BASE': self.path('mnesia'),
            'RABBITMQ_LOG_BASE': self.path('logs'),
            'RABBITMQ_LOGS': '-',
            # No shell between us and the server, which would leave it.
            'RUNNING_UNDER_SYSTEMD': '1',
            'RABBITMQ_DIST_PORT': str(servers.free_port()),
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': '+S 1:1 +sbwt none'}
        with open(self.path('log'), 'ab') as log:
            self.epmd = subprocess.Popen(
                self.command(servers.program('epmd'), '-port',
                             str(self.epmd_port), '-address', '127.0.0.1'),
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=environment)
            self.process = subprocess.Popen(
                self.command(self.program), cwd=self.directory,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment)
        deadline = time.monotonic() + servers.READY_SECONDS
        while not self._ready():
            if (time.monotonic() > deadline
                    or self.process.poll() is not None):
                with open(self.path('log'), encoding='utf-8') as log:
                    raise AssertionError(log.read()[-4000:])
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            with socket.create_connection(
                    ('127.0.0.1', self.port), 1) as sock:
                # Of AMQP 0-9-1; what it does not speak is answered at once.
                sock.sendall(b'AMQP\0\0\x09\x01')
                return bool(sock.recv(8))
        except OSError:
            return False

    def remove(self) -> None:
        super().remove()
        if self.epmd is not None:
            self.epmd.kill()
            self.epmd.wait(10)


@pytest.fixture(scope='module')
def rabbitmq():
    with servers.running(RabbitMQ) as server:
        yield server
