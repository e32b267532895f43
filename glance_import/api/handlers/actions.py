"""Taking the data of an active image away from its users, and back."""

from __future__ import annotations

import webob

from glance_import.api import call
from glance_import.api.handlers import images
from glance_import.domain import changes
from glance_import.domain import rejudging
from glance_import import states


def deactivate(request: call.Call) -> webob.Response:
    """POST /v2/images/{image_id}/actions/deactivate."""
    image = images.find(request, 'deactivate')
    changes.activate(request.services, image.id, wanted=states.DEACTIVATED)
    return call.empty(204)


def reactivate(request: call.Call) -> webob.Response:
    """POST /v2/images/{image_id}/actions/reactivate."""
    image = images.find(request, 'reactivate')
    if image.status == states.DEACTIVATED:
        rejudging.check_reactivation(request.services, request.ctx, image)
    changes.activate(request.services, image.id, wanted=states.ACTIVE)
    return call.empty(204)
