"""Inspects images in the stores by the rules of today.

Reads what is in the stores again, a sample of each image, or all of it for
plugins. Deactivates what would be refused when it is told to. Touches the
database, the stores and the staging area.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import typing

from oslo_log import log

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.domain import content
from glance_import.domain import free_space
from glance_import.domain import images
from glance_import.domain import placement
from glance_import.domain import sample
from glance_import import errors
from glance_import.plugin import chain
from glance_import.plugin import host
from glance_import.plugin import verdicts
from glance_import import staging
from glance_import.staging import formats
from glance_import import states
from glance_import.stores import base as stores
from glance_import.stores import pacing

if typing.TYPE_CHECKING:
    from glance_import import context
    from glance_import import services

LOG = log.getLogger(__name__)
_PAGE = 100
_PIECE = 1 << 20


@dataclasses.dataclass(frozen=True)
class Finding:
    """Why an image does not pass; ``refused`` is false where nobody knows.

    :ivar store: the id of the one that the data was read from
    :ivar code: a row of glance_import.imports.outcome.CODES
    """

    store: str
    reason: str
    refused: bool = True
    code: str = errors.Unsupported.code


def after(services: services.Services, status: str, last: str | None
          ) -> collections.abc.Iterator[db_images.Image]:
    """Every image of a status, by id.

    :param last: the id to go on behind; None to begin
    """
    while True:
        with services.db.read() as conn:
            found = db_images.of_status(conn, status, after=last or '',
                                        limit=_PAGE)
        yield from found
        if len(found) < _PAGE:
            return
        last = found[-1].id


def inspect_stored(services: services.Services, image: db_images.Image,
                   rate: pacing.Rate,
                   plugins: collections.abc.Sequence[chain.Plugin] = ()
                   ) -> Finding | None:
    """The first thing that is found against an image; None for nothing.

    :param plugins: inspectors to ask, beside our own judge
    """
    places = placement.readable(services, image)
    if not places:
        return Finding('none', 'it has no data', refused=False)
    doubt = None
    for place in places:
        found = _inspect_place(services, image, place, rate, plugins)
        if found is not None and found.refused:
            return found
        doubt = doubt or found
    return doubt


def _inspect_place(services: services.Services, image: db_images.Image,
                   place: db_images.Location, rate: pacing.Rate,
                   plugins: collections.abc.Sequence[chain.Plugin]
                   ) -> Finding | None:
    store_id = services.stores.id_of(place) or 'unknown'
    try:
        store = services.stores.of(place)
        size = store.size(place.url)
        with sample.of(services, store, place.url, size,
                       rate.wait) as found:
            content.check_sample(services, image, found)
        if plugins:
            return _ask(services, image, store, place.url, size, rate,
                        plugins)
    except errors.Unsupported as refusal:
        return Finding(store_id, str(refusal))
    except (stores.StoreError, staging.StagingError, errors.DomainError,
            OSError) as failure:
        return Finding(store_id, f'it cannot be read: {failure}',
                       refused=False)
    return None


def _ask(services: services.Services, image: db_images.Image,
         store: stores.Store, url: str, size: int, rate: pacing.Rate,
         plugins: collections.abc.Sequence[chain.Plugin]) -> Finding | None:
    """What inspectors say of the whole of the data."""
    free_space.require(services.area.directory, size,
                       'to have plugins look at it')
    with services.area.scratch() as copy:
        done = 0
        with contextlib.closing(store.open(url)) as stream:
            while block := stream.read(_PIECE):
                rate.wait(len(block))
                copy.write(block, done)
                done += len(block)
        records = chain.inspect(
            services.registry.isolation, plugins, chain.INSPECT,
            image=_view(image, copy.path, done), data=copy.path,
            log=lambda plugin, text: LOG.info('plugin %s: %s', plugin.label,
                                              text),
            cancelled=host.never,
            parallel=services.conf.image_import_opts.parallel_inspectors)
    against = chain.blocker(records)
    if against is None:
        return None
    return Finding(services.stores.id_of(
        db_images.Location(url, {'store': store.id})) or store.id,
        f'{against.plugin}: {against.reason}',
        refused=against.verdict != verdicts.ERROR, code='refused.plugin')


def _view(image: db_images.Image, path: str, size: int
          ) -> dict[str, typing.Any]:
    """The metadata that plugins see."""
    view = {name: getattr(image, name) for name in (
        'id', 'name', 'disk_format', 'container_format', 'virtual_size',
        'min_disk', 'min_ram', 'owner', 'visibility', 'checksum',
        'os_hash_algo', 'os_hash_value')}
    return {**view, 'size': size, 'tags': image.tags,
            'import_method': None,
            'detected_format': formats.of_file(path),
            'properties': {
                name: value or '' for name, value in image.properties.items()
                if not name.startswith(chain.RESERVED_PREFIX)}}


@engine.retried
def deactivate(services: services.Services, image_id: str, code: str,
               reason: str) -> bool:
    """active -> deactivated, with the reason; False if it is not active."""
    with services.db.write() as conn:
        if not db_images.move(conn, image_id, states.ACTIVE,
                              states.DEACTIVATED):
            return False
        images.set_error(conn, image_id, code, reason)
    LOG.warning('image %s was deactivated: %s', image_id, reason)
    return True


def check_reactivation(services: services.Services,
                       ctx: context.RequestContext,
                       image: db_images.Image) -> None:
    """What would be refused is not given back, but by an administrator.

    :raises errors.Forbidden: it would be
    :raises errors.Unavailable: nobody can tell now
    """
    if ctx.is_admin:
        return
    found = inspect_stored(services, image, pacing.Rate(None))
    if found is None:
        return
    if found.refused:
        raise errors.Forbidden(
            f'Image {image.id} is not reactivated: {found.reason} An '
            'administrator can do it all the same.')
    raise errors.Unavailable(
        f'Image {image.id} cannot be judged now, so it is not reactivated: '
        f'{found.reason}.')
