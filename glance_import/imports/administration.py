"""What an operator does to imports: look, cancel, ask again, release.

Everything goes through the same compare-and-swap as the imports themselves,
so it may be done beside any number of running conductors.
"""

from __future__ import annotations

import typing
import uuid

from oslo_log import log

from glance_import import context
from glance_import.db import images as db_images
from glance_import.db import job_admin as db_job_admin
from glance_import.db import jobs as db_jobs
from glance_import.db import staging as db_staging
from glance_import.db import tasks as db_tasks
from glance_import.domain import images
from glance_import.domain import locations
from glance_import.domain import placement
from glance_import import errors
from glance_import.imports import admission
from glance_import.imports import ending
from glance_import.imports import methods
from glance_import.imports import outcome
from glance_import import states

if typing.TYPE_CHECKING:
    from glance_import import services

LOG = log.getLogger(__name__)
GONE = ('The staging area that held the data is gone, and the data with it. '
        'Upload it again.')


def find(services: services.Services, wanted: str) -> db_job_admin.Entry:
    """The import of that id, or of the image of that id.

    :raises errors.NotFound: none is waiting or running
    """
    with services.db.read() as conn:
        found = db_job_admin.entries(conn, ids=[wanted])
    if not found:
        raise errors.NotFound(
            f'{wanted}: no import of that id, or of an image of that id, is '
            'waiting or running')
    return found[0]


def task(services: services.Services, wanted: str) -> db_tasks.Task:
    """What is recorded of that import, or of the last one of that image.

    It may have ended; what is odd about its image is among its result.

    :raises errors.NotFound: nothing is
    """
    with services.db.read() as conn:
        found = db_tasks.get(conn, wanted)
        known = [found] if found else db_tasks.of_image(conn, wanted)
    if not known:
        raise errors.NotFound(
            f'{wanted}: no import of that id, or of an image of that id, is '
            'known')
    return known[0]


def cancel(services: services.Services, wanted: str) -> str:
    """Ask for the end of an import; what was done, in words.

    :raises errors.NotFound: it is not there
    """
    entry = find(services, wanted)
    with services.db.write() as conn:
        db_jobs.cancel(conn, entry.image_id)
    services.wake()
    return f'import {entry.id} of image {entry.image_id} is to be cancelled'


def retry(services: services.Services, wanted: str, *,
          current: bool = False) -> str:
    """Try a waiting import at once, or ask again for one that failed.

    :param current: one that waits is judged by today's plugins and options,
        as one that is asked for again is anyway
    :raises errors.DomainError: there is nothing that could be tried
    """
    try:
        entry = find(services, wanted)
    except errors.NotFound:
        return _ask_again(services, wanted)
    if current:
        _rebind(services, entry)
    elif entry.state == db_job_admin.HELD:
        raise errors.Conflict(
            f'import {entry.id} is held ({entry.message}): approve or refuse '
            'it')
    with services.db.write() as conn:
        db_job_admin.hurry(conn, entry.id)
        db_jobs.forget_refusals(conn, [entry.id])
    services.wake()
    return (f'import {entry.id} of image {entry.image_id} is tried as soon '
            'as a conductor is free')


def _rebind(services: services.Services, entry: db_job_admin.Entry) -> None:
    method = methods.of_job(entry.method)
    judged_by = services.judged_by(plugins=method.plugins)
    with services.db.write() as conn:
        if method.seal is not None and db_jobs.secret(conn, entry.id) is None:
            raise errors.Conflict(
                f'import {entry.id} would have to begin again, and the token '
                'of who asked for it is wiped; cancel it, so that they can '
                'ask again')
        free = db_job_admin.rebind(
            conn, entry.id, plugins=[each.name for each in
                                     judged_by.plugins],
            snapshot=judged_by.text, requirement=judged_by.requirement)
    if not free:
        raise errors.Conflict(
            f'import {entry.id} is being run, and goes on as it was asked '
            'for; cancel it and ask again')


