"""Several nodes over one database and one board, to be killed and counted.

Node one serves the API and has its embedded conductor; node two runs
``glance-import-conductor``. Staging and store are shared, on different file
systems, so that every byte is copied.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import random
import shutil
import signal
import tempfile
import time
import typing
import uuid

import sqlalchemy as sa

from glance_import import conf as configuration
from glance_import.db import engine
from glance_import import jobboard
from tests import service as services

# Slow enough that most kills fall into the middle of something. Each step
# notes whose turn it was, so that what is done twice can be counted. With
# SLOW_UNTIL a step also waits for that file.
SLOW = '''
import os
import select

from taskflow.patterns import linear_flow
from taskflow import task


class _Note(task.Task):

    def __init__(self, step, image_id, **kwargs):
        super().__init__(**kwargs)
        self.line = f'{image_id} {step}\\n'.encode()

    def execute(self, file_path):
        fd = os.open(os.environ['SLOW_LOG'],
                     os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, self.line)
        os.close(fd)
        # Not time.sleep, which libfaketime breaks.
        select.select([], [], [], float(os.environ['SLOW']))
        gate = os.environ.get('SLOW_UNTIL')
        while gate and not os.path.exists(gate):
            select.select([], [], [], 0.05)


def _flow(step):
    def get_flow(task_id, image_id, **kwargs):
        return linear_flow.Flow(step).add(
            _Note(step, image_id, name=f'{step}-{task_id}'))
    return get_flow


early, late = _flow('early'), _flow('late')
'''
PLUGINS = ('early', 'late')
KINDS = (('sqlite', 'sql'), ('postgresql', 'sql'), ('postgresql', 'redis'),
         ('postgresql', 'etcd'), ('postgresql', 'zookeeper'))


class Deployment:
    """``start``, ``ask`` for imports, and ``check`` what went wrong."""

    def __init__(self, directory: pathlib.Path, *, database: str | None = None,
                 board: dict[str, typing.Any] | None = None,
                 slow: float = 0.02, shared: bool = True,
                 environment: dict[str, str] | None = None,
                 **options: typing.Any) -> None:
        memory = '/dev/shm' if os.path.isdir('/dev/shm') else None
        self.staging = pathlib.Path(tempfile.mkdtemp(
            prefix='glance-import-staging-', dir=memory))
        plugins = services.write_distribution(
            directory / 'plugins', 'slow', {'slow': SLOW},
            {'glance.image_import.plugins': {
                name: f'slow:{name}' for name in PLUGINS}})
        path = f'sqlite:///{directory}/one/state/glance.sqlite'
        self.url = database or path
        self.seen = directory / 'seen'
        self.images = directory / 'images'
        self.nodes = []
        for name in ('one', 'two'):
            (directory / name).mkdir()
            staging = self.staging if shared else self.staging / name
            node = services.Service(
                directory / name, path=[plugins], options={
                    'DEFAULT': {'node_staging_uri': f'file://{staging}'},
                    'glance_store': {'filesystem_store_datadir': self.images},
                    'database': {'connection': self.url},
                    'image_import_opts': {'image_import_plugins':
                                          f'[{",".join(PLUGINS)}]'},
                    'taskflow_executor': {
                        'claim_expiry': 2, 'max_attempts': 1000,
                        'poll_interval': 0.1, 'jobboard_timeout': 2,
                        'jobboard_path': f'f-{uuid.uuid4()}',
                        **(board or {}), **options}})
            node.staging, node.images = staging, self.images
            node.environment.update(SLOW_LOG=str(self.seen), SLOW=str(slow),
                                    **(environment or {}))
            self.nodes.append(node)
        for node in self.nodes[1:]:
            node.options['taskflow_executor']['jobboard_path'] = (
                self.nodes[0].options['taskflow_executor']['jobboard_path'])
            node.configure()
        self.api = self.nodes[0]
        self.conductor: services.Process | None = None
        self.asked: dict[str, str] = {}
        self._engine: sa.Engine | None = None

    # -- processes

    def start(self) -> Deployment:
        done = self.api.run('manage', 'db', 'sync')
        assert done.returncode == 0, done
        self.api.start()
        self.start_two()
        return self

    def start_two(self) -> None:
        self.conductor = self.nodes[1].spawn('conductor')

    def kill_two(self, how: int = signal.SIGKILL) -> None:
        process, self.conductor = self.conductor, None
        if process is not None:
            process.send_signal(how)
            process.wait(30)

    def remove(self) -> None:
        self.kill_two()
        self.api.kill()
        if self._engine is not None:
            self._engine.dispose()
        shutil.rmtree(self.staging, ignore_errors=True)

    def text(self) -> str:
        return ''.join(node.text() for node in self.nodes)

    # -- asking and looking

    def execute(self, statement: str, **values: typing.Any) -> list:
        if self._engine is None:
            self._engine = sa.create_engine(
                self.url, isolation_level='AUTOCOMMIT', pool_pre_ping=True)
        with self._engine.connect() as connection:
            found = connection.execute(sa.text(statement), values)
            return [tuple(row) for row in found] if found.returns_rows else []

    def ask(self, data: bytes) -> str:
        """An import that was accepted; its image."""
        image_id = self.api.ask(data)
        self.asked[image_id] = hashlib.sha512(data).hexdigest()
        return image_id

    def running(self) -> int:
        (number,), = self.execute('SELECT count(*) FROM import_jobs '
                                  'WHERE owner IS NOT NULL')
        return number

    def board(self) -> jobboard.Board:
        conf = configuration.load(['--config-dir', str(self.api.conf)])
        return jobboard.Board(conf, engine.Database(conf))

    def postings(self) -> int:
        board = self.board()
        try:
            return len(board._postings()) if board.outside else 0
        finally:
            board.close()

    def check(self, seconds: float = 120.0) -> dict[str, int]:
        """Wait for the end, and count what must be 0 (but for the last)."""
        deadline = time.monotonic() + seconds

        def settled() -> bool:
            return self.execute('SELECT count(*) FROM import_jobs') == [(0,)]
        while not settled() and time.monotonic() < deadline:
            time.sleep(0.1)
        stuck, = self.execute('SELECT count(*) FROM import_jobs')[0]
        status = dict(self.execute('SELECT id, status FROM images'))
        lost = [i for i in self.asked if status.get(i) != 'active']
        truncated = [i for i in self.asked if i not in lost
                     and hashlib.sha512(self.api.download(i)).hexdigest()
                     != self.asked[i]]
        locations = self.execute(
            'SELECT image_id, value FROM image_locations WHERE NOT deleted')
        successes = self.execute(
            "SELECT image_id FROM tasks WHERE status = 'success'")
        double = (len(locations) - len({i for i, _ in locations})
                  + len(successes) - len(set(successes)))
        stored = {os.path.basename(uri) for _, uri in locations}

        def leaked() -> list[str]:
            return [name for name in os.listdir(self.images)
                    if name not in stored] + self.api.staged()
        left = time.monotonic() + 20
        while leaked() and time.monotonic() < left:
            time.sleep(0.2)
        left = time.monotonic() + 60
        while self.postings() and time.monotonic() < left:
            time.sleep(1)
        records = sum(self.execute(f'SELECT count(*) FROM import_{name}')[0][0]
                      for name in ('logbooks', 'flowdetails', 'atomdetails'))
        seen = (self.seen.read_text().split('\n')[:-1]
                if self.seen.exists() else [])
        if lost or stuck or truncated or double or leaked():
            print('lost', lost, 'stuck', stuck, 'leaked', leaked())
            print(self.text()[-20000:])
        return {'lost': len(lost), 'truncated': len(truncated),
                'double': double, 'stuck': stuck, 'leaked': len(leaked()),
                'records left': records, 'postings left': self.postings(),
                'steps begun again': len(seen) - len(set(seen))}


def some_bytes(randomness: random.Random) -> bytes:
    """Of a random size, mostly small."""
    return randomness.randbytes(
        randomness.choice((1, 1000, 65536, 300_000, 3_000_000)))
