"""The whole API as one table: path -> method -> what handles it.

routes.Mapper does the matching; 404, 405 and the rules about bodies come
from the table. Behind this comes the domain, before it the filters of the
paste pipeline.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing
from urllib import parse

import routes
import webob
from webob import exc

from glance_import.api import call
from glance_import.api import faults
from glance_import.api.handlers import actions
from glance_import.api.handlers import image_data
from glance_import.api.handlers import images
from glance_import.api.handlers import imports
from glance_import.api.handlers import info
from glance_import.api.handlers import locations
from glance_import.api.handlers import members
from glance_import.api.handlers import schemas
from glance_import.api.handlers import stage
from glance_import.api.handlers import stores
from glance_import.api.handlers import tags
from glance_import.api.handlers import tasks
from glance_import import errors

if typing.TYPE_CHECKING:
    from glance_import import services

Handler = collections.abc.Callable[[call.Call], webob.Response]


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A handler, and whether its request may carry a body."""

    handler: Handler
    takes_body: bool = False


@dataclasses.dataclass(frozen=True)
class Route:
    """A path; ``import_only`` ones exist while enable_image_import is on."""

    path: str
    methods: dict[str, Endpoint]
    import_only: bool = False


ROUTES = (
    Route('/v2/images', {
        'GET': Endpoint(images.index),
        'POST': Endpoint(images.create, takes_body=True)}),
    Route('/v2/images/{image_id}', {
        'GET': Endpoint(images.show),
        'PATCH': Endpoint(images.update, takes_body=True),
        'DELETE': Endpoint(images.delete)}),
    Route('/v2/images/{image_id}/stage', {
        'PUT': Endpoint(stage.put, takes_body=True),
        'HEAD': Endpoint(stage.head),
        'PATCH': Endpoint(stage.patch, takes_body=True),
        'OPTIONS': Endpoint(stage.options),
        'DELETE': Endpoint(stage.delete)}, import_only=True),
    Route('/v2/images/{image_id}/import', {
        'POST': Endpoint(imports.post, takes_body=True),
        'DELETE': Endpoint(imports.delete)}, import_only=True),
    Route('/v2/images/{image_id}/file', {
        'GET': Endpoint(image_data.get),
        'HEAD': Endpoint(image_data.head),
        'PUT': Endpoint(image_data.put, takes_body=True)}),
    Route('/v2/images/{image_id}/actions/deactivate', {
        'POST': Endpoint(actions.deactivate)}),
    Route('/v2/images/{image_id}/actions/reactivate', {
        'POST': Endpoint(actions.reactivate)}),
    Route('/v2/images/{image_id}/tags/{tag}', {
        'PUT': Endpoint(tags.put),
        'DELETE': Endpoint(tags.delete)}),
    Route('/v2/images/{image_id}/members', {
        'GET': Endpoint(members.index),
        'POST': Endpoint(members.create, takes_body=True)}),
    Route('/v2/images/{image_id}/members/{member_id}', {
        'GET': Endpoint(members.show),
        'PUT': Endpoint(members.update, takes_body=True),
        'DELETE': Endpoint(members.delete)}),
    Route('/v2/images/{image_id}/locations', {
        'GET': Endpoint(locations.index),
        'POST': Endpoint(locations.create, takes_body=True)}),
    Route('/v2/images/{image_id}/tasks', {
        'GET': Endpoint(tasks.of_image)}),
    Route('/v2/schemas/{name}', {
        'GET': Endpoint(schemas.show)}),
    Route('/v2/info/stores', {
        'GET': Endpoint(info.stores)}),
    Route('/v2/info/stores/detail', {
        'GET': Endpoint(info.stores_detail)}),
    Route('/v2/stores/{store_id}/{image_id}', {
        'DELETE': Endpoint(stores.delete)}),
    Route('/v2/info/usage', {
        'GET': Endpoint(info.usage)}),
    Route('/v2/info/import', {
        'GET': Endpoint(info.import_methods)}, import_only=True),
    Route('/v2/tasks', {
        'GET': Endpoint(tasks.index),
        'POST': Endpoint(tasks.create, takes_body=True)}),
    Route('/v2/tasks/{task_id}', {
        'GET': Endpoint(tasks.show),
        'DELETE': Endpoint(tasks.delete)}),
)

# Methods HTTP knows; any other is not a wrong method but an unknown one.
KNOWN_METHODS = frozenset({
    'GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE',
    'CONNECT'})


class Router:
    """The WSGI application behind the filters."""

    def __init__(self, services: services.Services) -> None:
        self._services = services
        self._mapper = routes.Mapper()
        for index, route in enumerate(ROUTES):
            self._mapper.connect(None, route.path, index=str(index))
        self._mapper.create_regs()

    def __call__(self, environ, start_response):
        # Not webob.dec.wsgify: on a method it makes itself and a response
        # anew for each request.
        try:
            answer: typing.Any = self._answer(webob.Request(environ))
        except exc.HTTPException as refusal:
            answer = refusal
        return answer(environ, start_response)

    def _answer(self, req: webob.Request) -> webob.Response:
        route, args = self._match(req)
        if route.import_only and not self._services.conf.enable_image_import:
            raise exc.HTTPNotFound(
                'Image import is not supported at this site.')
        endpoint = self._endpoint(route, req)
        asked = call.Call(self._services,
                          req.environ['glance_import.context'], req, args)
        if not endpoint.takes_body and asked.has_body():
            raise exc.HTTPBadRequest(
                'This request does not take a body.')
        try:
            return endpoint.handler(asked)
        except errors.DomainError as failure:
            answer = faults.answer(failure)
            if answer is None:
                raise
            raise answer from failure

    def _match(self, req: webob.Request) -> tuple[Route, dict[str, str]]:
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
        route = ROUTES[int(found.pop('index'))]
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
    def _endpoint(route: Route, req: webob.Request) -> Endpoint:
        if req.method not in KNOWN_METHODS:
            raise exc.HTTPNotImplemented(
                f'The method {req.method} is not known.')
        endpoint = route.methods.get(req.method)
        if endpoint is None:
            raise exc.HTTPMethodNotAllowed(
                f'The method {req.method} is not allowed for this resource.',
                headers={'Allow': ', '.join(sorted(route.methods))})
        return endpoint
