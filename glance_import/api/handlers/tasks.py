"""Tasks: what became of each import."""

from __future__ import annotations

import typing

import webob
from webob import exc

from glance_import.api import call
from glance_import.api.handlers import images
from glance_import.api import paging
from glance_import.api import views
from glance_import.domain import tasks
from glance_import import errors
from glance_import.imports import legacy
from glance_import import states

ACCESS = 'tasks_api_access'


def index(request: call.Call) -> webob.Response:
    """GET /v2/tasks."""
    services, ctx = request.services, request.ctx
    services.policy.require(ctx, ACCESS)
    services.policy.require(ctx, 'get_tasks')
    query = paging.Query(request.req)
    limit = query.limit(services.conf)
    marker = query.take('marker')
    sort_key = query.take('sort_key') or 'created_at'
    sort_dir = query.take('sort_dir') or 'desc'
    if sort_key not in tasks.SORT_KEYS:
        raise errors.Invalid(f'Invalid sort key: {sort_key[:100]}')
    if sort_dir not in ('asc', 'desc'):
        raise errors.Invalid(f'Invalid sort direction: {sort_dir[:100]}')
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
    for name, known in (('status', states.TASK), ('type', tasks.TYPES)):
        value = query.take(name)
        if value is None:
            continue
        if value not in known:
            raise errors.Invalid(
                f'Invalid {name} value {value[:100]}; it is one of: '
                + ', '.join(known))
        filters[name] = value
    return filters


def show(request: call.Call) -> webob.Response:
    """GET /v2/tasks/{task_id}."""
    services, ctx = request.services, request.ctx
    services.policy.require(ctx, ACCESS)
    services.policy.require(ctx, 'get_task')
    found = tasks.find(services, ctx, request.args['task_id'])
    return call.json_response(_views(request, [found])[0])


def _views(request: call.Call, found: list[tasks.Task]
           ) -> list[dict[str, typing.Any]]:
    running = tasks.progress(request.services, found)
    return [views.task(tasks.shown(request.services, request.ctx, each),
                       running.get(each.id)) for each in found]


def create(request: call.Call) -> webob.Response:
    """POST /v2/tasks: the older way of importing, of the type import."""
    services, ctx = request.services, request.ctx
    services.policy.require(ctx, ACCESS)
    services.policy.require(ctx, 'add_task')
    body = request.json()
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
    images.check_new(request, wanted)
    task = legacy.request(services, ctx, body['input'], wanted)
    return call.json_response(
        _views(request, [task])[0], 201,
        Location=f'{request.req.application_url}/v2/tasks/{task.id}')


def delete(request: call.Call) -> webob.Response:
    """DELETE /v2/tasks/{task_id} is never allowed: they go by their age."""
    request.services.policy.require(request.ctx, ACCESS)
    raise exc.HTTPMethodNotAllowed(
        'Tasks cannot be deleted; they expire.', headers={'Allow': 'GET'})


def of_image(request: call.Call) -> webob.Response:
    """GET /v2/images/{image_id}/tasks: those of the caller's project.

    An administrator sees all. Newest first; ``next`` is there while there
    are more.
    """
    image = images.find(request, 'get_image')
    query = paging.Query(request.req)
    limit = query.limit(request.services.conf)
    found = tasks.of_image(request.services, request.ctx, image.id,
                           limit=limit + 1, marker=query.take('marker'))
    envelope: dict[str, typing.Any] = {
        'tasks': _views(request, found[:limit])}
    if limit and len(found) > limit:
        envelope['next'] = query.link(f'/v2/images/{image.id}/tasks',
                                      found[limit - 1].id)
    return call.json_response(envelope)
