"""Imports: asked for, begun, finished or failed, each in one transaction.

``request`` commits the status move, the import lock, the task and the job
together, so that what was answered 202 is durable. The other functions are
called by the steps of the flow with the claim they work under; each asks
first whether that claim is still in force and writes nothing if it is not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import typing
import uuid

from oslo_log import log

from glance_import import context
from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import staging as db_staging
from glance_import.db import tasks as db_tasks
from glance_import.domain import content
from glance_import.domain import errors
from glance_import.domain import images
from glance_import.domain import methods
from glance_import.domain import placement
from glance_import.domain import signatures
from glance_import.domain import states
from glance_import.domain import tasks
from glance_import.domain import uploads
from glance_import import staging
from glance_import.stores import base as stores

if typing.TYPE_CHECKING:
    import collections.abc

    import sqlalchemy as sa

    from glance_import import services

LOG = log.getLogger(__name__)

TASK_TYPE = 'api_image_import'
_INTERNAL = frozenset({images.LOCK, images.IMPORTING_STORES,
                       images.FAILED_STORES, images.ERROR})


# -- asking for an import -------------------------------------------------

def check_importable(services: services.Services,
                     ctx: context.RequestContext, image: db_images.Image,
                     method: methods.Method,
                     asked: dict[str, typing.Any]) -> None:
    """What is known at once against an import of this image.

    :param asked: the value of "method" in the request
    :raises errors.Conflict: naming what was found and what to do
    :raises errors.DomainError: what the method itself says of the request
    """
    _check_status(services, image, method)
    for name in ('container_format', 'disk_format'):
        if getattr(image, name) is None:
            raise errors.Conflict(
                f"'{name}' needs to be set before image {image.id} can be "
                'imported.')
    if method.plugins:
        signatures.check(services.conf, image.properties)
    method.check(services, ctx, image, asked)


def _check_status(services: services.Services, image: db_images.Image,
                  method: methods.Method) -> None:
    if image.status != method.needs:
        raise errors.Conflict(
            f'Image {image.id} is {image.status} and cannot be imported by '
            f'{method.name}: {_why_not(image.id, image.status, method)}.')
    if method.staged:
        with services.db.read() as conn:
            record = db_staging.get(conn, image.id)
        _check_staged(services, image.id, record)


def _why_not(image_id: str, found: str, method: methods.Method) -> str:
    if found == states.QUEUED:
        return ('no data is staged; upload it first with PUT '
                f'/v2/images/{image_id}/stage' if method.staged
                else 'it has no data yet')
    return {
        states.UPLOADING: 'data was staged for it; import that by '
                          'glance-direct, or delete the image',
        states.IMPORTING: 'an import of it is already under way',
        states.ACTIVE: 'it has its data already',
    }.get(found, f'the image must be {method.needs}')


def _check_staged(services: services.Services, image_id: str,
                  record: db_staging.Record | None) -> None:
    if record is not None and record.state in (states.COMPLETE,
                                               states.RETURNED):
        return
    if record is not None and record.state == states.CLAIMED:
        raise errors.Conflict(
            f'Image {image_id} is being imported already.')
    received = services.area.part_size(image_id) or 0
    expected = (record.expected if record is not None
                and record.expected is not None else 'an unknown number of')
    raise errors.Conflict(
        f'The data staged for image {image_id} is incomplete: {received} of '
        f'{expected} bytes are there. Go on with PATCH (tus 1.0) or upload '
        f'it again with PUT, both on /v2/images/{image_id}/stage.')


def request(services: services.Services, ctx: context.RequestContext,
            image: db_images.Image, method: methods.Method,
            body: dict[str, typing.Any],
            targets: list[str] | None = None, *,
            task_type: str = TASK_TYPE, secret: str | None = None) -> str:
    """Commit an import; its task id.

    :param targets: ids of the stores it goes to, None while there is one

    Everything is in the database when this returns: whatever runs the
    import finds it there.

    :param secret: what the method keeps of the caller, sealed
    :raises errors.Conflict: somebody was faster
    :raises errors.Unavailable: nothing could hand it to a conductor now
    """
    services.board.check()
    with services.db.write() as conn:
        task_id = post(services, conn, ctx, image.id, method, body,
                       targets=targets, task_type=task_type, secret=secret)
    services.wake()
    LOG.info('import of image %s accepted as task %s', image.id, task_id)
    return task_id


def post(services: services.Services, conn: sa.Connection,
         ctx: context.RequestContext, image_id: str, method: methods.Method,
         body: dict[str, typing.Any], *, targets: list[str] | None = None,
         task_type: str = TASK_TYPE,
         task_input: dict[str, typing.Any] | None = None,
         secret: str | None = None) -> str:
    """The same, in a transaction of the caller's, who wakes the conductor.

    :param task_input: what the task shows, if not the image and the body
    :raises errors.Conflict: somebody was faster
    """
    task_id = str(uuid.uuid4())
    if targets is None and services.stores.several and not method.copies:
        targets = [services.stores.default.id]
    _check_bounds(services, conn, ctx.project_id)
    _take_image(conn, image_id, method)
    area = db_jobs.ANYWHERE if method.copies else None
    if secret:
        # What was sealed is opened where its key is.
        area = services.area.id
    if method.staged:
        area = _take_staged(services, conn, image_id)
    db_images.set_property(conn, image_id, images.LOCK, task_id)
    placement.begin_lists(conn, image_id, targets, copying=method.copies)
    db_images.drop_property(conn, image_id, images.ERROR)
    db_tasks.insert(
        conn, id=task_id, type=task_type, owner=ctx.project_id or '',
        image_id=image_id, request_id=ctx.request_id, user_id=ctx.user_id,
        input=task_input or {
            'image_id': image_id, 'import_req': body,
            **({'backend': targets} if targets is not None else {})})
    db_jobs.insert(
        conn, id=task_id, image_id=image_id, project=ctx.project_id,
        user_id=ctx.user_id, roles=ctx.roles, request_id=ctx.request_id,
        area=area, method=method.name, request=body, secret=secret,
        stores=targets,
        plugins=services.plugins if method.plugins else ())
    return task_id


def _take_image(conn: sa.Connection, image_id: str,
                method: methods.Method) -> None:
    """Move the image to the status it has while the method runs."""
    if method.running == method.needs:
        taken = (db_images.update(conn, image_id, expected=(method.needs,))
                 and images.LOCK not in db_images.properties(conn, image_id))
    else:
        taken = db_images.move(conn, image_id, method.needs, method.running)
    if taken:
        return
    status = db_images.status(conn, image_id)
    if status in (None, states.DELETED):
        raise errors.NotFound(f'No image found with ID {image_id}')
    if status == method.running == method.needs:
        raise errors.Conflict(
            f'An import of image {image_id} is already under way.')
    raise errors.Conflict(
        f'Image {image_id} is {status} by now and cannot be imported; '
        'another request was faster.')


def _take_staged(services: services.Services, conn: sa.Connection,
                 image_id: str) -> str:
    """Claim the staged data; the id of the area that has it."""
    record = db_staging.get(conn, image_id)
    if not db_staging.move(conn, image_id,
                           (states.COMPLETE, states.RETURNED),
                           states.CLAIMED):
        _check_staged(services, image_id, record)
        raise errors.Conflict(
            f'The data of image {image_id} was staged anew meanwhile.')
    assert record is not None
    return record.area


def _check_bounds(services: services.Services, conn: sa.Connection,
                  project: str | None) -> None:
    """Refuse what would be too much to wait for, or too much for one.

    :raises errors.TooLarge: the project has its share
    :raises errors.Unavailable: the queue is full
    """
    options = services.conf.taskflow_executor
    share, queue = options.max_imports_per_project, options.max_queued_imports
    if share and db_jobs.count(conn, project) >= share:
        raise errors.TooLarge(
            f'Your project has {share} imports waiting or running, the most '
            'it may have at once here (max_imports_per_project). Ask again '
            'when one of them has ended.')
    if queue and db_jobs.count(conn, waiting_only=True) >= queue:
        raise errors.Unavailable(
            f'{queue} imports are waiting, the most there may be here '
            '(max_queued_imports). Ask again later.')


def cancel(services: services.Services, image: db_images.Image) -> None:
    """Ask for the end of the image's import; it comes within seconds.

    :raises errors.Conflict: none is queued or running
    """
    with services.db.write() as conn:
        found = db_jobs.cancel(conn, image.id)
    if not found:
        raise errors.Conflict(
            f'Image {image.id} is {image.status}; no import of it is under '
            'way that could be cancelled.')
    services.wake()
    LOG.info('the import of image %s is to be cancelled', image.id)


# -- while it runs --------------------------------------------------------

@contextlib.contextmanager
def claimed(services: services.Services, claim: db_jobs.Claim
            ) -> collections.abc.Iterator[sa.Connection]:
    """A write transaction that exists only while the claim is in force.

    :raises errors.ClaimLost: somebody else owns the import, or nobody
    """
    with services.db.write() as conn:
        if not db_jobs.hold(conn, claim):
            raise errors.ClaimLost(
                f'import {claim.job_id} is no longer ours '
                f'(epoch {claim.epoch})')
        yield conn


def begin(services: services.Services, claim: db_jobs.Claim) -> None:
    """The task is being worked on; true already when an attempt resumes."""
    with claimed(services, claim) as conn:
        db_tasks.move(conn, claim.job_id, states.PENDING, states.PROCESSING)


def outcome(services: services.Services, job: db_jobs.Job) -> str | None:
    """How the task of this job has ended; None when it has not.

    (It ended and its conductor died before it took the job off the board.)
    """
    with services.db.read() as conn:
        task = db_tasks.get(conn, job.id)
    if task is None:
        return states.FAILURE
    return (task.status if task.status in (states.SUCCESS, states.FAILURE)
            else None)


def staged_data(services: services.Services,
                image_id: str) -> uploads.Found:
    """The staged data an import works on.

    :raises errors.ImportFailed: it is gone
    """
    with services.db.read() as conn:
        record = db_staging.get(conn, image_id)
    if record is None:
        raise errors.ImportFailed(
            'The staged data of the image is not known here any more. '
            'Upload it again.')
    found = uploads.look(services, record)
    if services.area.identity(image_id) is None:
        raise errors.ImportFailed(
            'The staged data of the image has disappeared from the staging '
            'area. Upload it again.')
    return found


@dataclasses.dataclass(frozen=True)
class Placed:
    """What became of the stores: objects, and reasons by store id."""

    stored: list[stores.Stored]
    failed: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, plain: dict[str, typing.Any]) -> Placed:
        """From what a step recorded."""
        return cls([stores.Stored(**each) for each in plain['stored']],
                   dict(plain['failed']))

    @property
    def reason(self) -> str | None:
        """Why it is not in all stores that were asked for."""
        return '; '.join(f'store {name}: {reason}' for name, reason
                         in self.failed.items()) or None


def succeed(services: services.Services, claim: db_jobs.Claim,
            image_id: str, placed: Placed) -> None:
    """Active: locations, digests, task, lock and staging in one transaction.

    Done again after a death between commit and record, it finds the task
    successful and the locations its own, and leaves all as it is.

    :raises errors.ImportFailed: the image is not one that can become active
    """
    with claimed(services, claim) as conn:
        task = db_tasks.get(conn, claim.job_id)
        if task is not None and task.status == states.SUCCESS:
            return
        job = db_jobs.get(conn, claim.job_id)
        assert job is not None
        _make_active(conn, image_id, methods.find(job.method),
                     placed.stored)
        for stored in placed.stored:
            db_images.add_location(conn, image_id, stored.uri,
                                   stored.metadata)
        result = {**((task.result if task else None) or {}),
                  'image_id': image_id}
        for name, value in _plugin_properties(result).items():
            db_images.set_property(conn, image_id, name, value)
        placement.end_lists(conn, image_id, placed.failed)
        if placed.reason:
            db_images.set_property(conn, image_id, images.ERROR,
                                   placed.reason)
        db_images.drop_property(conn, image_id, images.LOCK,
                                expected=claim.job_id)
        db_staging.delete(conn, image_id)
        db_tasks.move(conn, claim.job_id, states.PROCESSING, states.SUCCESS,
                      expires_at=tasks.expiry(services),
                      result=result, message=placed.reason or '')


def _make_active(conn: sa.Connection, image_id: str, method: methods.Method,
                 objects: collections.abc.Sequence[stores.Stored]) -> None:
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
            os_hash_value=stored.hash_value or None)
    if not done:
        raise errors.ImportFailed(
            'The image was found in the status '
            f'{db_images.status(conn, image_id)} when its data was '
            'ready, so it could not become active.')


def settled(services: services.Services, claim: db_jobs.Claim,
            image_id: str, store_id: str, *, failed: bool) -> None:
    """Say so on the image when a store has it, or will not have it."""
    if not services.stores.several:
        return
    try:
        with claimed(services, claim) as conn:
            placement.settle(conn, image_id, store_id, failed=failed)
    except engine.ERRORS as failure:
        # The end of the import says it all again.
        LOG.debug('the stores of image %s are not written: %s', image_id,
                  failure)


def note_plugins(services: services.Services, claim: db_jobs.Claim,
                 records: collections.abc.Sequence[
                     dict[str, typing.Any]]) -> None:
    """Keep what contract plugins said, in the task of the import.

    Properties among it are written to the image when it becomes active. A
    step that is done again replaces what it said before.
    """
    with claimed(services, claim) as conn:
        task = db_tasks.get(conn, claim.job_id)
        result = dict((task.result if task else None) or {})
        fresh = {(each['plugin'], each['step']) for each in records}
        result['plugins'] = [
            each for each in result.get('plugins', ())
            if (each['plugin'], each['step']) not in fresh] + list(records)
        db_tasks.set_result(conn, claim.job_id, result)


def _plugin_properties(result: dict[str, typing.Any]) -> dict[str, str]:
    """What the plugins gave, later ones over earlier ones."""
    found: dict[str, str] = {}
    for each in result.get('plugins', ()):
        found.update(each.get('properties') or {})
    return found


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why an import failed: one plain sentence, and who said it.

    ``stores`` are those at fault, where it was stores.
    """

    reason: str
    step: str | None = None
    stores: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (f'{self.step}: {self.reason}' if self.step else self.reason)


