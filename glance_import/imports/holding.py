"""An import that a plugin holds: it waits until an operator has decided.

Nobody runs it meanwhile. Approved, it goes on without asking again who held
it; refused, or forgotten for ``hold_lifetime``, it fails as one that the
plugin has refused. Touches the job and the task.
"""

from __future__ import annotations

import collections.abc
import typing

from oslo_log import log

from glance_import.db import engine
from glance_import.db import job_admin as db_job_admin
from glance_import.db import tasks as db_tasks
from glance_import.domain import images
from glance_import import errors
from glance_import.imports import administration
from glance_import.imports import ending
from glance_import.imports import outcome
from glance_import.imports import runtime

if typing.TYPE_CHECKING:
    from glance_import.db import jobs as db_jobs
    from glance_import import services

LOG = log.getLogger(__name__)


class Held(errors.Interrupted):
    """Raised by a step: plugins want the import to wait.

    :ivar by: of each of them the hook, its name, and a digest of what it saw
    """

    def __init__(self, by: collections.abc.Sequence[str], reason: str
                 ) -> None:
        super().__init__(reason)
        self.by = tuple(by)


@engine.retried
def suspend(rt: runtime.Runtime, held: Held) -> None:
    """End the lease and let the import wait.

    :raises errors.LeaseLost: it was over before
    """
    message = images.storable(
        f'waits for the approval of an operator: {held}')
    with rt.services.db.write() as conn:
        if not db_job_admin.suspend(conn, rt.lease, by=held.by,
                                    message=message):
            raise errors.LeaseLost(f'import {rt.job.id} is no longer ours')
        db_tasks.set_message(conn, rt.job.id, message)
        # What its plugins have said so far.
        for write in rt.unwritten:
            write(conn)
    rt.unwritten.clear()
    LOG.warning('import %s of image %s is held: %s; glance-import-manage '
                'imports approve | refuse', rt.job.id, rt.job.image_id,
                message)


def approve(services: services.Services, wanted: str) -> str:
    """Let it go on; what was done, in words.

    :raises errors.DomainError: it is not there, or not held
    """
    entry = administration.find(services, wanted)
    with services.db.write() as conn:
        by = db_job_admin.approve(conn, entry.id)
        if by is not None:
            db_tasks.set_message(conn, entry.id, '')
    if by is None:
        raise errors.Conflict(f'import {entry.id} is not held')
    services.wake()
    LOG.info('import %s of image %s was approved (%s)', entry.id,
             entry.image_id, ', '.join(
                 each.rpartition(' ')[0] for each in by))
    return f'import {entry.id} of image {entry.image_id} goes on'


def refuse(services: services.Services, wanted: str, reason: str) -> str:
    """Fail it as refused; what was done, in words.

    :param reason: for its user
    :raises errors.DomainError: it is not there, or not held
    """
    entry = administration.find(services, wanted)
    if entry.area and entry.area != services.area.id:
        # Whether they are intact decides what the image is to be.
        raise errors.Conflict(
            f'the bytes of import {entry.id} are in the staging area '
            f'{entry.area}, which is not that of this node: do it there')
    if _fail(services, entry.id, reason or 'an operator has refused it',
             'glance-import-manage') is None:
        raise errors.Conflict(f'import {entry.id} is not held')
    return f'import {entry.id} of image {entry.image_id} was refused'


def end_forgotten(services: services.Services, conductor: str) -> None:
    """Refuse what nobody has approved for too long."""
    seconds = services.conf.taskflow_executor.hold_lifetime
    with services.db.read() as conn:
        ids = db_job_admin.held_too_long(conn, services.area.id, seconds)
    for job_id in ids:
        try:
            _fail(services, job_id, 'no operator has approved it within '
                  f'{seconds:.0f} seconds', conductor)
        except errors.LeaseLost as failure:
            LOG.debug('%s', failure)


def _fail(services: services.Services, job_id: str, reason: str,
          conductor: str) -> db_jobs.Job | None:
    return ending.fail_waiting(
        services, job_id, conductor, lambda job: outcome.Outcome(
            'refused.plugin', f'{reason} (it was held: {job.message})'
            if job.message else reason), held=True)
