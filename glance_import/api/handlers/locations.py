"""/v2/images/{image_id}/locations: data that lies in a store already."""

from __future__ import annotations

import typing

import webob

from glance_import.api import call
from glance_import.api.handlers import images
from glance_import.api.handlers import imports as imports_handler
from glance_import.api import schemas
from glance_import.api import views
from glance_import.domain import locations
from glance_import.imports import admission
from glance_import.imports import methods
from glance_import import states


def index(request: call.Call) -> webob.Response:
    """GET: where the data of an image is, for other services."""
    image = images.find(request, 'fetch_image_location')
    return call.json_response([
        views.place(location) for location in image.locations
        if location.status == states.ACTIVE])


def create(request: call.Call) -> webob.Response:
    """POST: give a queued image data that lies in a store; 202.

    The data is read in the background, as an import, and the image is
    active when its digests are known.
    """
    services, ctx = request.services, request.ctx
    image = images.find(request, 'add_image_location')
    wanted = request.json()
    schemas.check_new_location(wanted)
    digests: dict[str, typing.Any] = wanted.get('validation_data') or {}
    locations.check_request(services, image, wanted['url'], digests)
    method = {'name': methods.ADD_LOCATION.name, **wanted}
    if not locations.is_judged(services, ctx, image):
        method['judged'] = False
    admission.request(services, ctx, image, methods.ADD_LOCATION,
                      {'method': method}, task_type=methods.LOCATION_TASK)
    return imports_handler.accepted(request, image.id)
