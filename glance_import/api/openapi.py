"""The API as an OpenAPI description, made from the table of routes.

Paths, methods and what each does come from ``router.ROUTES`` and the
docstrings of the handlers, shapes from ``schemas``. Touches nothing.
"""

from __future__ import annotations

import inspect
import re
import typing

from oslo_config import cfg

from glance_import.api import patches
from glance_import.api import router
from glance_import.api import schemas
from glance_import import states

OCTETS = 'application/octet-stream'
Json = dict[str, typing.Any]


def _object(required: list[str], **properties: Json) -> Json:
    return {'type': 'object', 'required': required, 'properties': properties}


_TEXT: Json = {'type': 'string'}
_OPERATION = _object(['op', 'path'], op={'enum': list(patches.OPERATIONS)},
                     path={'type': 'string', 'pattern': '^/'}, value={})
# (method, end of the path) -> media type and schema of the body.
_BODIES: dict[tuple[str, str], tuple[str, Json]] = {
    ('POST', '/v2/images'): (
        'application/json', {'$ref': '#/components/schemas/image'}),
    ('PATCH', '/v2/images/{image_id}'): (
        patches.V21, {'type': 'array', 'items': _OPERATION,
                      'maxItems': patches.MAX_OPERATIONS}),
    ('PUT', '/v2/images/{image_id}/stage'): (
        OCTETS, {'type': 'string', 'format': 'binary'}),
    ('POST', '/v2/images/{image_id}/import'): (
        'application/json', _object(['method'], method=_object(
            ['name'], name=_TEXT), all_stores={'type': 'boolean'},
            all_stores_must_succeed={'type': 'boolean'},
            stores={'type': 'array', 'items': _TEXT})),
    ('POST', '/v2/images/{image_id}/locations'): (
        'application/json', _object(['url'], url=_TEXT, validation_data={
            'type': 'object'})),
    ('POST', '/v2/images/{image_id}/members'): (
        'application/json', _object(['member'], member=_TEXT)),
    ('PUT', '/v2/images/{image_id}/members/{member_id}'): (
        'application/json', _object(['status'], status={
            'enum': list(states.MEMBER)})),
    ('POST', '/v2/tasks'): (
        'application/json', _object(['type', 'input'], type=_TEXT,
                                    input={'type': 'object'})),
}
# Answers other than 200 when all is well, and their shapes.
_DONE: dict[tuple[str, str], tuple[str, str | None]] = {
    ('GET', '/v2/images'): ('200', 'images'),
    ('POST', '/v2/images'): ('201', 'image'),
    ('GET', '/v2/images/{image_id}'): ('200', 'image'),
    ('PATCH', '/v2/images/{image_id}'): ('200', 'image'),
    ('PUT', '/v2/images/{image_id}/stage'): ('204', None),
    ('POST', '/v2/images/{image_id}/import'): ('202', None),
    ('DELETE', '/v2/images/{image_id}/import'): ('202', None),
    ('POST', '/v2/images/{image_id}/locations'): ('202', None),
    ('GET', '/v2/images/{image_id}/members'): ('200', 'members'),
    ('POST', '/v2/images/{image_id}/members'): ('200', 'member'),
    ('GET', '/v2/images/{image_id}/members/{member_id}'): ('200', 'member'),
    ('PUT', '/v2/images/{image_id}/members/{member_id}'): ('200', 'member'),
    ('DELETE', '/v2/stores/{store_id}/{image_id}'): ('204', None),
    ('PUT', '/v2/images/{image_id}/tags/{tag}'): ('204', None),
    ('GET', '/v2/tasks'): ('200', 'tasks'),
    ('POST', '/v2/tasks'): ('201', 'task'),
    ('GET', '/v2/tasks/{task_id}'): ('200', 'task'),
    # Tasks are deleted by their age alone, as in Glance.
    ('DELETE', '/v2/tasks/{task_id}'): ('405', None),
    ('HEAD', '/v2/images/{image_id}/stage'): ('200', None),
    ('HEAD', '/v2/images/{image_id}/file'): ('200', None),
}
# Answers besides, where all is well too or the headers are at fault.
_DATA = {'204': 'There is no data yet.', '206': 'The range asked for.',
         '416': 'The image has no such range.'}
