"""PUT /v2/images/{image_id}/stage: the data of an image, on its way in."""

from __future__ import annotations

import webob

from glance_import.api import call
from glance_import.api.handlers import images
from glance_import.domain import errors
from glance_import.domain import uploads

SIZE_HEADER = 'x-openstack-image-size'


def put(asked: call.Call) -> webob.Response:
    """Receive the body into the staging area; 204."""
    asked.require_content_type('application/octet-stream')
    image = images.find(asked, 'modify_image')
    uploads.stage(asked.services, image.id, asked.blocks(),
                  expected=_length(asked), announced=_announced(asked))
    return call.empty(204)


def _length(asked: call.Call) -> int | None:
    """Bytes of the body if Content-Length says so."""
    chunked = 'chunked' in asked.req.environ.get(
        'HTTP_TRANSFER_ENCODING', '').lower()
    return None if chunked else asked.req.content_length or 0


def _announced(asked: call.Call) -> int | None:
    given = asked.req.headers.get(SIZE_HEADER)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit()):
        raise errors.Invalid(
            f'{SIZE_HEADER} must be a number of bytes, not {given!r}.')
    return int(given)
