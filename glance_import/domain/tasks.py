"""Tasks as users read them."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import typing

from glance_import import context
from glance_import.db import engine
from glance_import.db import jobs as db_jobs
from glance_import.db import tasks as db_tasks
from glance_import import errors
from glance_import.net import urls
from glance_import import states

if typing.TYPE_CHECKING:
    from glance_import import services

# The records that callers are given.
Task = db_tasks.Task
Progress = db_jobs.Progress

TYPES = ('import', 'api_image_import', 'location_import')
# In the result of one that has ended: its steps, for operators.
STEPS = 'steps'
# What of a task's input, at any depth, says where bytes come from.
_PLACES = frozenset({'uri', 'url', 'import_from', 'loc_url', 'location'})
SORT_KEYS = ('id', 'type', 'status', 'created_at', 'updated_at')


def expiry(services: services.Services) -> datetime.datetime:
    """When a task that ends now is forgotten (naive UTC)."""
    return engine.utcnow() + datetime.timedelta(
        hours=services.conf.task.task_time_to_live)


def owner_filter(ctx: context.RequestContext) -> str | None:
    """Whose tasks the caller sees: an administrator everybody's.

    Those of nobody are an administrator's: no project is called ``-``.
    """
    return None if ctx.is_admin else ctx.project_id or '-'


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
            if after is None or filters.get(
                    'image_id', after.image_id) != after.image_id:
                raise errors.Invalid(
                    f'The marker {marker[:100]} is not a task of this list.')
        return db_tasks.page(conn, owner=owner, filters=filters,
                             sort_key=sort_key, sort_dir=sort_dir,
                             limit=limit, after=after)


def progress(services: services.Services,
             found: collections.abc.Iterable[db_tasks.Task]
             ) -> dict[str, db_jobs.Progress]:
    """How far those of the tasks are that run now, by id."""
    ids = [task.id for task in found if task.status == states.PROCESSING]
    if not ids:
        return {}
    with services.db.read() as conn:
        return db_jobs.progress(conn, ids)


def of_image(services: services.Services, ctx: context.RequestContext,
             image_id: str, *, limit: int, marker: str | None
             ) -> list[db_tasks.Task]:
    """A page of the tasks of one image that the caller may see.

    Newest first; as ``page``.
    """
    return page(services, ctx, filters={'image_id': image_id},
                sort_key='created_at', sort_dir='desc', limit=limit,
                marker=marker)


def shown(services: services.Services, ctx: context.RequestContext,
          task: db_tasks.Task) -> db_tasks.Task:
    """The task with nothing in it that a reader must not have.

    Who may see an import need not know the password or the signature by
    which its bytes were fetched, nor a property that is protected.
    """
    return dataclasses.replace(
        task, input=_open(task.input),
        result=_readable(services, ctx, _open(task.result)),
        message=urls.public_text(task.message))


def _open(value: typing.Any, name: str = '') -> typing.Any:
    if isinstance(value, dict):
        return {key: _open(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_open(item, name) for item in value]
    return (urls.public(value)
            if name in _PLACES and isinstance(value, str) else value)


def _readable(services: services.Services, ctx: context.RequestContext,
              result: typing.Any) -> typing.Any:
    """Without what is for operators alone.

    Nor what plugins said of properties that the caller may not read.
    """
    if not isinstance(result, dict):
        return result
    result = {name: value for name, value in result.items() if name != STEPS}
    if not services.protections.active:
        return result
    plugins = [
        {**each, 'properties': services.protections.readable(
            ctx, each['properties'])} if each.get('properties') else each
        for each in result.get('plugins', ())]
    return {**result, 'plugins': plugins} if plugins else result
