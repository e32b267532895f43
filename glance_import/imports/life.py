"""Imports while they run: begun, finished or failed, each in a transaction.

The functions are called by the steps of the flow with the claim they work
under; each asks first whether that claim is still in force and writes nothing
if it is not. How an import comes to be is in glance_import.imports.admission.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import typing

from oslo_log import log

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import staging as db_staging
from glance_import.db import tasks as db_tasks
from glance_import.domain import content
from glance_import.domain import images
from glance_import.domain import placement
from glance_import.domain import tasks
from glance_import.domain import uploads
from glance_import import errors
from glance_import.imports import methods
from glance_import import staging
from glance_import import states
from glance_import.stores import base as stores

if typing.TYPE_CHECKING:
    import collections.abc

    import sqlalchemy as sa

    from glance_import import services

LOG = log.getLogger(__name__)


@contextlib.contextmanager
def claimed(services: services.Services, claim: db_jobs.Lease
            ) -> collections.abc.Iterator[sa.Connection]:
    """A write transaction that exists only while the claim is in force.

    :raises errors.ClaimLost: somebody else owns the import, or nobody
    """
    with services.db.write() as conn:
        if not db_jobs.check_fence(conn, claim):
            raise errors.ClaimLost(
                f'import {claim.job_id} is no longer ours '
                f'(epoch {claim.epoch})')
        yield conn


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


def succeed(services: services.Services, claim: db_jobs.Lease,
            image_id: str, placed: Placed, *,
            virtual_size: int | None = None) -> None:
    """Active: locations, digests, task, lock and staging in one transaction.

    Done again after a death between commit and record, it finds the task
    successful and the locations its own, and leaves all as it is.

    :param virtual_size: bytes, of data that was looked at
    :raises errors.ImportFailed: the image is not one that can become active
    """
    with claimed(services, claim) as conn:
        task = db_tasks.get(conn, claim.job_id)
        if task is not None and task.status == states.SUCCESS:
            return
        job = db_jobs.get(conn, claim.job_id)
        assert job is not None
        _make_active(conn, image_id, methods.find(job.method),
                     placed.stored, virtual_size)
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
                                   images.storable(placed.reason))
        db_images.drop_property(conn, image_id, images.LOCK,
                                expected=claim.job_id)
        db_staging.delete(conn, image_id)
        db_tasks.move(conn, claim.job_id, states.PROCESSING, states.SUCCESS,
                      expires_at=tasks.expiry(services),
                      result=result,
                      message=images.storable(placed.reason or ''))


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
            'ready, so it could not become active.')


def settled(services: services.Services, claim: db_jobs.Lease,
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


def note_plugins(conn: sa.Connection, claim: db_jobs.Lease,
                 records: collections.abc.Sequence[
                     dict[str, typing.Any]]) -> None:
    """Keep what contract plugins said, in the task of the import.

    In a transaction that has asked whether the claim is still in force.
    Properties among it are written to the image when it becomes active. A
    step that is done again replaces what it said before.
    """
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


def fail(services: services.Services, claim: db_jobs.Lease, image_id: str,
         failure: Failure) -> None:
    """Leave an image the user can go on with, and the reason.

    The status is the one that the table of methods has. Intact bytes that a
    client staged bring it back to ``uploading``, to be imported again
    without uploading; otherwise what is left of the bytes goes.
    """
    text = images.storable(str(failure))
    discard = False
    uploads.recognise(services, image_id)
    with claimed(services, claim) as conn:
        job = db_jobs.get(conn, claim.job_id)
        assert job is not None
        method = methods.of_job(job.method)
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
        # Nobody needs the caller's token any more.
        db_jobs.check_fence(conn, claim, secret=None)
        for status in (states.PENDING, states.PROCESSING):
            db_tasks.move(conn, claim.job_id, status, states.FAILURE,
                          expires_at=tasks.expiry(services), message=text)
        if discard:
            # Before the commit: behind it the next upload may have begun.
            _discard_staged(services, image_id)
    placement.sweep(services, image_id, below=claim.epoch + 1)
    LOG.warning('import of image %s (task %s) failed: %s', image_id,
                claim.job_id, text)


def _discard_staged(services: services.Services, image_id: str) -> None:
    try:
        services.area.discard(image_id)
    except staging.StagingError as failure:
        LOG.warning('what was staged for image %s is left: %s', image_id,
                    failure)


CANCELLED = Failure('the import was cancelled')


def finish(services: services.Services, claim: db_jobs.Lease) -> None:
    """Take the job off the board; its task has ended."""
    with claimed(services, claim) as conn:
        db_jobs.delete(conn, claim.job_id)


def clean_up(services: services.Services, claim: db_jobs.Lease,
             image_id: str) -> None:
    """Remove what an active image no longer needs, or never did.

    The staged bytes, and what earlier attempts had stored when they were
    killed: they can never be recorded any more.
    """
    services.area.discard(image_id)
    placement.sweep(services, image_id, below=claim.epoch)


def clean_up_after(services: services.Services, image_id: str,
                   claim: db_jobs.Lease) -> None:
    """The same for an import that ended before its conductor could clean."""
    with services.db.read() as conn:
        status = db_images.status(conn, image_id)
    if status == states.ACTIVE:
        clean_up(services, claim, image_id)


def clean_up_lost(services: services.Services, image_id: str,
                  claim: db_jobs.Lease) -> None:
    """What a claim has stored that was taken away, if nobody took over.

    (The image was deleted, or its import ended without us.)
    """
    with services.db.read() as conn:
        if db_jobs.of_image(conn, image_id) is not None:
            return
    placement.sweep(services, image_id, below=claim.epoch + 1)


def check_content(services: services.Services, image_id: str, path: str,
                  stopped: collections.abc.Callable[[], bool]) -> int | None:
    """Refuse bytes that no store shall have; their virtual size, if known.

    :raises errors.Unsupported, errors.Invalid: naming what is wrong with
        them
    :raises errors.ImportFailed: the image is gone
    """
    with services.db.read() as conn:
        image = db_images.get(conn, image_id, db_images.EVERYTHING)
    if image is None:
        raise errors.ImportFailed('The image was deleted.')
    return content.check(services, image, path, stopped)


# -- what a plugin may change ---------------------------------------------

CHANGEABLE = ('name', 'disk_format', 'container_format', 'min_disk',
              'min_ram', 'virtual_size', 'size')


def change_image(services: services.Services, claim: db_jobs.Lease,
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
        write_change(conn, claim, image_id, base=base, step=step)
        for name, value in properties.items():
            db_images.set_property(conn, image_id, name, value)
        for name in removed:
            db_images.drop_property(conn, image_id, name)


def write_change(conn: sa.Connection, claim: db_jobs.Lease, image_id: str, *,
                 base: dict[str, typing.Any], step: str | None) -> None:
    """The same for attributes alone, in a transaction under the claim.

    :raises errors.ImportFailed: the image is not being imported any more
    """
    _keep_before(conn, claim, image_id, base, step)
    if not db_images.update(conn, image_id,
                            expected=(states.IMPORTING,), **base):
        raise errors.ImportFailed(
            'The image is not being imported any more.')


def _keep_before(conn: sa.Connection, claim: db_jobs.Lease, image_id: str,
                 base: dict[str, typing.Any], step: str | None) -> None:
    image = db_images.get(conn, image_id, db_images.EVERYTHING)
    if image is None or not base:
        return
    kept = db_jobs.undo_log(conn, claim.job_id)
    for who in {'', step or ''}:
        kept[who] = {**{name: getattr(image, name) for name in base},
                     **kept.get(who, {})}
    db_jobs.check_fence(conn, claim, undo_log=json.dumps(kept))


def before(services: services.Services, claim: db_jobs.Lease, step: str
           ) -> dict[str, typing.Any]:
    """What a step has changed of the image, as it was before it.

    Empty unless the step was interrupted and is done again.
    """
    with services.db.read() as conn:
        return db_jobs.undo_log(conn, claim.job_id).get(step, {})


def _restore(conn: sa.Connection, claim: db_jobs.Lease,
             image_id: str) -> None:
    """Undo what plugins made of the attributes: their bytes are gone."""
    kept = db_jobs.undo_log(conn, claim.job_id).get('')
    if kept:
        db_images.update(conn, image_id, **kept)


def remove_file(path: str) -> None:
    """Delete a file a step is done with; one that is gone is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def expected_of(found: uploads.Found) -> staging.Staged | None:
    """What the staged data was when it became complete."""
    return uploads.staged(found.record)
