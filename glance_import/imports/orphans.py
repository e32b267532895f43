"""Images that another Glance left importing, and how they become usable.

An import of ours always has a job; an image that is ``importing`` without
one was left by a Glance that served this database before, or is being
imported by one that serves it now. Nothing in the database tells the two
apart for certain, so an operator decides. Touches the database and, for
bytes that lie in this node's staging area, that.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing

import sqlalchemy as sa

from glance_import.db import images as db_images
from glance_import.db import tables
from glance_import.db import tasks as db_tasks
from glance_import.domain import images
from glance_import.domain import tasks
from glance_import import errors
from glance_import import states

if typing.TYPE_CHECKING:
    from glance_import import services

REASON = ('The import was interrupted and given up by an operator. Upload '
          'the data again.')


@dataclasses.dataclass(frozen=True, slots=True)
class Orphan:
    """An image that is importing without a job. Times are naive UTC."""

    image_id: str
    owner: str | None
    task_id: str | None
    heard: datetime.datetime | None
    staged_bytes: int | None
    staged_on: str | None


def _no_job() -> sa.ColumnElement[bool]:
    jobs = tables.import_jobs.c
    return ~sa.exists().where(jobs.image_id == tables.images.c.id)


def ids(conn: sa.Connection) -> list[str]:
    """Of every such image, the one longest without news first."""
    columns = tables.images.c
    return list(conn.execute(
        sa.select(columns.id).where(
            columns.status == states.IMPORTING,
            columns.deleted == sa.false(), _no_job())
        .order_by(columns.updated_at, columns.id)).scalars())


def find(services: services.Services) -> list[Orphan]:
    """Every such image, the one longest without news first."""
    with services.db.read() as conn:
        return [_orphan(services, conn, image_id) for image_id in ids(conn)]


def _orphan(services: services.Services, conn: sa.Connection,
            image_id: str) -> Orphan:
    image = db_images.get(conn, image_id, db_images.EVERYTHING)
    assert image is not None
    task_id = image.properties.get(images.LOCK)
    task = db_tasks.get(conn, task_id) if task_id else None
    heard = [image.updated_at, task.updated_at if task else None]
    identity = services.area.identity(image_id)
    return Orphan(
        image_id, image.owner, task_id,
        max((moment for moment in heard if moment is not None),
            default=None),
        identity.size if identity is not None else None,
        image.properties.get('os_glance_stage_host'))


def free(services: services.Services, image_id: str) -> str:
    """Queue an image that was left importing; what became of its bytes.

    A Glance that still works on it finds its lock gone and gives up.

    :raises errors.NotFound: there is no such image
    :raises errors.Conflict: it is not one that was left importing
    """
    with services.db.write() as conn:
        image = db_images.get(conn, image_id, db_images.EVERYTHING)
        if image is None:
            raise errors.no_image(image_id)
        alone = conn.execute(sa.select(tables.images.c.id).where(
            tables.images.c.id == image_id, _no_job())).first()
        if alone is None or not db_images.move(
                conn, image_id, states.IMPORTING, states.QUEUED):
            raise errors.Conflict(
                f'Image {image_id} is {image.status}'
                + ('' if alone else ' by this service')
                + ': it was not left importing by another one.')
        task_id = image.properties.get(images.LOCK)
        for name in (images.LOCK, images.IMPORTING_STORES):
            db_images.drop_property(conn, image_id, name)
        images.set_error(conn, image_id, 'lost.conductor', REASON)
        for status in (states.PENDING, states.PROCESSING):
            if task_id:
                db_tasks.move(conn, task_id, status, states.FAILURE,
                              expires_at=tasks.expiry(services),
                              message=REASON)
        # Before the commit: behind it the next upload may have begun.
        return _discard(services, image)


def _discard(services: services.Services, image: db_images.Image) -> str:
    identity = services.area.identity(image.id)
    if identity is not None:
        services.area.discard(image.id)
        return f'{identity.size} staged bytes were deleted'
    host = image.properties.get('os_glance_stage_host')
    where = f' (Glance staged them at {host})' if host else ''
    return f'no staged bytes are on this node{where}'
