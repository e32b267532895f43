"""PUT file: data straight into the store, without an import.

It is received as staged data is, under the same lock, and handed to the
store when all of it is there and durable; so nothing partial is ever stored.
queued -> saving -> active, each by compare-and-swap; whatever fails leads
back to queued, and so does the next request after a process that died.
Touches what the receiver does, and the stores.
"""

from __future__ import annotations

import collections.abc
import contextlib
import typing

from oslo_log import log

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import staging as db_staging
from glance_import.domain import content
from glance_import.domain import images
from glance_import.domain import quotas
from glance_import.domain import signatures
from glance_import.domain import stored_data
from glance_import.domain import telling
from glance_import import errors
from glance_import.observe import events
from glance_import import staging
from glance_import import states
from glance_import.stores import base as stores
from glance_import.stores import multi_store
from glance_import.uploads import receiving
from glance_import.uploads import recovery
from glance_import.uploads import stage

if typing.TYPE_CHECKING:
    from glance_import import services

LOG = log.getLogger(__name__)
LIMITS = quotas.TO_STORE


def save(services: services.Services, target: receiving.Target,
         blocks: collections.abc.Iterable[staging.Block],
         announced: stage.Announced,
         store: stores.Store | None = None) -> None:
    """Receive the data of an image and make it active.

    :param target: found with ``LIMITS``
    :param store: where it goes, if not to the default store
    :param blocks: the body; raises errors.ClientGone or Invalid by itself
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
    image = target.image
    content.check_plugins(services, image.id)
    cap = check(services, receiving.PUT_FILE, target, announced)
    store = store or services.stores.default
    try:
        with receiving.Receiver(services, receiving.PUT_FILE, image.id,
                                cap=cap, digests=announced.digests
                                ) as receiver:
            epoch = receiver.begin(announced.expected)
            telling.changed(services, 'prepare', image.id)
            announced.receive(receiver, blocks)
            with receiver.upload.seal() as sealed:
                _store(services, image, sealed, receiver.upload_id, epoch,
                       store)
    except errors.DomainError as failure:
        telling.image(services, 'upload', image, trouble=(
            f'Cannot save data for image {image.id}: {failure}'))
        raise
    LOG.info('image %s is active: %d bytes', image.id, sealed.staged.size)
    services.events.tell(events.DataStored(store.id, sealed.staged.size))
    for what in ('upload', 'activate'):
        telling.changed(services, what, image.id)
    # What earlier attempts had stored when they were killed.
    stored_data.sweep(services, image.id, below=epoch)


def check(services: services.Services, kind: receiving.Kind,
          target: receiving.Target, announced: stage.Announced
          ) -> quotas.Cap:
    """What can be said of PUT file before the first byte; what it may have.

    :param kind: how the data is taken
    :raises errors.DomainError: it is not taken
    """
    image = target.image
    images.check_formats(image, 'take data')
    signatures.check(services.conf, image.properties)
    cap = quotas.cap(services, target.use)
    announced.check(cap)
    target = recovery.recovered(services, target)
    receiving.check_status(kind, image.id, target.image.status,
                           target.record)
    return cap


def _store(services: services.Services, image: db_images.Image,
           sealed: staging.Sealed, upload_id: str, epoch: int,
           store: stores.Store) -> None:
    stored = None
    try:
        virtual_size = content.check(services, image, sealed.path,
                                     lambda: False)
        stored = multi_store.add_file(
            [store], sealed.path, sealed.staged, multi_store.Order(
                image.id, epoch, services.conf.hashing_algorithm,
                services.conf.legacy_checksum,
                heard=services.hear_store)).stored[store.id]
        _record_active(services, image.id, upload_id, stored, virtual_size)
    except BaseException as failure:
        if stored is not None:
            # The commit may have happened all the same (a connection lost
            # while it was answered), so this asks before it deletes; with
            # the database away the object stays, to be found later.
            with contextlib.suppress(stores.StoreError, *engine.ERRORS):
                stored_data.discard(services, image.id, stored.uri,
                                    stored.metadata, epoch)
        if isinstance(failure, stores.StoreError):
            raise _refusal(failure, image.id) from failure
        raise


def _refusal(failure: stores.StoreError, image_id: str
             ) -> errors.DomainError:
    """What a user reads in place of what the store says."""
    if isinstance(failure, stores.StoreFull):
        return errors.TooLarge(f'There is no room for the image: {failure}.')
    if isinstance(failure, stores.SourceGone):
        return receiving.deleted(image_id)
    LOG.error('storing image %s: %s', image_id, failure)
    return errors.Unavailable(
        f'Image data cannot be stored at the moment: {failure}.')


@engine.retried
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
