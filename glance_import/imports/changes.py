"""What plugins change of the image they see imported, and how it is undone.

Attributes change at once, and what they were is kept in the job, for an
import that fails and for a step that is done again. What contract plugins say
of custom properties is kept with their verdicts in the task, and written when
the image becomes active. Warnings of the service's own steps are kept there
too.
"""

from __future__ import annotations

import collections.abc
import json
import typing

from oslo_log import log
import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import leases
from glance_import.db import tasks as db_tasks
from glance_import import errors
from glance_import.plugin import chain
from glance_import import states

if typing.TYPE_CHECKING:
    from glance_import.imports import runtime
    from glance_import import services

LOG = log.getLogger(__name__)
# Attributes that a plugin may change.
CHANGEABLE = ('name', 'disk_format', 'container_format', 'min_disk',
              'min_ram', 'virtual_size', 'size')
_MOST_WARNINGS = 20
# Whose undo log is that of the whole import.
_IMPORT = ''


@engine.retried
def write(services: services.Services, lease: db_jobs.Lease,
          image_id: str, *, base: dict[str, typing.Any],
          properties: dict[str, str | None],
          removed: collections.abc.Iterable[str]) -> None:
    """Write what a plugin changed, and only that.

    The caller has refused what a plugin must not touch.

    :raises errors.ImportFailed: the image is not being imported any more
    :raises errors.Conflict: the database takes a name for that of another
        property
    """
    with leases.writing(services.db, lease) as conn:
        write_attributes(conn, lease, image_id, base=base)
        # First: the name may come back in another spelling.
        for name in removed:
            db_images.drop_property(conn, image_id, name)
        for name, value in properties.items():
            db_images.set_property(conn, image_id, name, value)


def write_attributes(conn: sa.Connection, lease: db_jobs.Lease,
                     image_id: str, *, base: dict[str, typing.Any],
                     step: str | None = None) -> None:
    """The same for attributes alone, in a transaction under the lease.

    :param step: who will ask ``before`` for what they were
    :raises errors.ImportFailed: the image is not being imported any more
    """
    _log_undo(conn, lease, image_id, base, step or _IMPORT)
    if not db_images.update(conn, image_id,
                            expected=(states.IMPORTING,), **base):
        raise errors.ImportFailed(
            'The image is not being imported any more.', code='image.gone')


def _log_undo(conn: sa.Connection, lease: db_jobs.Lease, image_id: str,
              base: dict[str, typing.Any], step: str) -> None:
    image = db_images.get(conn, image_id, db_images.EVERYTHING)
    if image is None or not base:
        return
    log = db_jobs.undo_log(conn, lease.job_id)
    for who in {_IMPORT, step}:
        log[who] = {**{name: getattr(image, name) for name in base},
                    **log.get(who, {})}
    db_jobs.check_fence(conn, lease, undo_log=json.dumps(log))


def before(services: services.Services, lease: db_jobs.Lease, step: str
           ) -> dict[str, typing.Any]:
    """What a step has changed of the image, as it was before it.

    Empty unless the step was interrupted and is done again.
    """
    with services.db.read() as conn:
        return db_jobs.undo_log(conn, lease.job_id).get(step, {})


def undo(conn: sa.Connection, lease: db_jobs.Lease, image_id: str) -> None:
    """Undo what plugins made of the attributes: their bytes are gone."""
    kept = db_jobs.undo_log(conn, lease.job_id).get(_IMPORT)
    if kept:
        db_images.update(conn, image_id, **kept)


def note_verdicts(conn: sa.Connection, lease: db_jobs.Lease,
                  verdicts: collections.abc.Sequence[
                      dict[str, typing.Any]]) -> None:
    """Keep what contract plugins said, in the task of the import.

    In a transaction under the lease. A step that is done again replaces what
    it said before.
    """
    task = db_tasks.get(conn, lease.job_id)
    result = dict((task.result if task else None) or {})
    fresh = {(each['plugin'], each['step']) for each in verdicts}
    before = result.get('plugins', ())
    result['plugins'] = [
        each for each in before
        if (each['plugin'], each['step']) not in fresh] + [
        _approved(before, each) if each['verdict'] == chain.APPROVED else each
        for each in verdicts]
    db_tasks.set_result(conn, lease.job_id, result)


def _approved(before: collections.abc.Iterable[dict[str, typing.Any]],
              said: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """What the plugin had said when it held the image, and that it passed.
    """
    held = next((each for each in before if (each['plugin'], each['step'])
                 == (said['plugin'], said['step'])), said)
    return {**held, 'let_through': True, 'approved': True}


def warn(rt: runtime.Runtime, text: str) -> None:
    """Say in the task what is odd about the image, which is taken.

    Written together with the record of the step that found it.

    :param text: a sentence for the user
    """
    LOG.info('image %s: %s', rt.job.image_id, text)
    rt.unwritten.append(lambda conn: _note_warning(conn, rt.lease, text))


def _note_warning(conn: sa.Connection, lease: db_jobs.Lease, text: str
                  ) -> None:
    task = db_tasks.get(conn, lease.job_id)
    result = dict((task.result if task else None) or {})
    said = result.setdefault('warnings', [])
    # A step that is done again says it again.
    if text not in said and len(said) < _MOST_WARNINGS:
        said.append(text)
        db_tasks.set_result(conn, lease.job_id, result)


def of_plugins(result: dict[str, typing.Any]) -> dict[str, str]:
    """The properties that plugins gave, later ones over earlier ones.

    :param result: of the task
    """
    found: dict[str, str] = {}
    for each in result.get('plugins', ()):
        found.update(each.get('properties') or {})
    return found
