"""The outermost filter: request ids, and no answer without a clear error.

Everything a request meets is inside: an exception that nobody turned into an
answer becomes a 500 with a reference number here, and its trace goes to the
log under the same number.
"""

from __future__ import annotations

import re
import time
import typing

from oslo_context import context as oslo_context
from oslo_log import log
import webob
from webob import exc

from glance_import.api import faults
from glance_import.api.middleware import standard
from glance_import import context
from glance_import import errors
from glance_import.observe import events
from glance_import.observe import series
from glance_import import services

LOG = log.getLogger(__name__)
HEADER = 'x-openstack-request-id'
# In the environment of a request: the pattern of its path, and for the access
# log of our server (see glance_import.server), who asks, and to say nothing.
ROUTE = 'glance_import.route'
WHO = 'server.who'
QUIET = 'server.quiet'
# Paths that other filters than the router answer.
_FIXED = frozenset({'/', '/versions', '/healthcheck', '/healthcheck/live',
                    '/healthcheck/ready'})
_SAFE_ID = re.compile(r'[A-Za-z0-9_.:+/=-]+')


class RequestFilter:
    """Gives each request its id and turns what goes wrong into an answer."""

    def __init__(self, app, services: services.Services) -> None:
        self._app = app
        self._events = services.events
        self._timed = services.events.hears(events.RequestAnswered)
        self._max_id = services.conf.max_request_id_length

    def close(self) -> None:
        """The process ends: no request follows."""
        self._events.close()

    def __call__(self, environ, start_response):
        begun = time.perf_counter() if self._timed else 0.0
        status = ''
        given = environ.get('HTTP_X_OPENSTACK_REQUEST_ID')
        request_id = oslo_context.generate_request_id()
        refusal = None
        if given is not None and len(given) > self._max_id:
            refusal = exc.HTTPRequestHeaderFieldsTooLarge(
                f'The {HEADER} of the request is longer than '
                f'{self._max_id} characters.')
        elif given is not None and _SAFE_ID.fullmatch(given):
            request_id = (given if given.startswith('req-')
                          else f'req-{given}')
        environ['openstack.request_id'] = request_id
        # Nobody's yet; the identity filters say whose it is.
        environ['glance_import.context'] = context.RequestContext(
            request_id=request_id)

        def start_with_id(line, headers, exc_info=None):
            nonlocal status
            status = line
            headers.append((HEADER, request_id))
            return start_response(line, headers, exc_info)

        try:
            if refusal is not None:
                return faults.reason_first(refusal)(environ, start_with_id)
            return self._answer(environ, start_with_id, request_id)
        finally:
            # This thread serves somebody else next.
            oslo_context._request_store.context = None
            self._note(environ)
            if self._timed and status:
                self._events.tell(events.RequestAnswered(
                    environ['REQUEST_METHOD'], _route(environ),
                    int(status[:3]), time.perf_counter() - begun))

    @staticmethod
    def _note(environ) -> None:
        """What the access log of our server says beside the request."""
        if environ['PATH_INFO'].startswith(standard.READY_PATHS[0]):
            environ[QUIET] = True
        ctx = environ['glance_import.context']
        environ[WHO] = (ctx.user_id, ctx.project_id)

    def _answer(self, environ, start_response, request_id):
        try:
            return self._app(environ, start_response)
        except exc.HTTPException as refusal:
            response: typing.Any = refusal
        except errors.DomainError as failure:
            response = faults.answer(failure) or _internal(request_id)
        except Exception as failure:
            response = self._of_database(failure, request_id)
            if response is None:
                LOG.exception('unexpected error')
                response = _internal(request_id)
        return faults.reason_first(response)(environ, start_response)

    def _of_database(self, failure: Exception, request_id: str
                     ) -> webob.Response | None:
        """The answer to a failure of the database; None if it is no such."""
        if services.database_cannot_keep(failure):
            return exc.HTTPBadRequest(
                'The database of this service cannot keep a value of this '
                'request: a character that its character set lacks, such as '
                "an emoji in MySQL's utf8, or one that is too long. The "
                f'reference is {request_id}.')
        if services.database_is_away(failure):
            self._events.tell(events.DatabaseAway(
                services.one_line(failure)))
            return exc.HTTPServiceUnavailable(
                'The database of this service does not answer at the moment; '
                f'try again. The reference is {request_id}.',
                headers={'Retry-After': '5'})
        return None


def _route(environ) -> str:
    """The pattern that a path fits, never the path."""
    path = environ['PATH_INFO']
    return environ.get(ROUTE) or (path if path in _FIXED else series.OTHER)


def _internal(request_id: str) -> webob.Response:
    return exc.HTTPInternalServerError(
        'The service met an error of its own. The operator finds it in the '
        f'log by the reference {request_id}.')
