"""Tasks: what became of each import."""

from __future__ import annotations

import typing

import webob
from webob import exc

from glance_import.api import call
from glance_import.api.handlers import images
from glance_import.api import paging
from glance_import.api import views
from glance_import.domain import errors
from glance_import.domain import legacy
from glance_import.domain import tasks

ACCESS = 'tasks_api_access'


def index(asked: call.Call) -> webob.Response:
    """GET /v2/tasks."""
    services, ctx = asked.services, asked.ctx
    services.policy.require(ctx, ACCESS)
    services.policy.require(ctx, 'get_tasks')
    query = paging.Query(asked.req)
    limit = query.limit(services.conf)
    marker = query.take('marker')
    sort_key = query.take('sort_key') or 'created_at'
    sort_dir = query.take('sort_dir') or 'desc'
    if sort_key not in tasks.SORT_KEYS:
        raise errors.Invalid(f'Invalid sort key: {sort_key}')
    if sort_dir not in ('asc', 'desc'):
        raise errors.Invalid(f'Invalid sort direction: {sort_dir}')
    filters = _filters(query)
    found = tasks.page(services, ctx, filters=filters, sort_key=sort_key,
                       sort_dir=sort_dir, limit=limit, marker=marker)
    envelope: dict[str, typing.Any] = {
        'tasks': [views.task_stub(record) for record in found],
        'first': query.link('/v2/tasks'),
        'schema': '/v2/schemas/tasks',
    }
    if found and len(found) == limit:
        envelope['next'] = query.link('/v2/tasks', found[-1].id)
    return call.json_response(envelope)


def _filters(query: paging.Query) -> dict[str, str]:
    filters = {}
    for name, known in (('status', tasks.STATUSES), ('type', tasks.TYPES)):
        value = query.take(name)
        if value is None:
            continue
        if value not in known:
            raise errors.Invalid(
                f'Invalid {name} value {value}; it is one of: '
                + ', '.join(known))
        filters[name] = value
    return filters


def show(asked: call.Call) -> webob.Response:
    """GET /v2/tasks/{task_id}."""
    services, ctx = asked.services, asked.ctx
    services.policy.require(ctx, ACCESS)
    services.policy.require(ctx, 'get_task')
    found = tasks.find(services, ctx, asked.args['task_id'])
    running = tasks.progress(services, [found])
    return call.json_response(views.task(found, running.get(found.id)))


def create(asked: call.Call) -> webob.Response:
    """POST /v2/tasks: the older way of importing, of the type import."""
    services, ctx = asked.services, asked.ctx
    services.policy.require(ctx, ACCESS)
    services.policy.require(ctx, 'add_task')
    body = asked.json()
    if not isinstance(body, dict):
        raise errors.Invalid('The request body must be a JSON object.')
    for name, kind in (('type', str), ('input', dict)):
        if not isinstance(body.get(name), kind):
            raise errors.Invalid(
                f"A task needs '{name}', "
                f"{'a string' if kind is str else 'an object'}.")
    if body['type'] == 'api_image_import':
        raise errors.Invalid(
            'A task of the type api_image_import is made by POST '
            '/v2/images/{image_id}/import, not by hand.')
    if body['type'] != legacy.TASK_TYPE:
        raise errors.Invalid(
            f"Tasks of the type {body['type'][:60]} cannot be created here.")
    wanted = legacy.image_wanted(services, body['input'])
    images.check_new(asked, wanted)
    task = legacy.request(services, ctx, body['input'], wanted)
    return call.json_response(
        views.task(task), 201,
        Location=f'{asked.req.application_url}/v2/tasks/{task.id}')


def delete(asked: call.Call) -> webob.Response:
    """DELETE /v2/tasks/{task_id} is never allowed (contract 5)."""
    asked.services.policy.require(asked.ctx, ACCESS)
    raise exc.HTTPMethodNotAllowed(
        'Tasks cannot be deleted; they expire.', headers={'Allow': 'GET'})


def of_image(asked: call.Call) -> webob.Response:
    """GET /v2/images/{image_id}/tasks: for everybody who sees the image."""
    image = images.find(asked, 'get_image')
    found = tasks.of_image(asked.services, image.id)
    running = tasks.progress(asked.services, found)
    return call.json_response({'tasks': [
        views.task(record, running.get(record.id)) for record in found]})
