"""Which stores an image is in, is to go to, and leaves.

Judges what a request says of stores, opens the data where it is, and keeps
the two lists that users read of an import's progress. Touches the database,
and reads from the stores.
"""

from __future__ import annotations

import collections.abc
import typing

from oslo_log import log

from glance_import.db import images as db_images
from glance_import.domain import images
from glance_import import errors
from glance_import.net import urls
from glance_import import states
from glance_import.stores import base as stores
from glance_import.stores import configured

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import import services

LOG = log.getLogger(__name__)


# -- what a request asks for ------------------------------------------------

def targets(services: services.Services, image: db_images.Image,
            body: dict[str, typing.Any], header: str | None, *,
            copying: bool) -> list[str] | None:
    """Ids of the stores an import is to go to; None while there is one only.

    :param header: X-Image-Meta-Store
    :param copying: the image is active and goes to more stores
    :raises errors.Invalid: the request contradicts itself
    :raises errors.Conflict: a store is unknown, or cannot take the image
    """
    if not services.stores.many:
        if copying:
            raise errors.Invalid(
                'copy-image needs several stores, and there is one here '
                '(enabled_backends is not set).')
        # Clients send these keys whatever they mean.
        return None
    everywhere = body.get('all_stores', False)
    named = body.get('stores')
    _check_contradiction(everywhere, named, header)
    if everywhere:
        return _everywhere(services, image, copying)
    if named is None:
        named = [header or services.stores.default.id]
    found = list(dict.fromkeys(named))
    for store_id in found:
        _check_writable(services, store_id)
    there = located(services, image) if copying else set()
    for store_id in found:
        if store_id in there:
            raise errors.Invalid(
                f'Image {image.id} is in the store {store_id} already.')
    return found


def check_types(body: dict[str, typing.Any]) -> None:
    """:raises errors.Invalid: a key about stores is of another type"""
    for name in ('all_stores', 'all_stores_must_succeed'):
        if not isinstance(body.get(name, False), bool):
            raise errors.Invalid(f"'{name}' must be true or false.")
    named = body.get('stores', [])
    if not isinstance(named, list) or not all(
            isinstance(each, str) for each in named):
        raise errors.Invalid("'stores' must be a list of the stores' ids.")


def _check_contradiction(everywhere: bool, named: list[str] | None,
                         header: str | None) -> None:
    if everywhere and (named is not None or header):
        raise errors.Invalid(
            "'all_stores' excludes 'stores' and the header "
            'X-Image-Meta-Store.')
    if named is not None and header:
        raise errors.Invalid(
            "'stores' excludes the header X-Image-Meta-Store.")
    if named is not None and not named:
        raise errors.Invalid(
            "'stores' names no store; leave it out for the default one.")


def _everywhere(services: services.Services, image: db_images.Image,
                copying: bool) -> list[str]:
    there = located(services, image) if copying else set()
    found = [store.id for store in services.stores.all()
             if not store.read_only and store.id not in there]
    if not found:
        raise errors.Conflict(
            f'Image {image.id} is in every store already that can take it.')
    return found


def _check_writable(services: services.Services, store_id: str) -> None:
    try:
        store = services.stores.by_id(store_id)
    except stores.UnknownStore as failure:
        raise errors.Conflict(
            f'There is no store {store_id[:64]!r} here; the stores are: '
            + ', '.join(services.stores.ids)) from failure
    if store.read_only:
        raise errors.Conflict(f'The store {store_id} is read-only.')


def for_upload(services: services.Services, header: str | None
               ) -> stores.Store:
    """The store that PUT file goes to.

    :raises errors.Invalid: the header names no store of those here
    :raises errors.Gone: the store takes nothing
    """
    if header is None or not services.stores.many:
        return services.stores.default
    try:
        store = services.stores.by_id(header)
    except stores.UnknownStore as failure:
        raise errors.Invalid(
            f'X-Image-Meta-Store: there is no store {header[:64]!r} here; '
            'the stores are: ' + ', '.join(services.stores.ids)) from failure
    if store.read_only:
        raise errors.Gone(f'The store {header} is read-only.')
    return store


