"""Imports that were asked for, and the leases by which conductors run them.

``claim`` leases a job to one conductor, in one conditional UPDATE: the row
gets a token of the lease's own and the image's next epoch, and expires by the
database's clock. Whatever an import writes later is written in a transaction
that begins with ``check_fence``: is the lease still in force? So a conductor
that slept too long can change nothing. Every function takes a connection
whose transaction the caller owns.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import typing

import sqlalchemy as sa

from glance_import.db import spelling
from glance_import.db import tables
from glance_import.db import tasks as db_tasks
from glance_import.db import turns
from glance_import import states

_TABLE = tables.import_jobs
Columns = _TABLE.c


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a job, for a while: a lease with a fencing token.

    It is in force as long as the job's row has this token and this epoch.
    The epoch is the fencing token: it grows with each lease of the image, so
    what the holder of an earlier one still writes can be told and refused.
    """

    job_id: str
    token: str
    epoch: int


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One import as it was asked for. ``request`` is the body of the POST."""

    id: str
    image_id: str
    project: str | None
    user_id: str | None
    area: str | None
    method: str
    roles: list[str]
    request_id: str | None
    request: dict[str, typing.Any]
    plugins: list[str]
    epoch: int
    attempts: int
    owner: str | None
    cancel: bool
    step: str | None
    message: str | None = None
    code: str | None = None
    retries: int = 0
    # Ids of the stores it goes to; None while there is only one.
    stores: list[str] | None = None
    # The plugins and options it is judged by; None of an earlier release.
    snapshot: str | None = None
    # What an operator has approved, see imports.holding.
    approved: list[str] | None = None
    # Seconds: how long it had waited for its first lease, and since then.
    waited: float | None = None
    running: float | None = None
    # What of the row cannot be read, if anything; the rest is still true.
    damaged: str | None = None
    # Whether the lease is the first that it ever had.
    first: bool = False

    def replace(self, **changes: typing.Any) -> Job:
        """The same job but for these fields."""
        return dataclasses.replace(self, **changes)


_COMPUTED = {
    'waited': (Columns.started_at - Columns.created_at).label('waited'),
    'running': (tables.db_now() - Columns.started_at).label('running')}
_COLUMNS: tuple[typing.Any, ...] = tuple(
    _COMPUTED[field.name] if field.name in _COMPUTED
    else _TABLE.c[field.name] for field in dataclasses.fields(Job)
    if field.name not in ('damaged', 'first'))
_JSON = {'request': dict, 'plugins': list, 'roles': list, 'stores': list,
         'approved': list}
_MAY_BE_NULL = ('stores', 'approved')

# Statements of every import are made once: making one takes five times as
# long as running it. What they are given is named b_..., since a name of a
# column would be a value to write.
_ID = Columns.id == sa.bindparam('b_id')
_INSERT = sa.insert(_TABLE).values(created_at=tables.db_now())
_GET = sa.select(*_COLUMNS).where(_ID)
_DELETE = sa.delete(_TABLE).where(_ID)


def _job(row: sa.Row) -> Job:
    values = dict(row._mapping)
    for name, kind in _JSON.items():
        if name in _MAY_BE_NULL and values[name] is None:
            continue
        try:
            values[name] = tables.from_json(values[name])
            if not isinstance(values[name], kind):
                raise ValueError(f'no {kind.__name__}')
        except (TypeError, ValueError):
            values[name] = kind()
            values['damaged'] = name
    return Job(**values)


def insert(conn: sa.Connection, *, request: dict[str, typing.Any],
           plugins: collections.abc.Sequence[str],
           roles: collections.abc.Sequence[str],
           stores: collections.abc.Sequence[str] | None = None,
           **values: typing.Any) -> None:
    """Post an import."""
    conn.execute(_INSERT, {
        'request': json.dumps(request), 'plugins': json.dumps(list(plugins)),
        'roles': json.dumps(list(roles)),
        'stores': None if stores is None else json.dumps(list(stores)),
        **values})


def get(conn: sa.Connection, job_id: str) -> Job | None:
    """The job, whoever owns it."""
    row = conn.execute(_GET, {'b_id': job_id}).first()
    return _job(row) if row is not None else None


def source(conn: sa.Connection, job_id: str
           ) -> dict[str, typing.Any] | None:
    """What is known of the data that the job fetches."""
    found = conn.execute(sa.select(Columns.source).where(
        Columns.id == job_id)).scalar()
    return json.loads(found) if found else None


def undo_log(conn: sa.Connection, job_id: str
             ) -> dict[str, dict[str, typing.Any]]:
    """Attributes of the image before plugins changed them.

    By the plugin that changed them; under '' as they were before any did.
    """
    found = conn.execute(sa.select(Columns.undo_log).where(
        Columns.id == job_id)).scalar()
    return json.loads(found) if found else {}


def secret(conn: sa.Connection, job_id: str) -> str | None:
    """What the job needs and nobody may read; encrypted."""
    return conn.execute(sa.select(Columns.secret).where(
        Columns.id == job_id)).scalar()


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is; times are seconds of the database's clock."""

    step: str | None
    bytes_done: int | None
    bytes_total: int | None
    retries: int
    message: str | None
    started_at: float
    now: float


