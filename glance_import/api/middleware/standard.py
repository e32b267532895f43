"""OpenStack's filters, told to read this service's configuration.

Their own paste factories would read files by a search of their own, and so
miss what --config-file and --config-dir name.
"""

from __future__ import annotations

import typing

from oslo_middleware import cors as oslo_cors
from oslo_middleware import healthcheck as oslo_healthcheck
from oslo_middleware import http_proxy_to_wsgi as oslo_proxy
from webob import exc
from webob import request
from webob import response

from glance_import.api import faults
from glance_import.api.middleware import health
from glance_import.api.middleware import loopback

if typing.TYPE_CHECKING:
    from glance_import import services


def cors(app, services: services.Services):
    """Answers browsers' preflight requests as [cors] says."""
    def answered(environ, start_response):
        # A refusal that is raised would pass by the filter, and a browser
        # asks before the request without a token.
        try:
            return app(environ, start_response)
        except exc.HTTPException as refusal:
            return faults.reason_first(refusal)(environ, start_response)

    filtered = oslo_cors.CORS(answered, services.conf)

    def either(environ, start_response):
        # Without an Origin it is not for the filter, which would make a 200
        # of any answer to OPTIONS, and takes its time.
        if 'HTTP_ORIGIN' not in environ:
            return app(environ, start_response)
        return filtered(environ, start_response)

    return either


def http_proxy_to_wsgi(app, services: services.Services):
    """Believes X-Forwarded-Proto and friends where [oslo_middleware] says."""
    filtered = oslo_proxy.HTTPProxyToWSGI(app, services.conf)
    if not services.conf.oslo_middleware.enable_proxy_headers_parsing:
        # It would do nothing, at some cost.
        return app
    return filtered


def audit(app, services: services.Services,
          given: dict[str, str]) -> typing.Any:
    """keystonemiddleware's audit filter: who did what, as CADF events.

    :param given: what the paste file says, audit_map_file say; its options
        in [audit_middleware_notifications] are those of this service's files
    """
    # Few services have it, and it takes its time.
    from keystonemiddleware import audit as keystone_audit

    return keystone_audit.AuditMiddleware(
        app, **{'service_name': 'glance', **given,
                'oslo_config_config': services.conf})


HEALTH = '/healthcheck'
READY_PATHS = (HEALTH, f'{HEALTH}/ready')
LIVE_PATH = f'{HEALTH}/live'
_PROBES = ('GET', 'HEAD', 'OPTIONS')


def healthcheck(app, services: services.Services):
    """GET /healthcheck, without a token, as [healthcheck] says.

    The same under /healthcheck/ready; /healthcheck/live looks at nothing.
    """
    with health.looking_at(services):
        # Those whom [healthcheck] does not let ask find nothing there.
        check = oslo_healthcheck.Healthcheck(exc.HTTPNotFound(),
                                             services.conf)
    conf = services.conf.healthcheck

    def either(environ, start_response):
        path = environ.get('PATH_INFO', '')
        if path != HEALTH and not path.startswith(f'{HEALTH}/'):
            return app(environ, start_response)
        if path not in (*READY_PATHS, LIVE_PATH):
            raise exc.HTTPNotFound(f'Health is told at {HEALTH}, '
                                   f'{LIVE_PATH} and {READY_PATHS[1]}.')
        if environ['REQUEST_METHOD'] not in _PROBES:
            raise exc.HTTPMethodNotAllowed(
                'Health can only be asked for.',
                headers={'Allow': ', '.join(_PROBES)})
        if path == LIVE_PATH:
            return response.Response(text='OK\n',
                                     content_type='text/plain')(
                environ, start_response)
        answer = request.Request(environ).get_response(check)
        # What is wrong is this machine's business, unless it is told on
        # purpose.
        if not conf.detailed and not loopback.is_from_here(environ):
            answer.text = ''
        return answer(environ, start_response)

    return either
