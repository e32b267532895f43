"""Options: what an operator can set, one module a group.

Nothing here reads a global: ``load`` makes a fresh ``ConfigOpts`` that is
passed on, so that two services can live in one process. The names, types and
defaults are Glance's wherever Glance has the option.
"""

from __future__ import annotations

import collections.abc
import os

from oslo_config import cfg
from oslo_db import options as db_options
from oslo_log import log
from oslo_middleware import cors
from oslo_policy import opts as policy_opts
from oslo_reports import opts as report_opts

from glance_import.conf import api
from glance_import.conf import backends
from glance_import.conf import browsers
from glance_import.conf import bundled
from glance_import.conf import formats
from glance_import.conf import glance_download
from glance_import.conf import image_import
from glance_import.conf import import_downloads
from glance_import.conf import import_filtering
from glance_import.conf import metrics
from glance_import.conf import notifications
from glance_import.conf import paste
from glance_import.conf import reserved
from glance_import.conf import staging
from glance_import.conf import stores
from glance_import.conf import task
from glance_import.conf import taskflow_executor

# One line a module; each has GROUP (None for [DEFAULT]) and OPTS.
MODULES = (api, staging, paste, task, taskflow_executor, backends, stores,
           formats, metrics, notifications)
# What belongs into glance-image-import.conf, in the same shape.
IMAGE_IMPORT_MODULES = (image_import, import_filtering, import_downloads,
                        glance_download, *bundled.MODULES)

MAIN_FILE = 'glance-api.conf'
IMPORT_FILE = 'glance-image-import.conf'

# Groups that libraries we load define for themselves, lazily.
FOREIGN_GROUPS = frozenset({
    'keystone_authtoken', 'cors', 'healthcheck', 'oslo_middleware',
    'oslo_policy', 'oslo_concurrency', 'database', 'oslo_limit', 'audit',
    'service_user', 'profiler', 'key_manager', 'barbican', 'vault',
    'oslo_messaging_notifications', 'oslo_messaging_rabbit',
    'oslo_messaging_kafka', 'oslo_messaging_amqp', 'oslo_messaging_metrics',
    'audit_middleware_notifications',
})


def _grouped(modules) -> list[tuple[str | None, list[cfg.Opt]]]:
    return [(module.GROUP, list(module.OPTS)) for module in modules]


def list_opts():
    """The options of glance-api.conf, for oslo-config-generator."""
    return _grouped(MODULES) + reserved.list_opts()


def list_image_import_opts():
    """The options of glance-image-import.conf, for oslo-config-generator."""
    return _grouped(IMAGE_IMPORT_MODULES)


def set_defaults(conf: cfg.ConfigOpts | None = None) -> None:
    """Our values where they differ from a library's own (also in samples)."""
    policy_opts.set_defaults(conf or cfg.ConfigOpts(), 'policy.yaml')
    # On the options themselves: the sample generator has no other conf.
    cfg.set_defaults(db_options.database_opts,
                     connection='sqlite:///$state_path/glance.sqlite')
    cors.set_defaults(
        allow_headers=list(browsers.ALLOW_HEADERS),
        expose_headers=list(browsers.EXPOSE_HEADERS),
        allow_methods=list(browsers.ALLOW_METHODS))


def new() -> cfg.ConfigOpts:
    """Every option registered, no file read yet."""
    conf = cfg.ConfigOpts()
    for group, opts in list_opts() + list_image_import_opts():
        conf.register_opts(opts, group=group)
    log.register_options(conf)
    conf.register_opts(db_options.database_opts, group='database')
    report_opts.set_defaults(conf)
    set_defaults(conf)
    return conf


def _beside(path: str) -> str:
    return os.path.join(os.path.dirname(os.path.abspath(path)), IMPORT_FILE)


def expand_args(argv: collections.abc.Sequence[str]) -> list[str]:
    """Put glance-image-import.conf behind each glance-api.conf named.

    Operators edit glance-image-import.conf and expect it to be read, which
    Glance's eventlet server did not do by itself. It is loaded right after
    the file it lies beside, so it wins for its groups and a later
    ``--config-dir`` still wins over both.
    """
    named = [os.path.abspath(argv[i + 1]) for i, word in enumerate(argv[:-1])
             if word == '--config-file']
    named += [os.path.abspath(word.partition('=')[2]) for word in argv
              if word.startswith('--config-file=')]
    expanded: list[str] = []
    takes_file = False
    for word in argv:
        expanded.append(word)
        path = None
        if takes_file:
            path = word
        elif word.startswith('--config-file='):
            path = word.partition('=')[2]
        takes_file = word == '--config-file'
        if path is None:
            continue
        beside = _beside(path)
        if beside not in named and os.path.exists(beside):
            expanded += ['--config-file', beside]
            named.append(beside)
    return expanded


