"""The bytes of an image."""

from __future__ import annotations

import webob
from webob import exc

from glance_import.api import call
from glance_import.api.handlers import images
from glance_import.domain import errors
from glance_import.domain import states

BLOCK = 1 << 20


def get(asked: call.Call) -> webob.Response:
    """GET /v2/images/{image_id}/file; 204 while there is no data."""
    image = images.find(asked, 'download_image')
    if image.status == states.DEACTIVATED and not asked.ctx.is_admin:
        raise errors.Forbidden(
            f'Image {image.id} is deactivated: its data cannot be read.')
    locations = [location for location in image.locations
                 if location.status == 'active']
    if image.status not in (states.ACTIVE, states.DEACTIVATED) \
            or not locations:
        return call.empty(204)
    size = image.size or 0
    start, stop = _range(asked.req, size)
    stream = asked.services.store.open(locations[0].url, offset=start)
    wrap = asked.req.environ.get('wsgi.file_wrapper')
    response = webob.Response(
        content_type='application/octet-stream',
        status=206 if (start, stop) != (0, size) else 200)
    response.app_iter = (wrap(stream, BLOCK) if wrap is not None
                         and (stop == size)
                         else _Blocks(stream, stop - start))
    response.content_length = stop - start
    response.headers['Accept-Ranges'] = 'bytes'
    if response.status_int == 206:
        response.headers['Content-Range'] = (
            f'bytes {start}-{stop - 1}/{size}')
    if image.checksum:
        response.headers['Content-MD5'] = image.checksum
    return response


def _range(req: webob.Request, size: int) -> tuple[int, int]:
    """The bytes asked for as [start, stop)."""
    given = req.headers.get('Range')
    if given is None:
        return 0, size
    if ',' in given:
        raise exc.HTTPBadRequest('Only one range at a time can be read.')
    asked = req.range
    found = asked.range_for_length(size) if asked is not None else None
    if found is None:
        raise exc.HTTPRequestRangeNotSatisfiable(
            f'The image has {size} bytes; {given!r} is no range of them.',
            headers={'Content-Range': f'bytes */{size}'})
    return found


class _Blocks:
    """A bounded number of bytes of a file, block by block."""

    def __init__(self, stream, length: int) -> None:
        self._stream = stream
        self._left = length

    def __iter__(self):
        while self._left:
            block = self._stream.read(min(BLOCK, self._left))
            if not block:
                raise OSError('the image is shorter than its record says')
            self._left -= len(block)
            yield block

    def close(self) -> None:
        self._stream.close()
