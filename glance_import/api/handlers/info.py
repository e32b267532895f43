"""Discovery: what this service offers."""

from __future__ import annotations

import webob

from glance_import.api import call


def import_methods(asked: call.Call) -> webob.Response:
    """GET /v2/info/import."""
    return call.json_response({'import-methods': {
        'description': 'Import methods available.',
        'type': 'array',
        'value': list(asked.services.methods),
    }})
