"""What is in the stores, held against what the database says of it.

An object has to be there and of its size; read again, it has to have the
digest. What has none is never found wrong by it. Touches the database and
the stores, reading.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import hashlib
import typing

from glance_import.db import images as db_images
from glance_import.domain import stored_data
from glance_import.stores import base as stores
from glance_import.stores import pacing

if typing.TYPE_CHECKING:
    from glance_import import services

_PIECE = 1 << 20


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is wrong with one copy of an image; ``lost`` is false where it
    could not be looked at.
    """

    store: str
    reason: str
    lost: bool = True


def check(services: services.Services, image: db_images.Image,
          rate: pacing.Rate | None) -> collections.abc.Iterator[Finding]:
    """What is wrong with each copy of the image.

    :param rate: at which all of the data is read, None to read nothing
    """
    for place in image.locations:
        store_id = services.stores.id_of(place) or 'unknown'
        try:
            reason = _wrong(services, image, place, rate)
        except stores.ObjectGone as failure:
            reason = str(failure)
        except stores.StoreError as failure:
            # Nor is anything known of a location that no store here takes.
            yield Finding(store_id, str(failure), lost=False)
            continue
        # Deleted or moved away since the image was looked up: not lost.
        if reason is not None and place.url in stored_data.urls_of(
                services, image.id):
            yield Finding(store_id, reason)


def _wrong(services: services.Services, image: db_images.Image,
           place: db_images.Location, rate: pacing.Rate | None
           ) -> str | None:
    store = services.stores.of(place)
    size = services.stores.call(store, lambda: store.size(place.url))
    if size != image.size:
        return f'it has {size} bytes, and the image {image.size}'
    if rate is None:
        return None
    for algo, wanted in _digests(image):
        found = _digest(services, place, algo, rate)
        if found != wanted:
            return f'its {algo} is {found}, and that of the image {wanted}'
        return None
    return None


def _digests(image: db_images.Image
             ) -> collections.abc.Iterator[tuple[str, str]]:
    """What there is to compare by, the strongest first."""
    if image.os_hash_algo and image.os_hash_value \
            and image.os_hash_algo in hashlib.algorithms_available:
        yield image.os_hash_algo, image.os_hash_value
    if image.checksum:
        yield 'md5', image.checksum


def _digest(services: services.Services, place: db_images.Location,
            algo: str, rate: pacing.Rate) -> str:
    digest = hashlib.new(algo, usedforsecurity=False)
    with contextlib.closing(services.stores.open(place).stream) as stream:
        while block := stream.read(_PIECE):
            rate.wait(len(block))
            digest.update(block)
    return digest.hexdigest()
