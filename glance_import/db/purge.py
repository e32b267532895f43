"""Removes for good what was deleted long ago.

Deletion in Glance's tables is soft. Rows of images stay until they are asked
for by themselves: an id that is free again may be given to another image,
which hosts that have the old one in their cache would take for it. Every
function takes a connection whose transaction the caller owns.
"""

from __future__ import annotations

import datetime

import sqlalchemy as sa

from glance_import.db import tables

# What hangs on an image; of those the first four are deleted softly.
_OF_IMAGE = (tables.image_properties, tables.image_tags,
             tables.image_locations, tables.image_members)
_OURS = (tables.import_staging, tables.import_epochs,
         tables.import_verdicts)


def rows(conn: sa.Connection, before: datetime.datetime, most: int
         ) -> dict[str, int]:
    """Remove deleted rows of everything but images; how many, by table.

    :param before: naive UTC; deleted earlier than that
    :param most: of each table
    """
    found = {table.name: _delete(conn, table, table.c.id,
                                 _ids(conn, table, before, most))
             for table in _OF_IMAGE}
    ids = _ids(conn, tables.tasks, before, most)
    _delete(conn, tables.task_info, tables.task_info.c.task_id, ids)
    found['tasks'] = _delete(conn, tables.tasks, tables.tasks.c.id, ids)
    return found


def images(conn: sa.Connection, before: datetime.datetime, most: int
           ) -> dict[str, int]:
    """Remove deleted images with all that hangs on them; by table.

    Not one of which something is still to be deleted elsewhere, nor one that
    is still being imported.
    """
    table, pending = tables.images, tables.import_deletions.c
    ids = _ids(
        conn, table, before, most,
        ~sa.exists().where(pending.image_id == table.c.id),
        ~sa.exists().where(tables.import_jobs.c.image_id == table.c.id))
    found = {each.name: _delete(conn, each, each.c.image_id, ids)
             for each in (*_OF_IMAGE, *_OURS)}
    found['images'] = _delete(conn, table, table.c.id, ids)
    return found


def _ids(conn: sa.Connection, table: sa.Table, before: datetime.datetime,
         most: int, *conditions: sa.ColumnElement[bool]) -> list:
    return list(conn.execute(
        sa.select(table.c.id)
        .where(table.c.deleted == sa.true(), table.c.deleted_at < before,
               *conditions)
        .order_by(table.c.id).limit(most)).scalars())


def _delete(conn: sa.Connection, table: sa.Table, column: sa.Column,
            ids: list) -> int:
    if not ids:
        return 0
    return conn.execute(sa.delete(table).where(column.in_(ids))).rowcount
