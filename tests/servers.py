"""Private database servers for tests: PostgreSQL and MariaDB.

Each runs from its Debian package's programs on a free port of 127.0.0.1, in
a directory of its own under the temporary directory, as an unprivileged
user, and dies with the test process. A missing program skips the test, and
fails it when the environment says ``CI=true``.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import itertools
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest
import sqlalchemy as sa

READY_SECONDS = 60.0


def program(name: str, *directories: str) -> str:
    """Where ``name`` is, or skip (under CI: fail) the test.

    ``directories`` are glob patterns searched after the PATH.
    """
    places = itertools.chain.from_iterable(
        sorted(glob.glob(d), reverse=True) for d in directories)
    for place in itertools.chain(('',), places):
        found = shutil.which(name, path=place or None)
        if found:
            return found
    missing(f'the program {name} is not installed')


def missing(reason: str) -> None:
    """Skip the test for what the machine lacks; under CI fail it."""
    if os.environ.get('CI') == 'true':
        pytest.fail(reason)
    pytest.skip(reason)


def need_module(name: str) -> None:
    """Skip (under CI: fail) the test without the driver ``name``."""
    if importlib.util.find_spec(name) is None:
        missing(f'the Python module {name} is not installed')


# Below the ports that the kernel gives to connections; so many for each of
# the processes that run the tests side by side.
_PORTS, _EACH = 10_000, 2_500
_next_port = itertools.count(random.randrange(_EACH))


def free_port() -> int:
    """A port of loopback that nobody listens on, nor is given again soon."""
    worker = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:])
    for number in _next_port:
        port = _PORTS + worker % 8 * _EACH + number % _EACH
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(('127.0.0.1', port))
            return port
    raise AssertionError


class Server:
    """One server: ``start``, ``stop``, ``kill``, and databases on it."""

    driver: str
    user = 'glance'
    # What the server is when the tests run as root, who may not start it.
    unprivileged = 'nobody'

    def __init__(self) -> None:
        self.port = free_port()
        self.password = secrets.token_hex(12)
        self.directory = tempfile.mkdtemp(prefix='glance-import-test-')
        self.process: subprocess.Popen | None = None
        self._numbers = itertools.count(1)
        self._as: list[str] = []
        if os.geteuid() == 0:
            account = pwd.getpwnam(self.unprivileged)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
            self._as = [f'--reuid={account.pw_uid}',
                        f'--regid={account.pw_gid}', '--clear-groups']

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def write(self, name: str, text: str) -> str:
        with open(self.path(name), 'w', encoding='utf-8') as f:
            f.write(text)
        if self._as:
            os.chmod(self.path(name), 0o644)
        return self.path(name)

    def command(self, *words: str) -> list[str]:
        """The command line, as the right user and not outliving us."""
        return [program('setpriv'), *self._as, '--pdeathsig=TERM', *words]

    def run(self, *words: str) -> None:
        done = subprocess.run(self.command(*words), cwd=self.directory,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout

    def serve(self) -> list[str]:
        """The command line of the server itself."""
        raise NotImplementedError

    def start(self) -> None:
        self.launch()
        self.wait()

    def launch(self) -> None:
        # Of the main thread: the server goes with the thread that made it.
        with open(self.path('log'), 'ab') as log:
            self.process = subprocess.Popen(
                self.command(*self.serve()), cwd=self.directory,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait(self) -> None:
        """Until it answers."""
        assert self.process is not None
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                self.execute('SELECT 1')
                return
            except sa.exc.DBAPIError:
                if (time.monotonic() > deadline
                        or self.process.poll() is not None):
                    with open(self.path('log'), encoding='utf-8') as log:
                        raise AssertionError(log.read()[-4000:]) from None
            time.sleep(0.1)

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(60)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def execute(self, statement: str) -> list:
        """Run one statement with the server's own first database."""
        engine = sa.create_engine(self.url(self.first),
                                  isolation_level='AUTOCOMMIT')
        try:
            with engine.connect() as connection:
                result = connection.exec_driver_sql(statement)
                return result.fetchall() if result.returns_rows else []
        finally:
            engine.dispose()

    # A database that is there from the beginning.
    first: str

    def url(self, database: str) -> str:
        return (f'{self.driver}://{self.user}:{self.password}'
                f'@127.0.0.1:{self.port}/{database}')

    def create(self) -> str:
        """Make an empty database and return its URL."""
        name = f'glance_{next(self._numbers)}'
        self.execute(f'CREATE DATABASE {name}')
        return self.url(name)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class PostgreSQL(Server):
    driver = 'postgresql+psycopg2'
    first = 'postgres'
    unprivileged = 'postgres'
    BIN = '/usr/lib/postgresql/*/bin'

    def __init__(self) -> None:
        need_module('psycopg2')
        initdb = program('initdb', self.BIN)
        self.server = program('postgres', self.BIN,
                              os.path.dirname(os.path.realpath(initdb)))
        super().__init__()
        self.run(initdb, '--pgdata', self.path('data'), '--no-sync',
                 '--username', self.user, '--auth=scram-sha-256',
                 '--encoding=UTF8', '--locale=C',
                 '--pwfile', self.write('password', self.password))

    def serve(self) -> list[str]:
        return [self.server, '-D', self.path('data'), '-p', str(self.port),
                '-h', '127.0.0.1', '-k', '', '-c', 'fsync=off',
                '-c', 'max_connections=200']

    def kill(self) -> None:
        # SIGQUIT: at once and without a checkpoint, but unlike SIGKILL its
        # children go too and shared memory is freed.
        self.stop(signal.SIGQUIT)


class MariaDB(Server):
    driver = 'mysql+pymysql'
    first = 'mysql'
    unprivileged = 'nobody'

    def __init__(self) -> None:
        need_module('pymysql')
        install = program('mariadb-install-db')
        self.server = program('mariadbd', '/usr/sbin')
        super().__init__()
        self.run(install, '--no-defaults', f'--datadir={self.path("data")}',
                 '--auth-root-authentication-method=normal',
                 '--skip-test-db')
        self.write('init.sql',
                   f"CREATE USER IF NOT EXISTS {self.user}@'127.0.0.1' "
                   f"IDENTIFIED BY '{self.password}';\n"
                   f"GRANT ALL ON *.* TO {self.user}@'127.0.0.1';\n")

    def serve(self) -> list[str]:
        return [self.server, '--no-defaults',
                f'--datadir={self.path("data")}', f'--port={self.port}',
                '--bind-address=127.0.0.1', '--skip-name-resolve',
                f'--socket={self.path("socket")}',
                # Two servers would delete each other's files in /tmp.
                f'--tmpdir={self.path("")}',
                f'--pid-file={self.path("pid")}',
                f'--init-file={self.path("init.sql")}',
                '--innodb-flush-log-at-trx-commit=0',
                '--innodb-buffer-pool-size=64M', '--max-connections=200',
                # Whatever zone the machine has: ours must not depend on it.
                '--default-time-zone=+05:30']


@contextlib.contextmanager
def running(kind: type[Server]):
    """A started server of ``kind``, removed at the end."""
    server = kind()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope='session')
def postgresql():
    with running(PostgreSQL) as server:
        yield server


@pytest.fixture(scope='session')
def mariadb():
    with running(MariaDB) as server:
        yield server
