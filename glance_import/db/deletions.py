"""What is still to be deleted outside of the database, and when.

A row is written in the transaction that makes something superfluous, so that
neither a crash nor a service that is away leaves it behind unknown. Every
function takes a connection whose transaction the caller owns.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import json
import typing
import uuid

import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import tables
from glance_import import states

_TABLE = tables.import_deletions
Columns = _TABLE.c
Images = tables.images.c


@dataclasses.dataclass(frozen=True, slots=True)
class Deletion:
    """One thing to delete; ``attempts`` counts those begun."""

    id: str
    kind: str
    image_id: str | None
    payload: dict[str, typing.Any]
    attempts: int


@dataclasses.dataclass(frozen=True, slots=True)
class Listed(Deletion):
    """The same as an operator sees it; seconds, None where it never is."""

    age: float
    next_in: float | None
    message: str | None


def insert(conn: sa.Connection, kind: str, payload: dict[str, typing.Any], *,
           image_id: str | None = None, area: str | None = None,
           seconds: float) -> Deletion:
    """One more; its first attempt is the caller's, for ``seconds``.

    :param area: whose nodes alone can do it
    """
    made = Deletion(str(uuid.uuid4()), kind, image_id, payload, 1)
    conn.execute(sa.insert(_TABLE).values(
        id=made.id, kind=kind, image_id=image_id, area=area,
        payload=json.dumps(payload), attempts=made.attempts,
        created_at=tables.db_now(), next_at=tables.db_now() + seconds))
    return made


def due(conn: sa.Connection, area: str, limit: int) -> list[str]:
    """Ids of what is to be tried now by a node of ``area``."""
    return list(conn.execute(
        sa.select(Columns.id).where(
            Columns.next_at <= tables.db_now(),
            sa.or_(Columns.area.is_(None), Columns.area == area))
        .order_by(Columns.next_at).limit(limit)).scalars())


def payloads(conn: sa.Connection, kind: str
             ) -> collections.abc.Iterator[dict[str, typing.Any]]:
    """What is to be deleted of one kind."""
    for text in conn.execute(sa.select(Columns.payload).where(
            Columns.kind == kind)).scalars():
        yield tables.from_json(text)


def listed(conn: sa.Connection) -> collections.abc.Iterator[Listed]:
    """All of them, the oldest first."""
    now = tables.db_now()
    for row in conn.execute(sa.select(
            Columns.id, Columns.kind, Columns.image_id, Columns.payload,
            Columns.attempts, (now - Columns.created_at).label('age'),
            (Columns.next_at - now).label('next_in'), Columns.message)
            .order_by(Columns.created_at, Columns.id)):
        yield Listed(row.id, row.kind, row.image_id,
                     tables.from_json(row.payload), row.attempts, row.age,
                     row.next_in, row.message)


def take(conn: sa.Connection, deletion_id: str, seconds: float
         ) -> Deletion | None:
    """Begin an attempt, which nobody else does for ``seconds``.

    None when somebody was faster.
    """
    taken = conn.execute(
        sa.update(_TABLE)
        .where(Columns.id == deletion_id, Columns.next_at <= tables.db_now())
        .values(attempts=Columns.attempts + 1,
                next_at=tables.db_now() + seconds))
    if taken.rowcount != 1:
        return None
    row = conn.execute(sa.select(
        Columns.id, Columns.kind, Columns.image_id, Columns.payload,
        Columns.attempts).where(Columns.id == deletion_id)).one()
    return Deletion(row.id, row.kind, row.image_id,
                    tables.from_json(row.payload), row.attempts)


def done(conn: sa.Connection, deletion_id: str) -> None:
    """It is deleted, or was gone."""
    conn.execute(sa.delete(_TABLE).where(Columns.id == deletion_id))


def put_off(conn: sa.Connection, deletion: Deletion, message: str,
            seconds: float | None) -> None:
    """Try again in ``seconds``; None: never, it is for the operator."""
    conn.execute(sa.update(_TABLE).where(Columns.id == deletion.id).values(
        message=message,
        next_at=None if seconds is None else tables.db_now() + seconds))


# -- images whose data is to go first

def lock_image(conn: sa.Connection, image_id: str) -> None:
    """Of two that end the last deletions of an image, one sees the other's.
    """
    conn.execute(sa.update(tables.images).where(
        Images.id == image_id, Images.status == states.PENDING_DELETE)
        .values(status=states.PENDING_DELETE))


def end_of_image(conn: sa.Connection, image_id: str) -> None:
    """An image whose data is gone has been pending for long enough."""
    states.check((states.PENDING_DELETE,), states.DELETED)
    table, where = tables.images, tables.image_locations
    done = conn.execute(sa.update(table).where(
        table.c.id == image_id, table.c.status == states.PENDING_DELETE,
        table.c.deleted == sa.true(),
        ~sa.exists().where(Columns.image_id == image_id)).values(
            status=states.DELETED, updated_at=engine.utcnow()))
    if done.rowcount:
        conn.execute(sa.update(where).where(
            where.c.image_id == image_id,
            where.c.status == states.PENDING_DELETE).values(
                status=states.DELETED))


def pending_images(conn: sa.Connection, seconds: float, limit: int
                   ) -> list[str]:
    """Ids of images that are to be deleted for good, of which nobody knows
    that: those a Glance has left.

    :param seconds: deleted at least so long ago
    """
    before = engine.utcnow() - datetime.timedelta(seconds=seconds)
    return list(conn.execute(sa.select(Images.id).where(
        Images.status == states.PENDING_DELETE, Images.deleted == sa.true(),
        Images.deleted_at <= before,
        ~sa.exists().where(Columns.image_id == Images.id))
        .order_by(Images.id).limit(limit)).scalars())


def pending_locations(conn: sa.Connection, image_id: str
                      ) -> list[db_images.Location]:
    """Where the bytes of an image are that is to be deleted for good."""
    table = tables.image_locations.c
    return [db_images.Location(row.value, db_images.metadata(row.meta_data),
                               row.status)
            for row in conn.execute(sa.select(
                table.value, table.meta_data, table.status).where(
                    table.image_id == image_id,
                    table.status == states.PENDING_DELETE)
                .order_by(table.id))]
