"""Discovery: what this service offers."""

from __future__ import annotations

import webob

from glance_import.api import call
from glance_import.domain import errors
from glance_import.domain import quotas


def import_methods(asked: call.Call) -> webob.Response:
    """GET /v2/info/import."""
    return call.json_response({'import-methods': {
        'description': 'Import methods available.',
        'type': 'array',
        'value': list(asked.services.methods),
    }})


def stores(asked: call.Call) -> webob.Response:
    """GET /v2/info/stores, which tells whether there are several."""
    raise errors.NotFound('Multi backend is not supported at this site.')


def usage(asked: call.Call) -> webob.Response:
    """GET /v2/info/usage: what the project has of what it may have."""
    return call.json_response({
        'usage': quotas.used(asked.services, asked.ctx)})
