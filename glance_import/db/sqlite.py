"""An SQLite file as the database: how it is opened and written.

SQLite has one writer at a time and keeps the locks of a file by process, so
that nothing of an open file survives a fork. It may touch the file, its
directory, and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
import time
import typing
import weakref

from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import exc_filters
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import pool

from glance_import import db
from glance_import import state

# What a connection may keep of the file. SQLite's own 2000 is less than one
# page of a filter touches among a million images.
CACHE_KIB = 8192
# Pages in the log before they are copied into the file, by a commit that then
# syncs three times while other writers wait. With SQLite's own 1000 that is
# every third import.
LOG_PAGES = 4000
# Seconds a writer waits for its turn.
BUSY_SECONDS = 30.0


def backup(path: str, target: str) -> None:
    """Copy a database file, whole, while others read and write it.

    With what is still in the log beside it, which a copy of the file alone
    would lose. The copy is readable by this user alone.

    :param target: a file that is not there yet
    :raises OSError: it is there, or cannot be made
    :raises sqlite3.Error: the database cannot be read
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with contextlib.closing(sqlite3.connect(f'file:{path}?mode=rw', uri=True)
                            ) as source, \
            contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def make_engine(url: sa.URL, options: typing.Any) -> sa.Engine:
    """An engine that opens the file when it is first asked.

    Not oslo.db's own: that opens and closes the file for every transaction,
    and the last close of a WAL file copies it back and syncs it. There are
    listeners for errors and for opening only: one for each transaction would
    cost as much as a query.

    :param options: ``[database]``
    :raises db.DatabaseProblem: the URL does not name a file
    """
    path = url.database or ''
    if path in ('', ':memory:') or path.startswith('file:'):
        raise db.DatabaseProblem(
            '[database] connection must name an SQLite file by its path, as '
            'in sqlite:////var/lib/glance/glance.sqlite')
    engine = sa.create_engine(
        url,
        poolclass=pool.QueuePool,
        # The one used last has the most of the file in its cache.
        pool_use_lifo=True,
        pool_size=options.max_pool_size or 5,
        max_overflow=50 if options.max_overflow is None
        else options.max_overflow,
        pool_timeout=options.pool_timeout or 30,
        connect_args={'timeout': BUSY_SECONDS})
    event.listen(engine, 'handle_error', exc_filters.handler, retval=True)
    _keep_from_children(engine, path)
    synchronous = 'FULL' if options.sqlite_synchronous else 'OFF'

    @event.listens_for(engine, 'connect')
    def prepare(dbapi_connection, _record):
        # None: the driver begins nothing by itself; see below.
        dbapi_connection.isolation_level = None
        _write_ahead(dbapi_connection, path)
        dbapi_connection.execute(f'PRAGMA synchronous = {synchronous}')
        dbapi_connection.execute('PRAGMA foreign_keys = ON')
        dbapi_connection.execute(f'PRAGMA wal_autocheckpoint = {LOG_PAGES}')
        dbapi_connection.execute(f'PRAGMA cache_size = -{CACHE_KIB}')

    return engine


def begin_reading(connection: sa.Connection) -> None:
    """From the first query on the connection sees one snapshot."""
    # Takes no lock and cannot fail, so it need not go through SQLAlchemy,
    # which would cost as much as a query.
    driver: typing.Any = connection.connection.driver_connection
    driver.execute('BEGIN')


def begin_writing(connection: sa.Connection) -> None:
    """Take the lock of the file now, not at the first change.

    What is read from here on stays true until the commit.
    """
    connection.exec_driver_sql('BEGIN IMMEDIATE')


class WriterLock:
    """One writer at a time in this process.

    SQLite lets writers wait by sleeping and trying again, which is unfair
    among many threads; a lock hands over at once. Writers of other processes
    are met in SQLite.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None

    def __enter__(self) -> None:
        if self._owner == threading.get_ident():
            raise RuntimeError('write() inside write() of the same thread')
        if not self._lock.acquire(timeout=BUSY_SECONDS):
            raise db_exception.DBError(
                TimeoutError('database is busy: another thread has been '
                             f'writing for {BUSY_SECONDS:.0f} s'))
        self._owner = threading.get_ident()

    def __exit__(self, *_exc: object) -> None:
        self._owner = None
        self._lock.release()


def _keep_from_children(engine: sa.Engine, path: str) -> None:
    """Open the file in no process that has inherited it open.

    SQLite keeps a table of the locks that its process has on each open file.
    A forked child inherits the table but not the locks: it would wait for
    ever for some and believe that it has others. Whoever forks and wants the
    child to use the file closes it before (``Database.dispose``).
    """
    # Record of each connection -> id of the process that has opened it.
    opened: weakref.WeakKeyDictionary[pool.ConnectionPoolEntry, int] = (
        weakref.WeakKeyDictionary())

    @event.listens_for(engine, 'do_connect')
    def connect(dialect, record, args, parameters):
        if any(pid != os.getpid() for pid in opened.values()):
            raise db.DatabaseProblem(
                'this process was forked while the SQLite database '
                f'{path} was open and cannot use it')
        _create_private(path)
        opened[record] = os.getpid()
        try:
            return dialect.connect(*args, **parameters)
        except BaseException:
            del opened[record]
            raise

    @event.listens_for(engine, 'close')
    def close(_dbapi_connection, record):
        opened.pop(record, None)


def _create_private(path: str) -> None:
    """Make an absent file, so that only its owner can read it.

    Or, in a directory that is shared with a group, the group.

    SQLite gives its -wal and -shm files the mode of this one. A file that is
    there is left alone: closing any descriptor of it would drop the locks
    that SQLite has in this process.
    """
    if os.path.exists(path):
        return
    try:
        directory = os.path.dirname(os.path.abspath(path))
        os.makedirs(directory, mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            state.share(fd, directory, 0o660)
        finally:
            os.close(fd)
    except FileExistsError:
        # Another process was faster.
        pass
    except OSError as e:
        raise db.DatabaseProblem(
            f'cannot create the SQLite database {path}: '
            f'{os.strerror(e.errno or errno.EIO)}') from e


def _write_ahead(dbapi_connection: typing.Any, path: str) -> None:
    """Switch the file to write-ahead logging, which it then stays in."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            (mode,) = dbapi_connection.execute(
                'PRAGMA journal_mode = WAL').fetchone()
            break
        except dbapi_connection.OperationalError as e:
            # The switch itself does not wait for its turn by busy_timeout.
            if 'locked' not in str(e) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != 'wal':
        raise db.DatabaseProblem(
            f'the SQLite database {path} cannot use write-ahead logging '
            f'(journal mode {mode}); put it on a local filesystem')
