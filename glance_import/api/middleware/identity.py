"""Who asks: one identity filter a flavor, then the context they all fill.

``noauth`` is one local user with every role; ``fakeauth``, for tests, takes
user, project and roles from the token itself. Both answer this machine only,
unless the operator says otherwise. ``keystone`` is keystonemiddleware's.
"""

from __future__ import annotations

import typing
from urllib import parse

from webob import exc

from glance_import.api.middleware import browsers
from glance_import.api.middleware import loopback
from glance_import import context

if typing.TYPE_CHECKING:
    from glance_import import services

# Only an identity filter may say these; a client's own are thrown away.
IDENTITY_HEADERS = (
    'HTTP_X_IDENTITY_STATUS', 'HTTP_X_USER_ID', 'HTTP_X_USER_NAME',
    'HTTP_X_USER', 'HTTP_X_PROJECT_ID', 'HTTP_X_PROJECT_NAME',
    'HTTP_X_TENANT_ID', 'HTTP_X_TENANT_NAME', 'HTTP_X_TENANT',
    'HTTP_X_ROLES', 'HTTP_X_ROLE', 'HTTP_X_SERVICE_CATALOG',
    'HTTP_X_USER_DOMAIN_ID', 'HTTP_X_USER_DOMAIN_NAME',
    'HTTP_X_PROJECT_DOMAIN_ID', 'HTTP_X_PROJECT_DOMAIN_NAME',
    'HTTP_X_DOMAIN_ID', 'HTTP_X_DOMAIN_NAME', 'HTTP_X_IS_ADMIN_PROJECT',
    'HTTP_OPENSTACK_SYSTEM_SCOPE', 'HTTP_X_SERVICE_IDENTITY_STATUS',
    'HTTP_X_SERVICE_ROLES', 'HTTP_X_SERVICE_TOKEN',
    'HTTP_X_SERVICE_USER_ID', 'HTTP_X_SERVICE_USER_NAME',
    'HTTP_X_SERVICE_USER_DOMAIN_ID', 'HTTP_X_SERVICE_USER_DOMAIN_NAME',
    'HTTP_X_SERVICE_DOMAIN_ID', 'HTTP_X_SERVICE_DOMAIN_NAME',
    'HTTP_X_SERVICE_PROJECT_ID', 'HTTP_X_SERVICE_PROJECT_NAME',
    'HTTP_X_SERVICE_PROJECT_DOMAIN_ID', 'HTTP_X_SERVICE_PROJECT_DOMAIN_NAME')

LOCAL_USER = 'local'
LOCAL_PROJECT = 'local'
LOCAL_ROLES = 'admin,member,reader'


class LocalFilter:
    """Identity without Keystone.

    Refuses whoever is not on this machine, and web pages on it.
    """

    def __init__(self, app, services: services.Services,
                 identify: typing.Callable[[dict], tuple[str, str, str] | None]
                 ) -> None:
        self._app = app
        self._identify = identify
        self._remote_too = services.conf.paste_deploy.allow_remote_noauth
        self._guard = browsers.Guard(services.conf)

    def __call__(self, environ, start_response):
        if not self._remote_too and not loopback.is_from_here(environ):
            raise exc.HTTPForbidden(
                'This service answers only clients on its own machine, '
                'since it runs without Keystone (see [paste_deploy] flavor).')
        refusal = self._guard.refusal(environ)
        if refusal is not None:
            raise exc.HTTPForbidden(refusal)
        for name in IDENTITY_HEADERS:
            environ.pop(name, None)
        found = self._identify(environ)
        if found is not None:
            user, project, roles = found
            environ['HTTP_X_IDENTITY_STATUS'] = 'Confirmed'
            environ['HTTP_X_USER_ID'] = user
            environ['HTTP_X_PROJECT_ID'] = project
            environ['HTTP_X_ROLES'] = roles
        return self._app(environ, start_response)


def _local_user(environ: dict[str, typing.Any]) -> tuple[str, str, str]:
    return LOCAL_USER, LOCAL_PROJECT, LOCAL_ROLES


def _user_of_token(environ: dict[str, typing.Any]
                   ) -> tuple[str, str, str] | None:
    # python-glanceclient quotes what it takes for a token of Keystone's.
    parts = parse.unquote(environ.get('HTTP_X_AUTH_TOKEN', '')).split(':')
    if len(parts) != 3 or not parts[0]:
        return None
    return parts[0], parts[1], parts[2]


def noauth(app, services: services.Services) -> LocalFilter:
    """Everybody is the one local user."""
    return LocalFilter(app, services, _local_user)


def fakeauth(app, services: services.Services) -> LocalFilter:
    """X-Auth-Token: user:project:role1,role2 is believed. For tests."""
    return LocalFilter(app, services, _user_of_token)


def keystone(app, services: services.Services) -> typing.Any:
    """keystonemiddleware, on this service's own configuration."""
    # Imported where it is used: a third of the start-up time of a service
    # that has no Keystone.
    from keystonemiddleware import auth_token

    return auth_token.AuthProtocol(
        _scoped_by_user(app),
        {'oslo_config_config': services.conf,
         'delay_auth_decision': False, 'log_name': __name__})


def _scoped_by_user(app):
    """Tell the scope of the user's token, whatever came beside it.

    keystonemiddleware has one header for it, which a service token that
    comes with the request overwrites with its own.
    """
    def answer(environ, start_response):
        token = (environ.get('keystone.token_info') or {}).get('token') or {}
        environ.pop('HTTP_OPENSTACK_SYSTEM_SCOPE', None)
        if (token.get('system') or {}).get('all'):
            environ['HTTP_OPENSTACK_SYSTEM_SCOPE'] = 'all'
        return app(environ, start_response)
    return answer


class ContextFilter:
    """Makes the context that everything behind it is told of."""

    def __init__(self, app, services: services.Services) -> None:
        self._app = app
        self._policy = services.policy

    def __call__(self, environ, start_response):
        if environ.get('HTTP_X_IDENTITY_STATUS') != 'Confirmed':
            raise exc.HTTPUnauthorized(
                'This request needs a valid token in X-Auth-Token.')
        # Neither token goes any further than this.
        ctx = context.RequestContext.from_environ(
            environ, auth_token=None, service_token=None)
        ctx.is_admin = self._policy.allows(ctx, 'context_is_admin', {})
        environ['glance_import.context'] = ctx
        return self._app(environ, start_response)
