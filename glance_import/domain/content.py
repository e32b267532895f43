"""What an image's bytes must be before any store has them.

The same for imports and for data that is put into an image directly. Reads
the file it is given.
"""

from __future__ import annotations

import collections.abc
import typing

from glance_import.domain import errors
from glance_import.domain import signatures
from glance_import.formats import judge

if typing.TYPE_CHECKING:
    from glance_import.db import images as db_images
    from glance_import import services

# Of these the bytes are the disk itself, so that disk_format speaks of them.
_BARE = ('bare', 'ami', 'ari', 'aki')


def check(services: services.Services, image: db_images.Image, path: str,
          stopped: collections.abc.Callable[[], bool]) -> int | None:
    """The virtual size in bytes; None when nobody can tell.

    :param stopped: asked now and then; when true, the result says nothing
    :raises errors.Invalid: the signature of the image is not one of them
    :raises errors.Unsupported: the bytes are not what the image is declared
        to be, or not safe
    :raises errors.Unavailable: they cannot be read
    """
    bare = image.container_format in _BARE
    options = judge.Options.of(services.conf)
    try:
        verdict = judge.judge(path, image.disk_format if bare else None,
                              options)
    except judge.Refused as refusal:
        raise errors.Unsupported(str(refusal)) from refusal
    except OSError as failure:
        raise errors.Unavailable(
            'The data of the image cannot be read at the moment: '
            f'{failure.strerror}.') from failure
    signatures.verify(services.conf, image.properties, path, stopped)
    return verdict.virtual_size if bare else None
