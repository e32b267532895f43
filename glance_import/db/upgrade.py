"""Bring a database to the revision that this code needs, or say why not.

May create tables in an empty database and add to Glance's; never alters or
drops anything of Glance's. Safe to call from many processes at once. alembic
is loaded only when there is something to do.
"""

from __future__ import annotations

import collections.abc
import contextlib
import os
import typing

import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import migrations
from glance_import.db import tables

COMMAND = 'glance-import-manage db sync'

# Any number that nobody else on the server takes an advisory lock with.
_POSTGRESQL_LOCK = 0x676C616E6365
_MYSQL_LOCK_SECONDS = 600

_GLANCE_TABLES = tuple(table for name, table in tables.metadata.tables.items()
                       if not name.startswith('import_'))
_VERSIONS = sa.table(migrations.VERSION_TABLE, sa.column('version_num'))


class Status(typing.NamedTuple):
    """Where a database stands.

    ``state`` is one of: empty (nothing of Glance's or ours in it), behind
    (to be synced; also a database of Glance's that we have not seen yet),
    head, ahead (of this code), foreign (not usable as Glance's). ``current``
    is our revision in it, or None.
    """

    state: str
    current: str | None
    head: str


def status(database: engine.Database) -> Status:
    """Look where the database stands; creates no file.

    :raises DatabaseProblem: it cannot be read
    """
    if database.is_sqlite and not os.path.exists(database.url.database or ''):
        return Status('empty', None, migrations.HEAD)
    with _explained(database), database.read() as connection:
        return _status(connection)


def ensure(database: engine.Database) -> bool:
    """Have the database at head, as a service needs it at its start.

    An SQLite file is created and synced. Another database is left alone:
    when to change it is the operator's choice.

    :return: whether anything had to be done

    :raises DatabaseProblem: not at head, with what to do about it
    """
    database.wait()
    found = status(database)
    if found.state == 'head':
        return False
    if database.is_sqlite:
        sync(database)
        return True
    raise engine.DatabaseProblem(advice(database, found))


def sync(database: engine.Database) -> None:
    """Bring the database to head; one process does it, others wait.

    :raises DatabaseProblem: it is ahead, foreign or cannot be written
    """
    # Imported before the transaction begins: servers end idle ones.
    from alembic import command
    from alembic import config as alembic_config

    with _explained(database), _alone(database) as connection:
        found = _status(connection)
        if found.state == 'head':
            return
        if found.state in ('ahead', 'foreign'):
            raise engine.DatabaseProblem(
                advice(database, found, _lacking(connection)))
        config = alembic_config.Config()
        # Doubled: alembic reads % as a reference to another option.
        place = os.path.dirname(migrations.__file__).replace('%', '%%')
        config.set_main_option('script_location', place)
        config.set_main_option('path_separator', 'os')
        config.attributes['connection'] = connection
        if found.current in migrations.BEFORE_RELEASE:
            connection.execute(sa.delete(_VERSIONS))
        command.upgrade(config, 'head')


def _status(connection: sa.Connection) -> Status:
    names = set(sa.inspect(connection).get_table_names())
    if migrations.VERSION_TABLE not in names:
        return Status(_state_without_us(connection, names), None,
                      migrations.HEAD)
    current = connection.scalar(sa.select(_VERSIONS.c.version_num))
    return Status(_state_at(current), current, migrations.HEAD)


def _state_at(current: str | None) -> str:
    if current == migrations.HEAD:
        return 'head'
    # None: a first sync that was interrupted.
    if current in (None, *migrations.REVISIONS, *migrations.BEFORE_RELEASE):
        return 'behind'
    return 'ahead'


def _state_without_us(connection: sa.Connection, names: set[str]) -> str:
    theirs = {table.name for table in _GLANCE_TABLES}
    if not names & (theirs | {'alembic_version'}):
        return 'empty'
    return 'foreign' if _lacking(connection) else 'behind'


def _lacking(connection: sa.Connection) -> list[str]:
    """What of Glance's tables a database lacks, as ``table.column``.

    Columns are looked at, not Glance's revision: a later Glance than we know
    of is fine as long as it has what we use.
    """
    inspector = sa.inspect(connection)
    names = set(inspector.get_table_names())
    if 'alembic_version' not in names:
        return ['alembic_version']
    lacking = []
    for table in _GLANCE_TABLES:
        if table.name not in names:
            lacking.append(table.name)
            continue
        columns = {c['name'] for c in inspector.get_columns(table.name)}
        lacking += [f'{table.name}.{c.name}' for c in table.columns
                    if c.name not in columns]
    return lacking


def advice(database: engine.Database, found: Status,
           lacking: collections.abc.Sequence[str] = ()) -> str:
    """What is wrong with a database that is not at head; one line."""
    where = database.url.render_as_string(hide_password=True)
    sayings = {
        'empty': f'is empty; run: {COMMAND}',
        'behind': f'is at revision {found.current or "none"} and not at '
                  f'{found.head}; run: {COMMAND}',
        'ahead': f'is at revision {found.current}, which this release does '
                 'not know; a later release has synced it',
        'foreign': 'is not a database of Glance 2024.1 or later'
                   + (f' (no {", ".join(lacking[:3])})' if lacking else '')
                   + '; bring it up to date with glance-manage db sync, or '
                     'name an empty one',
    }
    return f'the database {where} {sayings[found.state]}'


@contextlib.contextmanager
def _explained(database: engine.Database):
    """Turn what a driver raises into the operator's line."""
    try:
        yield
    except engine.ERRORS as e:
        raise engine.unreachable(database, e) from e


@contextlib.contextmanager
def _alone(database: engine.Database):
    """A write transaction that no other process migrates beside."""
    with database.write() as connection:
        take, release = {
            'postgresql': (f'SELECT pg_advisory_xact_lock({_POSTGRESQL_LOCK})',
                           None),
            'mysql': ('SELECT get_lock(concat(database(), ".import"), '
                      f'{_MYSQL_LOCK_SECONDS})',
                      'SELECT release_lock(concat(database(), ".import"))'),
        }.get(database.url.get_backend_name(), (None, None))
        if take and connection.exec_driver_sql(take).scalar() == 0:
            raise engine.DatabaseProblem(
                'another process has been migrating the database for '
                f'{_MYSQL_LOCK_SECONDS} s')
        yield connection
        if release:
            connection.exec_driver_sql(release)