def progress(conn: sa.Connection, ids: collections.abc.Collection[str]
             ) -> dict[str, Progress]:
    """Of those of the jobs that were begun, by id."""
    return {row.id: Progress(row.step, row.bytes_done, row.bytes_total,
                             row.retries, row.message, row.started_at,
                             row.now)
            for row in conn.execute(
                sa.select(Columns.id, Columns.step, Columns.bytes_done,
                          Columns.bytes_total, Columns.retries,
                          Columns.message, Columns.started_at,
                          tables.db_now().label('now'))
                .where(Columns.id.in_(ids), Columns.started_at.is_not(None)))}


def of_image(conn: sa.Connection, image_id: str) -> Job | None:
    """The import that is queued or running for an image."""
    row = conn.execute(sa.select(*_COLUMNS).where(
        Columns.image_id == image_id)).first()
    return _job(row) if row is not None else None


def count(conn: sa.Connection, project: str | None = None, *,
          waiting_only: bool = False) -> int:
    """How many jobs there are, of one project or all."""
    query = sa.select(sa.func.count()).select_from(_TABLE)
    if project is not None:
        query = query.where(spelling.exactly(Columns.project, project))
    if waiting_only:
        query = query.where(Columns.owner.is_(None))
    return conn.execute(query).scalar_one()


def _claim_where(condition: sa.ColumnElement[bool]) -> sa.Update:
    return sa.update(_TABLE).where(_ID, condition).values(
        area=sa.func.coalesce(Columns.area, sa.bindparam(
            'b_area', type_=sa.String)),
        attempts=Columns.attempts + 1,
        started_at=sa.func.coalesce(Columns.started_at, tables.db_now()),
        claim_expires=tables.db_now() + sa.bindparam(
            'b_seconds', type_=sa.Float))


_CLAIM = _claim_where(turns.claimable())
_CLAIM_HELD = _claim_where(sa.and_(turns.free(), Columns.held_at.is_not(None)))
_UPDATE = sa.update(_TABLE).where(_ID)


def claim(conn: sa.Connection, job_id: str, *, token: str, conductor: str,
          seconds: float, area: str | None = None, held: bool = False
          ) -> Job | None:
    """Take the job for ``seconds``; None when somebody else was faster.

    :param area: where it will stage what it fetches: from its first claim on
        its bytes are there, and within reach of that area's nodes only
    :param held: one that waits for an operator, and no other
    """
    taken = conn.execute(_CLAIM_HELD if held else _CLAIM, {
        'b_id': job_id, 'b_area': area, 'b_seconds': seconds,
        'owner': token, 'conductor': conductor})
    if taken.rowcount != 1:
        return None
    job = get(conn, job_id)
    assert job is not None
    epoch = next_epoch(conn, job.image_id)
    turns.note_turn(conn, job.project)
    first = db_tasks.move(conn, job_id, states.PENDING, states.PROCESSING)
    # Should it wait again one day, that is counted anew.
    forget_refusals(conn, [job_id])
    conn.execute(_UPDATE, {'b_id': job_id, 'epoch': epoch})
    return dataclasses.replace(job, epoch=epoch, first=first)


