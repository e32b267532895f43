"""Builds the application: the pipeline that the paste file names.

The only place where filters meet the application. Their order, from the
outside in, is that of glance-api-paste.ini: request ids first, so that every
answer has one; health checks and CORS before anything that needs a token;
versions before authentication, since the document needs none; identity; the
context made of it; the router.
"""

from __future__ import annotations

import collections.abc
import configparser
import contextlib
import importlib.resources
import os
import typing
import uuid

from oslo_config import cfg
from paste import deploy
from paste.deploy import loadwsgi

from glance_import.api.middleware import identity
from glance_import.api.middleware import loopback
from glance_import.api.middleware import request
from glance_import.api.middleware import standard
from glance_import.api.middleware import versions
from glance_import.api import router

if typing.TYPE_CHECKING:
    from glance_import import services

PASTE_FILE = 'glance-api-paste.ini'
LOCAL_FLAVORS = (None, '', 'noauth', 'fakeauth')

# Paste hands its factories text only, so the services of a load under way
# wait here under a name of their own; empty at any other time.
_loading: dict[str, services.Services] = {}


class DeployError(Exception):
    """The pipeline cannot be built; the text is one line."""


def paste_file(conf: cfg.ConfigOpts) -> str:
    """The paste file in force: named, beside the main file, or packaged.

    :raises DeployError: the named one is absent
    """
    named = conf.paste_deploy.config_file
    if named:
        path = conf.find_file(named) or (
            named if os.path.exists(named) else None)
        if path is None:
            raise DeployError(
                f'[paste_deploy] config_file = {named}: there is no such '
                'file')
        return os.path.abspath(path)
    for directory in _config_directories(conf):
        path = os.path.join(directory, PASTE_FILE)
        if os.path.exists(path):
            return os.path.abspath(path)
    found = conf.find_file(PASTE_FILE)
    if found:
        return os.path.abspath(found)
    return str(importlib.resources.files('glance_import.api') / PASTE_FILE)


def _config_directories(conf: cfg.ConfigOpts) -> list[str]:
    """Where the files came from, the last one named first."""
    directories = [os.path.dirname(os.path.abspath(path))
                   for path in conf.config_file or ()]
    directories += list(conf.config_dirs or ())
    return directories[::-1]


def load(services: services.Services):
    """The WSGI application of the chosen flavor.

    :raises DeployError: an unknown flavor or a paste file that is wrong
    """
    name, path = _named(services.conf)
    key = str(uuid.uuid4())
    _loading[key] = services
    try:
        with _explained(name, path):
            return deploy.loadapp(f'config:{path}', name=name,
                                  global_conf={'services': key})
    finally:
        del _loading[key]


def find(conf: cfg.ConfigOpts) -> tuple[str, str]:
    """(name, file) of the pipeline; its parts are found, none is made.

    :raises DeployError: as ``load`` does
    """
    name, path = _named(conf)
    with _explained(name, path):
        loadwsgi.loadcontext(loadwsgi.APP, f'config:{path}', name=name)
    return name, path


def _named(conf: cfg.ConfigOpts) -> tuple[str, str]:
    name = 'glance-api'
    if conf.paste_deploy.flavor:
        name += f'-{conf.paste_deploy.flavor}'
    return name, paste_file(conf)


@contextlib.contextmanager
def _explained(name: str, path: str) -> collections.abc.Iterator[None]:
    try:
        yield
    except (LookupError, configparser.Error, ImportError) as failure:
        reason = ' '.join(str(failure).split())
        raise DeployError(
            f'cannot load the pipeline {name} from {path}: {reason}'
        ) from failure


def check_exposure(conf: cfg.ConfigOpts) -> None:
    """Refuse to listen to other machines without Keystone.

    :raises DeployError: naming the options
    """
    if conf.paste_deploy.flavor not in LOCAL_FLAVORS \
            or conf.paste_deploy.allow_remote_noauth \
            or loopback.is_loopback(conf.bind_host) \
            or conf.bind_host == 'localhost':
        return
    raise DeployError(
        f'bind_host = {conf.bind_host}: the flavor '
        f"{conf.paste_deploy.flavor or 'noauth'} makes whoever connects an "
        'administrator, so it listens on loopback only; set [paste_deploy] '
        'flavor = keystone (or allow_remote_noauth = True)')


def _filter(make):
    def factory(global_conf, **local_conf):
        box = _loading[global_conf['services']]
        return lambda app: make(app, box)
    return factory


def app_factory(global_conf, **local_conf):
    """paste.app_factory: the router."""
    return router.Router(_loading[global_conf['services']])


def audit_factory(global_conf, **local_conf):
    """paste.filter_factory: the audit filter, with what the file says."""
    services = _loading[global_conf['services']]
    return lambda app: standard.audit(app, services, local_conf)


request_factory = _filter(request.RequestFilter)
versions_factory = _filter(versions.VersionFilter)
noauth_factory = _filter(identity.noauth)
fakeauth_factory = _filter(identity.fakeauth)
authtoken_factory = _filter(identity.keystone)
context_factory = _filter(identity.ContextFilter)
cors_factory = _filter(standard.cors)
http_proxy_to_wsgi_factory = _filter(standard.http_proxy_to_wsgi)
healthcheck_factory = _filter(standard.healthcheck)
