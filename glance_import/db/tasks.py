"""Tasks: the record of each import that users and operators read.

Every function takes a connection whose transaction the caller owns.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import json
import typing

import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import spelling
from glance_import.db import tables
from glance_import import states

Columns = tables.tasks.c
_INFO = tables.task_info


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """One task with its details. Times are naive UTC."""

    id: str
    type: str
    status: str
    owner: str
    image_id: str | None
    request_id: str | None
    user_id: str | None
    expires_at: datetime.datetime | None
    created_at: datetime.datetime
    updated_at: datetime.datetime
    input: dict[str, typing.Any] | None
    result: dict[str, typing.Any] | None
    message: str


_BASE = tuple(field.name for field in dataclasses.fields(Task)
              if field.name not in ('input', 'result', 'message'))
_SELECT = sa.select(
    *(Columns[name] for name in _BASE),
    _INFO.c.input, _INFO.c.result, _INFO.c.message,
).join_from(tables.tasks, _INFO, Columns.id == _INFO.c.task_id, isouter=True)
_LIVE = Columns.deleted == sa.false()
# Made once: making a statement takes longer than running it.
_BY_ID = _SELECT.where(Columns.id == sa.bindparam('b_id'), _LIVE)
_MOVE = sa.update(tables.tasks).where(
    Columns.id == sa.bindparam('b_id'), _LIVE,
    Columns.status == sa.bindparam('b_status'))
_UPDATE_INFO = sa.update(_INFO).where(
    _INFO.c.task_id == sa.bindparam('b_id'))


def _json(value: typing.Any) -> typing.Any:
    return (tables.from_json(value) if isinstance(value, str) and value
            else value)


def _task(row: sa.Row) -> Task:
    values = dict(row._mapping)
    values['input'] = _json(values['input'])
    values['result'] = _json(values['result'])
    values['message'] = values['message'] or ''
    return Task(**values)


def insert(conn: sa.Connection, *, input: dict[str, typing.Any],
           **values: typing.Any) -> None:
    """A new task, ``pending`` unless ``values`` say otherwise."""
    now = engine.utcnow()
    conn.execute(sa.insert(tables.tasks).values(
        **{'status': states.PENDING, **values}, created_at=now, updated_at=now,
        deleted=False))
    conn.execute(sa.insert(_INFO).values(
        task_id=values['id'], input=json.dumps(input), message=''))


def get(conn: sa.Connection, task_id: str,
        owner: str | None = None) -> Task | None:
    """The task, of ``owner`` only when one is given."""
    query = _BY_ID
    if owner is not None:
        query = query.where(spelling.exactly(Columns.owner, owner))
    row = conn.execute(query, {'b_id': task_id}).first()
    return _task(row) if row is not None else None


def page(conn: sa.Connection, *, owner: str | None,
         filters: collections.abc.Mapping[str, str], sort_key: str,
         sort_dir: str, limit: int, after: Task | None) -> list[Task]:
    """A page of tasks that have not expired, in a total order."""
    column = Columns[sort_key]
    query = _SELECT.where(_LIVE, sa.or_(
        Columns.expires_at.is_(None), Columns.expires_at > engine.utcnow()))
    if owner is not None:
        query = query.where(spelling.exactly(Columns.owner, owner))
    for name, value in filters.items():
        query = query.where(Columns[name] == value)
    ascending = sort_dir == 'asc'
    if after is not None:
        value = getattr(after, sort_key)
        if ascending:
            behind = sa.or_(column > value, sa.and_(
                column == value, Columns.id > after.id))
        else:
            behind = sa.or_(column < value, sa.and_(
                column == value, Columns.id < after.id))
        query = query.where(behind)
    query = query.order_by(
        column.asc() if ascending else column.desc(),
        Columns.id.asc() if ascending else Columns.id.desc())
    return [_task(row) for row in conn.execute(query.limit(limit))]


def of_image(conn: sa.Connection, image_id: str) -> list[Task]:
    """Every live task of one image, newest first."""
    return [_task(row) for row in conn.execute(
        _SELECT.where(
            Columns.image_id == image_id, _LIVE,
            sa.or_(Columns.expires_at.is_(None),
                   Columns.expires_at > engine.utcnow()))
        .order_by(Columns.created_at.desc(), Columns.id.desc()))]


def matching(conn: sa.Connection, *conditions: sa.ColumnElement[bool]
             ) -> list[Task]:
    """Every live task of which these hold, the latest changed first."""
    return [_task(row) for row in conn.execute(
        _SELECT.where(_LIVE, *conditions)
        .order_by(Columns.updated_at.desc(), Columns.id))]


def move(conn: sa.Connection, task_id: str, expected: str, target: str, *,
         expires_at: datetime.datetime | None = None,
         result: dict[str, typing.Any] | None = None,
         message: str | None = None) -> bool:
    """Compare-and-swap the status; False when another was found."""
    moved = conn.execute(_MOVE, {
        'b_id': task_id, 'b_status': expected, 'status': target,
        'expires_at': expires_at, 'updated_at': engine.utcnow()})
    if moved.rowcount != 1:
        return False
    info: dict[str, typing.Any] = {}
    if result is not None:
        info['result'] = json.dumps(result)
    if message is not None:
        info['message'] = message
    if info:
        conn.execute(_UPDATE_INFO, {'b_id': task_id, **info})
    return True


def set_result(conn: sa.Connection, task_id: str,
               result: dict[str, typing.Any]) -> None:
    """Write the result of a task that goes on."""
    conn.execute(_UPDATE_INFO, {'b_id': task_id,
                                'result': json.dumps(result)})


def set_message(conn: sa.Connection, task_id: str, message: str) -> None:
    """Write what users are told of a task that goes on."""
    conn.execute(_UPDATE_INFO, {'b_id': task_id, 'message': message})


def expire(conn: sa.Connection) -> int:
    """Soft-delete the tasks whose time is over; how many there were."""
    now = engine.utcnow()
    return conn.execute(
        sa.update(tables.tasks)
        .where(_LIVE, Columns.expires_at.is_not(None),
               Columns.expires_at <= now)
        .values(deleted=True, deleted_at=now)).rowcount
