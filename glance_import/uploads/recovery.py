"""Gives up uploads that nobody works on any more.

A PUT file whose process died leaves an image ``saving`` with a part file that
nobody has locked; a partial upload expires after
``incomplete_upload_lifetime``, and what an import that failed gave back after
``failed_import_lifetime``. Each way the data goes and the image is queued
again. Touches the staging area, the image and the record of its
staged data.
"""

from __future__ import annotations

import collections.abc
import datetime
import typing

from oslo_log import log

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import staging as db_staging
from glance_import import errors
from glance_import import staging
from glance_import import states
from glance_import.uploads import receiving

if typing.TYPE_CHECKING:
    from glance_import import services

LOG = log.getLogger(__name__)
# Whether to give up: by the status of the image and the record of its data.
Condition = collections.abc.Callable[[str, db_staging.Record], bool]


def recovered(services: services.Services, target: receiving.Target
              ) -> receiving.Target:
    """The target as it is when no such upload is in the way any more.

    :raises errors.Unavailable: the staging area cannot be written
    """
    image, record, use = target
    if record is None or not _is_over(services)(image.status, record):
        return target
    try:
        give_up(services, image.id, _is_over(services))
    except staging.UploadInProgress:
        return target
    except staging.StagingError as failure:
        raise receiving.refusal(failure, image.id) from failure
    with services.db.read() as conn:
        now = db_images.get(conn, image.id, db_images.EVERYTHING)
        if now is None:
            raise errors.no_image(image.id)
        return receiving.Target(now, db_staging.get(conn, image.id), use)


def _is_over(services: services.Services) -> Condition:
    """Of PUT file, if nobody has its lock; or partial, and expired."""
    def is_over(status: str, record: db_staging.Record) -> bool:
        when = expiry(services, record.updated_at)
        return record.state == states.OPEN and (
            status == states.SAVING or status == states.UPLOADING
            and when is not None and when < engine.utcnow())
    return is_over


def _is_forgotten(services: services.Services) -> Condition:
    """Of a failed import, and nobody has asked for it again."""
    hours = services.conf.failed_import_lifetime
    before = engine.utcnow() - datetime.timedelta(hours=hours)

    def is_forgotten(status: str, record: db_staging.Record) -> bool:
        return (bool(hours) and record.state == states.RETURNED
                and status == states.UPLOADING and record.updated_at < before)
    return is_forgotten


def expiry(services: services.Services, since: datetime.datetime
           ) -> datetime.datetime | None:
    """When a partial upload is given up; None for never. Times in UTC.

    :param since: when it was added to last
    """
    hours = services.conf.incomplete_upload_lifetime
    return since + datetime.timedelta(hours=hours) if hours else None


def give_up(services: services.Services, image_id: str,
            condition: Condition) -> bool:
    """Discard an image's data that nobody works on; it is queued again.

    :param condition: asked before, and again when nothing can change any
        more
    :returns: whether that was done
    :raises staging.UploadInProgress: the data is being uploaded
    """
    found = _state_if(services, image_id, condition)
    if found is None:
        return False

    def confirm(size: int) -> int:
        if _state_if(services, image_id, condition) != found:
            raise _Changed
        return 0
    try:
        upload = services.area.resume(image_id, 'md5', confirm=confirm,
                                      legacy_checksum=False)
    except _Changed:
        return False
    try:
        status, record = found
        done = receiving.record_discard(services, image_id, record.upload_id,
                                        status)
        if done:
            services.area.discard(image_id)
            LOG.info('image %s is queued again; its %s data was discarded',
                     image_id, record.state)
        return done
    finally:
        upload.discard()


class _Changed(Exception):
    pass


def _state_if(services: services.Services, image_id: str,
              condition: Condition) -> tuple[str, db_staging.Record] | None:
    """Status and record, if the data is in reach and the condition holds."""
    with services.db.read() as conn:
        status = db_images.status(conn, image_id)
        record = db_staging.get(conn, image_id)
    if status is None or record is None \
            or record.area != services.area.id \
            or not condition(status, record):
        return None
    return status, record


def discard_abandoned(services: services.Services) -> None:
    """Discard what nobody will go on with: expired, or its process died."""
    with services.db.read() as conn:
        records = db_staging.in_states(conn, services.area.id,
                                       (states.OPEN, states.RETURNED))
    for record in records:
        try:
            give_up(services, record.image_id, _is_over(services)
                    if record.state == states.OPEN
                    else _is_forgotten(services))
        except staging.UploadInProgress:
            continue
        except (staging.StagingError, errors.DomainError) as failure:
            LOG.warning('the interrupted upload of image %s is left: %s',
                        record.image_id, failure)
