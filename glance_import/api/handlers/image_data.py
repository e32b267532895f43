"""The bytes of an image."""

from __future__ import annotations

import collections.abc
import functools
import re
import typing

import webob
from webob import exc

from glance_import.api import call
from glance_import.api.handlers import images
from glance_import.api.handlers import imports
from glance_import.api.handlers import stage
from glance_import.domain import images as records
from glance_import.domain import placement
from glance_import import errors
from glance_import.imports import uploading
from glance_import.observe import events
from glance_import import states
from glance_import.uploads import put_data

BLOCK = 1 << 20
Start = collections.abc.Callable[[collections.abc.Callable[[], object]], None]
_LEGACY = re.compile(r'bytes ([0-9]+-([0-9]+))/([0-9]+|\*)',
                     re.IGNORECASE)
# No image has as many bytes as this number has digits.
_DIGITS = 18


def get(request: call.Call) -> webob.Response:
    """GET /v2/images/{image_id}/file; 204 while there is no data."""
    image, locations = _find(request)
    if not locations:
        return call.empty(204)
    size = image.size or 0
    start, stop = _range(request.req, size)
    if request.services.stores.are_far(locations):
        request.may_wait()
    stream, threads = placement.open_to_read(request.services, image.id,
                                             locations, start)
    whole = (start, stop) == (0, size)
    response = _response(image, stop - start)
    response.app_iter = _iterator(
        request.req, image.id, stream, stop - start, threads, whole=whole,
        told=functools.partial(_tell_sent, request, image, stop - start))
    response.content_length = stop - start
    if not whole:
        response.status_int = 206
        response.headers['Content-Range'] = (
            f'bytes {start}-{stop - 1}/{size}')
    return response


def _tell_sent(request: call.Call, image: records.Image, expected: int,
               sent: int) -> None:
    request.services.events.tell(events.DataSent(
        image, sent, expected, request.ctx.user_id, request.ctx.project_id))


def head(request: call.Call) -> webob.Response:
    """How large the data is, and with which md5; nothing is read."""
    image, locations = _find(request)
    if not locations:
        return call.empty(204)
    return _response(image, image.size or 0)


def _find(request: call.Call
          ) -> tuple[records.Image, list[records.Location]]:
    """The image, and where its data is; nowhere while it has none."""
    image = images.find(request, 'download_image')
    if image.status == states.DEACTIVATED and not request.ctx.is_admin:
        raise errors.Forbidden(
            f'Image {image.id} is deactivated: its data cannot be read.')
    if image.status not in (states.ACTIVE, states.DEACTIVATED):
        return image, []
    return image, placement.readable(request.services, image)


def _response(image: records.Image, length: int) -> webob.Response:
    response = webob.Response(content_type='application/octet-stream')
    response.content_length = length
    response.headers['Accept-Ranges'] = 'bytes'
    if image.checksum:
        response.headers['Content-MD5'] = image.checksum
    return response


def put(request: call.Call) -> webob.Response:
    """PUT /v2/images/{image_id}/file: data, and the image is active; 204."""
    request.require_content_type('application/octet-stream')
    services = request.services
    through = uploading.applies(services)
    target = stage.find(request, 'upload_image',
                        uploading.LIMITS if through else put_data.LIMITS)
    store = placement.for_upload(
        services, request.req.headers.get(imports.STORE_HEADER))
    announced = stage.announced(request)
    if through:
        uploading.save(services, request.ctx, target, request.blocks(),
                       announced, store)
    else:
        put_data.save(services, target, request.blocks(), announced, store)
    return call.empty(204)


def _range(req: webob.Request, size: int) -> tuple[int, int]:
    """The bytes of a range as [start, stop).

    Clients of Glance may also send it as a Content-Range.
    """
    given = req.headers.get('Range') or _of_client(
        req.headers.get('Content-Range', ''))
    if not given:
        return 0, size
    if ',' in given:
        raise exc.HTTPBadRequest('Only one range at a time can be read.')
    ends = _ends(given)
    found = _bytes(*ends, size) if ends is not None else None
    if found is None:
        raise exc.HTTPRequestRangeNotSatisfiable(
            f'The image has {size} bytes; {given[:80]!r} is no range of '
            'them.', headers={'Content-Range': f'bytes */{size}'})
    return found


