"""The database connection: one ``Database`` a service, made from its conf.

It knows how each kind of server wants to be spoken to (pragmas, session
settings, how a write transaction begins) and nothing about tables. It may
touch the network, or the directory of an SQLite file. Repositories take the
connection that ``read()`` or ``write()`` yields and never commit themselves.
"""

from __future__ import annotations

import collections.abc
import contextlib
import datetime
import errno
import functools
import os
import threading
import time
import typing
import weakref

from oslo_db import api as db_api
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import exc_filters
from oslo_log import log as logging
from oslo_utils import timeutils
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import exc as sa_exc
from sqlalchemy import pool

LOG = logging.getLogger(__name__)

# What a connection to an SQLite file may keep of it. SQLite's own 2000 is
# less than one page of a filter touches among a million images.
SQLITE_CACHE_KIB = 8192
# Seconds a writer waits for its turn on an SQLite file.
SQLITE_BUSY_SECONDS = 30.0

# Seconds a server lets a session hold its transaction without a word. Ours
# hold no transaction over anything slow, so one that is silent belongs to a
# process that was stopped or cut off, and its row locks would keep everybody
# else from taking over its work. Long against a scheduling hiccup, short
# against the 30 s after which a claim expires.
IDLE_IN_TRANSACTION_SECONDS = 5

# Said on each new connection. The MariaDB part is a comment to MySQL, which
# has no such variable.
SESSION_SETTINGS = {
    'postgresql': (
        'SET SESSION idle_in_transaction_session_timeout = '
        f'{IDLE_IN_TRANSACTION_SECONDS * 1000}',
    ),
    'mysql': (
        # As on PostgreSQL; the default keeps gap locks that deadlock.
        'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED',
        'SET SESSION innodb_lock_wait_timeout = 20 '
        '/*M!100300 , SESSION idle_transaction_timeout = '
        f'{IDLE_IN_TRANSACTION_SECONDS} */',
    ),
}

# Engine option that says how a transaction on SQLite begins.
_BEGIN = 'glance_import_begin'

# What a statement can raise: oslo.db wraps what it knows and leaves the rest.
ERRORS = (db_exception.DBError, sa_exc.SQLAlchemyError)

Result = typing.TypeVar('Result')


class DatabaseProblem(Exception):
    """The database cannot be used; the text is one line for an operator."""


def utcnow() -> datetime.datetime:
    """Now in UTC, without zone and in whole seconds, as DATETIME keeps it."""
    return timeutils.utcnow().replace(microsecond=0)


def retrying(function: collections.abc.Callable[[], Result], *,
             attempts: int = 5) -> Result:
    """Call ``function`` again after a deadlock or a lost connection.

    A connection lost while committing leaves open whether the commit
    happened: ``function`` must be safe to run twice, as a conditional UPDATE
    is.

    :raises oslo_db.exception.DBError: the last of ``attempts`` failed
    """
    again = db_api.wrap_db_retry(
        retry_interval=0.1, max_retries=attempts - 1, max_retry_interval=2,
        retry_on_deadlock=True, retry_on_disconnect=True)
    return again(function)()


