"""POST /v2/images/{image_id}/import: staged data becomes an active image."""

from __future__ import annotations

import typing

import webob

from glance_import.api import call
from glance_import.api.handlers import images
from glance_import.domain import errors
from glance_import.domain import imports
from glance_import.domain import methods
from glance_import.domain import quotas

# Asked while the import is accepted, so that a denial is a 403 here and not
# a task that hangs (contract 3.3).
TASK_RULES = ('add_task', 'get_task', 'modify_task')


def post(asked: call.Call) -> webob.Response:
    """Accept an import; 202 when all of it is in the database."""
    services, ctx = asked.services, asked.ctx
    body = asked.json()
    method = _method(body, services.methods)
    _check_store_keys(body)
    image = images.find(asked, method.rule)
    for rule in TASK_RULES:
        services.policy.require(ctx, rule)
    imports.check_importable(services, ctx, image, method, body['method'])
    quotas.check_import(services, image.id, image.size)
    secret = None
    if method.seal is not None:
        secret = method.seal(
            services, body['method'], asked.req.headers.get('X-Auth-Token'),
            asked.req.headers.get('X-Service-Catalog'))
    imports.request(services, ctx, image, method, body, secret)
    response = call.empty(202)
    response.headers['Location'] = (
        f'{asked.req.application_url}/v2/images/{image.id}/tasks')
    return response


def delete(asked: call.Call) -> webob.Response:
    """Cancel the import of an image; 202, and it ends within seconds."""
    image = images.find(asked, 'modify_image')
    imports.cancel(asked.services, image)
    return call.empty(202)


def _method(body: typing.Any, enabled: typing.Collection[str]
            ) -> methods.Method:
    """The method asked for.

    Nothing else of ``method`` is read for glance-direct: where the bytes are
    follows from configuration and image id alone.

    :raises errors.Invalid: missing, of the wrong type, or not enabled
    """
    if not isinstance(body, dict):
        raise errors.Invalid('The request body must be a JSON object.')
    method = body.get('method')
    if not isinstance(method, dict):
        raise errors.Invalid(
            "The request body needs 'method', an object such as "
            '{"name": "glance-direct"}.')
    name = method.get('name')
    if not isinstance(name, str):
        raise errors.Invalid("'method' needs 'name', a string.")
    if name not in enabled:
        raise errors.Invalid(
            f'Unknown import method name {name!r}; the methods here are: '
            + ', '.join(enabled))
    return methods.find(name)


def _check_store_keys(body: dict[str, typing.Any]) -> None:
    """Judge the types of what says nothing where there is one store.

    Clients send these all the same.
    """
    for name in ('all_stores', 'all_stores_must_succeed'):
        if not isinstance(body.get(name, False), bool):
            raise errors.Invalid(f"'{name}' must be true or false.")
    if not isinstance(body.get('stores', []), list):
        raise errors.Invalid("'stores' must be a list.")