def _of_client(content_range: str) -> str:
    """The Range that such a Content-Range stands for.

    One whose last byte is not within its own length is none (RFC 9110, 14.4).
    """
    found = _LEGACY.fullmatch(content_range)
    if not found or found[3] != '*' and _number(found[2]) >= _number(found[3]):
        return content_range
    return f'bytes={found[1]}'


def _ends(given: str) -> tuple[str, str] | None:
    """First and last of a range (RFC 9110, 14.1.2), each may be absent.

    Blanks are passed over as WebOb does.
    """
    unit, _equals, rest = given.partition('=')
    first, dash, last = (each.strip(' ') for each in rest.partition('-'))
    if unit.strip(' ').lower() != 'bytes' or not dash or not all(
            each.isascii() and each.isdigit()
            for each in (first, last) if each):
        return None
    return first, last


def _bytes(first: str, last: str, size: int) -> tuple[int, int] | None:
    """[start, stop) of a range, None when there are no such bytes."""
    if first:
        start = _number(first)
        stop = min(_number(last) + 1, size) if last else size
    else:
        # The last so many bytes; of "-" alone, none.
        start, stop = max(0, size - _number(last)), size
    return (start, stop) if start < stop else None


def _number(digits: str) -> int:
    """Of any length; past the end of every image from some length on."""
    digits = digits.lstrip('0')
    return int(digits or 0) if len(digits) <= _DIGITS else 10 ** _DIGITS


def _iterator(req: webob.Request, image_id: str, stream: typing.BinaryIO,
              length: int, threads: Start | None, *, whole: bool,
              told: collections.abc.Callable[[int], None]
              ) -> typing.Any:
    """The fastest way out that the server has.

    Our own wrapper sends any part of a file; of others not all respect
    where the file stands, so they get whole files only.

    :param threads: those that may wait for what is read
    :param told: told the bytes sent at the end; what another server's
        wrapper has sent is not known, and taken for all of them
    """
    wrap = req.environ.get('wsgi.file_wrapper')
    if threads is not None:
        return _FarBlocks(stream, length, told, threads, image_id)
    if wrap is not None and req.environ.get('glance_import.server'):
        wrapped = wrap(stream, BLOCK).app_iter_range(0, length)
        wrapped.on_close = told
        return wrapped
    if wrap is not None and whole:
        return wrap(_Closing(stream, functools.partial(told, length)), BLOCK)
    return _Blocks(stream, length, told)


class _Closing:
    """A file that tells when it is closed."""

    def __init__(self, stream: typing.BinaryIO,
                 told: collections.abc.Callable[[], None]) -> None:
        self._stream = stream
        self._told = told

    def __getattr__(self, name: str) -> typing.Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        if not self._stream.closed:
            self._stream.close()
            self._told()


class _Blocks:
    """A bounded number of bytes of a file, block by block."""

    def __init__(self, stream: typing.BinaryIO, length: int,
                 told: collections.abc.Callable[[int], None]) -> None:
        self._stream = stream
        self._left = length
        self._sent = 0
        self._told = told

    def __iter__(self) -> typing.Iterator[bytes]:
        while self._left:
            block = self._read(min(BLOCK, self._left))
            if not block:
                raise OSError('the image is shorter than its record says')
            self._left -= len(block)
            yield block
            self._sent += len(block)

    def _read(self, size: int) -> bytes:
        return self._stream.read(size)

    def close(self) -> None:
        self._stream.close()
        self._told(self._sent)


class _FarBlocks(_Blocks):
    """The same from a store over a network, whose own threads wait for it.
    """

    def __init__(self, stream: typing.BinaryIO, length: int,
                 told: collections.abc.Callable[[int], None],
                 start: Start, image_id: str) -> None:
        super().__init__(stream, length, told)
        self.start = start
        self._image_id = image_id

    def _read(self, size: int) -> bytes:
        return placement.read_on(self._image_id, self._stream, size)
