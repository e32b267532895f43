"""The API as an OpenAPI description, made from the table of routes.

What each request does, takes and answers comes from ``endpoints.TABLE``,
shapes from ``schemas``. Touches nothing.
"""

from __future__ import annotations

import re

from oslo_config import cfg

from glance_import.api import endpoints
from glance_import.api import schemas

Json = endpoints.Json
_ERRORS = {
    400: 'The request is not one that means something.',
    401: 'There is no valid token.',
    403: 'Seen, but not the caller\'s to do.',
    404: 'Absent, or not to be seen by the caller.',
    409: 'The state found does not allow it.',
    413: 'Over a limit.',
    415: 'The body is of another media type.',
    431: 'A header is longer than is taken here.',
    503: 'Something this service needs is away; try again.',
}


# Besides, of those that read a body.
_BODY_ERRORS = {
    408: 'The body came too slowly.',
    411: 'The length of the body is not said.',
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
        'paths': {route.path: _path(route) for route in endpoints.TABLE},
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


def _path(route: endpoints.Route) -> Json:
    path: Json = {'parameters': [
        {'name': name, 'in': 'path', 'required': True,
         'schema': {'type': 'string'}}
        for name in re.findall(r'{(\w+)}', route.path)]}
    for endpoint in route.endpoints:
        path[endpoint.method.lower()] = _operation(endpoint)
    return path


def _operation(endpoint: endpoints.Endpoint) -> Json:
    done: Json = {'description': 'Done.' if endpoint.status < 300
                  else 'Not to be done by anybody.'}
    if endpoint.shape is not None:
        done['content'] = {endpoints.JSON: {
            'schema': {'$ref': f'#/components/schemas/{endpoint.shape}'}}}
    operation: Json = {
        'summary': endpoint.sentence,
        'responses': {str(endpoint.status): done, **{
            str(status): {'description': meaning}
            for status, meaning in {
                **_ERRORS, **(_BODY_ERRORS if endpoint.body else {}),
                **endpoint.also}.items()}},
    }
    if endpoint.rules:
        operation['description'] = ('Policy rules: '
                                    + ', '.join(endpoint.rules) + '.')
    if endpoint.body is not None:
        operation['requestBody'] = {'required': True, 'content': {
            endpoint.body.media: {'schema': endpoint.body.schema}}}
    if endpoint.query:
        operation['parameters'] = [
            {'name': name, 'in': 'query', 'schema': {'type': 'string'}}
            for name in endpoint.query]
    return operation
