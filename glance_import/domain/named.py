"""Data that is only named, for an import that leaves it where it is.

Read once for its digests and judged by what passes, or, where nobody wants
digests, judged by ranges of it alone. Touches the store and the staging area.
"""

from __future__ import annotations

import collections.abc
import contextlib
import hashlib
import typing

from glance_import.domain import content
from glance_import.domain import locations
from glance_import.domain import sample
from glance_import import errors
from glance_import import staging
from glance_import.stores import base as stores

if typing.TYPE_CHECKING:
    from glance_import.db import images as db_images
    from glance_import import services


def read(services: services.Services, image: db_images.Image, url: str,
         digests: dict[str, str], *, judged: bool, report: stores.Progress,
         stopped: stores.IsCancelled) -> tuple[stores.Stored, int | None]:
    """What is at the URL, read to its end and found to be what was said.

    Judged as an import would, by parts that are kept while it passes.

    :returns: also the virtual size in bytes, None when nobody can tell
    :raises errors.ImportFailed: it is not what was said
    :raises errors.Unsupported: an import would refuse it
    :raises stores.StoreError: it cannot be read
    :raises stores.Cancelled: ``stopped`` says so
    """
    store = locations.store_of(services, url)
    size = store.size(url)
    with _sample(services, store, url, size, judged) as found:
        stored = _hashed(services, store, url, size, digests, found,
                         report, stopped)
        if found is None:
            return stored, None
        found.passed()
        return stored, content.check_sample(services, image, found, stopped)


@contextlib.contextmanager
def _sample(services: services.Services, store: stores.Store, url: str,
            size: int, wanted: bool
            ) -> collections.abc.Iterator[sample.Sample | None]:
    if not wanted:
        yield None
        return
    try:
        with sample.of(services, store, url, size) as found:
            yield found
    except staging.StagingError as failure:
        raise errors.Unavailable(
            f'The data cannot be looked at here: {failure}.') from failure


def _hashed(services: services.Services, store: stores.Store, url: str,
            size: int, digests: dict[str, str],
            found: sample.Sample | None, report: stores.Progress,
            stopped: stores.IsCancelled) -> stores.Stored:
    conf = services.conf
    kept = hashlib.new(conf.hashing_algorithm)
    md5 = (hashlib.new('md5', usedforsecurity=False)
           if conf.legacy_checksum else None)
    done = 0
    with store.open(url) as stream:
        while block := stream.read(1 << 20):
            if stopped():
                raise stores.Cancelled('the reading of the data was stopped')
            for digest in (kept, md5):
                if digest is not None:
                    digest.update(block)
            if found is not None and done < size:
                found.passing(done, block[:size - done])
            done += len(block)
            report(done, size)
    told = {'os_hash_algo': conf.hashing_algorithm,
            'os_hash_value': kept.hexdigest()}
    if done != size or any(
            told[name] != value.lower() for name, value in digests.items()):
        raise errors.ImportFailed(
            'The data at the location is not what was said of it: '
            f'{done} bytes, {conf.hashing_algorithm} {kept.hexdigest()}.',
            code='refused.digest')
    return stores.Stored(
        url, size, md5.hexdigest() if md5 else None,
        told['os_hash_algo'], told['os_hash_value'],
        _metadata(services, store))


def believe(services: services.Services, image: db_images.Image, url: str,
            digests: dict[str,
                          str], *, judged: bool, stopped: stores.IsCancelled
            ) -> tuple[stores.Stored, int | None]:
    """The same without reading it all: only for the judge, and in ranges.

    :raises errors.Unsupported: an import would refuse it
    :raises stores.StoreError: it cannot be had
    """
    store = locations.store_of(services, url)
    size = store.size(url)
    virtual_size = None
    with _sample(services, store, url, size, judged) as found:
        if found is not None:
            virtual_size = content.check_sample(services, image, found,
                                                stopped)
    return stores.Stored(
        url, size, None, digests.get('os_hash_algo', ''),
        digests.get('os_hash_value', '').lower(),
        _metadata(services, store)), virtual_size


def _metadata(services: services.Services, store: stores.Store
              ) -> dict[str, str]:
    return {'store': store.id} if services.stores.many else {}