_EPOCHS = tables.import_epochs
_OF_IMAGE = _EPOCHS.c.image_id == sa.bindparam('b_image')
_NEXT_EPOCH = sa.update(_EPOCHS).where(_OF_IMAGE).values(
    epoch=_EPOCHS.c.epoch + 1)
_FIRST_EPOCH = sa.insert(_EPOCHS)
_EPOCH = sa.select(_EPOCHS.c.epoch).where(_OF_IMAGE)


def next_epoch(conn: sa.Connection, image_id: str) -> int:
    """Counted for the image, not the job: no two attempts ever share one."""
    which = {'b_image': image_id}
    if conn.execute(_NEXT_EPOCH, which).rowcount == 0:
        conn.execute(_FIRST_EPOCH, {'image_id': image_id, 'epoch': 1})
    return conn.execute(_EPOCH, which).scalar_one()


def last_epoch(conn: sa.Connection, image_id: str) -> int:
    """Of the latest attempt at the image; 0 when there was none."""
    return conn.execute(_EPOCH, {'b_image': image_id}).scalar() or 0


_FENCE = _UPDATE.where(Columns.owner == sa.bindparam('b_token'),
                       Columns.epoch == sa.bindparam('b_epoch'))
_FENCE_ALONE = _FENCE.values(claim_expires=Columns.claim_expires + 1e-6)


def check_fence(conn: sa.Connection, lease: Lease,
                **changes: typing.Any) -> bool:
    """Whether the lease is still in force; locks the row until the commit.

    Must be the first statement of the transaction that relies on it. Writes
    ``changes`` to the row when it is. Without any the lease is longer by a
    microsecond: on Galera an UPDATE that changes nothing keeps nobody on
    another node from taking the lease.
    """
    computed = {name: value for name, value in changes.items()
                if isinstance(value, sa.ColumnElement)}
    plain = {name: value for name, value in changes.items()
             if name not in computed}
    fence = _FENCE if changes else _FENCE_ALONE
    return conn.execute(
        fence.values(**computed) if computed else fence,
        {'b_id': lease.job_id, 'b_token': lease.token,
         'b_epoch': lease.epoch, **plain}).rowcount == 1


def extend(conn: sa.Connection, lease: Lease, seconds: float, *,
           step: str | None = None) -> bool:
    """Renew the lease; False when it is lost.

    :param step: what the import is at, if that is known
    """
    return check_fence(
        conn, lease, claim_expires=tables.db_now() + seconds,
        **({} if step is None else {'step': step}))


def cancel(conn: sa.Connection, image_id: str) -> bool:
    """Ask whoever runs the image's import, now or next, to end it."""
    return conn.execute(
        sa.update(_TABLE).where(Columns.image_id == image_id)
        .values(cancel=True, not_before=None)).rowcount > 0


_CANCELLED = sa.select(Columns.id, Columns.owner, Columns.cancel).where(
    Columns.id.in_(sa.bindparam('b_ids', expanding=True)))


def not_stopped(conn: sa.Connection,
                leases: collections.abc.Sequence[Lease]) -> dict[str, bool]:
    """Job id -> that nobody has cancelled it, of the leases still in force."""
    if not leases:
        return {}
    by_job = {lease.job_id: lease for lease in leases}
    found = conn.execute(_CANCELLED, {'b_ids': list(by_job)})
    return {row.id: not row.cancel for row in found
            if row.owner == by_job[row.id].token}


def release(conn: sa.Connection, lease: Lease, *,
            seconds: float | None = None, refund_attempt: bool = False,
            **changes: typing.Any) -> bool:
    """Give the job back for anybody to claim, after so many seconds."""
    changes |= {'owner': None, 'claim_expires': None, 'not_before': None}
    if seconds is not None:
        changes['not_before'] = tables.db_now() + seconds
    if refund_attempt:
        changes['attempts'] = Columns.attempts - 1
    return check_fence(conn, lease, **changes)


