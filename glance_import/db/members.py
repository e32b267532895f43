"""Members: the projects an image is shared with.

Every function takes a connection whose transaction the caller owns. The
caller that adds one holds the image's row, so that no project is added twice.
"""

from __future__ import annotations

import dataclasses
import datetime

import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import spelling
from glance_import.db import tables
from glance_import import states

Columns = tables.image_members.c
_LIVE = Columns.deleted == sa.false()


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One project that an image is shared with. Times are naive UTC."""

    image_id: str
    member: str
    status: str
    created_at: datetime.datetime
    updated_at: datetime.datetime


_SELECT = sa.select(*(Columns[field.name]
                      for field in dataclasses.fields(Member)))


def _member(row: sa.Row) -> Member:
    values = dict(row._mapping)
    values['updated_at'] = values['updated_at'] or values['created_at']
    return Member(**values)


def of_image(conn: sa.Connection, image_id: str) -> list[Member]:
    """Every member of an image, the first one added first."""
    return [_member(row) for row in conn.execute(
        _SELECT.where(Columns.image_id == image_id, _LIVE)
        .order_by(Columns.id))]


def get(conn: sa.Connection, image_id: str, member: str) -> Member | None:
    """The membership of one project."""
    row = conn.execute(_SELECT.where(
        Columns.image_id == image_id,
        spelling.exactly(Columns.member, member), _LIVE)).first()
    return _member(row) if row is not None else None


def count(conn: sa.Connection, image_id: str) -> int:
    """How many projects the image is shared with."""
    return conn.execute(
        sa.select(sa.func.count()).select_from(tables.image_members)
        .where(Columns.image_id == image_id, _LIVE)).scalar_one()


def insert(conn: sa.Connection, image_id: str, member: str) -> None:
    """A new membership, ``pending``."""
    now = engine.utcnow()
    conn.execute(sa.insert(tables.image_members).values(
        image_id=image_id, member=member, status=states.PENDING,
        can_share=False, created_at=now, updated_at=now, deleted=False))


def set_status(conn: sa.Connection, image_id: str, member: str,
               status: str) -> bool:
    """Accept or reject; False when there is no such membership."""
    return conn.execute(
        sa.update(tables.image_members)
        .where(Columns.image_id == image_id,
               spelling.exactly(Columns.member, member), _LIVE)
        .values(status=status, updated_at=engine.utcnow())).rowcount > 0


def delete(conn: sa.Connection, image_id: str, member: str) -> bool:
    """End a membership; False when there is none.

    A row of the same project that was removed within the same second would
    share the unique key (image, member, deleted_at) with this one: it says
    nothing any more and goes first.
    """
    now = engine.utcnow()
    conn.execute(sa.delete(tables.image_members).where(
        Columns.image_id == image_id, Columns.member == member,
        Columns.deleted == sa.true(), Columns.deleted_at == now))
    return conn.execute(
        sa.update(tables.image_members)
        .where(Columns.image_id == image_id,
               spelling.exactly(Columns.member, member), _LIVE)
        .values(deleted=True, deleted_at=now)).rowcount > 0