def fail(services: services.Services, claim: db_jobs.Claim, image_id: str,
         failure: Failure) -> None:
    """Leave an image the user can go on with, and the reason.

    The status is the one that the table of methods has. Intact bytes that a
    client staged bring it back to ``uploading``, to be imported again
    without uploading; otherwise what is left of the bytes goes.
    """
    text = str(failure)
    discard = False
    uploads.recognise(services, image_id)
    with claimed(services, claim) as conn:
        job = db_jobs.get(conn, claim.job_id)
        assert job is not None
        method = methods.find(job.method)
        task = db_tasks.get(conn, claim.job_id)
        if task is not None and task.status in (states.SUCCESS,
                                                states.FAILURE):
            return
        _restore(conn, claim, image_id)
        record = db_staging.get(conn, image_id)
        if method.staged and record is not None and uploads.look(
                services, record).intact:
            db_images.move(conn, image_id, method.running,
                           states.UPLOADING)
            db_staging.move(conn, image_id, (states.CLAIMED,),
                            states.RETURNED)
        else:
            discard = (
                method.running == method.failed
                or db_images.move(conn, image_id, method.running,
                                  method.failed))
            db_staging.delete(conn, image_id)
        placement.end_lists(conn, image_id,
                            failure.stores or job.stores or ())
        db_images.drop_property(conn, image_id, images.LOCK,
                                expected=claim.job_id)
        db_images.set_property(conn, image_id, images.ERROR, text)
        for status in (states.PENDING, states.PROCESSING):
            db_tasks.move(conn, claim.job_id, status, states.FAILURE,
                          expires_at=tasks.expiry(services), message=text)
    if discard:
        services.area.discard(image_id)
    placement.sweep(services, image_id, below=claim.epoch + 1)
    LOG.warning('import of image %s (task %s) failed: %s', image_id,
                claim.job_id, text)


