"""Tells of images, members and tasks, with their records where those count.

A record is read for this alone only where somebody listens who needs it, and
behind the commit: a database that is away by then costs the message, never
the request. Touches the database, reading.
"""

from __future__ import annotations

import typing

from oslo_log import log

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import tasks as db_tasks
from glance_import.observe import events

if typing.TYPE_CHECKING:
    from glance_import.db import members as db_members
    from glance_import import services

LOG = log.getLogger(__name__)


def records(services: services.Services, image_id: str | None,
            task_id: str | None = None
            ) -> tuple[db_images.Image | None, db_tasks.Task | None]:
    """Both as they are now; None of what nobody reads, or is not there."""
    image = task = None
    if services.events.with_records:
        try:
            with services.db.read() as conn:
                if image_id is not None:
                    image = db_images.get(conn, image_id,
                                          db_images.EVERYTHING)
                if task_id is not None:
                    task = db_tasks.get(conn, task_id)
        except engine.ERRORS as failure:
            LOG.warning('nobody is notified of image %s: %s', image_id,
                        engine.one_line(failure))
    return image, task


def changed(services: services.Services, what: str, image_id: str) -> None:
    """An image was changed: told as it is now."""
    image, _task = records(services, image_id)
    if image is not None:
        services.events.tell(events.ImageChanged(what, image))


def image(services: services.Services, what: str,
          record: db_images.Image, trouble: str | None = None) -> None:
    """The same, of an image whose record is at hand."""
    services.events.tell(events.ImageChanged(what, record, trouble))


def member(services: services.Services, what: str,
           record: db_members.Member) -> None:
    """Sharing an image has changed."""
    services.events.tell(events.MemberChanged(what, record))


def accepted(services: services.Services, task_id: str) -> None:
    """An import was accepted; its row is committed."""
    _image, task = records(services, None, task_id)
    services.events.tell(events.ImportAccepted(task_id, task))