# -- where an image is ------------------------------------------------------

def located(services: services.Services, image: db_images.Image
            ) -> set[str]:
    """Ids of the stores that have the image."""
    found = (services.stores.id_of(location) for location in image.locations
             if location.status == states.ACTIVE)
    return {store_id for store_id in found if store_id is not None}


def readable(services: services.Services, image: db_images.Image
             ) -> list[db_images.Location]:
    """Where the data can be read from, best first."""
    return services.stores.in_order(
        location for location in image.locations
        if location.status == states.ACTIVE)


def open_best(services: services.Services, image_id: str,
              locations: collections.abc.Iterable[db_images.Location],
              offset: int = 0) -> configured.Opened:
    """The data from the first of ``locations`` that gives it.

    :param offset: in bytes, where it begins
    :raises stores.StoreError: none does; what the last said
    """
    last = stores.StoreError('the image has no data')
    for location in locations:
        try:
            return services.stores.open(location, offset)
        except stores.StoreError as failure:
            store_id = services.stores.id_of(location)
            if store_id is not None and isinstance(
                    failure, stores.StoreUnavailable):
                services.hear_store(store_id, str(failure))
            LOG.error('the data of image %s cannot be read at %s: %s',
                      image_id, urls.public(location.url), failure)
            last = failure
    raise last


def open_to_read(services: services.Services, image_id: str,
                 locations: collections.abc.Iterable[db_images.Location],
                 offset: int) -> configured.Opened:
    """The same for a user: :raises errors.Unavailable: none gives it now"""
    try:
        return open_best(services, image_id, locations, offset)
    except stores.StoreError as failure:
        raise errors.Unavailable(
            f'The data of image {image_id} cannot be read at the moment.'
        ) from failure


def read_on(image_id: str, stream: typing.BinaryIO, size: int) -> bytes:
    """The next bytes of data that comes from a store over a network.

    :raises OSError: it does not send them, which the log says in a line
    """
    try:
        return stream.read(size)
    except stores.StoreError as failure:
        trouble = str(failure)
    LOG.error('a download of image %s is cut: %s', image_id, trouble)
    raise OSError(trouble)


# -- the lists that users read ----------------------------------------------

def begin_lists(conn: sa.Connection, image_id: str,
                asked: collections.abc.Sequence[str] | None, *,
                copying: bool) -> None:
    """An import to these stores begins; None while there is one only.

    What failed before counts no longer, but for a copy to other stores.
    """
    failed = _list(conn, image_id, images.FAILED_STORES) if copying else ()
    _set(conn, image_id, images.IMPORTING_STORES, asked or ())
    _set(conn, image_id, images.FAILED_STORES, [
        each for each in failed if each not in (asked or ())])


def mark_stored(conn: sa.Connection, image_id: str, store_id: str, *,
                failed: bool) -> None:
    """A store has the image, or will not have it."""
    _set(conn, image_id, images.IMPORTING_STORES, [
        each for each in _list(conn, image_id, images.IMPORTING_STORES)
        if each != store_id])
    if failed:
        _add_failed(conn, image_id, [store_id])


def end_lists(conn: sa.Connection, image_id: str,
              failed: collections.abc.Collection[str]) -> None:
    """The import is over; in these stores the image is not."""
    _set(conn, image_id, images.IMPORTING_STORES, ())
    if failed or images.FAILED_STORES not in db_images.properties(
            conn, image_id):
        _add_failed(conn, image_id, failed)


def _add_failed(conn: sa.Connection, image_id: str,
                more: collections.abc.Iterable[str]) -> None:
    _set(conn, image_id, images.FAILED_STORES, dict.fromkeys(
        (*_list(conn, image_id, images.FAILED_STORES), *more)))


def _list(conn: sa.Connection, image_id: str, name: str) -> list[str]:
    value = db_images.properties(conn, image_id).get(name) or ''
    return [each for each in value.split(',') if each]


def _set(conn: sa.Connection, image_id: str, name: str,
         value: collections.abc.Iterable[str]) -> None:
    db_images.set_property(conn, image_id, name, ','.join(value), own=True)