_UPLOAD = {'410': 'It was there when the request began.',
           '412': 'Another version of the upload protocol.',
           '460': 'The checksum of the part is another one.'}
_ALSO: dict[tuple[str, str], dict[str, str]] = {
    ('GET', '/v2/images/{image_id}/file'): _DATA,
    ('HEAD', '/v2/images/{image_id}/file'): _DATA,
    ('PUT', '/v2/images/{image_id}/file'): _UPLOAD,
    ('PUT', '/v2/images/{image_id}/stage'): _UPLOAD,
    ('PATCH', '/v2/images/{image_id}/stage'): _UPLOAD,
    ('HEAD', '/v2/images/{image_id}/stage'): _UPLOAD,
}
_QUERY = ('limit', 'marker', 'sort_key', 'sort_dir')
_IMAGE_QUERY = ('sort', 'name', 'status', 'owner', 'visibility', 'tag',
                'member_status', 'os_hidden', 'protected', 'size_min',
                'size_max', 'created_at', 'updated_at')
_QUERIES = {
    '/v2/images': _QUERY + _IMAGE_QUERY,
    '/v2/images/{image_id}/tasks': ('limit', 'marker'),
    '/v2/tasks': (*_QUERY, 'type', 'status'),
}
_ERRORS = {
    '400': 'The request is not one that means something.',
    '401': 'There is no valid token.',
    '403': 'Seen, but not the caller\'s to do.',
    '404': 'Absent, or not to be seen by the caller.',
    '409': 'The state found does not allow it.',
    '413': 'Over a limit.',
    '415': 'The body is of another media type.',
    '503': 'Something this service needs is away; try again.',
}


def describe(conf: cfg.ConfigOpts) -> Json:
    """The whole description; a client with the right token may do it all."""
    names = ('image', 'images', 'member', 'members', 'task', 'tasks')
    components = {name: _shape(schemas.published(name, conf))
                  for name in names}
    return {
        'openapi': '3.1.0',
        'info': {'title': 'Image API with interoperable import',
                 'version': 'v2'},
        'paths': {route.path: _path(route) for route in router.ROUTES},
        'components': {
            'schemas': components,
            'securitySchemes': {'token': {
                'type': 'apiKey', 'in': 'header', 'name': 'X-Auth-Token'}}},
        'security': [{'token': []}],
    }


def _shape(published: Json | None) -> Json:
    assert published is not None
    return {'type': 'object', **{
        name: value for name, value in published.items()
        if name in ('properties', 'additionalProperties')}}


def _path(route: router.Route) -> Json:
    path: Json = {'parameters': [
        {'name': name, 'in': 'path', 'required': True, 'schema': _TEXT}
        for name in re.findall(r'{(\w+)}', route.path)]}
    for method, endpoint in route.methods.items():
        path[method.lower()] = _operation(route.path, method, endpoint)
    return path


def _operation(path: str, method: str, endpoint: router.Endpoint) -> Json:
    text = inspect.getdoc(endpoint.handler) or ''
    status, shape = _DONE.get(
        (method, path), ('204' if method != 'GET' else '200', None))
    done: Json = {'description': 'Done.' if status < '300'
                  else 'Not to be done by anybody.'}
    if shape is not None:
        done['content'] = {'application/json': {
            'schema': {'$ref': f'#/components/schemas/{shape}'}}}
    operation: Json = {
        'summary': ' '.join(text.partition('\n\n')[0].split()),
        'responses': {status: done, **{
            code: {'description': meaning}
            for code, meaning in {
                **_ERRORS, **_ALSO.get((method, path), {})}.items()}},
    }
    if (method, path) in _BODIES:
        media, schema = _BODIES[method, path]
        operation['requestBody'] = {
            'required': True, 'content': {media: {'schema': schema}}}
    names = _QUERIES.get(path, ()) if method == 'GET' else ()
    if names:
        operation['parameters'] = [
            {'name': name, 'in': 'query', 'schema': _TEXT}
            for name in names]
    return operation