def environment_args(environ: collections.abc.Mapping[str, str]) -> list[str]:
    """Arguments for a server that has no command line of ours.

    ``OS_GLANCE_CONFIG_FILES`` (names separated by ``;``) and
    ``OS_GLANCE_CONFIG_DIR`` (directories separated by ``;``) are Glance's.
    """
    args: list[str] = []
    for variable, flag in (('OS_GLANCE_CONFIG_FILES', '--config-file'),
                           ('OS_GLANCE_CONFIG_DIR', '--config-dir')):
        for path in filter(None, environ.get(variable, '').split(';')):
            args += [flag, path.strip()]
    return args


def load(argv: collections.abc.Sequence[str] = (), *,
         prog: str = 'glance-import-api',
         usage: str | None = None,
         cli_opts: collections.abc.Sequence[cfg.Opt] = ()) -> cfg.ConfigOpts:
    """Read the configuration as the command line asks for it.

    ``cli_opts`` are the command's own, such as its subcommands.

    Without ``--config-file`` or ``--config-dir`` the files are searched as
    oslo.config does for the project ``glance``: ``~/.glance``, ``~``,
    ``/etc/glance``, ``/etc``.

    :raises oslo_config.cfg.Error: a file is absent or cannot be parsed
    """
    conf = new()
    conf.register_cli_opts(cli_opts)
    conf(args=expand_args(list(argv)), project='glance', prog=prog,
         usage=usage, default_config_files=default_files(),
         default_config_dirs=[])
    return conf


def default_files() -> list[str]:
    """The files that are read when the command line names none."""
    found: list[str] = []
    for name in (MAIN_FILE, IMPORT_FILE):
        stem = name.removesuffix('.conf')
        if _named(stem):
            found += cfg.find_config_files(project='glance', prog=stem)[-1:]
    return found


def _named(stem: str) -> bool:
    """Whether oslo's search for ``stem`` ends at a file of that name."""
    files = cfg.find_config_files(project='glance', prog=stem)
    return bool(files) and os.path.basename(files[-1]) == stem + '.conf'


def unknown_options(conf: cfg.ConfigOpts) -> list[str]:
    """``[group] name`` of each option set in a file that nothing here reads.

    An option of Glance's that this service does not have must not be ignored
    without a word (nor must a misspelt one).
    """
    # oslo.config keeps what it parsed here and has no public way to list it.
    namespace = conf._namespace  # type: ignore[attr-defined]
    unknown = set()
    for sections in getattr(namespace, '_parsed', ()):
        for section, values in sections.items():
            if section.lower() in FOREIGN_GROUPS:
                continue
            group = None if section == 'DEFAULT' else section
            for name in values:
                if not _registered(conf, group, name):
                    unknown.add(f'[{section}] {name}')
    return sorted(unknown)


def sections(conf: cfg.ConfigOpts) -> dict[str, dict[str, list[str]]]:
    """What the files say, word by word: option -> values, by section.

    Without [DEFAULT]. The values of the file that counts most come last.
    """
    found: dict[str, dict[str, list[str]]] = {}
    namespace = conf._namespace  # type: ignore[attr-defined]
    for parsed in reversed(getattr(namespace, '_parsed', ())):
        for section, values in parsed.items():
            if section == 'DEFAULT':
                continue
            for name, said in values.items():
                found.setdefault(section, {}).setdefault(
                    name, []).extend(said)
    return found


def _registered(conf: cfg.ConfigOpts, group: str | None, name: str) -> bool:
    if group is None:
        known = conf._opts  # type: ignore[attr-defined]
    elif group in conf._groups:  # type: ignore[attr-defined]
        known = conf._groups[group]._opts  # type: ignore[attr-defined]
    else:
        return False
    wanted = name.replace('-', '_')
    if wanted in known:
        return True
    for info in known.values():
        for old in info['opt'].deprecated_opts:
            if old.name and old.name.replace('-', '_') == wanted:
                return True
    return False
