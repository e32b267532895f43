"""Tasks as users read them."""

from __future__ import annotations

import collections.abc
import datetime
import typing

from glance_import import context
from glance_import.db import engine
from glance_import.db import jobs as db_jobs
from glance_import.db import tasks as db_tasks
from glance_import.domain import errors

if typing.TYPE_CHECKING:
    from glance_import import services

TYPES = ('import', 'api_image_import', 'location_import')
STATUSES = ('pending', 'processing', 'success', 'failure')
SORT_KEYS = ('id', 'type', 'status', 'created_at', 'updated_at')


def expiry(services: services.Services) -> datetime.datetime:
    """When a task that ends now is forgotten (naive UTC)."""
    return engine.utcnow() + datetime.timedelta(
        hours=services.conf.task.task_time_to_live)


def owner_filter(ctx: context.RequestContext) -> str | None:
    """Whose tasks the caller sees: an administrator everybody's."""
    return None if ctx.is_admin else ctx.project_id or ''


def find(services: services.Services, ctx: context.RequestContext,
         task_id: str) -> db_tasks.Task:
    """The task, when it is there and the caller may see it.

    :raises errors.NotFound: absent, or somebody else's
    """
    with services.db.read() as conn:
        task = db_tasks.get(conn, task_id, owner_filter(ctx))
    if task is None:
        raise errors.NotFound(f'No task found with ID {task_id}')
    return task


def page(services: services.Services, ctx: context.RequestContext, *,
         filters: dict[str, str], sort_key: str, sort_dir: str, limit: int,
         marker: str | None) -> list[db_tasks.Task]:
    """A page of the tasks the caller may see.

    :raises errors.Invalid: an unknown marker
    """
    owner = owner_filter(ctx)
    with services.db.read() as conn:
        after = None
        if marker is not None:
            after = db_tasks.get(conn, marker, owner)
            if after is None:
                raise errors.Invalid(
                    f'The marker {marker} is not a task of this list.')
        return db_tasks.page(conn, owner=owner, filters=filters,
                             sort_key=sort_key, sort_dir=sort_dir,
                             limit=limit, after=after)


def progress(services: services.Services,
             found: collections.abc.Iterable[db_tasks.Task]
             ) -> dict[str, db_jobs.Progress]:
    """How far those of the tasks are that run now, by id."""
    ids = [task.id for task in found if task.status == 'processing']
    if not ids:
        return {}
    with services.db.read() as conn:
        return db_jobs.progress(conn, ids)


def of_image(services: services.Services,
             image_id: str) -> list[db_tasks.Task]:
    """Every task of one image, newest first."""
    with services.db.read() as conn:
        return db_tasks.of_image(conn, image_id)
