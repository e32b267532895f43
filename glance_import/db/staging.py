"""What is known of staged data: one row for each image that has some.

The bytes are the staging area's (glance_import.staging); this is the record
of how far they got and what they are. States: glance_import.states.
Every function takes a connection whose transaction the caller owns.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import typing

import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import tables
from glance_import import states

_TABLE = tables.import_staging


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """Sizes in bytes; identity fields are None until data is complete.

    ``verified``: of an open upload, the bytes to keep should it be cut now;
    None for all that came. ``updated_at`` is naive UTC.
    """

    image_id: str
    upload_id: str
    state: str
    area: str
    expected: int | None
    size: int | None
    checksum: str | None
    hash_algo: str | None
    hash_value: str | None
    device: int | None
    inode: int | None
    mtime_ns: int | None
    ctime_ns: int | None
    detected_format: str | None
    verified: int | None
    updated_at: datetime.datetime


_COLUMNS = tuple(_TABLE.c[field.name] for field in dataclasses.fields(Record))
# Made once: making a statement takes longer than running it.
_OF_IMAGE = _TABLE.c.image_id == sa.bindparam('b_image')
_OF_UPLOAD = _TABLE.c.upload_id == sa.bindparam('b_upload')
_GET = sa.select(*_COLUMNS).where(_OF_IMAGE)
_INSERT = sa.insert(_TABLE)
_MOVE = sa.update(_TABLE).where(_OF_IMAGE, _TABLE.c.state.in_(
    sa.bindparam('b_found', expanding=True)))
_MOVE_UPLOAD = _MOVE.where(_OF_UPLOAD)
_DELETE = sa.delete(_TABLE).where(_OF_IMAGE)
_DELETE_UPLOAD = _DELETE.where(_OF_UPLOAD)


def get(conn: sa.Connection, image_id: str) -> Record | None:
    """The record of the image's staged data."""
    row = conn.execute(_GET, {'b_image': image_id}).first()
    return Record(**row._mapping) if row is not None else None


def begin(conn: sa.Connection, image_id: str, *, upload_id: str, area: str,
          expected: int | None, verified: int | None = None) -> None:
    """Record a new upload in place of whatever was known before.

    The caller has moved or touched the image's row in this transaction, so
    nobody else writes this one now.
    """
    delete(conn, image_id)
    now = engine.utcnow()
    conn.execute(_INSERT, {
        'image_id': image_id, 'upload_id': upload_id, 'state': states.OPEN,
        'area': area, 'expected': expected, 'verified': verified,
        'created_at': now, 'updated_at': now})


def in_states(conn: sa.Connection, area: str,
              wanted: collections.abc.Collection[str]) -> list[Record]:
    """What an area has that is in one of these states."""
    return [Record(**row._mapping) for row in conn.execute(
        sa.select(*_COLUMNS).where(
            _TABLE.c.area == area, _TABLE.c.state.in_(wanted)))]


def move(conn: sa.Connection, image_id: str,
         found: collections.abc.Collection[str], target: str, *,
         upload_id: str | None = None, **changes: typing.Any) -> bool:
    """Compare-and-swap the state (of that very upload, if one is named)."""
    values = {'b_image': image_id, 'b_found': list(found), 'state': target,
              'updated_at': engine.utcnow(), **changes}
    if upload_id is None:
        return conn.execute(_MOVE, values).rowcount == 1
    return conn.execute(_MOVE_UPLOAD, {
        **values, 'b_upload': upload_id}).rowcount == 1


def delete(conn: sa.Connection, image_id: str,
           upload_id: str | None = None) -> bool:
    """Forget the staged data (of that very upload, if one is named)."""
    if upload_id is None:
        return conn.execute(_DELETE, {'b_image': image_id}).rowcount == 1
    return conn.execute(_DELETE_UPLOAD, {
        'b_image': image_id, 'b_upload': upload_id}).rowcount == 1
