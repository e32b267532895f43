"""Errors as answers: which class means which status, in one table.

The bodies are WebOb's own, as Glance's are: JSON with code, title and message
when JSON is accepted, HTML or plain text otherwise. The reason comes first in
them, since clients cut what is long.
"""

from __future__ import annotations

import typing

from webob import exc

from glance_import import errors

# The first row that fits is taken, so a subclass stands above its base.
STATUS = (
    (errors.ClientSilent, exc.HTTPRequestTimeout),
    (errors.ClientGone, exc.HTTPBadRequest),
    (errors.Invalid, exc.HTTPBadRequest),
    (errors.Forbidden, exc.HTTPForbidden),
    (errors.NotFound, exc.HTTPNotFound),
    (errors.Conflict, exc.HTTPConflict),
    (errors.Gone, exc.HTTPGone),
    (errors.TooLarge, exc.HTTPRequestEntityTooLarge),
    (errors.Unsupported, exc.HTTPUnsupportedMediaType),
    (errors.Unavailable, exc.HTTPServiceUnavailable),
)


# More than any sentence of ours: what a client sent may be part of it.
MAX_TEXT = 1000


def readable(text: str) -> str:
    """The text as an answer can have it, in any form: bounded, and UTF-8."""
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT] + '...'
    return text.encode('utf-8', 'backslashreplace').decode('utf-8')


def reason_first(refusal: typing.Any) -> typing.Any:
    """The answer with its reason alone, as Glance has it.

    WebOb would begin with a sentence about the status, of its own template
    for some: that of 415 tells the media type, also when it is the data that
    is not supported.
    """
    if getattr(refusal, 'detail', None):
        refusal.explanation, refusal.detail = refusal.detail, None
        refusal.body_template_obj = exc.WSGIHTTPException.body_template_obj
    return refusal


def answer(failure: errors.DomainError) -> exc.WSGIHTTPException | None:
    """The HTTP answer to a refusal, None when it means nothing in HTTP."""
    for kind, status in STATUS:
        if isinstance(failure, kind):
            response = status(readable(str(failure)))
            if failure.retry_after is not None:
                response.headers['Retry-After'] = str(failure.retry_after)
            return response
    return None
