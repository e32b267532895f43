"""Whose turn it is: which of the imports that wait is to be claimed next.

What of them may be claimed at all is a condition on their rows, which others
ask by as well. Every function takes a connection whose transaction the caller
owns.
"""

from __future__ import annotations

import collections
import collections.abc
import functools
import json

import sqlalchemy as sa

from glance_import.db import tables
from glance_import import states

_TABLE = tables.import_jobs
Columns = _TABLE.c

# In place of an area: the job never stages anything, so that any node can run
# it whenever it is begun. (NULL: nothing is staged yet. The first to lease the
# job enters the area that it will stage in.)
STAGES_NOTHING = ''


def free() -> sa.ColumnElement[bool]:
    """Condition on import_jobs: no lease is in force."""
    return sa.or_(Columns.owner.is_(None),
                  Columns.claim_expires < tables.db_now())


def claimable() -> sa.ColumnElement[bool]:
    """Condition on import_jobs: no lease is in force, and it is due.

    One that waits for an operator is due only to be cancelled.
    """
    now = tables.db_now()
    return sa.and_(
        free(), sa.or_(Columns.held_at.is_(None), Columns.cancel),
        sa.or_(Columns.not_before.is_(None), Columns.not_before <= now))


def within_reach(areas: collections.abc.Collection[str] | None
                 ) -> sa.ColumnElement[bool]:
    """Condition on import_jobs: its bytes are in one of these areas.

    Or nowhere yet. None stands for all areas.
    """
    return sa.true() if areas is None else sa.or_(
        Columns.area.is_(None), Columns.area.in_((*areas, STAGES_NOTHING)))


def waiting(conn: sa.Connection, *,
            areas: collections.abc.Collection[str] | None,
            limit: int, conductor: str | None = None, share: int = 0,
            full: collections.abc.Collection[str] = (),
            cancelled: bool = False) -> list[str]:
    """Ids of claimable jobs whose bytes are within reach (None: all jobs).

    Without those that ``conductor`` has left to others.

    :param share: jobs of one project that may run at once; 0 for any number
    :param full: ids of stores that no further job may go to now; '' for the
        only one

    Projects take turns: a project's next job counts as the later, the more
    of its jobs run already or stand before it; among equals the project that
    was served the longest ago comes first, then the oldest job.
    """
    query = _waiting(areas is None, conductor is None, share > 0)
    if cancelled:
        query = query.where(query.selected_columns.id.in_(
            sa.select(Columns.id).where(Columns.cancel)))
    if full:
        query = query.where(query.selected_columns.id.in_(
            sa.select(Columns.id).where(*map(_avoids, full))))
    return list(conn.execute(
        query,
        {'b_limit': limit, **({'b_share': share} if share else {}),
         **({} if areas is None else {'b_areas': [*areas, STAGES_NOTHING]}),
         **({} if conductor is None else {'b_conductor': conductor})}
    ).scalars())


@functools.cache
def _waiting(everywhere: bool, all_of_them: bool, shared: bool
             ) -> sa.Select:
    refused = tables.import_refusals.c
    reach = sa.true() if everywhere else sa.or_(
        Columns.area.is_(None),
        Columns.area.in_(sa.bindparam('b_areas', expanding=True)))
    ours = sa.true() if all_of_them else ~sa.exists().where(
        refused.job_id == Columns.id,
        refused.conductor == sa.bindparam('b_conductor'))
    running = _TABLE.alias()
    at_work = (
        sa.select(sa.func.count()).select_from(running)
        .where(running.c.project == Columns.project,
               running.c.owner.is_not(None),
               running.c.claim_expires >= tables.db_now())
        .scalar_subquery())
    place = sa.func.row_number().over(
        partition_by=Columns.project,
        order_by=(Columns.created_at, Columns.id))
    served = tables.import_turns.c
    turns = (
        sa.select(Columns.id, Columns.created_at,
                  (at_work + place).label('turn'),
                  sa.func.coalesce(served.served, 0.0).label('served'))
        .join_from(_TABLE, tables.import_turns,
                   served.project == Columns.project, isouter=True)
        .where(claimable(), reach, ours)
        .subquery())
    return (sa.select(turns.c.id)
            .where(turns.c.turn <= sa.bindparam('b_share', type_=sa.Integer)
                   if shared else sa.true())
            .order_by(turns.c.turn, turns.c.served, turns.c.created_at,
                      turns.c.id)
            .limit(sa.bindparam('b_limit')))


def _avoids(store: str) -> sa.ColumnElement[bool]:
    if not store:
        return Columns.stores.is_not(None)
    return sa.or_(Columns.stores.is_(None), sa.not_(Columns.stores.contains(
        json.dumps(store), autoescape=True)))


def running_in_stores(conn: sa.Connection) -> collections.Counter[str]:
    """How many jobs run that go to each store; '' where there is one."""
    found: collections.Counter[str] = collections.Counter()
    for said in conn.execute(sa.select(Columns.stores).where(
            sa.not_(free()))).scalars():
        found.update(json.loads(said) if said else [''])
    return found


_DEMANDING = sa.select(Columns.id, Columns.snapshot).where(
    Columns.id.in_(sa.bindparam('b_ids', expanding=True)),
    Columns.cancel.is_(sa.false()),
    ~sa.exists().where(tables.tasks.c.id == Columns.id,
                       tables.tasks.c.status == states.SUCCESS),
    sa.or_(Columns.requirement.is_not(None),
           sa.and_(Columns.snapshot.is_(None), Columns.plugins.is_not(None),
                   Columns.plugins != '[]')))


def demanding(conn: sa.Connection, ids: collections.abc.Collection[str]
              ) -> dict[str, str | None]:
    """Of those that not every conductor can run: what each is judged by.

    None where an earlier release accepted it and kept no options. One that
    is to be cancelled demands nothing, nor does one whose image is active:
    nothing is left to be judged.
    """
    if not ids:
        return {}
    return dict(conn.execute(_DEMANDING, {'b_ids': list(ids)}).all())


_TURNS = tables.import_turns
_TAKE_TURN = (sa.update(_TURNS)
              .where(_TURNS.c.project == sa.bindparam('b_project'))
              .values(served=tables.db_now()))
_FIRST_TURN = sa.insert(_TURNS).values(served=tables.db_now())


def note_turn(conn: sa.Connection, project: str | None) -> None:
    """The project was served now; until the others were, it waits."""
    if project is not None and conn.execute(
            _TAKE_TURN, {'b_project': project}).rowcount == 0:
        conn.execute(_FIRST_TURN, {'project': project})
