"""A conductor's lease of an import: who writes for it proves to hold it.

A lease has a token and an epoch, the fencing token (the row of the job has
both). The epoch grows with each lease, so that whoever lost his, and does not
know yet, changes nothing any more.
"""

from __future__ import annotations

import collections.abc
import contextlib
import typing

import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import jobs as db_jobs
from glance_import import errors


@contextlib.contextmanager
def writing(database: engine.Database, lease: db_jobs.Lease,
            **values: typing.Any
            ) -> collections.abc.Iterator[sa.Connection]:
    """A write transaction that exists only while the lease is in force.

    :param values: columns of the job that are written with it
    :raises errors.LeaseLost: somebody else owns the import, or nobody
    """
    with database.write() as conn:
        if not db_jobs.check_fence(conn, lease, **values):
            raise errors.LeaseLost(
                f'import {lease.job_id} is no longer ours '
                f'(epoch {lease.epoch})')
        yield conn
