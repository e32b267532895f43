"""Names of an image's properties, of which a server takes some for one.

The unique key of Glance's table allows one property of those that the
collation takes for the same (see ``spelling``). Whoever is refused for that
is told both names. Every function takes a connection whose transaction the
caller owns.
"""

from __future__ import annotations

import collections.abc
import contextlib
import typing

from oslo_db import exception as db_exc
import sqlalchemy as sa

from glance_import.db import spelling
from glance_import.db import tables
from glance_import import errors

_TABLE = tables.image_properties
_INSERT = sa.insert(_TABLE)


def insert(conn: sa.Connection, rows: collections.abc.Sequence[
        dict[str, typing.Any]]) -> None:
    """The properties of an image that is being made, each a row.

    :raises errors.Conflict: two of the names are one to the database
    """
    try:
        conn.execute(_INSERT, rows)
    except db_exc.DBDuplicateEntry:
        if conn.dialect.name != 'mysql':
            raise
        # Some may be there. One after the other the culprit shows.
        conn.execute(sa.delete(_TABLE).where(
            _TABLE.c.image_id == rows[0]['image_id']))
        for row in rows:
            insert_one(conn, row)


def insert_one(conn: sa.Connection, row: dict[str, typing.Any]) -> None:
    """One more property.

    :raises errors.Conflict: there is one whose name is the same to the
        database
    """
    with _explained(conn, row['image_id'], row['name']):
        conn.execute(_INSERT, row)


@contextlib.contextmanager
def _explained(conn: sa.Connection, image_id: str, name: str
               ) -> collections.abc.Iterator[None]:
    try:
        yield
    except db_exc.DBDuplicateEntry as failure:
        other = alike(conn, image_id, [name])
        if other is None:
            raise
        raise errors.Conflict(
            f'The properties {other} and {name} cannot both be there: their '
            'names are one to the database of this service.') from failure


def alike(conn: sa.Connection, image_id: str,
          names: collections.abc.Sequence[str]) -> str | None:
    """A live property that is none of ``names``, but is to the database."""
    if conn.dialect.name != 'mysql':
        return None
    return conn.execute(sa.select(_TABLE.c.name).where(
        _TABLE.c.image_id == image_id, _TABLE.c.name.in_(names),
        sa.not_(spelling.is_spelled(_TABLE.c.name, *names)),
        _TABLE.c.deleted == sa.false()).limit(1)).scalar()