def take_to_post(conn: sa.Connection,
                 lost: collections.abc.Collection[str] | None = None, *,
                 seconds: float = 0.0) -> list[str]:
    """Ids of jobs that the caller, and nobody else, is to post now.

    Those that no board outside the database was told of; or those of
    ``lost``, which are not on it, unless somebody took them to post less
    than so many seconds ago.
    """
    now = tables.db_now()
    due: sa.ColumnElement[bool] = Columns.posted.is_(None)
    if lost is not None:
        due = sa.and_(Columns.id.in_(lost), sa.func.coalesce(
            Columns.posted, Columns.created_at) < now - seconds)
    found = conn.execute(sa.select(Columns.id).where(due).order_by(
        Columns.created_at, Columns.id)).scalars().all()
    return [job_id for job_id in found if conn.execute(
        sa.update(_TABLE).where(Columns.id == job_id, due)
        .values(posted=now)).rowcount == 1]


def note_unposted(conn: sa.Connection,
                  ids: collections.abc.Collection[str]) -> None:
    """They could not be posted after all."""
    conn.execute(sa.update(_TABLE).where(Columns.id.in_(ids))
                 .values(posted=None))


def known(conn: sa.Connection,
          ids: collections.abc.Collection[str]) -> set[str]:
    """Which of these jobs there are."""
    return set(conn.execute(
        sa.select(Columns.id).where(Columns.id.in_(ids))).scalars())


def tokens_of_node(conn: sa.Connection, node: str) -> dict[str, str]:
    """Job -> token of each lease of a node's conductor."""
    return dict(conn.execute(
        sa.select(Columns.id, Columns.owner)
        .where(_of_node(node))).all())


def _of_node(node: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        Columns.owner.is_not(None),
        Columns.conductor.startswith(f'{node}:', autoescape=True))


def release_node(conn: sa.Connection, node: str) -> int:
    """End the leases of a node whose conductor is known to be dead."""
    return conn.execute(
        sa.update(_TABLE)
        .where(_of_node(node))
        .values(owner=None, claim_expires=None)).rowcount


def delete(conn: sa.Connection, job_id: str) -> bool:
    """Take the job off the board, finished, with the record of its flow."""
    forget_flow(conn, [job_id])
    forget_refusals(conn, [job_id])
    return conn.execute(_DELETE, {'b_id': job_id}).rowcount == 1


# With one id each: a list would be written into the statement anew each time.
_FORGET_FLOW = tuple(
    sa.delete(column.table).where(column == sa.bindparam('b_id'))
    for column in (tables.import_atomdetails.c.parent_uuid,
                   tables.import_flowdetails.c.uuid,
                   tables.import_logbooks.c.uuid))
_FORGET_REFUSALS = sa.delete(tables.import_refusals).where(
    tables.import_refusals.c.job_id == sa.bindparam('b_id'))


def forget_flow(conn: sa.Connection,
                ids: collections.abc.Collection[str]) -> None:
    """Remove what taskflow recorded of these jobs; their atoms go along.

    Flow and book bear the job's id. Nothing relies on the server to follow
    the foreign keys: SQLite does so only for connections that ask for it.
    """
    for job_id in ids:
        for statement in _FORGET_FLOW:
            conn.execute(statement, {'b_id': job_id})


def forget_refusals(conn: sa.Connection,
                    ids: collections.abc.Collection[str]) -> None:
    """Forget who had left these jobs to others."""
    for job_id in ids:
        conn.execute(_FORGET_REFUSALS, {'b_id': job_id})


def delete_of_image(conn: sa.Connection, image_id: str) -> list[str]:
    """Take an image's import off the board; ids of what was there.

    Whoever runs it loses its lease by that and writes nothing more.
    """
    ids = list(conn.execute(sa.select(Columns.id).where(
        Columns.image_id == image_id)).scalars())
    if ids:
        forget_flow(conn, ids)
        forget_refusals(conn, ids)
        conn.execute(sa.delete(_TABLE).where(Columns.id.in_(ids)))
    return ids
