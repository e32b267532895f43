"""The reserved stores: directories of the service, no stores of images."""

from __future__ import annotations

from oslo_config import cfg

PREFIX = 'os_glance_'
STAGING = 'os_glance_staging_store'
TASKS = 'os_glance_tasks_store'


def options(group: str) -> list[cfg.Opt]:
    """What the section of a reserved store holds."""
    use = {STAGING: 'Directory for staged image data, in place of '
                    'node_staging_uri: see there.',
           TASKS: 'Directory of Glance for its legacy tasks. Nothing is kept '
                  'there by this service.'}
    return [cfg.StrOpt(
        'filesystem_store_datadir', default=f'/var/lib/glance/{group}',
        help=f'{use[group]} Read while enabled_backends is set.')]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Both sections."""
    return [(group, options(group)) for group in (STAGING, TASKS)]


def staging_uri(conf: cfg.ConfigOpts) -> str:
    """Where staged data lies, as a ``file://`` URI."""
    if conf.enabled_backends:
        return f'file://{conf[STAGING].filesystem_store_datadir}'
    return conf.node_staging_uri


def staging_option(conf: cfg.ConfigOpts) -> tuple[str, str | None]:
    """(option, group) that says so."""
    if conf.enabled_backends:
        return 'filesystem_store_datadir', STAGING
    return 'node_staging_uri', None
