"""What plugins have said of images, kept longer than the tasks of imports.

One row for each import that had plugins. Every function takes a connection
whose transaction the caller owns; times are seconds of the database's clock.
"""

from __future__ import annotations

import dataclasses
import typing

import sqlalchemy as sa

from glance_import.db import tables

_TABLE = tables.import_verdicts
_INSERT = sa.insert(_TABLE).values(ended_at=tables.db_now())


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """Of one import; ``id`` is its task's, ``ended_at`` since the epoch."""

    id: str
    image_id: str
    ended_at: float
    plugins: list[dict[str, typing.Any]]


def keep(conn: sa.Connection, task_id: str, image_id: str,
         result: dict[str, typing.Any]) -> None:
    """Keep what is among the result of a task that ends."""
    if result.get('plugins'):
        conn.execute(_INSERT, {'id': task_id, 'image_id': image_id,
                               'plugins': result['plugins']})


def of(conn: sa.Connection, wanted: str) -> list[Record]:
    """Of an import, or of all imports of an image; the latest first."""
    return [Record(**row._mapping) for row in conn.execute(
        sa.select(*(_TABLE.c[field.name]
                    for field in dataclasses.fields(Record)))
        .where(sa.or_(_TABLE.c.id == wanted, _TABLE.c.image_id == wanted))
        .order_by(_TABLE.c.ended_at.desc(), _TABLE.c.id))]


def expire(conn: sa.Connection, seconds: float) -> int:
    """Remove what has been kept so long; how many there were."""
    return conn.execute(sa.delete(_TABLE).where(
        _TABLE.c.ended_at < tables.db_now() - seconds)).rowcount
