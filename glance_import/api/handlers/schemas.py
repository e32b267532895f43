"""Descriptions of what this API takes and gives, for clients."""

from __future__ import annotations

import webob

from glance_import.api import call
from glance_import.api import schemas
from glance_import import errors


def show(request: call.Call) -> webob.Response:
    """GET /v2/schemas/{name}."""
    name = request.args['name']
    found = schemas.published(name, request.services.conf)
    if found is None:
        raise errors.NotFound(f'There is no schema named {name[:100]}.')
    return call.json_response(found)
