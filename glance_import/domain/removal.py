"""An image leaves one of its stores, and stays in the others.

Touches the database, and asks the store.
"""

from __future__ import annotations

import typing

from oslo_log import log

from glance_import.db import deletions as db_deletions
from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.domain import deletions
from glance_import.domain import stored_data
from glance_import import errors
from glance_import import states
from glance_import.stores import base as stores

if typing.TYPE_CHECKING:
    from glance_import import services

LOG = log.getLogger(__name__)


def take_out(services: services.Services, image: db_images.Image,
             store_id: str) -> None:
    """Delete an image from one of its stores, never from its last.

    It stays there when the store refuses. What the store may or may not have
    done (it did not answer, or this process was killed) is done again later.

    :raises errors.NotFound: it is not there
    :raises errors.Forbidden: it is nowhere else, or is protected
    :raises errors.Conflict: it is in use, or its status does not allow it
    :raises errors.Unavailable: the store does not delete it
    """
    if image.protected:
        raise errors.Forbidden(
            f'Image {image.id} is protected and cannot be deleted from a '
            'store.')
    found = _found(services, image, store_id)
    stored_data.refuse_in_use(services, image.id, [found],
                              f'deleted from the store {store_id}')
    found, gone = _drop_location(services, image.id, store_id)
    try:
        stored_data.delete_within(services, found)
    except stores.StoreSilent as failure:
        LOG.warning('image %s is deleted from store %s later: %s', image.id,
                    store_id, failure)
        return
    except stores.StoreError as failure:
        _revive_location(services, image.id, found.url, gone)
        refusal: type[errors.DomainError] = errors.Unavailable
        if isinstance(failure, stores.ObjectInUse):
            refusal = errors.Conflict
        raise refusal(
            f'Image {image.id} cannot be deleted from the store {store_id} '
            f'at the moment: {failure}.') from failure
    deletions.end(services, gone)


@engine.retried
def _revive_location(services: services.Services, image_id: str, url: str,
                     gone: list[db_deletions.Deletion]) -> None:
    with services.db.write() as conn:
        if db_images.revive_location(conn, image_id, url):
            for deletion in gone:
                db_deletions.done(conn, deletion.id)
        # Else the image was deleted meanwhile, and this with it, some time.


def _found(services: services.Services, image: db_images.Image,
           store_id: str) -> db_images.Location:
    """Where the image is in the store, when it may go from there.

    :raises errors.NotFound, errors.Forbidden, errors.Conflict: it may not
    """
    if image.status not in (states.ACTIVE, states.DEACTIVATED):
        raise errors.Conflict(
            f'Image {image.id} is {image.status}; only an active image '
            'can be deleted from a store.')
    active = [location for location in image.locations
              if location.status == states.ACTIVE]
    found = next((location for location in active
                  if services.stores.id_of(location) == store_id), None)
    if found is None:
        raise errors.NotFound(
            f'Image {image.id} is not in the store {store_id[:64]!r}.')
    if len(active) == 1:
        raise errors.Forbidden(
            f'The store {store_id} has the only copy of image '
            f'{image.id}; delete the image to be rid of it.')
    return found


@engine.retried
def _drop_location(services: services.Services, image_id: str,
                   store_id: str
                   ) -> tuple[db_images.Location,
                              list[db_deletions.Deletion]]:
    with services.db.write() as conn:
        if not db_images.lock(conn, image_id):
            raise errors.no_image(image_id)
        image = db_images.get(conn, image_id, db_images.EVERYTHING)
        assert image is not None
        found = _found(services, image, store_id)
        db_images.drop_location(conn, image_id, found.url)
        db_images.update(conn, image_id)
        return found, stored_data.record(
            services, conn, image_id, [found],
            seconds=deletions.ATTEMPT_SECONDS)
