"""Connections to the database, transactions, and what its errors mean.

One ``Database`` a service. Knows how a server wants to be spoken to (of an
SQLite file ``sqlite`` does) and nothing of tables. It may touch the network.
Repositories take the connection that ``read()`` or ``write()`` yields and
never commit themselves.
"""

from __future__ import annotations

import collections.abc
import contextlib
import datetime
import functools
import os
import time
import typing
import weakref

from oslo_db import exception as db_exception
from oslo_log import log as logging
from oslo_utils import timeutils
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import exc as sa_exc
from sqlalchemy import pool
import tenacity

from glance_import import db
from glance_import.db import sqlite

LOG = logging.getLogger(__name__)

# Seconds a server lets a session hold its transaction without a word. Ours
# hold no transaction over anything slow, so one that is silent belongs to a
# process that was stopped or cut off, and its row locks would keep everybody
# else from taking over its work. Long against a scheduling hiccup, short
# against the 30 s after which a lease expires.
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

# Seconds for which a transaction is begun again that the server rolls back,
# and the longest pause: who waits longer is overtaken by who has just come.
AGAIN_SECONDS, PAUSE_SECONDS = 20, 0.25
# Under it a connection knows that its server is a node of Galera.
_GALERA = 'galera'
# "WSREP has not yet prepared node for application use"
NODE_NOT_READY = 1047

# What a statement can raise: oslo.db wraps what it knows and leaves the rest.
ERRORS = (db_exception.DBError, sa_exc.SQLAlchemyError)

DatabaseProblem = db.DatabaseProblem


def utcnow() -> datetime.datetime:
    """Now in UTC, without zone and in whole seconds, as DATETIME keeps it."""
    return timeutils.utcnow().replace(microsecond=0)


class Database:
    """Connections to the database that ``[database]`` names.

    Safe to share between threads. Making one opens no connection and no
    file. After a fork the child opens connections of its own, but for an
    SQLite file that was open at that moment: who forks closes it before, by
    ``dispose``, or the child cannot use it.

    :raises DatabaseProblem: the connection URL cannot be used
    """

    def __init__(self, conf) -> None:
        options = conf.database
        if not options.connection:
            raise DatabaseProblem('[database] connection is not set')
        try:
            self.url = _canonical(sa.make_url(options.connection))
            make_engine = (sqlite.make_engine if self.is_sqlite
                           else _server_engine)
            self.engine = make_engine(self.url, options)
        except (sa_exc.ArgumentError, sa_exc.NoSuchModuleError,
                ImportError) as e:
            raise DatabaseProblem(
                f'[database] connection cannot be used: {one_line(e)}') from e
        self._options = options
        self._inherited: list[pool.Pool] = []
        self._reset_writers()
        _ALL.add(self)

    @functools.cached_property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == 'sqlite'

    def read(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """A transaction for reading: rolled back at its end.

        On SQLite it sees one snapshot and waits for no writer; elsewhere
        each statement sees what is committed when it runs.
        """
        connection = self.engine.connect()
        if self.is_sqlite:
            sqlite.begin_reading(connection)
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
        with self._writers, self.engine.begin() as connection:
            if self.is_sqlite:
                sqlite.begin_writing(connection)
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

    def _reset_writers(self) -> None:
        self._writers: contextlib.AbstractContextManager[None] = (
            sqlite.WriterLock() if self.is_sqlite
            else contextlib.nullcontext())

    def _leave_to_parent(self) -> None:
        """In a child: the parent's connections are neither used nor closed.

        Closing one would say good-bye on the parent's socket.
        """
        self._inherited.append(self.engine.pool)
        self.engine.dispose(close=False)
        self._reset_writers()


_ALL: weakref.WeakSet[Database] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for database in list(_ALL):
        database._leave_to_parent()


os.register_at_fork(after_in_child=_after_fork_in_child)


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


def was_rolled_back(error: BaseException) -> bool:
    """Whether the server says that a transaction has left nothing behind.

    So for a deadlock, which is also what Galera calls a commit that another
    node's came before; a lock that was not obtained in time; a row that
    changed since it was read; and a node that takes no statement now. Not
    for a connection that was lost, which leaves open what happened.
    """
    if isinstance(error, (db_exception.DBDeadlock,
                          db_exception.DBConsistencyError)):
        return True
    return isinstance(error, ERRORS) and _mysql_code(error) == NODE_NOT_READY


def _mysql_code(error: BaseException) -> int | None:
    cause: typing.Any = getattr(error, 'inner_exception', None) or error
    arguments = getattr(getattr(cause, 'orig', None), 'args', ())
    return arguments[0] if arguments and isinstance(
        arguments[0], int) else None


def _note_retry(state: tenacity.RetryCallState) -> None:
    assert state.outcome is not None
    failure = state.outcome.exception()
    assert failure is not None
    LOG.info('a transaction was rolled back, trying again: %s',
             one_line(failure))


# Decorates a function that is one write transaction, and may be called again
# when the server has rolled that back.
retried = tenacity.retry(
    retry=tenacity.retry_if_exception(was_rolled_back),
    stop=tenacity.stop_after_delay(AGAIN_SECONDS),
    wait=tenacity.wait_random_exponential(
        multiplier=PAUSE_SECONDS / 10, max=PAUSE_SECONDS),
    before_sleep=_note_retry,
    reraise=True)


def is_galera(conn: sa.Connection) -> bool:
    """Whether other nodes write the same tables without this one's locks."""
    return bool(conn.info.get(_GALERA))


def _canonical(url: sa.URL) -> sa.URL:
    """The same server, under the name and in the characters that we need.

    MariaDB is spoken to as MySQL, by whose name oslo.db knows its errors.
    ``charset=utf8``, which most files of configuration have, is MySQL's
    UTF-8 of three bytes: there what a column could hold does not arrive.
    """
    if url.get_backend_name() == 'mariadb':
        url = url.set(drivername=url.drivername.replace('mariadb', 'mysql',
                                                        1))
    if url.query.get('charset') in ('utf8', 'utf8mb3'):
        return url.update_query_dict({'charset': 'utf8mb4'})
    return url


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
    def prepare(dbapi_connection, record):
        cursor = dbapi_connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        if url.get_backend_name() == 'mysql':
            cursor.execute("SHOW VARIABLES LIKE 'wsrep_on'")
            record.info[_GALERA] = [
                str(value).upper() for _name, value in cursor.fetchall()
            ] == ['ON']
        cursor.close()
        dbapi_connection.commit()

    return engine
