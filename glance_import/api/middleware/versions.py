"""The versions document, and /v2.N for /v2.

Stands before authentication: the document needs no token.
"""

from __future__ import annotations

import json
import re
import typing

from oslo_config import cfg
import webob

from glance_import.conf import api as api_options

if typing.TYPE_CHECKING:
    from glance_import import services

_MINOR = re.compile(r'v2(?:\.([0-9]{1,3}))?')
_ACCEPT = re.compile(
    r'application/vnd\.openstack\.images-(v2(?:\.[0-9]{1,3})?)', re.IGNORECASE)
OLDEST_FIRST = tuple(f'v2.{minor}' for minor in range(6))
IMPORT = 'v2.6'
# Minor versions after 2.6 of which everything is built, oldest first: hidden
# images and digests, digests of locations, the tasks of an image, usage and
# appended tags of metadata definitions, locations by a call of their own.
# Those between are about several stores and caching.
COMPLETE_LATER: tuple[str, ...] = ('v2.7', 'v2.9', 'v2.12', 'v2.15', 'v2.17')
# The same where there are several stores: to import to them, to copy between
# them and delete from them, to copy what others own, to see their options.
WITH_STORES: tuple[str, ...] = ('v2.7', 'v2.8', 'v2.9', 'v2.10', 'v2.11',
                                'v2.12', 'v2.13', 'v2.15', 'v2.17')


def listed(conf: cfg.ConfigOpts) -> list[tuple[str, str]]:
    """(id, status) of the versions, newest first."""
    versions = [(name, 'SUPPORTED') for name in OLDEST_FIRST[:-1]]
    if not conf.enable_image_import:
        versions.append((OLDEST_FIRST[-1], 'CURRENT'))
    elif conf.api_versions_listed == api_options.UP_TO_EXPERIMENTAL:
        versions += [(OLDEST_FIRST[-1], 'CURRENT'), (IMPORT, 'EXPERIMENTAL')]
    else:
        later = (OLDEST_FIRST[-1], IMPORT, *(
            WITH_STORES if conf.enabled_backends else COMPLETE_LATER))
        versions += [(name, 'SUPPORTED') for name in later[:-1]]
        versions.append((later[-1], 'CURRENT'))
    return versions[::-1]


class VersionFilter:
    """Answers for the document; hands everything under /v2 on as /v2/..."""

    def __init__(self, app, services: services.Services) -> None:
        self._app = app
        self._conf = services.conf

    def __call__(self, environ, start_response):
        first, _, rest = environ.get('PATH_INFO', '').lstrip(
            '/').partition('/')
        if first == 'versions' and not rest:
            return self._document(environ, start_response, 200)
        routed = self._route(first, rest, environ)
        if routed is None:
            return self._document(environ, start_response, 300)
        if routed == '/v2':
            location = environ.get('SCRIPT_NAME', '') + '/v2/'
            return webob.Response(status=302, location=location)(
                environ, start_response)
        environ['PATH_INFO'] = routed
        return self._app(environ, start_response)

    def _route(self, first: str, rest: str, environ) -> str | None:
        """The path under /v2 that is meant, None when no version is."""
        if self._serves(first):
            bare = not rest and not environ['PATH_INFO'].endswith('/')
            return '/v2' if bare else f'/v2/{rest}'
        accepted = _ACCEPT.search(environ.get('HTTP_ACCEPT', ''))
        if accepted and first and self._serves(accepted.group(1).lower()) \
                and not re.match('v[0-9]', first):
            return f'/v2/{first}' + (f'/{rest}' if rest else '')
        return None

    def _serves(self, name: str) -> bool:
        match = _MINOR.fullmatch(name)
        if match is None:
            return False
        return match.group(1) is None or name in dict(listed(self._conf))

    def _document(self, environ, start_response, status: int):
        base = self._conf.public_endpoint
        if not base:
            base = webob.Request(environ).application_url
        href = base.rstrip('/') + '/v2/'
        document = {'versions': [
            {'id': name, 'status': state,
             'links': [{'rel': 'self', 'href': href}]}
            for name, state in listed(self._conf)]}
        response = webob.Response(
            body=json.dumps(document).encode(), status=status,
            content_type='application/json', charset='UTF-8')
        return response(environ, start_response)
