"""Removes what nobody needs any more, and says so in the log.

It deletes only what it can name: expired tasks, interrupted uploads that
nobody will go on with, staged files of images whose record says that they are
not staged, what attempts that are over left in the store under their epoch,
and what the table of deletions has. A file whose upload is alive, or whose
image is not known here, is left alone.
"""

from __future__ import annotations

import collections.abc
import contextlib
import itertools
import os
import time
import typing

from oslo_log import log

from glance_import.db import conductors as db_conductors
from glance_import.db import deletions as db_deletions
from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import staging as db_staging
from glance_import.db import tasks as db_tasks
from glance_import.db import verdicts as db_verdicts
from glance_import.domain import deletions
from glance_import.domain import stored_data
from glance_import.net import urls
from glance_import import states
from glance_import.stores import base as stores
from glance_import.uploads import recovery

if typing.TYPE_CHECKING:
    from glance_import import services

LOG = log.getLogger(__name__)

# In these an image has no staged data unless a record says so.
_NOT_STAGED = (states.QUEUED, states.ACTIVE, states.DEACTIVATED,
               states.DELETED)
# In these somebody may be storing its data right now.
_AT_WORK = (states.SAVING, states.IMPORTING)
# Younger files may belong to something that is just happening.
MIN_AGE_SECONDS = 60
# How long a store is waited for when it is only looked at.
PROBE_SECONDS = 10
# Objects of a store whose locations are asked for at once.
_BATCH = 500


def clean(services: services.Services) -> None:
    """One round."""
    _clean_products(services)
    services.area.clean_scratch(MIN_AGE_SECONDS)
    _clean_stores(services)
    with services.db.write() as conn:
        expired = db_tasks.expire(conn)
        db_conductors.forget(conn)
        hours = services.conf.image_import_opts.plugin_audit_lifetime
        if hours:
            db_verdicts.expire(conn, hours * 3600.0)
    if expired:
        LOG.info('removed %d expired tasks', expired)
    _take_up_pending(services)
    deletions.retry(services)
    recovery.discard_abandoned(services)
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


def look_at_stores(services: services.Services) -> None:
    """Whether each answers; what has changed is told."""
    for store, state, reason in services.stores.states(PROBE_SECONDS):
        if state != 'unknown':
            services.hear_store(store.id, reason)


def _take_up_pending(services: services.Services) -> None:
    """Images whose data a Glance was to delete, when scrub_time is over."""
    if not services.conf.delayed_delete:
        return
    with services.db.write() as conn:
        for image_id in db_deletions.pending_images(
                conn, services.conf.scrub_time, _BATCH):
            found = stored_data.record(
                services, conn, image_id,
                db_deletions.pending_locations(conn, image_id), seconds=0)
            if not found:
                db_deletions.end_of_image(conn, image_id)


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


def _clean_stores(services: services.Services) -> None:
    """What a conductor that slept too long stored after all.

    Only under a name that holds its epoch, and only when no import of the
    image is waiting or running.
    """
    for store in services.stores.all():
        try:
            for stray in unnamed(services, store):
                _clean_stray(services, store, stray)
        except stores.StoreError as failure:
            LOG.warning('store %s is not swept: %s', store.id,
                        failure)


def unnamed(services: services.Services, store: stores.Store
            ) -> collections.abc.Iterator[stores.Stray]:
    """What is old enough and no image's location: a few of very many."""
    old = (stray for stray in store.strays()
           if time.time() - stray.mtime >= MIN_AGE_SECONDS)
    while batch := list(itertools.islice(old, _BATCH)):
        with services.db.read() as conn:
            named = {each.url for each in db_images.locations(
                conn, {stray.image_id for stray in batch})}
        yield from (stray for stray in batch if stray.uri not in named)


def _clean_stray(services: services.Services, store: stores.Store,
                 stray: stores.Stray) -> None:
    with services.db.read() as conn:
        image = db_images.get(conn, stray.image_id, db_images.EVERYTHING)
        status = db_images.status(conn, stray.image_id)
        job = db_jobs.of_image(conn, stray.image_id)
    locations = {each.url for each in image.locations} if image else set()
    if (status in (None, *_AT_WORK) or job is not None
            or stray.uri in locations):
        return
    for uri in store.sweep(stray.image_id, stray.epoch + 1, locations):
        LOG.info('removed what an attempt at image %s stored that is over: '
                 '%s', stray.image_id, urls.public(uri))