CANCELLED = Failure('the import was cancelled')


def finish(services: services.Services, claim: db_jobs.Claim) -> None:
    """Take the job off the board; its task has ended."""
    with claimed(services, claim) as conn:
        db_jobs.delete(conn, claim.job_id)


def clean_up(services: services.Services, claim: db_jobs.Claim,
             image_id: str) -> None:
    """Remove what an active image no longer needs, or never did.

    The staged bytes, and what earlier attempts had stored when they were
    killed: they can never be recorded any more.
    """
    services.area.discard(image_id)
    placement.sweep(services, image_id, below=claim.epoch)


def clean_up_after(services: services.Services, image_id: str,
                   claim: db_jobs.Claim) -> None:
    """The same for an import that ended before its conductor could clean."""
    with services.db.read() as conn:
        status = db_images.status(conn, image_id)
    if status == states.ACTIVE:
        clean_up(services, claim, image_id)


def clean_up_lost(services: services.Services, image_id: str,
                  claim: db_jobs.Claim) -> None:
    """What a claim has stored that was taken away, if nobody took over.

    (The image was deleted, or its import ended without us.)
    """
    with services.db.read() as conn:
        if db_jobs.of_image(conn, image_id) is not None:
            return
    placement.sweep(services, image_id, below=claim.epoch + 1)


