"""Objects in stores that no image needs: they go, now or later.

What a store cannot delete now is remembered with what makes it superfluous,
and deleted later; what something uses is not deleted at all, where that is
known in time. Touches the table of deletions, and asks the stores.
"""

from __future__ import annotations

import collections.abc
import contextlib
import typing

from oslo_log import log

from glance_import.db import deletions as db_deletions
from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import import errors
from glance_import.net import urls
from glance_import.stores import base as stores

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import import services

LOG = log.getLogger(__name__)
DATA = 'data'
ATTEMPTS = 'attempts'
# How long a store is asked whether something uses an object. One that does
# not answer is not waited for: its data is deleted later, or stays in use.
ASK_SECONDS = 5
# Of an image's first attempt; nothing was stored before.
FIRST_EPOCH = 1

Locations = collections.abc.Iterable[db_images.Location]


def refuse_in_use(services: services.Services, image_id: str,
                  locations: Locations, purpose: str = 'deleted') -> None:
    """:raises errors.Conflict: something uses the data of one of them"""
    for location in locations:
        try:
            store = services.stores.of(location)
            user = services.stores.call(
                store, lambda: store.in_use(location.url), ASK_SECONDS)
        except stores.StoreError as failure:
            LOG.warning('whether the data of image %s at %s is in use is not '
                        'known: %s', image_id, urls.public(location.url),
                        failure)
            continue
        if user is not None:
            raise errors.Conflict(
                f'Image {image_id} cannot be {purpose}: its data in the '
                f'store {store.id} is in use: {user}.')


def record(services: services.Services, conn: sa.Connection, image_id: str,
           locations: Locations, *, seconds: float
           ) -> list[db_deletions.Deletion]:
    """Have what is at these locations deleted.

    :param seconds: how long the first attempt is the caller's
    """
    return [_record(services, conn, image_id, each, seconds)
            for each in locations if not _is_foreign(each)]


def _is_foreign(location: db_images.Location) -> bool:
    """Data on a web server is not ours to delete."""
    return location.url.partition('://')[0].lower() in urls.DEFAULT_PORTS


def _record(services: services.Services, conn: sa.Connection, image_id: str,
            location: db_images.Location, seconds: float
            ) -> db_deletions.Deletion:
    try:
        store: stores.Store | None = services.stores.of(location)
    except stores.UnknownStore:
        store = None
    far = store is None or services.stores.threads(store) is not None
    return db_deletions.insert(
        conn, DATA,
        {'url': location.url, 'metadata': location.metadata,
         'store': None if store is None else store.id},
        # A directory may be one of that node alone.
        image_id=image_id, area=None if far else services.area.id,
        seconds=seconds)


def record_attempts(conn: sa.Connection, image_id: str, epoch: int, *,
                    seconds: float) -> db_deletions.Deletion:
    """Have what attempts up to ``epoch`` stored looked for, and deleted."""
    return db_deletions.insert(conn, ATTEMPTS, {'below': epoch + 1},
                               image_id=image_id, seconds=seconds)


def is_to_be_deleted(conn: sa.Connection, url: str) -> bool:
    """Whether what is at a URL is remembered as what has to go."""
    return any(payload.get('url') == url
               for payload in db_deletions.payloads(conn, DATA))


def delete(services: services.Services, deletion: db_deletions.Deletion
           ) -> None:
    """What is at a location, unless an image has come to name it.

    :raises stores.StoreError: it is still there
    """
    location = db_images.Location(deletion.payload['url'],
                                  deletion.payload['metadata'])
    with services.db.read() as conn:
        # In this order: an import names what it has stored as it ends.
        if deletion.image_id is not None and db_jobs.of_image(
                conn, deletion.image_id) is not None:
            raise stores.StoreUnavailable(
                'an import of the image may be storing under the same name')
        if db_images.is_named(conn, location.url):
            LOG.warning('what was at %s is the data of another image by now',
                        urls.public(location.url))
            return
    delete_object(services, location)


def delete_attempts(services: services.Services,
                    deletion: db_deletions.Deletion) -> None:
    """:raises stores.StoreError: one of the stores was not looked through"""
    assert deletion.image_id is not None
    recorded = urls_of(services, deletion.image_id)
    for store in services.stores.all():
        if not store.read_only:
            _swept(services, store, deletion.image_id,
                   deletion.payload['below'], recorded)


def urls_of(services: services.Services, image_id: str) -> set[str]:
    """Every URI that the image names."""
    with services.db.read() as conn:
        image = db_images.get(conn, image_id, db_images.EVERYTHING)
    return {location.url for location in image.locations} if image else set()


def discard(services: services.Services, image_id: str, uri: str,
            metadata: dict[str, typing.Any], epoch: int) -> None:
    """Delete an object that an attempt stored, unless the image names it.

    Only that attempt can record what it has stored, so nobody can begin to
    name it after this has looked.

    :param epoch: of the attempt, or of a later one that goes on with it
    :raises stores.StoreError: the store does not do it
    """
    if uri not in urls_of(services, image_id):
        store = services.stores.of(db_images.Location(uri, metadata))
        with contextlib.suppress(stores.ObjectGone):
            stores.undo(store, uri, epoch)


def delete_object(services: services.Services,
                  location: db_images.Location) -> None:
    """Delete what is at a location; what is gone is fine.

    :raises stores.StoreError: the store does not do it, or is not known
    """
    store = services.stores.of(location)
    with contextlib.suppress(stores.ObjectGone):
        store.delete(location.url)


def _swept(services: services.Services, store: stores.Store, image_id: str,
           below: int, recorded: set[str]) -> list[str]:
    return services.stores.call(
        store, lambda: store.sweep(image_id, below, recorded))


def delete_within(services: services.Services,
                  location: db_images.Location) -> None:
    """The same, in the time that a request waits for a store.

    :raises stores.StoreSilent: it may happen later
    """
    services.stores.call(services.stores.of(location),
                         lambda: delete_object(services, location))


def sweep(services: services.Services, image_id: str, *, below: int) -> None:
    """Delete what attempts before that epoch stored and nobody recorded.

    What an earlier attempt stored may be the image's data: a step that is
    finished is not repeated by who goes on with the import.
    """
    if below <= FIRST_EPOCH:
        return
    recorded = urls_of(services, image_id)
    for store in services.stores.all():
        if store.read_only:
            continue
        try:
            removed = _swept(services, store, image_id, below, recorded)
        except stores.StoreError as failure:
            # The next attempt, or the image's deletion, looks again.
            LOG.warning('cannot look for leftovers of image %s: %s',
                        image_id, failure)
            continue
        for uri in removed:
            LOG.info('removed what an interrupted attempt stored: %s',
                     urls.public(uri))
