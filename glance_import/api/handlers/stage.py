"""/v2/images/{image_id}/stage: the data of an image, on its way in.

PUT sends all of it in one request. The other methods are those of tus 1.0
(core, checksum, expiration, termination), with which an upload goes in parts
and survives an interruption. An upload is made by making an image, so that
its length is always one that comes later (Upload-Defer-Length).
"""

from __future__ import annotations

import collections.abc
import datetime
import email.utils
import functools
import re

import webob
from webob import exc

from glance_import.api import body
from glance_import.api import call
from glance_import.api import digests
from glance_import.api import faults
from glance_import.api.handlers import images
from glance_import import errors
from glance_import.uploads import integrity
from glance_import.uploads import receiving
from glance_import.uploads import resumable
from glance_import.uploads import stage

SIZE_HEADER = 'x-openstack-image-size'
TUS_VERSION = '1.0.0'
EXTENSIONS = 'checksum,expiration,termination'

_WHOLE = re.compile(r'bytes 0-([0-9]{1,18})/([0-9]{1,18})', re.IGNORECASE)

Handler = collections.abc.Callable[[call.Call], webob.Response]


def put(request: call.Call) -> webob.Response:
    """Receive the body into the staging area; 204."""
    request.require_content_type('application/octet-stream')
    target = find(request, 'modify_image', stage.LIMITS)
    stage.stage(request.services, target, request.blocks(), announced(request))
    return call.empty(204)


def find(request: call.Call, rule: str, limits: tuple[str, ...]
         ) -> receiving.Target:
    """The image of the path, for data, when ``rule`` lets the caller.

    :param limits: those of the quotas that the data is to keep
    :raises errors.NotFound: absent or unseen
    :raises errors.Forbidden: seen, but the rule says no
    """
    target = receiving.find(request.services, request.ctx,
                            request.args['image_id'], limits)
    images.require(request, rule, target.image)
    return target


def announced(request: call.Call) -> stage.Announced:
    """What the headers say of the data in the body.

    :raises errors.Invalid: something that cannot be
    """
    part = request.req.headers.get('Content-Range')
    if part is not None and not _is_whole(part):
        raise errors.Invalid(
            f'A part of the data ({part[:60]}) cannot be put: send all of it '
            'in one request, or in parts by the protocol tus.')
    return stage.Announced(
        length=body_length(request), size=_number(request, SIZE_HEADER),
        digests=digests.expected(request.req.headers))


def _is_whole(content_range: str) -> bool:
    """Whether it says that the body is all there is (RFC 9110, 14.4)."""
    found = _WHOLE.fullmatch(content_range)
    return found is not None and int(found[1]) + 1 == int(found[2])


def body_length(request: call.Call) -> int | None:
    """Bytes of the body if Content-Length says so."""
    return (None if body.is_chunked(request.req.environ)
            else request.req.content_length or 0)


def _number(request: call.Call, name: str) -> int | None:
    given = request.req.headers.get(name)
    if given is None:
        return None
    # As many digits as the largest image can have.
    if not (given.isascii() and given.isdigit() and len(given) < 20):
        raise errors.Invalid(
            f'{name} must be a number of bytes, not {given[:40]!r}.')
    return int(given)


# -- tus ------------------------------------------------------------------

class HTTPChecksumMismatch(exc.HTTPClientError):
    """The protocol's own status."""

    code = 460
    title = 'Checksum Mismatch'


def _tus(handler: Handler) -> Handler:
    """What every answer of the protocol has, errors too."""
    @functools.wraps(handler)
    def wrapped(request: call.Call) -> webob.Response:
        try:
            given = request.req.headers.get('Tus-Resumable', TUS_VERSION)
            if given != TUS_VERSION:
                raise exc.HTTPPreconditionFailed(
                    f'Version {given[:40]!r} of tus is not spoken here.',
                    headers={'Tus-Version': TUS_VERSION})
            response = handler(request)
        except errors.DomainError as failure:
            answer = _fault(failure)
            answer.headers['Tus-Resumable'] = TUS_VERSION
            raise answer from failure
        except exc.WSGIHTTPException as answer:
            answer.headers['Tus-Resumable'] = TUS_VERSION
            raise
        response.headers['Tus-Resumable'] = TUS_VERSION
        return response
    return wrapped


def _fault(failure: errors.DomainError) -> exc.WSGIHTTPException:
    if isinstance(failure, integrity.DigestMismatch):
        return HTTPChecksumMismatch(str(failure))
    answer = faults.answer(failure)
    if answer is None:
        raise failure
    if isinstance(failure, receiving.InProgress):
        answer = exc.HTTPLocked(str(failure), headers={'Retry-After': '1'})
    if isinstance(failure, resumable.OffsetMismatch):
        answer.headers['Upload-Offset'] = str(failure.offset)
    return answer


@_tus
def head(request: call.Call) -> webob.Response:
    """Where the upload stands; of a queued image, at 0."""
    target = find(request, 'modify_image', resumable.LIMITS)
    position = resumable.position(request.services, target)
    response = _answer(200, position)
    response.headers['Cache-Control'] = 'no-store'
    if position.length is not None:
        response.headers['Upload-Length'] = str(position.length)
    else:
        response.headers['Upload-Defer-Length'] = '1'
    return response


@_tus
def patch(request: call.Call) -> webob.Response:
    """Add a part at the offset where the upload stands; 204."""
    request.require_content_type('application/offset+octet-stream')
    offset = _number(request, 'Upload-Offset')
    if offset is None:
        raise errors.Invalid('The header Upload-Offset is needed.')
    target = find(request, 'modify_image', resumable.LIMITS)
    checksum = digests.upload_checksum(request.req.headers)
    part = resumable.Part(
        offset, _number(request, 'Upload-Length'), body_length(request),
        (*((checksum,) if checksum is not None else ()),
         *digests.expected(request.req.headers)))
    return _answer(204, resumable.add(request.services, target,
                                      request.blocks(), part))


@_tus
def options(request: call.Call) -> webob.Response:
    """What of the protocol is spoken here."""
    response = call.empty(204)
    for name, value in (
            ('Tus-Version', TUS_VERSION), ('Tus-Extension', EXTENSIONS),
            ('Tus-Max-Size', str(request.services.conf.image_size_cap)),
            ('Tus-Checksum-Algorithm', ','.join(digests.TUS))):
        response.headers[name] = value
    return response


@_tus
def delete(request: call.Call) -> webob.Response:
    """Discard what was uploaded; the image is queued again. 204."""
    resumable.terminate(request.services, find(request, 'modify_image', ()))
    return call.empty(204)


def _answer(status: int, position: resumable.Position) -> webob.Response:
    response = call.empty(status)
    response.headers['Upload-Offset'] = str(position.offset)
    if position.expires is not None:
        response.headers['Upload-Expires'] = email.utils.format_datetime(
            position.expires.replace(tzinfo=datetime.timezone.utc),
            usegmt=True)
    return response
