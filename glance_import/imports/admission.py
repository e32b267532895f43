"""Imports asked for: judged, committed, cancelled.

``request`` commits the status move, the import lock, the task and the job
together, so that what was answered 202 is durable. What becomes of it then is
in glance_import.imports.ending.
"""

from __future__ import annotations

import typing
import uuid

from oslo_log import log

from glance_import import context
from glance_import.db import conductors as db_conductors
from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import staging as db_staging
from glance_import.db import tasks as db_tasks
from glance_import.db import turns as db_turns
from glance_import.domain import images
from glance_import.domain import placement
from glance_import.domain import signatures
from glance_import.domain import telling
from glance_import import errors
from glance_import.imports import methods
from glance_import.plugin import snapshot
from glance_import import states

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import import services

LOG = log.getLogger(__name__)
TASK_TYPE = 'api_image_import'


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
    images.check_formats(image, 'be imported', errors.Conflict)
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
    if record is not None and record.state == states.IN_USE:
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
    judged_by = services.judged_by(plugins=method.plugins)

    @engine.retried
    def commit() -> tuple[str, bool]:
        with services.db.write() as conn:
            return post(services, conn, ctx, image.id, method, body,
                        targets=targets, task_type=task_type, secret=secret,
                        judged_by=judged_by
                        ), not db_conductors.any_living(conn)
    task_id, waits = commit()
    services.wake()
    LOG.info('import of image %s accepted as task %s', image.id, task_id)
    telling.accepted(services, task_id)
    if waits:
        LOG.warning('import %s waits: no conductor has been heard of for '
                    '%.0f s that takes imports', task_id,
                    db_conductors.LIVING_SECONDS)
    return task_id


def post(services: services.Services, conn: sa.Connection,
         ctx: context.RequestContext, image_id: str, method: methods.Method,
         body: dict[str, typing.Any], *, targets: list[str] | None = None,
         task_type: str = TASK_TYPE,
         task_input: dict[str, typing.Any] | None = None,
         secret: str | None = None,
         judged_by: snapshot.Snapshot) -> str:
    """The same, in a transaction of the caller's, who wakes the conductor.

    :param task_input: what the task shows, if not the image and the body
    :param judged_by: see ``services.judged_by``
    :raises errors.Conflict: somebody was faster
    """
    task_id = str(uuid.uuid4())
    body = method.known(body)
    if targets is None and services.stores.many and not method.copies:
        targets = [services.stores.default.id]
    check_bounds(services, conn, ctx.project_id)
    _take_image(conn, image_id, method)
    area = db_turns.STAGES_NOTHING if method.copies else None
    if secret:
        # What was sealed is opened where its key is.
        area = services.area.id
    if method.staged:
        area = _take_staged(services, conn, image_id)
    db_images.set_property(conn, image_id, images.LOCK, task_id)
    placement.begin_lists(conn, image_id, targets, copying=method.copies)
    images.drop_error(conn, image_id)
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
        plugins=[each.name for each in judged_by.plugins],
        snapshot=judged_by.text, requirement=judged_by.requirement)
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
        raise errors.no_image(image_id)
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
                           states.IN_USE):
        _check_staged(services, image_id, record)
        raise errors.Conflict(
            f'The data of image {image_id} was staged anew meanwhile.')
    assert record is not None
    return record.area


def check_bounds(services: services.Services, conn: sa.Connection,
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


@engine.retried
def _cancel(services: services.Services, image_id: str) -> bool:
    with services.db.write() as conn:
        # Without the lock it is over, though its job may still be there.
        return (images.LOCK in db_images.properties(conn, image_id)
                and db_jobs.cancel(conn, image_id))


def cancel(services: services.Services, image: db_images.Image) -> None:
    """Ask for the end of the image's import; it comes within seconds.

    :raises errors.Conflict: none is queued or running
    """
    if not _cancel(services, image.id):
        raise errors.Conflict(
            f'Image {image.id} is {image.status}; no import of it is under '
            'way that could be cancelled.')
    services.wake()
    LOG.info('the import of image %s is to be cancelled', image.id)