def _ask_again(services: services.Services, wanted: str) -> str:
    """The latest failed import of an image, for who asked the first time."""
    with services.db.read() as conn:
        task = db_tasks.get(conn, wanted)
        image_id = task.image_id if task and task.image_id else wanted
        image = db_images.get(conn, image_id, db_images.EVERYTHING)
        past = db_tasks.of_image(conn, image_id) if image else []
    failed = next((each for each in past
                   if each.status == states.FAILURE and each.input
                   and 'import_req' in each.input), None)
    if image is None or failed is None:
        raise errors.NotFound(
            f'{wanted}: neither an import that waits or runs, nor an image '
            'whose import has failed')
    body = failed.input['import_req']  # type: ignore[index]
    ctx = context.RequestContext(
        user_id=failed.user_id, project_id=failed.owner,
        request_id=f'req-{uuid.uuid4()}')
    method = methods.find(body['method']['name'])
    if method.seal is not None:
        raise errors.Conflict(
            f'{method.name} needs the token of who asks, so only the user '
            'can ask for it again')
    if method is methods.ADD_LOCATION:
        locations.check_request(
            services, image, body['method']['url'],
            body['method'].get('validation_data') or {})
        task_id = admission.request(services, ctx, image, method, body,
                                    task_type=methods.LOCATION_TASK)
        return f'import {task_id} of image {image.id} was asked for'
    admission.check_importable(services, ctx, image, method, body['method'])
    # To the same stores, whatever the default one is by now.
    before = failed.input.get('backend')  # type: ignore[union-attr]
    task_id = admission.request(
        services, ctx, image, method, body, placement.targets(
            services, image, {'stores': before} if before else {}, None,
            copying=method.copies))
    return f'import {task_id} of image {image.id} was asked for'


def release(services: services.Services, wanted: str) -> str:
    """Take an import from a conductor that is dead.

    One that is alive notices, writes nothing more, and the import goes on
    elsewhere.

    :raises errors.DomainError: nobody holds it
    """
    entry = find(services, wanted)
    with services.db.write() as conn:
        if not db_job_admin.release(conn, entry.id):
            raise errors.Conflict(f'no conductor holds the import {entry.id}')
    services.wake()
    return (f'import {entry.id} of image {entry.image_id} was taken from '
            f'{entry.conductor}')


def release_area(services: services.Services, area: str
                 ) -> typing.Iterator[str]:
    """End what needs the bytes of a staging area that is gone for good.

    Imports of bytes that clients had staged there fail, and images with such
    bytes are queued; imports that fetch their bytes begin again elsewhere.
    Yields what was done, a line for each.

    :raises errors.Conflict: the area is this node's own, or in use
    """
    if area == services.area.id:
        raise errors.Conflict(
            f'{area} is the staging area of this node, which is not gone')
    with services.db.read() as conn:
        found = db_job_admin.entries(conn, area=area)
        staged = db_job_admin.staged_in(conn, area)
    live = [entry for entry in found if entry.state == db_job_admin.RUNNING]
    if live:
        raise errors.Conflict(
            f'the area {area} is in use: {live[0].conductor} runs the import '
            f'{live[0].id}; end that conductor first')
    for entry in found:
        if methods.of_job(entry.method).staged:
            yield _fail(services, entry)
            continue
        with services.db.write() as conn:
            free = db_job_admin.unbind(conn, entry.id)
        if free:
            yield (f'import {entry.id} of image {entry.image_id} begins '
                   'again elsewhere')
    for image_id in staged:
        if _lose(services, image_id, area):
            yield f'image {image_id} is queued again: its data is gone'
    services.wake()


def _fail(services: services.Services, entry: db_job_admin.Entry) -> str:
    with services.db.write() as conn:
        db_job_admin.hurry(conn, entry.id)
    job = ending.fail_waiting(
        services, entry.id, 'glance-import-manage',
        lambda _job: outcome.Outcome('staging.lost', GONE))
    if job is None:
        return f'import {entry.id} was claimed meanwhile, and is left alone'
    return f'import {job.id} of image {job.image_id} failed: its data is gone'


def _lose(services: services.Services, image_id: str, area: str) -> bool:
    """Queue an image whose staged bytes are gone, and say so in it."""
    with services.db.write() as conn:
        record = db_staging.get(conn, image_id)
        if record is None or record.area != area or not db_images.move(
                conn, image_id, (states.UPLOADING, states.SAVING),
                states.QUEUED):
            return False
        db_staging.delete(conn, image_id, record.upload_id)
        images.set_error(conn, image_id, 'staging.lost', GONE)
    LOG.info('the staged data of image %s is gone with its area', image_id)
    return True