def check_content(services: services.Services, claim: db_jobs.Claim,
                  image_id: str, path: str,
                  stopped: collections.abc.Callable[[], bool]) -> None:
    """Refuse bytes that no store shall have; record their virtual size.

    :raises errors.Unsupported, errors.Invalid: naming what is wrong with
        them
    :raises errors.ImportFailed: the image is gone
    """
    with services.db.read() as conn:
        image = db_images.get(conn, image_id, db_images.EVERYTHING)
    if image is None:
        raise errors.ImportFailed('The image was deleted.')
    size = content.check(services, image, path, stopped)
    change_image(services, claim, image_id, base={'virtual_size': size},
                 properties={}, removed=())


# -- what a plugin may change ---------------------------------------------

CHANGEABLE = ('name', 'disk_format', 'container_format', 'min_disk',
              'min_ram', 'virtual_size', 'size')


def change_image(services: services.Services, claim: db_jobs.Claim,
                 image_id: str, *, base: dict[str, typing.Any],
                 properties: dict[str, str | None],
                 removed: collections.abc.Iterable[str],
                 step: str | None = None) -> None:
    """Write what a plugin changed, and only that.

    The caller has refused what a plugin must not touch. What the attributes
    were before is kept, for an import that fails and for a step that is done
    again.

    :param step: who will ask ``before`` for it
    """
    with claimed(services, claim) as conn:
        _keep_before(conn, claim, image_id, base, step)
        if not db_images.update(conn, image_id,
                                expected=(states.IMPORTING,), **base):
            raise errors.ImportFailed(
                'The image is not being imported any more.')
        for name, value in properties.items():
            db_images.set_property(conn, image_id, name, value)
        for name in removed:
            db_images.drop_property(conn, image_id, name)


