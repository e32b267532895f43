"""A real service for tests: its commands, and real sockets.

Everything it keeps is below one temporary directory; it listens on a free
port of 127.0.0.1 and is ended by its pid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import importlib.metadata
import json
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import typing

from glance_import.plugin import file_digests
from glance_import.plugin import snapshot
from tests import described
from tests import servers
from tests import warm

DEADLINE = 60.0
Process = subprocess.Popen | warm.Process
ADMIN = 'root:ops:admin,member,reader'
MEMBER = 'ann:red:member,reader'
OTHER = 'bob:blue:member,reader'
READER = 'eve:red:reader'


@dataclasses.dataclass
class Answer:
    """What came back; ``headers`` has lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> typing.Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The text of an error."""
        return self.json['message'] if self.body[:1] == b'{' \
            else self.body.decode()


class Service:
    """glance-import-api (and its conductor) on a directory."""

    # Whether its commands are started as users start them, modules and all.
    is_cold = False
    # Whether its answers are those of our description of the API.
    is_described = True

    def __init__(self, directory: pathlib.Path, *,
                 options: dict[str, dict[str, typing.Any]] | None = None,
                 path: typing.Sequence[pathlib.Path] = (),
                 token: str | None = None) -> None:
        self.directory = directory
        self.port = servers.free_port()
        self.token = token
        self.staging = directory / 'staging'
        self.images = directory / 'images'
        self.state = directory / 'state'
        self.log = directory / 'log'
        self.conf = directory / 'conf'
        self.process: Process | None = None
        self.environment = dict(os.environ, PYTHONPATH=os.pathsep.join(
            [*map(str, path), *filter(None, [os.environ.get('PYTHONPATH')])]))
        self.options: dict[str, dict[str, typing.Any]] = {
            'DEFAULT': {
                'state_path': self.state,
                'node_staging_uri': f'file://{self.staging}',
                'enable_image_import': True,
                'bind_port': self.port,
                'graceful_shutdown_timeout': 10,
            },
            'glance_store': {'filesystem_store_datadir': self.images},
            'taskflow_executor': {'poll_interval': 0.2},
        }
        for group, values in (options or {}).items():
            self.options.setdefault(group, {}).update(values)
        self.configure()

    def configure(self, **groups: dict[str, typing.Any]) -> None:
        """Write the configuration, with more options if given."""
        for group, values in groups.items():
            self.options.setdefault(group, {}).update(values)
        self.conf.mkdir(parents=True, exist_ok=True)
        (self.conf / 'glance-api.conf').write_text(''.join(
            f'[{group}]\n' + ''.join(
                f'{name} = {value}\n' for name, value in values.items())
            for group, values in self.options.items()))

    # -- processes

    def command(self, name: str, *arguments: str) -> list[str]:
        return [sys.executable, '-m', f'glance_import.cmd.{name}',
                '--config-dir', str(self.conf), *arguments]

    def run(self, name: str, *arguments: str,
            timeout: float = DEADLINE) -> subprocess.CompletedProcess:
        """A command to its end."""
        words = self.command(name, *arguments)
        if self._may_be_warm(name, words):
            return warm.run(words[2], words[3:], environment=self.environment,
                            directory=str(self.directory), timeout=timeout)
        return subprocess.run(
            words, env=self.environment, cwd=self.directory,
            capture_output=True, text=True, timeout=timeout)

    def spawn(self, name: str) -> Process:
        """A command that goes on, in a session of its own; it logs."""
        words, log = self.command(name), str(self.log)
        if self._may_be_warm(name, words):
            return warm.Process(words[2], words[3:], out=log, err=log,
                                environment=self.environment,
                                directory=str(self.directory))
        with open(log, 'ab') as file:
            return subprocess.Popen(
                words, env=self.environment, cwd=self.directory, stdout=file,
                stderr=file, stdin=subprocess.DEVNULL,
                start_new_session=True)

    def _may_be_warm(self, name: str, words: list[str]) -> bool:
        return (not self.is_cold and warm.suits(self.environment)
                and words[:3] == [sys.executable, '-m',
                                  f'glance_import.cmd.{name}'])

    def start(self) -> Service:
        """Start and wait for the first answer."""
        self.process = self.spawn('api')
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(
                    f'ended with {self.process.returncode}:\n{self.text()}')
            with contextlib.suppress(OSError):
                socket.create_connection(('127.0.0.1', self.port), 1).close()
                self.request('GET', '/versions')
                return self
            time.sleep(0.05)
        raise AssertionError(f'no answer:\n{self.text()}')

    def stop(self) -> int:
        """SIGTERM, and wait; the exit status."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(30)
        except subprocess.TimeoutExpired:
            self._kill_group(process)
            raise

    def kill(self) -> None:
        """kill -9 of the API and everything it started."""
        process, self.process = self.process, None
        if process is not None:
            self._kill_group(process)

    @staticmethod
    def _kill_group(process: Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def children(self, pid: int | None = None) -> dict[int, str]:
        """pid -> command line of every descendant."""
        if pid is None:
            assert self.process is not None
            pid = self.process.pid
        found = {}
        for entry in pathlib.Path('/proc').iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, IndexError):
                stat = (entry / 'stat').read_text()
                if int(stat.rpartition(')')[2].split()[1]) == pid:
                    words = (entry / 'cmdline').read_bytes().split(b'\0')
                    child = int(entry.name)
                    found[child] = b' '.join(words).decode()
                    found.update(self.children(child))
        return found

    def conductor_pid(self) -> int:
        """The embedded conductor, waiting for it to be there."""
        return wait_for(lambda: next(
            (pid for pid, words in self.children().items()
             if 'cmd.conductor' in words), None))

    def text(self) -> str:
        """The log so far."""
        return self.log.read_text() if self.log.exists() else ''

    # -- requests

    def request(self, method: str, path: str, body: typing.Any = None,
                headers: dict[str, str] | None = None, *,
                token: str | None = None, chunks: typing.Any = None,
                timeout: float = DEADLINE) -> Answer:
        """One request on a connection of its own.

        ``body`` is bytes, or anything else to send as JSON; ``chunks`` an
        iterable of bytes to send chunked.
        """
        headers = {'Accept': 'application/json', **(headers or {})}
        token = token or self.token
        if token is not None:
            headers['X-Auth-Token'] = token
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault('Content-Type', 'application/json')
        connection = http.client.HTTPConnection(
            '127.0.0.1', self.port, timeout=timeout)
        try:
            connection.request(
                method, path, body=body if chunks is None else chunks,
                headers=headers, encode_chunked=chunks is not None)
            response = connection.getresponse()
            answer = Answer(
                response.status,
                {name.lower(): value for name, value
                 in response.getheaders()}, response.read())
            if self.is_described:
                described.check(method, path, answer.status)
            return answer
        finally:
            connection.close()

    def create(self, token: str | None = None, **attributes: typing.Any
               ) -> str:
        """A queued image's id."""
        answer = self.request('POST', '/v2/images', {
            'name': 'test', 'disk_format': 'raw', 'container_format': 'bare',
            **attributes}, token=token)
        assert answer.status == 201, answer
        return answer.json['id']

    def stage(self, image_id: str, data: bytes = b'', *,
              chunks: typing.Any = None, token: str | None = None,
              headers: dict[str, str] | None = None) -> Answer:
        headers = {'Content-Type': 'application/octet-stream',
                   **(headers or {})}
        if chunks is not None:
            headers['Transfer-Encoding'] = 'chunked'
        return self.request(
            'PUT', f'/v2/images/{image_id}/stage', data, headers,
            token=token, chunks=chunks)

    def start_import(self, image_id: str, token: str | None = None) -> Answer:
        return self.request('POST', f'/v2/images/{image_id}/import',
                            {'method': {'name': 'glance-direct'}},
                            token=token)

    def ask(self, data: bytes = b'', *, token: str | None = None,
            chunks: typing.Any = None, **attributes: typing.Any) -> str:
        """The id of a new image whose staged import was accepted."""
        image_id = self.create(token, **attributes)
        answer = self.stage(image_id, data, chunks=chunks, token=token)
        assert answer.status == 204, answer
        answer = self.start_import(image_id, token)
        assert answer.status == 202, answer
        return image_id

    def show(self, image_id: str, token: str | None = None
             ) -> dict[str, typing.Any]:
        answer = self.request('GET', f'/v2/images/{image_id}', token=token)
        assert answer.status == 200, answer
        return answer.json

    def download(self, image_id: str, token: str | None = None) -> bytes:
        answer = self.request('GET', f'/v2/images/{image_id}/file',
                              token=token)
        assert answer.status == 200, answer
        return answer.body

    def tasks(self, image_id: str, token: str | None = None
              ) -> list[dict[str, typing.Any]]:
        return self.request('GET', f'/v2/images/{image_id}/tasks',
                            token=token).json['tasks']

    def wait_status(self, image_id: str, *wanted: str,
                    token: str | None = None) -> dict[str, typing.Any]:
        """The image when its status is one of ``wanted``."""
        def look():
            image = self.show(image_id, token)
            return image if image['status'] in wanted else None
        try:
            return wait_for(look)
        except AssertionError:
            raise AssertionError(
                f'{self.show(image_id, token)}\n'
                f'{self.tasks(image_id, token)}\n{self.text()[-6000:]}')

    def raw(self) -> socket.socket:
        """A connected socket, to speak HTTP by hand."""
        return socket.create_connection(('127.0.0.1', self.port), DEADLINE)

    def stage_by_hand(self, image_id: str, length: int | None
                      ) -> socket.socket:
        """A connection on which a stage request has begun.

        ``length`` bytes are announced; None begins a chunked body.
        """
        body = ('Transfer-Encoding: chunked' if length is None
                else f'Content-Length: {length}')
        sock = self.raw()
        sock.sendall((
            f'PUT /v2/images/{image_id}/stage HTTP/1.1\r\nHost: localhost\r\n'
            'Accept: application/json\r\n'
            'Content-Type: application/octet-stream\r\n'
            f'{body}\r\n\r\n').encode())
        return sock

    # -- what lies where

    def database(self) -> sqlite3.Connection:
        return sqlite3.connect(self.state / 'glance.sqlite', timeout=30)

    def execute(self, statement: str, *values: typing.Any) -> list:
        """One statement on the database, committed."""
        connection = self.database()
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def staged(self) -> list[str]:
        """Names in the staging directory that are not the area's own."""
        return sorted(name for name in os.listdir(self.staging)
                      if not name.startswith('.'))

    def stored(self) -> list[str]:
        return sorted(os.listdir(self.images))


