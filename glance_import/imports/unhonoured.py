"""Imports that no conductor can run as they were asked for.

Such an import waits, since a conductor that can may come. It does not wait
for ever: after ``unhonoured_import_lifetime`` whoever reaches its bytes fails
it, with the reason, and what a client staged is kept.
"""

from __future__ import annotations

import typing
import uuid

from oslo_log import log

from glance_import.db import conductors as db_conductors
from glance_import.db import jobs as db_jobs
from glance_import.imports import life

if typing.TYPE_CHECKING:
    from glance_import import services

LOG = log.getLogger(__name__)
_CLAIM_SECONDS = 60.0


def end(services: services.Services, conductor: str) -> int:
    """Fail those that have waited for too long; how many."""
    seconds = services.conf.taskflow_executor.unhonoured_import_lifetime
    with services.db.read() as conn:
        ids = db_conductors.unhonoured(conn, [services.area.id], seconds)
        reasons: dict[str, str] = {}
        for refusal in db_conductors.refusals(conn, ids):
            reasons[refusal.job_id] = refusal.reason
    return sum(_end(services, conductor, job_id, reasons[job_id])
               for job_id in ids if job_id in reasons)


def _end(services: services.Services, conductor: str, job_id: str,
         reason: str) -> bool:
    token = uuid.uuid4().hex
    with services.db.write() as conn:
        job = db_jobs.claim(conn, job_id, token=token, conductor=conductor,
                            seconds=_CLAIM_SECONDS, area=services.area.id)
    if job is None:
        return False
    claim = db_jobs.Lease(job.id, token, job.epoch)
    life.fail(services, claim, job.image_id, life.Failure(
        'no conductor of this service can run the import as it was asked '
        f'for: {reason}. Ask for it again; it is then judged by the plugins '
        f'and options in force by then (reference {job.request_id})'))
    life.finish(services, claim)
    return True