def _keep_before(conn: sa.Connection, claim: db_jobs.Claim, image_id: str,
                 base: dict[str, typing.Any], step: str | None) -> None:
    image = db_images.get(conn, image_id, db_images.EVERYTHING)
    if image is None or not base:
        return
    kept = db_jobs.before(conn, claim.job_id)
    for who in {'', step or ''}:
        kept[who] = {**{name: getattr(image, name) for name in base},
                     **kept.get(who, {})}
    db_jobs.hold(conn, claim, before=json.dumps(kept))


def before(services: services.Services, claim: db_jobs.Claim, step: str
           ) -> dict[str, typing.Any]:
    """What a step has changed of the image, as it was before it.

    Empty unless the step was interrupted and is done again.
    """
    with services.db.read() as conn:
        return db_jobs.before(conn, claim.job_id).get(step, {})


def _restore(conn: sa.Connection, claim: db_jobs.Claim,
             image_id: str) -> None:
    """Undo what plugins made of the attributes: their bytes are gone."""
    kept = db_jobs.before(conn, claim.job_id).get('')
    if kept:
        db_images.update(conn, image_id, **kept)


def remove_file(path: str) -> None:
    """Delete a file a step is done with; one that is gone is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def expected_of(found: uploads.Found) -> staging.Staged | None:
    """What the staged data was when it became complete."""
    return uploads.staged(found.record)
