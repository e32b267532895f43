"""A taskflow job board on the service's own database: ``sql``.

Registered under taskflow's entry points (``taskflow.jobboards``), so whatever
speaks to taskflow's boards can look at the imports and claim them. The table
is import_jobs: an import is posted by the request that accepts it, in the
same transaction as all else, and a claim is one conditional UPDATE on the
database's clock that also takes the image's next epoch.
"""

from __future__ import annotations

import collections.abc
import datetime
import typing

from taskflow import exceptions
from taskflow.jobs import base
from taskflow import logging
from taskflow import states

from glance_import.db import engine as db_engine
from glance_import.db import jobs as db_jobs
from glance_import.db import queue as db_queue

LOG = logging.getLogger(__name__)
EXPIRY_SECONDS = 30
FETCH_LIMIT = 64


class SqlJob(base.Job):
    """One import. ``claimed`` is what its claim returned."""

    def __init__(self, board: SqlJobBoard, job_id: str) -> None:
        super().__init__(board, f'import-{job_id}', uuid=job_id,
                         details={'import': job_id})
        self.claimed: db_jobs.Job | None = None

    def _entry(self) -> db_queue.Entry | None:
        return self.board.entry(self.uuid)

    @property
    def state(self) -> str:
        entry = self._entry()
        if entry is None:
            return states.COMPLETE
        return (states.CLAIMED if entry.state == db_queue.RUNNING
                else states.UNCLAIMED)

    @property
    def priority(self) -> base.JobPriority:
        return base.JobPriority.NORMAL

    @property
    def created_on(self) -> datetime.datetime | None:
        entry = self._entry()
        return (db_engine.utcnow() - datetime.timedelta(seconds=entry.age)
                if entry is not None else None)

    @property
    def last_modified(self) -> datetime.datetime | None:
        return self.created_on

    def extend_expiry(self, expiry: float) -> bool:
        """Renew the claim this job was claimed by; False when it is lost."""
        if self.claimed is None or self.claimed.owner is None:
            return False
        with self.board.database.write() as conn:
            return db_jobs.extend(conn, db_jobs.Claim(
                self.uuid, self.claimed.owner, self.claimed.epoch), expiry)


class SqlJobBoard(base.JobBoard):
    """``client`` is the service's ``db.engine.Database``."""

    def __init__(self, name: str, conf: dict[str, typing.Any],
                 client: db_engine.Database | None = None,
                 persistence: typing.Any = None) -> None:
        super().__init__(name, conf)
        if client is None:
            raise ValueError('the board needs the database of the service')
        self.database = client
        self._connected = False

    def job(self, job_id: str) -> SqlJob:
        """The job of that id, not looked at."""
        return SqlJob(self, job_id)

    def entry(self, job_id: str) -> db_queue.Entry | None:
        with self.database.read() as conn:
            found = db_queue.entries(conn, ids=[job_id])
        return found[0] if found else None

    # -- taskflow's interface

    @property
    def connected(self) -> bool:
        return self._connected

    def connect(self) -> None:
        """The database connects by itself."""
        self._connected = True

    def close(self) -> None:
        self._connected = False

    @property
    def job_count(self) -> int:
        with self.database.read() as conn:
            return db_jobs.count(conn)

    def iterjobs(self, only_unclaimed: bool = False,
                 ensure_fresh: bool = False) -> base.JobBoardIterator:
        """Claimable imports in their turn; without the flag all there are."""
        def fetch(ensure_fresh: bool = False) -> list[SqlJob]:
            with self.database.read() as conn:
                ids: collections.abc.Iterable[str]
                if only_unclaimed:
                    ids = db_jobs.waiting(conn, areas=None,
                                          limit=FETCH_LIMIT)
                else:
                    ids = [each.id for each in db_queue.entries(conn)]
            return [self.job(job_id) for job_id in ids]
        return base.JobBoardIterator(
            self, LOG, board_fetch_func=fetch,
            only_unclaimed=only_unclaimed, ensure_fresh=ensure_fresh)

    def wait(self, timeout: float | None = None) -> typing.NoReturn:
        raise exceptions.NotImplementedError(
            'conductors look for imports by themselves')

    def find_owner(self, job: SqlJob) -> str | None:
        with self.database.read() as conn:
            found = db_jobs.get(conn, job.uuid)
        return found.owner if found is not None else None

    def post(self, name: str, book: typing.Any = None,
             details: typing.Any = None,
             priority: typing.Any = base.JobPriority.NORMAL
             ) -> typing.NoReturn:
        raise exceptions.NotImplementedError(
            'an import is posted by the request that accepts it')

    @base.check_who
    def claim(self, job: SqlJob, who: str, expiry: float | None = None
              ) -> None:
        """:raises taskflow.exceptions.UnclaimableJob: somebody has it"""
        with self.database.write() as conn:
            job.claimed = db_jobs.claim(
                conn, job.uuid, token=who, conductor=who,
                seconds=expiry or EXPIRY_SECONDS)
        if job.claimed is None:
            if self.entry(job.uuid) is None:
                raise exceptions.NotFound(f'no import {job.uuid}')
            raise exceptions.UnclaimableJob(
                f'import {job.uuid} is claimed already')

    @base.check_who
    def consume(self, job: SqlJob, who: str) -> None:
        """:raises taskflow.exceptions.JobFailure: it is not ours"""
        self._end(job, who, lambda conn, claim: db_jobs.delete(
            conn, claim.job_id))

    @base.check_who
    def abandon(self, job: SqlJob, who: str) -> None:
        """:raises taskflow.exceptions.JobFailure: it is not ours"""
        self._end(job, who, lambda conn, claim: db_jobs.release(conn, claim))

    def trash(self, job: SqlJob, who: str) -> typing.NoReturn:
        raise exceptions.NotImplementedError(
            'an import that was accepted is not thrown away')

    def _end(self, job: SqlJob, who: str, how: typing.Callable) -> None:
        epoch = job.claimed.epoch if job.claimed is not None else None
        with self.database.write() as conn:
            found = db_jobs.get(conn, job.uuid)
            if found is None:
                raise exceptions.NotFound(f'no import {job.uuid}')
            claim = db_jobs.Claim(
                job.uuid, who, found.epoch if epoch is None else epoch)
            if not db_jobs.hold(conn, claim):
                raise exceptions.JobFailure(
                    f'import {job.uuid} is not claimed by {who}')
            how(conn, claim)

    def register_entity(self, entity: typing.Any) -> None:
        """Conductors of imports are found in the rows they claim."""
