"""Places that a user names as those of an image's data.

Only where the operator shows locations, or through the call made for it, and
only in stores that this service reads from, never a file of its own. A URL
of http is judged as a download's is. What is named is asked for its size
before anything is written, and judged as an import would. Touches stores.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import hashlib
import re
import typing
from urllib import parse

from glance_import.db import images as db_images
from glance_import.domain import content
from glance_import.domain import images
from glance_import.domain import patch
from glance_import.domain import quotas
from glance_import.domain import sample
from glance_import.domain import signatures
from glance_import.domain import source_urls
from glance_import.domain import stored_data
from glance_import import errors
from glance_import.net import urls
from glance_import import staging
from glance_import import states
from glance_import.stores import base as stores
from glance_import.stores import http
from glance_import import uuids

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import import context
    from glance_import import services

# Of a position in a list; an image never has as many locations.
MAX_DIGITS = 9

FORMATS = ('disk_format', 'container_format')
Locations = list[db_images.Location]
_UUID = re.compile(uuids.PATTERN)


@dataclasses.dataclass(frozen=True)
class KnownLocation:
    """What is known of data that a request names.

    ``size`` and ``virtual_size`` in bytes; ``formats`` are those as which it
    was judged, by attribute, None when it was not.
    """

    size: int
    digests: dict[str, str]
    virtual_size: int | None = None
    formats: dict[str, str | None] | None = None


def store_of(services: services.Services, url: str) -> stores.Store:
    """The store that has what is at a URL a user names.

    :raises errors.Invalid: none has, or the URL may not be followed
    :raises errors.Forbidden: the http store is not among those configured
    """
    scheme = url.partition('://')[0].lower()
    for store in services.stores.all():
        if store.kind != 'file' and store.accepts(url):
            if store.kind == http.KIND:
                source_urls.check(services.conf, url)
            return store
    if scheme in ('http', 'https'):
        raise errors.Forbidden(
            'Data on web servers can be named only where the http store is '
            'enabled.')
    raise errors.Invalid(
        f'No store here reads from {url[:200]!r}; a location is the URL of '
        'data in one of: ' + ', '.join(
            store.id for store in services.stores.all()
            if store.kind != 'file') + '.')


def measure(services: services.Services, url: str) -> int:
    """Bytes of what is at a URL a user names.

    :raises errors.Invalid: nothing is, or it cannot be told
    :raises errors.Unavailable: its store does not answer
    """
    store = store_of(services, url)
    with _reading(url):
        return store.size(url)


@contextlib.contextmanager
def _reading(url: str) -> collections.abc.Iterator[None]:
    """What a store or the staging area says, as an answer to a request."""
    try:
        yield
    except (stores.StoreUnavailable, staging.StagingError) as failure:
        raise errors.Unavailable(
            f'The data at {url[:200]} cannot be looked at now: {failure}.'
        ) from failure
    except stores.StoreError as failure:
        raise errors.Invalid(
            f'The data at {url[:200]} cannot be used: {failure}.'
        ) from failure


def is_judged(services: services.Services, ctx: context.RequestContext,
              image: db_images.Image) -> bool:
    """Whether what this caller names for the image is judged as it would be
    by an import.
    """
    return (services.conf.image_format.judge_data_named_by_services
            or not services.policy.allows(ctx, 'fetch_image_location',
                                          images.target(services, ctx, image)))


def _inspect(services: services.Services, image: db_images.Image, url: str,
             size: int) -> int | None:
    """The virtual size of what a PATCH names, by ranges of it.

    :raises errors.Invalid: an import would refuse it, or it is not there
    """
    with _reading(url), sample.of(
            services, store_of(services, url), url, size) as found:
        try:
            return content.check_sample(services, image, found)
        except errors.Unsupported as refusal:
            raise errors.Invalid(
                f'The data at {url[:200]} cannot be used. {refusal}'
            ) from refusal


def check_allowed(services: services.Services, image: db_images.Image
                  ) -> None:
    """Data that no plugin sees does not come in this way either.

    :raises errors.Forbidden: unless the operator says so
    :raises errors.Invalid: the image is signed
    """
    content.check_plugins(services, image.id)
    if signatures.is_signed(image.properties):
        raise errors.Invalid(
            'The image is signed, and the signature of data that is only '
            'named cannot be verified. Import the data, or remove the '
            'properties img_signature... first.')


def check_free(services: services.Services, conn: sa.Connection,
               image_id: str, url: str) -> None:
    """What another image has may be neither read nor deleted through this.

    The http store deletes nothing, and what it reads is no image's.

    :raises errors.Forbidden: the data is another image's
    """
    if store_of(services, url).kind == http.KIND:
        return
    if stored_data.is_to_be_deleted(conn, url):
        raise errors.Forbidden(
            f'The data at {url[:200]} was that of an image that is deleted, '
            'and is about to be deleted too.')
    inside = _UUID.findall(parse.unquote(url).lower())
    if db_images.owned_by_another(conn, image_id, url, inside):
        raise errors.Forbidden(
            f'The data at {url[:200]} is that of another image.')


# -- in a PATCH -------------------------------------------------------------

def prepare(services: services.Services, ctx: context.RequestContext,
            image: db_images.Image,
            operations: collections.abc.Iterable[patch.Operation]
            ) -> KnownLocation | None:
    """Judge and measure what a PATCH names, before its transaction.

    :returns: None when it names nothing new
    :raises errors.Forbidden, errors.Invalid, errors.Conflict,
        errors.TooLarge, errors.Unavailable: it cannot be
    """
    about = [each for each in operations if each.name == 'locations']
    if not about:
        return None
    if not services.conf.show_multiple_locations:
        raise errors.Forbidden(
            'The locations of an image cannot be changed here: they are '
            'not shown (show_multiple_locations).')
    _check_status(image, about)
    there = {location.url for location in image.locations}
    new = {value['url']: value for each in about for value in _values(each)
           if value['url'] not in there}
    if not new:
        return None
    check_allowed(services, image)
    # Each costs us requests to other servers.
    images.check_quota('locations', len(new),
                       services.conf.image_location_quota)
    measured = {url: measure(services, url) for url in new}
    sizes = set(measured.values())
    if image.status == states.ACTIVE and image.size is not None:
        sizes.add(image.size)
    if len(sizes) > 1:
        raise errors.Conflict(
            'All locations of an image have the same data, and these differ '
            'in size: ' + ', '.join(map(str, sorted(sizes))) + ' bytes.')
    size, = sizes
    quotas.check_import(services, image.id, size, len(new))
    digests = _digests(services, image, new.values())
    if not is_judged(services, ctx, image):
        return KnownLocation(size, digests)
    formats = {name: getattr(image, name) for name in FORMATS}
    formats.update({each.name: each.value for each in operations
                    if each.name in FORMATS})
    as_it_will_be = image._replace(**formats)
    virtual = [_inspect(services, as_it_will_be, url, size)
               for url, size in measured.items()]
    return KnownLocation(size, digests, virtual[0], formats)


def as_recorded(image: db_images.Image,
                operations: collections.abc.Sequence[patch.Operation]
                ) -> list[patch.Operation]:
    """What a PATCH says of locations, with the URLs that the image has.

    Users see them without credentials, and give them back so.
    """
    recorded = {urls.public(each.url): each.url for each in image.locations}

    def meant(value: typing.Any) -> typing.Any:
        if isinstance(value, list):
            return [meant(each) for each in value]
        if isinstance(value, dict) and 'url' in value:
            return {**value, 'url': recorded.get(value['url'],
                                                 value['url'])}
        return value
    return [dataclasses.replace(each, value=meant(each.value))
            if each.name == 'locations' else each for each in operations]


def _check_status(image: db_images.Image,
                  about: collections.abc.Iterable[patch.Operation]) -> None:
    for each in about:
        allowed = ((states.ACTIVE,) if each.op == 'remove'
                   else (states.ACTIVE, states.QUEUED))
        if image.status not in allowed:
            raise errors.Conflict(
                f'The locations of image {image.id} cannot be changed while '
                f'it is {image.status}.')


def _values(operation: patch.Operation) -> list[dict[str, typing.Any]]:
    if operation.op == 'remove':
        return []
    return (operation.value if operation.position is None
            else [operation.value])


def _digests(services: services.Services, image: db_images.Image,
             values: collections.abc.Iterable[dict[str, typing.Any]]
             ) -> dict[str, str]:
    """validation_data of all of them, which may not contradict each other.

    :raises errors.Conflict: it does, or says other than what is known
    """
    found: dict[str, str] = {}
    for value in values:
        for name, said in (value.get('validation_data') or {}).items():
            said = said.lower()
            if found.setdefault(name, said) != said:
                raise errors.Conflict(f'Conflicting values for {name}.')
    fresh = {}
    for name, said in found.items():
        known = getattr(image, name)
        if known is None:
            fresh[name] = said
        elif known != said:
            raise errors.Conflict(
                f'{name} is {known}, not {said[:130]!r}.')
    if fresh and image.status != states.QUEUED:
        raise errors.Conflict(
            'Digests can be given only while the image is queued.')
    if fresh:
        check_digests(services, fresh)
    return fresh


def check_digests(services: services.Services,
                  digests: dict[str, str]) -> None:
    """:raises errors.Conflict: they are not what this service keeps"""
    wanted = services.conf.hashing_algorithm
    if 'os_hash_value' in digests or 'os_hash_algo' in digests:
        if digests.get('os_hash_algo') != wanted:
            raise errors.Conflict(
                f'os_hash_algo must be {wanted}, not '
                f'{str(digests.get("os_hash_algo"))[:40]!r}.')
        _check_hex('os_hash_value', digests.get('os_hash_value', ''),
                   hashlib.new(wanted).digest_size)
    if 'checksum' in digests:
        _check_hex('checksum', digests['checksum'], 16)


def _check_hex(name: str, value: str, size: int) -> None:
    if not re.fullmatch(f'[0-9a-fA-F]{{{2 * size}}}', value):
        raise errors.Conflict(
            f'{name} must have {2 * size} hexadecimal digits.')


def apply(locations: Locations, operation: patch.Operation) -> Locations:
    """The list after one operation of a PATCH.

    :raises errors.Invalid: there is no such position, or it is there
    :raises errors.Forbidden: the last one would go
    """
    if operation.op == 'remove':
        number = _position(operation, len(locations) - 1)
        if len(locations) == 1:
            raise errors.Forbidden(
                'The last location of an image cannot be removed.')
        return locations[:number] + locations[number + 1:]
    if operation.position is None:
        if operation.op == 'add':
            raise errors.Invalid(
                'A location is added at a position: /locations/- or '
                '/locations/0.')
        if not operation.value:
            raise errors.Forbidden(
                'The locations of an image cannot be replaced by none.')
        return _distinct([_location(value) for value in operation.value])
    if operation.op == 'replace':
        raise errors.Invalid(
            'Locations are replaced as a whole: /locations.')
    number = _position(operation, len(locations), new=True)
    return _distinct(locations[:number] + [
        _location(operation.value)] + locations[number:])


def _position(operation: patch.Operation, last: int, *,
              new: bool = False) -> int:
    text = operation.position
    if new and text == '-':
        return last
    if text is None or not text.isascii() or not text.isdigit() \
            or len(text) > MAX_DIGITS or int(text) > last:
        raise errors.Invalid(
            f'There is no position {str(text)[:20]!r} in the locations of '
            'the image.')
    return int(text)


def _location(value: dict[str, typing.Any]) -> db_images.Location:
    return db_images.Location(value['url'], value['metadata'])


def kept(before: db_images.Location, wanted: db_images.Location
         ) -> dict[str, typing.Any]:
    """Metadata of a location that stays: its store is not the user's to say.
    """
    return {**{name: value for name, value in wanted.metadata.items()
               if name != 'store'},
            **{name: value for name, value in before.metadata.items()
               if name == 'store'}}


def _distinct(locations: Locations) -> Locations:
    if len({each.url for each in locations}) < len(locations):
        raise errors.Invalid('A location can be named only once.')
    return locations


def named(services: services.Services, location: db_images.Location
          ) -> db_images.Location:
    """A new location with the store that has it, where users know of it."""
    metadata = {name: value for name, value in location.metadata.items()
                if name != 'store'}
    if services.stores.many:
        metadata['store'] = store_of(services, location.url).id
    return db_images.Location(location.url, metadata)


# -- the call made for it ---------------------------------------------------

def check_request(services: services.Services, image: db_images.Image,
                  url: str, digests: dict[str, str]) -> None:
    """What is known at once against a location for a queued image.

    :raises errors.Conflict: the image is not queued, or has no formats
    :raises errors.Invalid, errors.Forbidden: the URL cannot be used
    """
    if image.status != states.QUEUED:
        raise errors.Conflict(
            f'Image {image.id} is {image.status}; a location is added to a '
            'queued image only.')
    images.check_formats(image, 'have data', errors.Conflict)
    check_allowed(services, image)
    with services.db.read() as conn:
        check_free(services, conn, image.id, url)
    if digests:
        check_digests(services, digests)
