"""What a handler is given, and how it reads a body and answers.

Every handler is a function of one ``Call`` that returns a WebOb response or
raises: an error of the domain or one of ``webob.exc``.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import typing

import webob
from webob import exc

from glance_import.api import body
from glance_import import context
from glance_import.domain import records
from glance_import import errors

if typing.TYPE_CHECKING:
    from glance_import import services as all_services


@dataclasses.dataclass(slots=True)
class Call:
    """One request: who asks, with what, of which service."""

    services: all_services.Services
    ctx: context.RequestContext
    req: webob.Request
    args: dict[str, str]

    def blocks(self) -> collections.abc.Iterator[body.Block]:
        """The body as it comes, in blocks.

        What servers raise becomes what everybody behind a handler knows, and
        the answer (glance_import.api.faults).

        :raises errors.ClientGone: it ended before its end; 400, or 408 when
            it was waited for too long
        :raises errors.Invalid: it is not encoded as it says; 400
        """
        try:
            yield from body.blocks(self.req.environ)
        except body.LengthRequired as failure:
            raise exc.HTTPLengthRequired(str(failure)) from failure
        except body.BodyMalformed as failure:
            raise errors.Invalid(str(failure)) from failure
        except body.BodyTimeout as failure:
            raise errors.ClientSilent(str(failure)) from failure
        except body.BodyTruncated as failure:
            raise errors.ClientGone(str(failure)) from failure

    def json(self) -> typing.Any:
        """The body as JSON.

        :raises errors.Invalid: it is none, or none that can be kept
        :raises errors.TooLarge: it is larger than any record can be
        """
        return records.read(self.blocks())

    def has_body(self) -> bool:
        """Whether the client sends a body at all."""
        return bool(self.req.content_length) or body.is_chunked(
            self.req.environ)

    def may_wait(self) -> None:
        """From here on the request may wait for something slow.

        Our own server calls again in a thread that may, so nothing may have
        been done before. Others have a thread for each request.
        """
        again = self.req.environ.get('server.again')
        if again is not None:
            again()

    def media_type(self) -> str:
        """That of the body, in lower case (RFC 9110, 8.3.1)."""
        return self.req.content_type.strip().lower()

    def require_content_type(self, wanted: str) -> None:
        """:raises webob.exc.HTTPUnsupportedMediaType: it is another"""
        if self.media_type() != wanted:
            raise exc.HTTPUnsupportedMediaType(
                f'This request takes a body of the type {wanted}.')


def json_response(value: typing.Any, status: int = 200,
                  **headers: str) -> webob.Response:
    """``value`` as the body; header names with _ for -."""
    text = json.dumps(value, allow_nan=False).encode('ascii')
    # With its headers given: WebOb takes longer to find them out than JSON
    # takes to be made.
    response = webob.Response(
        app_iter=[text], status=None if status == 200 else status,
        headerlist=[('Content-Type', 'application/json'),
                    ('Content-Length', str(len(text)))])
    for name, header in headers.items():
        response.headers[name.replace('_', '-')] = header
    return response


def empty(status: int) -> webob.Response:
    """No body at all."""
    response = webob.Response(status=status)
    response.content_length = 0 if status != 204 else None
    if status == 204:
        del response.content_type
    return response
