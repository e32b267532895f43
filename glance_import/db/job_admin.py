"""Jobs as an operator sees and steers them.

Works on the rows that conductors lease (``jobs``). Every function takes a
connection whose transaction the caller owns.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import json

import sqlalchemy as sa

from glance_import.db import jobs
from glance_import.db import tables
from glance_import.db import tasks
from glance_import.db import turns

_JOBS = tables.import_jobs.c
# What an operator has decided is of the bytes, and of the plugins, that it was
# decided for.
_UNDECIDED = {'held_at': None, 'held_by': None, 'approved': None}
RUNNING, WAITING, HELD, HELD_BACK, EXPIRED = (
    'running', 'waiting', 'held', 'held back', 'claim expired')


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One import. Ages and times are seconds.

    ``state``: running; waiting for a conductor; held by a plugin until an
    operator approves it; held back until it is tried again; or claimed by a
    conductor that has not been heard of in time.
    """

    id: str
    image_id: str
    project: str | None
    method: str
    area: str | None
    state: str
    conductor: str | None
    step: str | None
    bytes_done: int | None
    bytes_total: int | None
    attempts: int
    retries: int
    cancel: bool
    message: str | None
    age: float
    running_for: float | None
    due_in: float | None
    held_for: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Totals:
    """How long the queue is, and how old its oldest import (seconds).

    Those that wait for an operator are in ``held`` alone.
    """

    waiting: int
    running: int
    held: int
    oldest: float | None


def _live() -> sa.ColumnElement[bool]:
    return sa.and_(_JOBS.owner.is_not(None),
                   _JOBS.claim_expires >= tables.db_now())


def _waits() -> sa.ColumnElement[bool]:
    return sa.and_(sa.not_(_live()), _JOBS.held_at.is_(None))


def entries(conn: sa.Connection, *, project: str | None = None,
            area: str | None = None,
            ids: collections.abc.Collection[str] | None = None
            ) -> list[Entry]:
    """Imports in the order they were asked for.

    :param ids: of imports or of images
    """
    now = tables.db_now()
    state = sa.case(
        (_live(), RUNNING), (_JOBS.owner.is_not(None), EXPIRED),
        (_JOBS.held_at.is_not(None), HELD),
        (_JOBS.not_before > now, HELD_BACK), else_=WAITING)
    query = sa.select(
        *(_JOBS[name] for name in (
            'id', 'image_id', 'project', 'method', 'area', 'step',
            'bytes_done', 'bytes_total', 'attempts', 'retries',
            'cancel', 'message')),
        state.label('state'), (now - _JOBS.created_at).label('age'),
        sa.case((_JOBS.owner.is_not(None), _JOBS.conductor)).label(
            'conductor'),
        sa.case((_JOBS.held_at.is_(None), now - _JOBS.started_at)).label(
            'running_for'),
        (_JOBS.not_before - now).label('due_in'),
        (now - _JOBS.held_at).label('held_for'))
    if project is not None:
        query = query.where(_JOBS.project == project)
    if area is not None:
        query = query.where(_JOBS.area == area)
    if ids is not None:
        query = query.where(sa.or_(_JOBS.id.in_(ids),
                                   _JOBS.image_id.in_(ids)))
    return [Entry(**row._mapping) for row in conn.execute(
        query.order_by(_JOBS.created_at, _JOBS.id))]


def totals(conn: sa.Connection) -> Totals:
    """Of all projects."""
    row = conn.execute(sa.select(
        *(sa.func.coalesce(sa.func.sum(sa.case((each, 1), else_=0)), 0)
          for each in (_waits(), _live(), _JOBS.held_at.is_not(None))),
        tables.db_now() - sa.func.min(sa.case(
            (_waits(), _JOBS.created_at), else_=None)))).one()
    return Totals(int(row[0]), int(row[1]), int(row[2]), row[3])


def steps(conn: sa.Connection, job_id: str) -> list[tuple[str, str]]:
    """(name, state) of each step that is recorded of an import, in order."""
    flows, atoms = tables.import_flowdetails.c, tables.import_atomdetails.c
    meta = conn.execute(sa.select(flows.meta).where(
        flows.uuid == job_id)).scalar() or {}
    state = dict(conn.execute(
        sa.select(atoms.name, atoms.state)
        .where(atoms.parent_uuid == job_id)).all())
    return [(name, state[name]) for name in meta.get('steps', ())
            if name in state]


