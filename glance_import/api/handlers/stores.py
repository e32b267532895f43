"""/v2/stores/{store_id}/{image_id}: one copy of an image."""

from __future__ import annotations

import webob

from glance_import.api import call
from glance_import.api.handlers import images
from glance_import.domain import removal
from glance_import import errors


def delete(request: call.Call) -> webob.Response:
    """DELETE: the copy in one store goes, the image stays; 204."""
    if not request.services.stores.many:
        raise errors.NotFound('Multi backend is not supported at this site.')
    image = images.find(request, 'delete_image_location')
    if request.services.stores.are_far(image.locations):
        request.may_wait()
    removal.take_out(request.services, image, request.args['store_id'])
    return call.empty(204)
