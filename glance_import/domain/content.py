"""What an image's bytes must be before any store has them.

The same for imports and for data that is put into an image directly. Reads
the file it is given.
"""

from __future__ import annotations

import typing

from glance_import.domain import errors
from glance_import.formats import judge

if typing.TYPE_CHECKING:
    from glance_import.db import images as db_images
    from glance_import import services

# Of these the bytes are the disk itself, so that disk_format speaks of them.
_BARE = ('bare', 'ami', 'ari', 'aki')


def virtual_size(services: services.Services, image: db_images.Image,
                 path: str) -> int | None:
    """Bytes that a guest will see; None when nobody can tell.

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
    return verdict.virtual_size if bare else None
