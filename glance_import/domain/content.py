"""What an image's bytes must be before any store has them.

The same for imports, for data that is put into an image directly, and for
data that is only named. Reads what it is given.
"""

from __future__ import annotations

import collections.abc
import typing

from oslo_log import log

from glance_import.domain import signatures
from glance_import import errors
from glance_import.formats import inspection
from glance_import.formats import reader

if typing.TYPE_CHECKING:
    from glance_import.db import images as db_images
    from glance_import.domain import sample
    from glance_import import services

LOG = log.getLogger(__name__)
# Of these the bytes are the disk itself, so that disk_format speaks of them.
_BARE = ('bare', 'ami', 'ari', 'aki')
# What is no disk, or one whose header is not read.
_WITHOUT_SIZE = ('ari', 'aki', 'ploop')


def check_plugins(services: services.Services, image_id: str) -> None:
    """What no plugin would see does not come in, unless the operator says.

    :raises errors.Forbidden: naming the way that is open
    """
    options = services.conf.image_import_opts
    if services.plugins and options.plugins_on_upload != 'bypass':
        raise errors.Forbidden(
            'Every image goes through plugins here, so data does not become '
            f"an image's without: use PUT /v2/images/{image_id}/stage and "
            f'POST /v2/images/{image_id}/import.')


def check(services: services.Services, image: db_images.Image, path: str,
          stopped: collections.abc.Callable[[], bool],
          warn: collections.abc.Callable[[str], None] = LOG.info
          ) -> int | None:
    """The virtual size in bytes; None when nobody can tell.

    :param stopped: asked now and then; when true, the result says nothing
    :param warn: called with each sentence of what is odd about the data
    :raises errors.Invalid: the signature of the image is not one of them
    :raises errors.Unsupported: the bytes are not what the image is declared
        to be, or not safe
    :raises errors.Unavailable: they cannot be read
    """
    try:
        with open(path, 'rb') as opened:
            size = _inspect(services, image, reader.File(opened), path,
                            stopped, warn)
    except OSError as failure:
        raise _unreadable(failure) from failure
    signatures.verify(services.conf, image.properties, path, stopped)
    return size


def check_sample(services: services.Services, image: db_images.Image,
                 found: sample.Sample,
                 stopped: collections.abc.Callable[[], bool] = lambda: False
                 ) -> int | None:
    """The same of data that stays where it is, by a sample of it.

    :raises stores.StoreError: its store does not give it
    """
    try:
        return _inspect(services, image, found, found.path, stopped, LOG.info)
    except OSError as failure:
        raise _unreadable(failure) from failure


def _inspect(services: services.Services, image: db_images.Image,
             data: reader.Reader, path: str,
             stopped: collections.abc.Callable[[], bool],
             warn: collections.abc.Callable[[str], None]) -> int | None:
    bare = image.container_format in _BARE
    try:
        verdict = inspection.inspect_data(data,
                                          image.disk_format if bare else None,
                                          inspection.Options.of(services.conf))
    except inspection.FormatRefused as refusal:
        raise errors.Unsupported(str(refusal)) from refusal
    services.adviser.check(path, (image.disk_format, verdict.format),
                           stopped)
    for each in verdict.warnings:
        warn(f'The image is taken as it is, but {each}.')
    return (verdict.virtual_size
            if bare and image.disk_format not in _WITHOUT_SIZE else None)


def _unreadable(failure: OSError) -> errors.Unavailable:
    return errors.Unavailable(
        'The data of the image cannot be read at the moment: '
        f'{failure.strerror}.')