def ended(conn: sa.Connection, *, since: datetime.datetime,
          project: str | None = None,
          statuses: collections.abc.Collection[str]) -> list[tasks.Task]:
    """Imports that have ended and whose tasks are kept, the latest first.

    :param since: naive UTC
    """
    wanted = [tasks.Columns.status.in_(statuses),
              tasks.Columns.updated_at >= since]
    if project is not None:
        wanted.append(tasks.Columns.owner == project)
    return tasks.matching(conn, *wanted)


def hurry(conn: sa.Connection, job_id: str) -> bool:
    """Let an import be tried at once, with all its attempts before it."""
    return conn.execute(
        sa.update(tables.import_jobs)
        .where(_JOBS.id == job_id)
        .values(not_before=None, attempts=0, retries=0)).rowcount == 1


def release(conn: sa.Connection, job_id: str) -> bool:
    """End the lease of a job, whoever has it."""
    return conn.execute(
        sa.update(tables.import_jobs)
        .where(_JOBS.id == job_id, _JOBS.owner.is_not(None))
        .values(owner=None, claim_expires=None)).rowcount == 1


def suspend(conn: sa.Connection, lease: jobs.Lease, *,
            by: collections.abc.Sequence[str], message: str) -> bool:
    """End a lease and let the import wait for an operator.

    :param by: what is to be approved, a text for each plugin
    """
    return jobs.release(
        conn, lease, refund_attempt=True, held_at=tables.db_now(),
        held_by=json.dumps(list(by)), message=message)


def held(conn: sa.Connection, job_id: str) -> str | None:
    """What an import waits for an operator for; None if it does not."""
    return conn.execute(sa.select(_JOBS.message).where(
        _JOBS.id == job_id, _JOBS.held_at.is_not(None))).scalar()


def approve(conn: sa.Connection, job_id: str) -> list[str] | None:
    """Let a held import go on; who had held it, None if nobody had."""
    row = conn.execute(
        sa.select(_JOBS.held_by, _JOBS.approved)
        .where(_JOBS.id == job_id, _JOBS.held_at.is_not(None), turns.free())
        .with_for_update()).first()
    if row is None:
        return None
    by = json.loads(row.held_by or '[]')
    before = json.loads(row.approved or '[]')
    free = conn.execute(
        sa.update(tables.import_jobs)
        .where(_JOBS.id == job_id, _JOBS.held_at.is_not(None), turns.free())
        .values(held_at=None, held_by=None, message=None,
                approved=json.dumps([*before, *by]))).rowcount == 1
    return by if free else None


def held_too_long(conn: sa.Connection, area: str, seconds: float
                  ) -> list[str]:
    """Ids of imports that have waited so long for an operator.

    Of those with bytes in that staging area, or nowhere.
    """
    return list(conn.execute(
        sa.select(_JOBS.id)
        .where(_JOBS.held_at < tables.db_now() - seconds,
               turns.within_reach([area]))
        .order_by(_JOBS.held_at)).scalars())


def unbind(conn: sa.Connection, job_id: str) -> bool:
    """Let an import fetch its bytes anew, wherever there is room.

    Only one that nobody runs; its record goes, since its steps begin again.
    """
    free = conn.execute(
        sa.update(tables.import_jobs)
        .where(_JOBS.id == job_id, sa.not_(_live()))
        .values(area=None, owner=None, claim_expires=None, message=None,
                **_UNDECIDED)).rowcount == 1
    if free:
        jobs.forget_flow(conn, [job_id])
    return free


def rebind(conn: sa.Connection, job_id: str, *,
           plugins: collections.abc.Collection[str], snapshot: str,
           requirement: str | None) -> bool:
    """Have an import judged by other plugins and options.

    Only one that nobody runs; its steps begin again, and who had left it to
    others looks at it anew.
    """
    free = conn.execute(
        sa.update(tables.import_jobs)
        .where(_JOBS.id == job_id, sa.not_(_live()))
        .values(plugins=json.dumps(list(plugins)), snapshot=snapshot,
                requirement=requirement, owner=None, claim_expires=None,
                **_UNDECIDED)).rowcount == 1
    if free:
        jobs.forget_flow(conn, [job_id])
        jobs.forget_refusals(conn, [job_id])
    return free


def staged_in(conn: sa.Connection, area: str) -> list[str]:
    """Ids of images with bytes in a staging area and no import."""
    staging = tables.import_staging.c
    return list(conn.execute(
        sa.select(staging.image_id).where(
            staging.area == area,
            ~sa.exists().where(_JOBS.image_id == staging.image_id))
        .order_by(staging.image_id)).scalars())
