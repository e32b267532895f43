"""PUT file: data straight into the store, without an import.

It comes in by the way of staged data, under the same lock, and is handed to
the store when all of it is there and durable; so nothing partial is ever
stored. queued -> saving -> active, each by compare-and-swap; whatever fails
leads back to queued. A process that dies in between leaves ``saving`` with a
part file that nobody holds: see ``stage.recover``.
"""

from __future__ import annotations

import collections.abc
import contextlib
import typing
import uuid

from oslo_log import log

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import staging as db_staging
from glance_import.domain import content
from glance_import.domain import images
from glance_import.domain import placement
from glance_import.domain import quotas
from glance_import.domain import signatures
from glance_import import errors
from glance_import import staging
from glance_import import states
from glance_import.stores import base as stores
from glance_import.stores import several
from glance_import.uploads import integrity
from glance_import.uploads import stage

if typing.TYPE_CHECKING:
    from glance_import import services

LOG = log.getLogger(__name__)


def save(services: services.Services, image: db_images.Image,
         blocks: collections.abc.Iterable[staging.Block],
         announced: stage.Announced,
         store: stores.Store | None = None) -> None:
    """Receive the data of an image and make it active.

    :param store: where it goes, if not to the default store
    :param blocks: the body; raises UploadCut or BadBody by itself
    :raises errors.Forbidden: plugins are listed that would not see it
    :raises errors.Invalid: formats are missing, or it is not the data that
        was announced
    :raises errors.Conflict: the image is not queued
    :raises errors.Unsupported: it is not of the image's disk_format, or not
        safe
    :raises errors.TooLarge: over image_size_cap or a quota, or no room
    :raises errors.Unavailable: staging area or store do not take it
    :raises errors.Gone: the image was deleted meanwhile
    """
    content.check_plugins(services, image.id)
    _check_formats(image)
    signatures.check(services.conf, image.properties)
    cap = quotas.to_store(services, image.id)
    announced.check(cap)
    stage.recover(services, image.id)
    with services.db.read() as conn:
        status = db_images.status(conn, image.id)
    if status != states.QUEUED:
        raise _not_now(image.id, status)
    sealed, upload_id, epoch = _receive(services, image.id, blocks,
                                        announced, cap)
    try:
        _store(services, image, sealed, upload_id, epoch,
               store or services.stores.default)
    finally:
        with contextlib.suppress(staging.StagingError):
            sealed.close()
    LOG.info('image %s is active: %d bytes', image.id, sealed.staged.size)
    _clean(services, image.id, epoch)


def _check_formats(image: db_images.Image) -> None:
    for name in ('container_format', 'disk_format'):
        if getattr(image, name) is None:
            raise errors.Invalid(
                f"'{name}' needs to be set before image {image.id} can take "
                'data.')


def _not_now(image_id: str, status: str | None) -> errors.DomainError:
    if status in (None, states.DELETED):
        return errors.NotFound(f'No image found with ID {image_id}')
    return errors.Conflict(
        f'Image {image_id} is {status}; only a queued image takes data by '
        'PUT file.')


def _receive(services: services.Services, image_id: str,
             blocks: collections.abc.Iterable[staging.Block],
             announced: stage.Announced, cap: quotas.Cap
             ) -> tuple[staging.Sealed, str, int]:
    """The data, durable and locked; with the id and epoch of the attempt."""
    check = integrity.Check(announced.digests,
                            integrity.computed_by(services.conf))
    upload_id = str(uuid.uuid4())
    upload = stage.begin(services, image_id, cap, also=check.also)
    try:
        epoch = _record_begin(services, image_id, upload_id,
                              announced.expected)
    except BaseException:
        upload.discard()
        raise
    try:
        stage.receive(upload, blocks, announced, check)
        return upload.seal(), upload_id, epoch
    except BaseException as failure:
        stage.refuse(services, image_id, upload_id, upload, states.SAVING)
        if isinstance(failure, staging.StagingError):
            raise stage.as_domain_error(failure, image_id, cap
                                        ) from failure
        raise


def _record_begin(services: services.Services, image_id: str,
                  upload_id: str, expected: int | None) -> int:
    """queued -> saving; the epoch that names what is stored."""
    with services.db.write() as conn:
        if not db_images.move(conn, image_id, states.QUEUED, states.SAVING):
            raise _not_now(image_id, db_images.status(conn, image_id))
        db_images.drop_property(conn, image_id, images.ERROR)
        db_staging.begin(conn, image_id, upload_id=upload_id,
                         area=services.area.id, expected=expected)
        return db_jobs.next_epoch(conn, image_id)


def _store(services: services.Services, image: db_images.Image,
           sealed: staging.Sealed, upload_id: str, epoch: int,
           store: stores.Store) -> None:
    image_id, stored = image.id, None
    try:
        virtual_size = content.check(services, image, sealed.path,
                                     lambda: False)
        stored = several.add_file(
            [store], sealed.path, sealed.staged, several.Order(
                image_id, epoch, services.conf.hashing_algorithm,
                services.conf.legacy_checksum)).stored[store.id]
        _record_active(services, image_id, upload_id, stored, virtual_size)
    except BaseException as failure:
        # The file before the record: see stage.refuse.
        with contextlib.suppress(staging.StagingError):
            sealed.close()
        if stored is not None:
            # The commit may have happened all the same (a connection lost
            # while it was answered), so this asks before it deletes; with
            # the database away the object stays, to be found later.
            with contextlib.suppress(stores.StoreError, *engine.ERRORS):
                placement.discard(services, image_id, stored.uri,
                                  stored.metadata)
        stage.give_back(services, image_id, upload_id, states.SAVING)
        if isinstance(failure, stores.StoreError):
            raise _as_domain_error(failure, image_id) from failure
        raise


def _as_domain_error(failure: stores.StoreError, image_id: str
                     ) -> errors.DomainError:
    if isinstance(failure, stores.StoreFull):
        return errors.TooLarge(f'There is no room for the image: {failure}.')
    if isinstance(failure, stores.SourceGone):
        return errors.Gone(
            f'Image {image_id} was deleted while its data was uploaded.')
    LOG.error('storing image %s: %s', image_id, failure)
    return errors.Unavailable(
        f'Image data cannot be stored at the moment: {failure}.')


def _record_active(services: services.Services, image_id: str,
                   upload_id: str, stored: stores.Stored,
                   virtual_size: int | None) -> None:
    """saving -> active; staging is over: one transaction."""
    with services.db.write() as conn:
        if not db_images.move(
                conn, image_id, states.SAVING, states.ACTIVE,
                size=stored.size, virtual_size=virtual_size,
                checksum=stored.checksum, os_hash_algo=stored.hash_algo,
                os_hash_value=stored.hash_value) \
                or not db_staging.delete(conn, image_id, upload_id):
            raise errors.Gone(
                f'Image {image_id} was deleted while its data was '
                'uploaded, or its upload was given up.')
        db_images.add_location(conn, image_id, stored.uri, stored.metadata)


def _clean(services: services.Services, image_id: str, epoch: int) -> None:
    """What earlier attempts had stored when they were killed."""
    placement.sweep(services, image_id, below=epoch)
