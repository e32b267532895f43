"""Tags of an image, one at a time."""

from __future__ import annotations

import webob

from glance_import.api import call
from glance_import.api.handlers import images
from glance_import.domain import changes


def put(request: call.Call) -> webob.Response:
    """PUT /v2/images/{image_id}/tags/{tag}; one that is there is fine."""
    image = images.find(request, 'modify_image')
    changes.add_tag(request.services, image.id, request.args['tag'])
    return call.empty(204)


def delete(request: call.Call) -> webob.Response:
    """DELETE /v2/images/{image_id}/tags/{tag}."""
    image = images.find(request, 'modify_image')
    changes.drop_tag(request.services, image.id, request.args['tag'])
    return call.empty(204)
