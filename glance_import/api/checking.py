"""The table of checks, and those of them that are about who may ask.

Asks Keystone for a token, and about it; the rest is in ``checks``.
"""

from __future__ import annotations

from oslo_config import cfg

from glance_import.api import deploy
from glance_import import checks
from glance_import.checks import options as of_options
from glance_import.checks import places
from glance_import.checks import records

_SECTION = 'keystone_authtoken'
_SECONDS = 10


def exposure(subject: checks.Subject) -> checks.Result:
    """Only this machine is served where nobody has to say who they are."""
    conf = subject.conf
    deploy.check_exposure(conf)
    flavor = conf.paste_deploy.flavor or 'noauth'
    return checks.good(f'{conf.bind_host} port {conf.bind_port}, '
                       f'flavor {flavor}')


def pipeline(subject: checks.Subject) -> checks.Result:
    """The paste file has the pipeline, and its parts are installed."""
    name, path = deploy.find(subject.conf)
    return checks.good(f'{name} of {path}')


def keystone(subject: checks.Subject) -> checks.Result:
    """A token can be had with the section, and be validated by it."""
    if subject.conf.paste_deploy.flavor != 'keystone':
        return checks.good('not asked: the flavor is not keystone')
    return _ask_keystone(subject.conf)


def _ask_keystone(conf: cfg.ConfigOpts) -> checks.Result:
    # Imported where it is used: most of the time of a start without it.
    from keystoneauth1 import exceptions
    from keystoneauth1 import loading
    from keystoneauth1 import session as sessions
    from keystonemiddleware import opts

    try:
        for group, options in opts.list_auth_token_opts():
            conf.register_opts(options, group=group)
        loading.register_auth_conf_options(conf, _SECTION)
        auth = loading.load_auth_from_conf_options(conf, _SECTION)
        if auth is None:
            return checks.bad(f'[{_SECTION}] auth_type is not set')
        section = conf[_SECTION]
        session = sessions.Session(
            auth=auth, timeout=_SECONDS,
            verify=not section.insecure and (section.cafile or True),
            cert=(section.certfile, section.keyfile)
            if section.certfile else None)
        token = session.get_token()
        session.get(
            '/auth/tokens', headers={'X-Subject-Token': token or ''},
            endpoint_filter={'service_type': 'identity', 'version': (3, 0),
                             'interface': section.interface})
    except (exceptions.ClientException, cfg.Error) as failure:
        return checks.bad(f'[{_SECTION}] cannot be used: {failure}')
    return checks.good(f'a token was made and validated for the user of '
                       f'[{_SECTION}]')


# Those without which none of the rest can be told come first.
TABLE = (
    checks.Check('Options', of_options.options),
    checks.Check('Unknown options', of_options.unknown),
    checks.Check('Who can connect', exposure),
    checks.Check('Pipeline', pipeline),
    checks.Check('Keystone', keystone),
    checks.Check('Plugins and methods', of_options.plugins),
    checks.Check('Paths of plugins', of_options.plugin_paths),
    checks.Check('Sandbox', of_options.isolation),
    checks.Check('Programs', of_options.programs),
    checks.Check('State directory', places.state_directory),
    checks.Check('Staging', places.staging_directory),
    checks.Check('Stores', places.stores),
    checks.Check('Database', records.database),
    checks.Check('Job board', records.board),
    checks.Check('Conductor', records.conductor),
    checks.Check('Imports', records.waiting),
)
