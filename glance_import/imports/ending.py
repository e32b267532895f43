"""How an import leaves its image: active, or as the user can go on with it.

The functions are called with the lease that the import runs under; each asks
first whether that lease is still in force and writes nothing if it is not.
How an import comes to be is in glance_import.imports.admission.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
import uuid

from oslo_log import log

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import leases
from glance_import.db import staging as db_staging
from glance_import.db import tasks as db_tasks
from glance_import.db import verdicts as db_verdicts
from glance_import.domain import images
from glance_import.domain import placement
from glance_import.domain import stored_data
from glance_import.domain import tasks
from glance_import.domain import telling
from glance_import import errors
from glance_import.imports import changes
from glance_import.imports import methods
from glance_import.imports import outcome as outcomes
from glance_import.observe import events
from glance_import import staging
from glance_import import states
from glance_import.stores import base as stores
from glance_import.uploads import staged_state

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import import services

LOG = log.getLogger(__name__)
# How long an import is leased to whoever only ends it.
_FAIL_SECONDS = 60
_ENDED = (states.SUCCESS, states.FAILURE)
# Seconds of steps, by their labels.
Times = collections.abc.Mapping[str, float]
NO_TIMES: Times = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class StoreOutcome:
    """What became of the stores: objects, and reasons by store id.

    ``code`` is the first reason's, a row of outcome.CODES.
    """

    stored: list[stores.Stored]
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    code: str | None = None

    @classmethod
    def of(cls, plain: dict[str, typing.Any]) -> StoreOutcome:
        """From what a step recorded."""
        return cls([stores.Stored(**each) for each in plain['stored']],
                   dict(plain['failed']), plain.get('code'))

    @property
    def reason(self) -> str | None:
        """Why it is not in all stores that were asked for."""
        return '; '.join(f'store {name}: {reason}' for name, reason
                         in self.failed.items()) or None


def status(services: services.Services, job: db_jobs.Job) -> str | None:
    """How the task of this job has ended; None when it has not.

    (It ended and its conductor died before it took the job off the board.)
    """
    with services.db.read() as conn:
        task = db_tasks.get(conn, job.id)
    if task is None:
        return states.FAILURE
    return task.status if task.status in _ENDED else None


def succeed(services: services.Services, lease: db_jobs.Lease,
            image_id: str, placed: StoreOutcome, *,
            virtual_size: int | None = None,
            times: Times = NO_TIMES) -> None:
    """Active: locations, digests, task, lock and staging in one transaction.

    Done again after a death between commit and record, it finds the task
    successful and the locations its own, and leaves all as it is.

    :param virtual_size: bytes, of data that was looked at
    :param times: seconds of its steps
    :raises errors.ImportFailed: the image is not one that can become active
    """
    job = _succeed(services, lease, image_id, placed, virtual_size,
                   _steps(times))
    if job is not None:
        _tell_end(services, job, times, placed=placed)


@engine.retried
def _succeed(services: services.Services, lease: db_jobs.Lease,
             image_id: str, placed: StoreOutcome, virtual_size: int | None,
             steps: dict[str, typing.Any]) -> db_jobs.Job | None:
    """The job; None when it had succeeded before."""
    with leases.writing(services.db, lease) as conn:
        task = db_tasks.get(conn, lease.job_id)
        if task is not None and task.status == states.SUCCESS:
            return None
        job = db_jobs.get(conn, lease.job_id)
        assert job is not None
        _make_active(conn, image_id, methods.find(job.method),
                     placed.stored, virtual_size)
        for stored in placed.stored:
            db_images.add_location(conn, image_id, stored.uri,
                                   stored.metadata)
        result = {**((task.result if task else None) or {}),
                  **steps, 'image_id': image_id}
        for name, value in changes.of_plugins(result).items():
            db_images.set_property(conn, image_id, name, value)
        placement.end_lists(conn, image_id, placed.failed)
        if placed.reason:
            result['code'] = placed.code or stores.StoreError.code
            images.set_error(conn, image_id, result['code'], placed.reason)
        db_images.drop_property(conn, image_id, images.LOCK,
                                expected=lease.job_id)
        db_staging.delete(conn, image_id)
        db_verdicts.keep(conn, lease.job_id, image_id, result)
        db_tasks.move(conn, lease.job_id, states.PROCESSING, states.SUCCESS,
                      expires_at=tasks.expiry(services),
                      result=result,
                      message=images.storable(' '.join(
                          [*([placed.reason] if placed.reason else ()),
                           *result.get('warnings', ())])))
    return job


def _steps(times: Times, failed: str | None = None
           ) -> dict[str, typing.Any]:
    """What is kept of the steps with the task, for operators.

    :param failed: the one that did
    """
    return {tasks.STEPS: [
        {'name': name, 'seconds': round(seconds, 3), 'failed': name == failed}
        for name, seconds in times.items()]} if times else {}


def _tell_end(services: services.Services, job: db_jobs.Job,
              times: Times, *,
              placed: StoreOutcome | None = None,
              outcome: outcomes.Outcome | None = None) -> None:
    """The one place where it is told how an import has ended."""
    stored = {each.metadata.get('store') or services.stores.default.id:
              each.size for each in (placed.stored if placed else ())}
    for store_id, size in stored.items():
        services.events.tell(events.DataStored(store_id, size))
    image, task = telling.records(services, job.image_id, job.id)
    method = methods.of_job(job.method)
    services.events.tell(events.ImportEnded(
        job.id, job.image_id, method.name, job.project, job.user_id,
        job.request_id,
        code=outcome.code if outcome else None,
        reason=images.storable(outcome.reason) if outcome else '',
        said_by=outcome.said_by if outcome else None,
        size=max(stored.values(), default=None),
        waited=job.waited, running=job.running, steps=dict(times),
        stores=stored, image=image, task=task,
        activated=outcome is None and method.running != method.needs))


def _make_active(conn: sa.Connection, image_id: str, method: methods.Method,
                 objects: collections.abc.Sequence[stores.Stored],
                 virtual_size: int | None) -> None:
    """:raises errors.ImportFailed: it is not one that can be"""
    if method.running == method.needs:
        done = db_images.update(
            conn, image_id, expected=(states.ACTIVE, states.DEACTIVATED))
    else:
        stored = objects[0]
        done = db_images.move(
            conn, image_id, method.running, states.ACTIVE,
            size=stored.size, checksum=stored.checksum,
            os_hash_algo=stored.hash_algo or None,
            os_hash_value=stored.hash_value or None,
            **({'virtual_size': virtual_size} if method.plugins else {}))
    if not done:
        raise errors.ImportFailed(
            'The image was found in the status '
            f'{db_images.status(conn, image_id)} when its data was '
            'ready, so it could not become active.', code='image.gone')


def note_store(services: services.Services, lease: db_jobs.Lease,
               image_id: str, store_id: str, *, failed: bool) -> None:
    """Say so on the image when a store has it, or will not have it."""
    if not services.stores.many:
        return
    try:
        with leases.writing(services.db, lease) as conn:
            placement.mark_stored(conn, image_id, store_id, failed=failed)
    except engine.ERRORS as failure:
        # The end of the import says it all again.
        LOG.debug('the stores of image %s are not written: %s', image_id,
                  failure)


def fail(services: services.Services, lease: db_jobs.Lease, image_id: str,
         outcome: outcomes.Outcome, times: Times = NO_TIMES,
         failed: str | None = None) -> None:
    """Leave an image the user can go on with, and the reason.

    The status is the one that the table of methods has. Intact bytes that a
    client staged bring it back to ``uploading``, to be imported again
    without uploading; otherwise what is left of the bytes goes.

    :param times: seconds of the steps that have ended
    :param failed: the one of them that failed
    """
    job = _fail(services, lease, image_id, outcome, _steps(times, failed))
    if job is None:
        return
    _tell_end(services, job, times, outcome=outcome)
    stored_data.sweep(services, image_id, below=lease.epoch + 1)


@engine.retried
def _fail(services: services.Services, lease: db_jobs.Lease, image_id: str,
          outcome: outcomes.Outcome, steps: dict[str, typing.Any]
          ) -> db_jobs.Job | None:
    """The job; None when it had ended before."""
    text = images.storable(str(outcome))
    staged_state.refresh_identity(services, image_id)
    with leases.writing(services.db, lease) as conn:
        job = db_jobs.get(conn, lease.job_id)
        assert job is not None
        task = db_tasks.get(conn, lease.job_id)
        if task is not None and task.status in _ENDED:
            return None
        changes.undo(conn, lease, image_id)
        discard = _give_back(services, conn, image_id,
                             methods.of_job(job.method))
        placement.end_lists(conn, image_id,
                            outcome.stores or job.stores or ())
        db_images.drop_property(conn, image_id, images.LOCK,
                                expected=lease.job_id)
        images.set_error(conn, image_id, outcome.code, text)
        # Nobody needs the caller's token any more.
        db_jobs.check_fence(conn, lease, secret=None)
        result = {**((task.result if task else None) or {}),
                  **steps, 'code': outcome.code}
        db_verdicts.keep(conn, lease.job_id, image_id, result)
        for begun in (states.PENDING, states.PROCESSING):
            db_tasks.move(conn, lease.job_id, begun, states.FAILURE,
                          expires_at=tasks.expiry(services), message=text,
                          result=result)
        if discard:
            # Before the commit: behind it the next upload may have begun.
            _discard_staged(services, image_id)
    return job


def _discard_staged(services: services.Services, image_id: str) -> None:
    try:
        services.area.discard(image_id)
    except staging.StagingError as failure:
        LOG.warning('what was staged for image %s is left: %s', image_id,
                    failure)


def _give_back(services: services.Services, conn: sa.Connection,
               image_id: str, method: methods.Method) -> bool:
    """The status that the image has after its import has failed.

    Whether what is left of its staged bytes is of no more use.
    """
    record = db_staging.get(conn, image_id)
    if method.staged and record is not None and staged_state.compare(
            services, record).intact:
        db_images.move(conn, image_id, method.running, states.UPLOADING)
        db_staging.move(conn, image_id, (states.IN_USE,), states.RETURNED)
        return False
    discard = (method.running == method.failed
               or db_images.move(conn, image_id, method.running,
                                 method.failed))
    db_staging.delete(conn, image_id)
    return discard


def fail_waiting(services: services.Services, job_id: str, conductor: str,
                 outcome: collections.abc.Callable[
                     [db_jobs.Job], outcomes.Outcome],
                 **where: typing.Any) -> db_jobs.Job | None:
    """Fail an import that nobody runs; None if somebody does by now.

    :param conductor: who takes it for as long as that takes
    :param where: the area whose imports may be taken, see ``db.jobs.claim``
    """
    token = uuid.uuid4().hex
    with services.db.write() as conn:
        job = db_jobs.claim(conn, job_id, token=token, conductor=conductor,
                            seconds=_FAIL_SECONDS, **where)
    if job is not None:
        lease = db_jobs.Lease(job.id, token, job.epoch)
        fail(services, lease, job.image_id, outcome(job))
        close(services, lease)
    return job


@engine.retried
def close(services: services.Services, lease: db_jobs.Lease) -> None:
    """Take the job off the board; its task has ended."""
    with leases.writing(services.db, lease) as conn:
        db_jobs.delete(conn, lease.job_id)


def clean_up(services: services.Services, lease: db_jobs.Lease,
             image_id: str) -> None:
    """Remove what an active image no longer needs, or never did.

    The staged bytes, and what earlier attempts had stored when they were
    killed: they can never be recorded any more.
    """
    services.area.discard(image_id)
    stored_data.sweep(services, image_id, below=lease.epoch)


def clean_up_ended(services: services.Services, lease: db_jobs.Lease,
                   image_id: str) -> None:
    """The same for an import that ended before its conductor could clean."""
    with services.db.read() as conn:
        found = db_images.status(conn, image_id)
    if found == states.ACTIVE:
        clean_up(services, lease, image_id)


def clean_up_lost(services: services.Services, lease: db_jobs.Lease,
                  image_id: str) -> None:
    """What a lease has stored that was taken away, if nobody took over.

    (The image was deleted, or its import ended without us.)
    """
    with services.db.read() as conn:
        if db_jobs.of_image(conn, image_id) is not None:
            return
    stored_data.sweep(services, image_id, below=lease.epoch + 1)
