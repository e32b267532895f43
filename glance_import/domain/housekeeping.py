"""Removes what nobody needs any more, and says so in the log.

It deletes only what it can name: expired tasks, interrupted uploads that
nobody will go on with, and staged files of images whose record says that they
are not staged. A file whose upload is alive, or
whose image is not known here, is left alone.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing

from oslo_log import log

from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import staging as db_staging
from glance_import.db import tasks as db_tasks
from glance_import.domain import resumable
from glance_import.domain import states

if typing.TYPE_CHECKING:
    from glance_import import services

LOG = log.getLogger(__name__)

# In these an image has no staged data unless a record says so.
_NOT_STAGED = (states.QUEUED, states.ACTIVE, states.DEACTIVATED,
               states.DELETED)
# Younger files may belong to something that is just happening.
MIN_AGE_SECONDS = 60


def clean(services: services.Services) -> None:
    """One round."""
    _clean_products(services)
    with services.db.write() as conn:
        expired = db_tasks.expire(conn)
    if expired:
        LOG.info('removed %d expired tasks', expired)
    resumable.sweep(services)
    for entry in services.area.list():
        age = time.time() - entry.mtime_ns / 1e9
        if entry.live or age < MIN_AGE_SECONDS:
            continue
        with services.db.read() as conn:
            status = db_images.status(conn, entry.image_id)
            known = (db_staging.get(conn, entry.image_id) is not None
                     or db_jobs.of_image(conn, entry.image_id) is not None)
        if status in _NOT_STAGED and not known:
            services.area.discard(entry.image_id)
            LOG.info('removed %d staged bytes that image %s (%s) does not '
                     'need', entry.size, entry.image_id, status)


def _clean_products(services: services.Services) -> None:
    """What plugins made for imports that are over (a process died)."""
    for product in services.area.products():
        if time.time() - product.mtime_ns / 1e9 < MIN_AGE_SECONDS:
            continue
        with services.db.read() as conn:
            job = db_jobs.of_image(conn, product.image_id)
        if job is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(product.path)
            LOG.info('removed what a plugin had made of image %s in an '
                     'import that is over', product.image_id)
