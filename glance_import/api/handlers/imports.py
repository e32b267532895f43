"""POST /v2/images/{image_id}/import: staged data becomes an active image."""

from __future__ import annotations

import typing

import webob

from glance_import.api import call
from glance_import.api.handlers import images
from glance_import.domain import placement
from glance_import.domain import quotas
from glance_import import errors
from glance_import.imports import admission
from glance_import.imports import methods

STORE_HEADER = 'X-Image-Meta-Store'
# Asked while the import is accepted, so that a denial is a 403 here and not
# a task that hangs, as it was in the first Glance with imports.
TASK_RULES = ('add_task', 'get_task', 'modify_task')


def post(request: call.Call) -> webob.Response:
    """Accept an import; 202 when all of it is in the database."""
    services, ctx = request.services, request.ctx
    image = images.find(request, 'get_image')
    for rule in TASK_RULES:
        services.policy.require(ctx, rule)
    body = request.json()
    method = _method(body, services.methods)
    services.policy.require_for_image(
        ctx, method.rule, image.id,
        images.images.target(services, ctx, image))
    placement.check_types(body)
    admission.check_importable(services, ctx, image, method, body['method'])
    targets = placement.targets(
        services, image, body, request.req.headers.get(STORE_HEADER),
        copying=method.copies)
    quotas.check_import(services, image.id, image.size,
                        len(targets) if targets else 1)
    secret = None
    if method.seal is not None:
        secret = method.seal(
            services, body['method'], request.req.headers.get('X-Auth-Token'),
            request.req.headers.get('X-Service-Catalog'))
    admission.request(services, ctx, image, method, body, targets,
                      secret=secret)
    return accepted(request, image.id)


def accepted(request: call.Call, image_id: str) -> webob.Response:
    """202, and where to look how it goes."""
    response = call.empty(202)
    response.headers['Location'] = (
        f'{request.req.application_url}/v2/images/{image_id}/tasks')
    return response


def delete(request: call.Call) -> webob.Response:
    """Cancel the import of an image; 202, and it ends within seconds."""
    image = images.find(request, 'modify_image')
    admission.cancel(request.services, image)
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
            f'Unknown import method name {name[:100]!r}; the methods here '
            'are: ' + ', '.join(enabled))
    return methods.find(name)