def wait_for(look: typing.Callable[[], typing.Any],
             seconds: float = DEADLINE) -> typing.Any:
    """What ``look`` returns as soon as that is something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.03)
    raise AssertionError('waited in vain')


def answer_of(sock: socket.socket) -> tuple[int, bytes]:
    """Status and body of the one answer on a raw connection."""
    response = http.client.HTTPResponse(sock)
    response.begin()
    return response.status, response.read()


def judged_by(names: typing.Sequence[str], path: pathlib.Path
              ) -> snapshot.Snapshot:
    """What a job keeps of get_flow plugins, the service's own or in ``path``.

    :param path: where ``write_distribution`` has put them, each in a module
        of the name that its entry point says
    """
    pinned = []
    for name in names:
        points = importlib.metadata.entry_points(
            group='glance.image_import.plugins', name=name)
        module = next((point.module for point in points), None)
        if module is None:
            point, = [line for line in next(path.glob(
                '*.dist-info/entry_points.txt')).read_text().splitlines()
                if line.startswith(f'{name} = ')]
            module = point.partition(' = ')[2].partition(':')[0]
            code = file_digests.of_text(file_digests.of_code(
                str(path / f'{module}.py')))
        else:
            code = snapshot.FLOW_VERSION
        pinned.append(snapshot.Pinned(name, 'get_flow', code))
    return snapshot.Snapshot(plugins=tuple(pinned))


def write_distribution(directory: pathlib.Path, name: str,
                       modules: dict[str, str],
                       entry_points: dict[str, dict[str, str]]
                       ) -> pathlib.Path:
    """What an installed distribution looks like, to put on the path."""
    directory.mkdir(parents=True, exist_ok=True)
    for module, source in modules.items():
        (directory / f'{module}.py').write_text(source)
    info = directory / f'{name}-1.0.dist-info'
    info.mkdir(exist_ok=True)
    (info / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text(''.join(
        f'[{group}]\n' + ''.join(
            f'{point} = {target}\n' for point, target in points.items())
        for group, points in entry_points.items()))
    return directory
