"""Discovery: what this service offers."""

from __future__ import annotations

import typing

import webob

from glance_import.api import call
from glance_import.domain import quotas
from glance_import import errors


# How long each store is waited for when its state is asked for.
SECONDS = 5


def import_methods(request: call.Call) -> webob.Response:
    """GET /v2/info/import."""
    return call.json_response({'import-methods': {
        'description': 'Import methods available.',
        'type': 'array',
        'value': list(request.services.methods),
    }})


def stores(request: call.Call) -> webob.Response:
    """GET /v2/info/stores, which tells whether there are several."""
    return call.json_response({'stores': _stores(request)})


def stores_detail(request: call.Call) -> webob.Response:
    """GET /v2/info/stores/detail: with types, options and whether it answers.

    ``state`` is ``up``, ``away`` (``reason`` says why) or ``unknown``.
    """
    shown = _stores(request)
    request.services.policy.require(request.ctx, 'stores_info_detail')
    request.may_wait()
    states = {store.id: (state, reason) for store, state, reason
              in request.services.stores.states(SECONDS)}
    for view in shown:
        view['state'], reason = states[view['id']]
        if reason is not None:
            view['reason'] = reason
        entry = request.services.stores.entries[view['id']]
        view |= {'type': entry.store.kind, 'weight': entry.weight,
                 'properties': entry.store.properties()}
    return call.json_response({'stores': shown})


def _stores(request: call.Call) -> list[dict[str, typing.Any]]:
    """Flags are strings, and only there when they are set.

    :raises errors.NotFound: there is one store only
    """
    configured = request.services.stores
    if not configured.many:
        raise errors.NotFound('Multi backend is not supported at this site.')
    return [{'id': store_id,
             **({'description': entry.description}
                if entry.description else {}),
             **({'default': 'true'}
                if entry.store is configured.default else {}),
             **({'read-only': 'true'} if entry.store.read_only else {})}
            for store_id, entry in configured.entries.items()]


def usage(request: call.Call) -> webob.Response:
    """GET /v2/info/usage: what the project has of what it may have."""
    return call.json_response({
        'usage': quotas.used(request.services, request.ctx)})
