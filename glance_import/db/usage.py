"""What a project uses: bytes and images, for the quotas.

Each is one query over the project's own images, run only where a quota is
set. Touches images and their locations.
"""

from __future__ import annotations

import sqlalchemy as sa

from glance_import.db import spelling
from glance_import.db import tables
from glance_import import states

_IMAGES = tables.images.c
_LOCATIONS = tables.image_locations.c
UPLOADING = (states.SAVING, states.UPLOADING, states.IMPORTING)


def owner(conn: sa.Connection, image_id: str) -> str | None:
    """The project that owns an image; None when there is none."""
    return conn.execute(sa.select(_IMAGES.owner).where(
        _IMAGES.id == image_id)).scalar_one_or_none()


def _sum(conn: sa.Connection, query: sa.Select) -> int:
    return int(conn.execute(query).scalar_one() or 0)


def stored(conn: sa.Connection, project: str | None) -> int:
    """Bytes in stores: the size of each image, once for every location."""
    return _sum(conn, sa.select(sa.func.sum(_IMAGES.size))
                .select_from(tables.images.join(
                    tables.image_locations,
                    sa.and_(_LOCATIONS.image_id == _IMAGES.id,
                            _LOCATIONS.deleted == sa.false())))
                .where(spelling.exactly(_IMAGES.owner, project),
                       _IMAGES.deleted == sa.false()))


def arriving(conn: sa.Connection, project: str | None,
             statuses: tuple[str, ...], besides: str | None) -> int:
    """Bytes of images in ``statuses``, but for the image ``besides``."""
    return _sum(conn, sa.select(sa.func.sum(_IMAGES.size)).where(
        spelling.exactly(_IMAGES.owner, project),
        _IMAGES.deleted == sa.false(),
        _IMAGES.status.in_(statuses), _IMAGES.id != (besides or '')))


def count(conn: sa.Connection, project: str | None,
          statuses: tuple[str, ...] | None = None,
          besides: str | None = None) -> int:
    """Images of a project, those in ``statuses`` if given."""
    query = sa.select(sa.func.count()).select_from(tables.images).where(
        spelling.exactly(_IMAGES.owner, project),
        _IMAGES.deleted == sa.false(),
        _IMAGES.id != (besides or ''))
    if statuses is not None:
        query = query.where(_IMAGES.status.in_(statuses))
    return _sum(conn, query)
