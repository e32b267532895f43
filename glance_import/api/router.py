"""Finds who handles a request, and turns a refusal into its answer.

routes.Mapper does the matching; 404, 405 and the rules about bodies come
from the table in glance_import.api.endpoints. Behind this comes the domain,
before it the filters of the paste pipeline.
"""

from __future__ import annotations

import typing
from urllib import parse

import routes
import webob
from webob import exc

from glance_import.api import call
from glance_import.api import endpoints
from glance_import.api import faults
from glance_import.api.middleware import request
from glance_import import errors
from glance_import.observe import events

if typing.TYPE_CHECKING:
    from glance_import import services

# Methods HTTP knows; any other is not a wrong method but an unknown one.
KNOWN_METHODS = frozenset({
    'GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE',
    'CONNECT'})


class Router:
    """The WSGI application behind the filters."""

    def __init__(self, services: services.Services) -> None:
        self._services = services
        self._mapper = routes.Mapper()
        for index, route in enumerate(endpoints.TABLE):
            self._mapper.connect(None, route.path, index=str(index))
        self._mapper.create_regs()

    def __call__(self, environ, start_response):
        # Not webob.dec.wsgify: on a method it makes itself and a response
        # anew for each request.
        try:
            answer: typing.Any = self._answer(webob.Request(environ))
        except exc.HTTPException as refusal:
            answer = faults.reason_first(refusal)
        return answer(environ, start_response)

    def _answer(self, req: webob.Request) -> webob.Response:
        route, args = self._match(req)
        if route.import_only and not self._services.conf.enable_image_import:
            raise exc.HTTPNotFound(
                'Image import is not supported at this site.')
        endpoint = self._endpoint(route, req)
        given = call.Call(self._services,
                          req.environ['glance_import.context'], req, args)
        if endpoint.body is None and given.has_body():
            raise exc.HTTPBadRequest(
                'This request does not take a body.')
        try:
            return endpoint.handler(given)
        except errors.DomainError as failure:
            if isinstance(failure, errors.TooLarge):
                self._services.events.tell(events.RequestRefused(
                    failure.code, str(failure), given.ctx.project_id))
            answer = faults.answer(failure)
            if answer is None:
                raise
            raise answer from failure

    def _match(self, req: webob.Request
               ) -> tuple[endpoints.Route, dict[str, str]]:
        try:
            path = req.path_info
        except UnicodeDecodeError as failure:
            raise exc.HTTPBadRequest(
                'The path of the request is not UTF-8.') from failure
        if '\0' in path:
            raise exc.HTTPBadRequest(
                'The path of the request holds a NUL character.')
        found = self._found(path)
        if found is None:
            raise exc.HTTPNotFound('The resource could not be found.')
        route = endpoints.TABLE[int(found.pop('index'))]
        # For metrics, and no secret: the path of the request may be long.
        req.environ[request.ROUTE] = route.path
        found.pop('controller', None)
        found.pop('action', None)
        return route, found

    def _found(self, path: str) -> dict[str, str] | None:
        if '\n' not in path:
            return self._mapper.match(path)
        # The patterns of Routes end in $, which fits before a newline at
        # the end too: a name would be taken for another.
        found = self._mapper.match(parse.quote(path))
        return None if found is None else {
            name: parse.unquote(value) for name, value in found.items()}

    @staticmethod
    def _endpoint(route: endpoints.Route, req: webob.Request
                  ) -> endpoints.Endpoint:
        if req.method not in KNOWN_METHODS:
            raise exc.HTTPNotImplemented(
                f'The method {req.method} is not known.')
        method: str = req.method
        if method == 'POST' and route.by_post:
            method = req.headers.get('X-HTTP-Method-Override', method)
        endpoint = route.methods.get(method)
        if endpoint is None:
            raise exc.HTTPMethodNotAllowed(
                f'The method {method[:40]} is not allowed for this resource.',
                headers={'Allow': ', '.join(sorted(route.methods))})
        return endpoint
