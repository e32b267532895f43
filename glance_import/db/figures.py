"""How much there is of what: figures of the queue, for metrics.

Every function takes a connection whose transaction the caller owns.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from glance_import.db import conductors
from glance_import.db import tables
from glance_import.db import turns


@dataclasses.dataclass(frozen=True, slots=True)
class Queue:
    """Imports of all nodes; ``oldest`` in seconds, 0 when none waits.

    Waiting are those that a conductor may take now; held are those that wait
    for an operator. Others are to be tried at a later time.
    """

    waiting: int
    running: int
    held: int
    oldest: float
    conductors: int


_WAITING = turns.claimable()
_QUEUE = sa.select(
    *(sa.func.coalesce(sa.func.sum(sa.case((each, 1), else_=0)), 0)
      for each in (_WAITING, sa.not_(turns.free()),
                   turns.Columns.held_at.is_not(None))),
    sa.func.coalesce(tables.db_now() - sa.func.min(sa.case(
        (_WAITING, turns.Columns.created_at))), 0.0)
).select_from(tables.import_jobs)


def queue(conn: sa.Connection) -> Queue:
    """The queue as it stands."""
    row = conn.execute(_QUEUE).one()
    return Queue(int(row[0]), int(row[1]), int(row[2]),
                 max(0.0, float(row[3])), conductors.living(conn))
