"""An S3 server of the tests' own (moto), and a wire that can be cut.

Both listen on a free port of 127.0.0.1; the server runs in an environment
of its own and is ended by its pid.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import threading
import time
import typing
import urllib.request

import pytest

from tests import environments
from tests import servers

SECONDS = 60
BUCKET = 'images'


class Server:
    """moto's S3, in memory."""

    def __init__(self, environment: environments.Environment) -> None:
        self.port = servers.free_port()
        self.process = subprocess.Popen(
            [servers.program('setpriv'), '--pdeathsig=KILL',
             environment.program('moto_server'), '-H', '127.0.0.1', '-p',
             str(self.port)],
            # Parts may be as small as a test wants them.
            env={**os.environ, 'S3_UPLOAD_PART_MIN_SIZE': '1024'},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                urllib.request.urlopen(
                    f'http://127.0.0.1:{self.port}/moto-api/',
                    timeout=SECONDS).close()
                return
            except OSError:
                if time.monotonic() > deadline \
                        or self.process.poll() is not None:
                    self.stop()
                    raise AssertionError('the S3 server does not answer')
            time.sleep(0.1)

    def options(self, port: int | None = None,
                **more: typing.Any) -> dict[str, typing.Any]:
        """What a store's section says to use it."""
        return {'s3_store_host': f'http://127.0.0.1:{port or self.port}',
                's3_store_access_key': 'key', 's3_store_secret_key': 'secret',
                's3_store_bucket': BUCKET,
                's3_store_create_bucket_on_put': True,
                's3_store_bucket_url_format': 'path', **more}

    def client(self) -> typing.Any:
        """boto3's own, to look with."""
        import boto3

        return boto3.client(
            's3', endpoint_url=f'http://127.0.0.1:{self.port}',
            aws_access_key_id='key', aws_secret_access_key='secret',
            region_name='us-east-1')

    def keys(self) -> list[str]:
        """Every visible object."""
        client = self.client()
        try:
            return sorted(each['Key'] for each in client.list_objects_v2(
                Bucket=BUCKET).get('Contents', ()))
        except client.exceptions.NoSuchBucket:
            return []

    def uploads(self) -> list[str]:
        """Every upload whose parts lie there, by its key."""
        client = self.client()
        try:
            return sorted(
                each['Key'] for each in client.list_multipart_uploads(
                    Bucket=BUCKET).get('Uploads', ()))
        except client.exceptions.NoSuchBucket:
            return []

    def clear(self) -> None:
        """Forget everything that was stored."""
        urllib.request.urlopen(urllib.request.Request(
            f'http://127.0.0.1:{self.port}/moto-api/reset', method='POST'),
            timeout=SECONDS).close()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(SECONDS)


class Wire:
    """A TCP relay: cuts a connection once so many bytes went to the server.

    ``cuts`` says how many connections it treats so; ``down`` takes none, and
    ``slow`` seconds pass before each 64 KiB on their way to the server.
    """

    def __init__(self, port: int, after: int, cuts: int) -> None:
        self.after = after
        self.cuts = cuts
        self.made = 0
        self.down = False
        self.slow = 0.0
        self._to = port
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.down:
                client.close()
                continue
            threading.Thread(target=self._relay, args=[client],
                             daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        server = socket.create_connection(('127.0.0.1', self._to))
        passed = 0
        with client, server, contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([client, server], [], [], SECONDS)
                for one in ready:
                    data = one.recv(65536)
                    if not data or self.down:
                        return
                    if one is client:
                        passed += len(data)
                        if passed > self.after and self.made < self.cuts:
                            self.made += 1
                            return
                        time.sleep(self.slow if len(data) > 4096 else 0)
                        server.sendall(data)
                    else:
                        client.sendall(data)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope='session')
def s3_server(request):
    servers.need_module('boto3')
    server = Server(environments.make(
        'moto', request.config.cache.mkdir('environments')))
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server):
    """The server, empty."""
    s3_server.clear()
    return s3_server
