"""Which conductors live, and which imports they cannot honour.

A conductor keeps one row fresh. Of an import that it must leave to others it
writes a refusal, which it takes back as soon as that is no longer so. Every
function takes a connection whose transaction the caller owns; times are
seconds of the database's clock.
"""

from __future__ import annotations

import collections.abc
import dataclasses

import sqlalchemy as sa

from glance_import.db import tables
from glance_import.db import turns

_CONDUCTORS = tables.import_conductors.c
_REFUSALS = tables.import_refusals.c
_JOBS = tables.import_jobs.c
# A conductor that was not heard of for so long counts as dead, and after so
# long it is forgotten.
LIVING_SECONDS = 60.0
# How long one that lives may be silent: twice what it pauses, and a bit.
PAUSE_SECONDS = 35.0
_FORGET_SECONDS = 86400.0


_DRAINING = sa.select(_CONDUCTORS.draining).where(
    _CONDUCTORS.name == sa.bindparam('b_name'))


@dataclasses.dataclass(frozen=True, slots=True)
class Conductor:
    """A conductor as it announced itself; ``ago`` is in seconds."""

    name: str
    node: str
    area: str
    version: str
    honours: str | None
    draining: bool
    ago: float


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why a conductor leaves an import to others; ``age`` is in seconds."""

    job_id: str
    conductor: str
    reason: str
    age: float


def announce(conn: sa.Connection, *, name: str, node: str, area: str,
             version: str, honours: str | None) -> None:
    """Say that a conductor lives and what it can honour."""
    values = {'node': node, 'area': area, 'version': version,
              'honours': honours, 'seen': tables.db_now()}
    table = tables.import_conductors
    if conn.execute(sa.update(table).where(_CONDUCTORS.name == name)
                    .values(**values)).rowcount == 0:
        conn.execute(sa.insert(table).values(name=name, **values))


def drain(conn: sa.Connection, name: str, wanted: bool) -> int:
    """Have a conductor take no more imports, or take them again.

    :param name: of a conductor, or of a node
    :returns: how many there are of that name
    """
    return conn.execute(
        sa.update(tables.import_conductors)
        .where(sa.or_(_CONDUCTORS.name == name, _CONDUCTORS.node == name))
        .values(draining=wanted)).rowcount


def is_draining(conn: sa.Connection, name: str) -> bool:
    """Whether it is to take no more imports."""
    return bool(conn.execute(_DRAINING, {'b_name': name}).scalar())


def running(conn: sa.Connection, name: str) -> int:
    """How many imports a conductor, or those of a node, have leased."""
    return conn.execute(
        sa.select(sa.func.count()).where(
            sa.or_(_JOBS.conductor == name, _JOBS.conductor.startswith(
                f'{name}:', autoescape=True)),
            sa.not_(turns.free()))).scalar_one()


def leave(conn: sa.Connection, name: str) -> None:
    """The conductor ends."""
    conn.execute(sa.delete(tables.import_conductors).where(
        _CONDUCTORS.name == name))


def forget(conn: sa.Connection) -> None:
    """Remove who is long dead, and refusals of what has ended."""
    conn.execute(sa.delete(tables.import_conductors).where(
        _CONDUCTORS.seen < tables.db_now() - _FORGET_SECONDS))
    conn.execute(sa.delete(tables.import_refusals).where(
        _REFUSALS.job_id.not_in(sa.select(_JOBS.id))))


def all_(conn: sa.Connection) -> list[Conductor]:
    """Every conductor that is remembered, the latest heard of first."""
    ago = tables.db_now() - _CONDUCTORS.seen
    return [Conductor(**row._mapping) for row in conn.execute(
        sa.select(_CONDUCTORS.name, _CONDUCTORS.node, _CONDUCTORS.area,
                  _CONDUCTORS.version, _CONDUCTORS.honours,
                  _CONDUCTORS.draining, ago.label('ago'))
        .order_by(_CONDUCTORS.seen.desc(), _CONDUCTORS.name))]


def _living(seconds: float = LIVING_SECONDS, *, drained: bool = False
            ) -> sa.ColumnElement[bool]:
    return sa.and_(_CONDUCTORS.seen >= tables.db_now() - seconds,
                   sa.true() if drained else sa.not_(_CONDUCTORS.draining))


def any_living(conn: sa.Connection, area: str | None = None) -> bool:
    """Whether any conductor that takes imports was heard of lately.

    :param area: only of those that have the bytes of this area
    """
    query = sa.select(_CONDUCTORS.name).where(_living()).limit(1)
    if area is not None:
        query = query.where(_CONDUCTORS.area == area)
    return conn.execute(query).first() is not None


def living(conn: sa.Connection) -> int:
    """How many conductors were heard of lately."""
    return conn.execute(sa.select(sa.func.count()).select_from(
        tables.import_conductors).where(_living())).scalar_one()


def refuse(conn: sa.Connection, job_id: str, conductor: str,
           reason: str) -> None:
    """Leave an import to others; the first time counts as since when."""
    table = tables.import_refusals
    key = sa.and_(_REFUSALS.job_id == job_id,
                  _REFUSALS.conductor == conductor)
    if conn.execute(sa.update(table).where(key)
                    .values(reason=reason)).rowcount == 0:
        conn.execute(sa.insert(table).values(
            job_id=job_id, conductor=conductor, reason=reason,
            since=tables.db_now()))


def refused_by(conn: sa.Connection, conductor: str) -> list[str]:
    """Ids of the imports that a conductor left to others."""
    return list(conn.execute(sa.select(_REFUSALS.job_id).where(
        _REFUSALS.conductor == conductor)).scalars())


def accept(conn: sa.Connection, job_id: str,
           conductor: str | None = None) -> None:
    """Take a refusal back, or all of them."""
    query = sa.delete(tables.import_refusals).where(
        _REFUSALS.job_id == job_id)
    if conductor is not None:
        query = query.where(_REFUSALS.conductor == conductor)
    conn.execute(query)


def refusals(conn: sa.Connection,
             ids: collections.abc.Collection[str]) -> list[Refusal]:
    """Those of some imports, the oldest first."""
    if not ids:
        return []
    age = tables.db_now() - _REFUSALS.since
    return [Refusal(**row._mapping) for row in conn.execute(
        sa.select(_REFUSALS.job_id, _REFUSALS.conductor, _REFUSALS.reason,
                  age.label('age'))
        .where(_REFUSALS.job_id.in_(ids))
        .order_by(_REFUSALS.since, _REFUSALS.conductor))]


def unattended(conn: sa.Connection, seconds: float = LIVING_SECONDS, *,
               drained: bool = False) -> dict[str, float]:
    """Imports that wait and that no living conductor has in its reach.

    :param seconds: after which a conductor counts as dead that was not
        heard of; at least as long as they pause between two words
    :param drained: whether one that takes no imports now counts, too
    :returns: seconds since it was asked for, by the id of each
    """
    able = sa.select(_CONDUCTORS.name).where(
        _living(max(seconds, PAUSE_SECONDS), drained=drained),
        _in_its_reach()
    ).correlate(tables.import_jobs)
    return {job_id: age for job_id, age in conn.execute(
        sa.select(_JOBS.id, tables.db_now() - _JOBS.created_at)
        .where(turns.claimable(), ~able.exists())
        .order_by(_JOBS.created_at, _JOBS.id))}


def _in_its_reach() -> sa.ColumnElement[bool]:
    """Whether a conductor can read what an import has staged, if anything."""
    return sa.or_(_JOBS.area.is_(None), _JOBS.area == turns.STAGES_NOTHING,
                  _JOBS.area == _CONDUCTORS.area)


def unhonoured(conn: sa.Connection, areas: collections.abc.Collection[str],
               seconds: float) -> list[str]:
    """Ids of imports that nobody who lives has been able to run for so long.

    Of those whose bytes are in reach of ``areas``, or lie nowhere yet. One
    that a living conductor has not refused is not among them, however long
    it waits.
    """
    refused = tables.import_refusals.alias().c
    able = (
        sa.select(_CONDUCTORS.name)
        .where(_living(), _in_its_reach(),
               ~sa.exists().where(refused.job_id == _JOBS.id,
                                  refused.conductor == _CONDUCTORS.name))
        .correlate(tables.import_jobs))
    return list(conn.execute(
        sa.select(_JOBS.id)
        .join_from(tables.import_jobs, tables.import_refusals,
                   _REFUSALS.job_id == _JOBS.id)
        .where(turns.claimable(), turns.within_reach(areas), ~able.exists())
        .group_by(_JOBS.id)
        .having(sa.func.min(_REFUSALS.since) < tables.db_now() - seconds)
        .order_by(_JOBS.id)).scalars())