class Database:
    """Connections to the database that ``[database]`` names.

    Safe to share between threads, and after a fork: the child opens
    connections of its own. (An SQLite file that some thread was using at the
    moment of the fork is closed to the child, see ``_SqliteForks``.) Making
    one opens no connection and no file.

    :raises DatabaseProblem: the connection URL cannot be used
    """

    def __init__(self, conf) -> None:
        options = conf.database
        if not options.connection:
            raise DatabaseProblem('[database] connection is not set')
        try:
            self.url = sa.make_url(options.connection)
            self.engine = self._make_engine(options)
        except (sa_exc.ArgumentError, sa_exc.NoSuchModuleError,
                ImportError) as e:
            raise DatabaseProblem(
                f'[database] connection cannot be used: {one_line(e)}') from e
        self._options = options
        self._writer = self.engine.execution_options(
            **{_BEGIN: 'BEGIN IMMEDIATE'})
        self._looker = _Looker(self.engine) if self.is_sqlite else self.engine
        self._turn: contextlib.AbstractContextManager[None] = (
            _Turn() if self.is_sqlite else contextlib.nullcontext())
        self._forks = (_SqliteForks(self.engine) if self.is_sqlite
                       else _ServerForks(self.engine))
        _ALL.add(self)

    @functools.cached_property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == 'sqlite'

    def _make_engine(self, options) -> sa.Engine:
        if self.is_sqlite:
            return _sqlite_engine(self.url, options)
        return _server_engine(self.url, options)

    def read(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """A transaction for looking: rolled back at its end.

        On SQLite it sees one snapshot and waits for no writer; elsewhere
        each statement sees what is committed when it runs.
        """
        connection = self._looker.connect()
        if self.is_sqlite:
            # Takes no lock and cannot fail, so it need not go through
            # SQLAlchemy, which would cost as much as a query.
            driver: typing.Any = connection.connection.driver_connection
            driver.execute('BEGIN')
        return connection

    @contextlib.contextmanager
    def write(self) -> collections.abc.Iterator[sa.Connection]:
        """One write transaction, committed at the end.

        An exception rolls it back and goes on to the caller. On SQLite the
        write lock is taken at once, so that what is read in it stays true
        until the commit.

        :raises RuntimeError: this thread is already inside ``write()``
        :raises oslo_db.exception.DBError: see oslo.db
        """
        with self._turn, self._writer.begin() as connection:
            yield connection

    def wait(self) -> None:
        """Wait for a server that is starting.

        ``[database] max_retries`` times (-1: for ever), ``retry_interval``
        seconds apart.

        :raises DatabaseProblem: it still cannot be reached
        """
        left = self._options.max_retries
        while True:
            try:
                with self.read():
                    return
            except ERRORS as e:
                if self.is_sqlite or left == 0:
                    raise unreachable(self, e) from e
                LOG.warning('Database not reached yet, trying again in '
                            '%s s: %s', self._options.retry_interval,
                            one_line(e))
            left -= 1
            time.sleep(self._options.retry_interval)

    def dispose(self) -> None:
        """Close the connections that are not in use; later ones are new."""
        self.engine.dispose()

    def _before_fork(self) -> None:
        self._forks.before()

    def _after_fork_in_parent(self) -> None:
        self._forks.parent()

    def _after_fork_in_child(self) -> None:
        self._forks.child()
        # The thread that held it, if any, is in the parent.
        if self.is_sqlite:
            self._turn = _Turn()


def unreachable(database: Database, error: BaseException) -> DatabaseProblem:
    """The operator's line for a database that does not answer."""
    where = database.url.render_as_string(hide_password=True)
    return DatabaseProblem(
        f'cannot use the database {where}: {one_line(error)}')


def one_line(error: BaseException) -> str:
    """The cause of a database error, without its SQL and background text."""
    error = getattr(error, 'inner_exception', None) or error
    error = getattr(error, 'orig', None) or error
    return ' '.join(str(error).split()) or type(error).__name__


def is_bad_value(error: BaseException) -> bool:
    """Whether a value was refused: by its characters, length or range."""
    if isinstance(error, db_exception.DBDataError):
        return True
    return isinstance(getattr(error, 'inner_exception', None) or error,
                      sa_exc.DataError)


def may_pass(error: BaseException) -> bool:
    """Whether it is the database's, and the statement may succeed later.

    So for a server that is away or starts, a deadlock, a lock not obtained
    in time, a disk that is full; not for a statement that is wrong.
    """
    if isinstance(error, (db_exception.DBConnectionError,
                          db_exception.DBDeadlock)):
        return True
    if not isinstance(error, ERRORS):
        return False
    cause = getattr(error, 'inner_exception', None) or error
    return isinstance(cause, (
        sa_exc.OperationalError, sa_exc.InterfaceError, sa_exc.InternalError,
        sa_exc.TimeoutError, TimeoutError))


class _Looker(sa.Engine):
    """An engine for looking, on the connections of another one.

    Without its listeners, which are about writing: SQLAlchemy gathers them
    anew for each connection, and that takes as long as a query. (What
    oslo.db makes of errors belongs to the dialect, which is the same.)
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._other = engine
        super().__init__(engine.pool, engine.dialect, engine.url)

    @property
    def pool(self) -> pool.Pool:  # type: ignore[override]
        """Always the other's, which gets a new one at a fork."""
        return self._other.pool

    @pool.setter
    def pool(self, _pool: pool.Pool) -> None:
        pass


class _Turn:
    """One writer at a time in this process.

    SQLite lets writers wait by sleeping and trying again, which is unfair
    among many threads; a lock hands over at once. Other processes still meet
    us in SQLite.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None

    def __enter__(self) -> None:
        if self._owner == threading.get_ident():
            raise RuntimeError('write() inside write() of the same thread')
        if not self._lock.acquire(timeout=SQLITE_BUSY_SECONDS):
            raise db_exception.DBError(
                TimeoutError('database is busy: another thread has been '
                             f'writing for {SQLITE_BUSY_SECONDS:.0f} s'))
        self._owner = threading.get_ident()

    def __exit__(self, *_exc) -> None:
        self._owner = None
        self._lock.release()


class _ServerForks:
    """A child leaves its parent's connections to a server alone.

    Closing one would say good-bye on the parent's socket, so they are kept.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._inherited: list[pool.Pool] = []

    def before(self) -> None:
        pass

    def parent(self) -> None:
        pass

    def child(self) -> None:
        self._inherited.append(self._engine.pool)
        self._engine.dispose(close=False)


class _SqliteForks:
    """No open SQLite file is carried over a fork.

    SQLite keeps a table of the locks that its process holds on each open
    file. A child inherits the table but not the locks: it would wait for
    ever for some and believe that it holds others. So the parent closes what
    is idle before it forks; when a connection is in use even then, the child
    refuses to open any.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._gate = threading.Lock()
        self._old: list[pool.Pool] = []
        # Records of connections that are in use. Weak: one whose opening
        # failed is never given back.
        self._used: weakref.WeakSet = weakref.WeakSet()
        self._busy = False
        self._used_at_fork = False
        event.listen(engine, 'do_connect', self._connect)
        event.listen(engine, 'checkout', self._take)
        event.listen(engine, 'checkin', self._give_back)

    def _connect(self, dialect, record, args, parameters):
        with self._gate:
            if self._used_at_fork:
                raise DatabaseProblem(
                    'this process was forked while the SQLite database was '
                    'in use and cannot open it')
            self._used.add(record)
            _create_private(self._engine.url.database or '')
            return dialect.connect(*args, **parameters)

    def _take(self, _dbapi_connection, record, _proxy) -> None:
        self._used.add(record)

    def _give_back(self, _dbapi_connection, record) -> None:
        self._used.discard(record)

    def before(self) -> None:
        # From here to the fork nobody opens another.
        self._gate.acquire()
        current = typing.cast(pool.QueuePool, self._engine.pool)
        # Asked too: a connection on its way out of the pool is not noted yet.
        leaving = current.checkedout() > 0
        self._old.append(current)
        self._engine.dispose()
        # Also closes what came back to an older pool since.
        for old in self._old:
            old.dispose()
        self._busy = leaving or bool(self._used)
        if not self._busy:
            self._old.clear()

    def parent(self) -> None:
        self._gate.release()

    def child(self) -> None:
        self._used_at_fork = self._used_at_fork or self._busy
        self._gate = threading.Lock()


_ALL: weakref.WeakSet[Database] = weakref.WeakSet()
# Of each thread its own: two may fork at the same moment, and each has to
# let go of exactly what it holds.
_forking = threading.local()


def _before_fork() -> None:
    _forking.databases = list(_ALL)
    for database in _forking.databases:
        database._before_fork()


def _after_fork_in_parent() -> None:
    for database in _forking.databases:
        database._after_fork_in_parent()
    _forking.databases = []


def _after_fork_in_child() -> None:
    for database in _forking.databases:
        database._after_fork_in_child()
    _forking.databases = []


os.register_at_fork(before=_before_fork,
                    after_in_parent=_after_fork_in_parent,
                    after_in_child=_after_fork_in_child)


def _server_engine(url: sa.URL, options) -> sa.Engine:
    # Imported where it is used: it brings the whole ORM, a quarter of a
    # second that a service on SQLite need not wait for.
    from oslo_db.sqlalchemy import engines

    engine = engines.create_engine(
        url,
        mysql_sql_mode=options.mysql_sql_mode,
        mysql_wsrep_sync_wait=options.mysql_wsrep_sync_wait,
        connection_recycle_time=options.connection_recycle_time,
        connection_debug=options.connection_debug or 0,
        connection_trace=options.connection_trace,
        connection_parameters=options.connection_parameters,
        max_pool_size=options.max_pool_size,
        max_overflow=options.max_overflow,
        pool_timeout=options.pool_timeout,
        # 0: make no connection now; wait() does that when asked.
        max_retries=0,
        thread_checkin=False)
    statements = SESSION_SETTINGS.get(url.get_backend_name(), ())

    @event.listens_for(engine, 'connect')
    def settle(dbapi_connection, _record):
        cursor = dbapi_connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
        dbapi_connection.commit()

    return engine


def _sqlite_engine(url: sa.URL, options) -> sa.Engine:
    """An engine on an SQLite file.

    Not oslo.db's own: that opens and closes the file for every transaction,
    and the last close of a WAL file copies it back and syncs it.
    """
    path = url.database or ''
    if path in ('', ':memory:') or path.startswith('file:'):
        raise DatabaseProblem(
            '[database] connection must name an SQLite file by its path, as '
            'in sqlite:////var/lib/glance/glance.sqlite')
    engine = sa.create_engine(
        url,
        poolclass=pool.QueuePool,
        # The one used last knows most of the file.
        pool_use_lifo=True,
        pool_size=options.max_pool_size or 5,
        max_overflow=50 if options.max_overflow is None
        else options.max_overflow,
        pool_timeout=options.pool_timeout or 30,
        connect_args={'timeout': SQLITE_BUSY_SECONDS})
    exc_filters.register_engine(engine)
    synchronous = 'FULL' if options.sqlite_synchronous else 'OFF'

    @event.listens_for(engine, 'connect')
    def settle(dbapi_connection, _record):
        # None: the driver begins nothing by itself, the listener below does.
        dbapi_connection.isolation_level = None
        _write_ahead(dbapi_connection, path)
        dbapi_connection.execute(f'PRAGMA synchronous = {synchronous}')
        dbapi_connection.execute('PRAGMA foreign_keys = ON')
        dbapi_connection.execute(f'PRAGMA cache_size = -{SQLITE_CACHE_KIB}')

    @event.listens_for(engine, 'begin')
    def begin(connection):
        connection.exec_driver_sql(
            connection.get_execution_options().get(_BEGIN, 'BEGIN'))

    return engine


def _create_private(path: str) -> None:
    """Make an absent SQLite file, so that only its owner can read it.

    SQLite gives its -wal and -shm files the mode of this one. A file that is
    there is left alone: closing any descriptor of it would drop the locks
    that SQLite holds in this process.
    """
    if os.path.exists(path):
        return
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o700,
                    exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        # Another process was faster.
        pass
    except OSError as e:
        raise DatabaseProblem(
            f'cannot create the SQLite database {path}: '
            f'{os.strerror(e.errno or errno.EIO)}') from e


def _write_ahead(dbapi_connection, path: str) -> None:
    """Switch the file to write-ahead logging, which it then stays in."""
    deadline = time.monotonic() + SQLITE_BUSY_SECONDS
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
        raise DatabaseProblem(
            f'the SQLite database {path} cannot use write-ahead logging '
            f'(journal mode {mode}); put it on a local filesystem')
