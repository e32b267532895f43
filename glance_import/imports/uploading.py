"""PUT file where plugins are listed: staged, imported, and waited for.

Nothing becomes active before the site's plugins have seen it, whichever way
it comes. The data is staged as PUT stage does it, and the import is asked for
in the transaction that records the data as complete. From there on the
request only watches: whoever asked may go away, and the import goes on.
Touches what the receiver and the admission of imports touch.
"""

from __future__ import annotations

import collections.abc
import time
import typing

from oslo_log import log

from glance_import.db import conductors as db_conductors
from glance_import.db import engine
from glance_import.db import job_admin as db_job_admin
from glance_import.db import tasks as db_tasks
from glance_import.domain import quotas
from glance_import.domain import telling
from glance_import import errors
from glance_import.imports import admission
from glance_import.imports import methods
from glance_import import states
from glance_import.uploads import put_data
from glance_import.uploads import receiving

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import import context
    from glance_import import services
    from glance_import import staging
    from glance_import.stores import base as stores
    from glance_import.uploads import stage

LOG = log.getLogger(__name__)
LIMITS = quotas.TO_STAGE
_METHOD = methods.find('glance-direct')
# Seconds: how long a conductor that has just been started is waited for,
# and how long to wait before looking again.
_START = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5
# What the user, or the data, is at fault for; by code, or its first word.
_ANSWERS: dict[str, type[errors.DomainError]] = {
    'refused.format': errors.Unsupported,
    'refused.size': errors.TooLarge,
    'staging.full': errors.TooLarge,
    'store.full': errors.TooLarge,
    'image.gone': errors.Gone,
    'cancelled': errors.Conflict,
    'refused': errors.Invalid,
    'plugin': errors.Invalid,
}


def applies(services: services.Services) -> bool:
    """Whether the data of PUT file goes through an import here."""
    return bool(services.plugins) and (
        services.conf.image_import_opts.plugins_on_upload == 'run')


def save(services: services.Services, ctx: context.RequestContext,
         target: receiving.Target,
         blocks: collections.abc.Iterable[staging.Block],
         announced: stage.Announced,
         store: stores.Store | None = None) -> None:
    """Receive the data of an image, and import it; active at the return.

    :param target: found with ``LIMITS``
    :param blocks: the body; raises errors.ClientGone or Invalid by itself
    :param store: where it goes, if not to the default store
    :raises errors.Invalid: formats are missing, it is not the data that was
        announced, or a plugin refuses it
    :raises errors.Conflict: the image takes no data now, or the import was
        cancelled
    :raises errors.Unsupported: it is not of the image's disk_format, or not
        safe
    :raises errors.TooLarge: over image_size_cap or a quota, or no room
    :raises errors.Unavailable: nobody runs imports, the import failed for no
        fault of the data, or it goes on longer than upload_run_timeout
    :raises errors.Gone: the image was deleted meanwhile
    """
    image = target.image
    cap = put_data.check(services, receiving.TO_IMPORT, target, announced)
    services.board.check()
    _check_imports(services, ctx)
    task_id = ''

    def ask(conn: sa.Connection) -> None:
        nonlocal task_id
        task_id = admission.post(
            services, conn, ctx, image.id, _METHOD,
            {'method': {'name': _METHOD.name}}, judged_by=judged_by,
            targets=([store.id] if store is not None and services.stores.many
                     else None))

    with receiving.Receiver(services, receiving.TO_IMPORT, image.id, cap=cap,
                            digests=announced.digests) as receiver:
        receiver.begin(announced.expected)
        announced.receive(receiver, blocks)
        quotas.check_import(services, image.id, receiver.upload.size)
        judged_by = services.judged_by()
        receiver.complete(ask)
    services.wake()
    telling.accepted(services, task_id)
    LOG.info('image %s: %d bytes were uploaded; import %s runs the plugins',
             image.id, receiver.upload.size, task_id)
    _wait(services, image.id, task_id)


def _check_imports(services: services.Services,
                   ctx: context.RequestContext) -> None:
    """Before any data comes: whether its import would be taken and run.

    :raises errors.TooLarge: the project has its share of imports
    :raises errors.Unavailable: no conductor was seen, or the queue is full
    """
    deadline = time.monotonic() + _START
    while True:
        with services.db.read() as conn:
            admission.check_bounds(services, conn, ctx.project_id)
            if db_conductors.any_living(conn, services.area.id):
                return
        if time.monotonic() > deadline:
            raise errors.Unavailable(
                'Uploads go through plugins here, and nobody is there to run '
                'them: no conductor of this staging area has been heard of. '
                'Try again later.')
        time.sleep(_LONGEST_PAUSE)


def _wait(services: services.Services, image_id: str, task_id: str) -> None:
    """Until the import has ended.

    :raises errors.DomainError: without success, or not in time
    """
    seconds = services.conf.image_import_opts.upload_run_timeout
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while True:
        is_told, task, held = _read_task(services, task_id)
        if is_told and task is None:
            raise receiving.deleted(image_id)
        if task is not None and task.status == states.SUCCESS:
            return
        if task is not None and task.status == states.FAILURE:
            raise _failed(image_id, task)
        if held is not None:
            raise errors.Conflict(
                f'The data has come and {held}. Image {image_id} becomes '
                'active when it is approved, or says why not; its tasks are '
                f'at /v2/images/{image_id}/tasks.')
        left = deadline - time.monotonic()
        if left <= 0:
            raise errors.Unavailable(
                f'The data has come, and after {seconds} s the plugins are '
                f'still at work on it. The import goes on: image {image_id} '
                'will be active, or say why not; its tasks are at '
                f'/v2/images/{image_id}/tasks.')
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _read_task(services: services.Services, task_id: str
               ) -> tuple[bool, db_tasks.Task | None, str | None]:
    """Whether the database has answered; the task; who holds the import.

    One that does not is waited for, as the import itself waits for it.
    """
    try:
        with services.db.read() as conn:
            return (True, db_tasks.get(conn, task_id),
                    db_job_admin.held(conn, task_id))
    except engine.ERRORS as failure:
        if not engine.may_pass(failure):
            raise
        return False, None, None


def _failed(image_id: str, task: db_tasks.Task) -> errors.DomainError:
    code = str((task.result or {}).get('code', errors.DomainError.code))
    kind = _ANSWERS.get(code) or _ANSWERS.get(code.partition('.')[0],
                                              errors.Unavailable)
    return kind(f'{task.message} ({code}; the import of the data of image '
                f'{image_id} has failed)', code=code)
