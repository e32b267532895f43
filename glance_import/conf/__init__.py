"""Options: what an operator can set, one module a group.

Nothing here reads a global: ``load`` makes a fresh ``ConfigOpts`` that is
passed on, so that two services can live in one process. The names, types and
defaults are Glance's wherever Glance has the option.
"""

from __future__ import annotations

import argparse
import collections.abc
import os

from oslo_config import cfg
from oslo_db import options as db_options
from oslo_log import log
from oslo_middleware import cors
from oslo_middleware.healthcheck import opts as healthcheck_opts
from oslo_policy import opts as policy_opts
from oslo_reports import opts as report_opts

from glance_import.conf import api
from glance_import.conf import backends
from glance_import.conf import browsers
from glance_import.conf import bundled
from glance_import.conf import completion
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

# What /healthcheck looks at unless the operator says otherwise.
HEALTHCHECK_BACKENDS = ('glance_import_database', 'glance_import_staging',
                        'glance_import_conductor')

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
    cfg.set_defaults(healthcheck_opts.HEALTHCHECK_OPTS,
                     backends=list(HEALTHCHECK_BACKENDS))
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
         usage: str | None = None, version: str | None = None,
         cli_opts: collections.abc.Sequence[cfg.Opt] = ()) -> cfg.ConfigOpts:
    """Read the configuration as the command line asks for it.

    ``cli_opts`` are the command's own, such as its subcommands.

    Without ``--config-file`` or ``--config-dir`` the files are searched as
    oslo.config does for the project ``glance``: ``~/.glance``, ``~``,
    ``/etc/glance``, ``/etc``. So are directories: ``glance-api.conf.d`` and
    ``glance-image-import.conf.d``.

    :raises oslo_config.cfg.Error: a file is absent or cannot be parsed
    """
    conf = new()
    conf.register_cli_opts(cli_opts)
    read(conf, argv, prog=prog, usage=usage, version=version)
    return conf


def read(conf: cfg.ConfigOpts, argv: collections.abc.Sequence[str], *,
         prog: str, usage: str | None = None,
         version: str | None = None) -> None:
    """What ``load`` does, on options that were made before.

    :raises oslo_config.cfg.Error: a file is absent or cannot be parsed
    """
    if len(argv) > 1 and argv[0] == completion.FLAG \
            and argv[1] in completion.SHELLS:
        print(_completion(conf, argv[1], prog), end='')
        raise SystemExit(0)
    conf(args=expand_args(list(argv)), project='glance', prog=prog,
         usage=usage, version=version, default_config_files=default_files(),
         default_config_dirs=default_directories())


def _completion(conf: cfg.ConfigOpts, shell: str, prog: str) -> str:
    """The script for the options and subcommands that were registered."""
    parser = argparse.ArgumentParser(prog=prog)
    flags = ['--config-file', '--config-dir', '--help']
    # oslo.config has no public way to list these.
    for opt, _group in conf._all_cli_opts():  # type: ignore[attr-defined]
        if isinstance(opt, cfg.SubCommandOpt):
            opt.handler(parser.add_subparsers())
        else:
            flags.append(f'--{opt.name}')
    return completion.script(shell, prog, dict.fromkeys(flags), parser)


def default_files() -> list[str]:
    """The files that are read when the command line names none."""
    found: list[str] = []
    for name in (MAIN_FILE, IMPORT_FILE):
        stem = name.removesuffix('.conf')
        if _named(stem):
            found += cfg.find_config_files(project='glance', prog=stem)[-1:]
    return found


def default_directories() -> list[str]:
    """Those that are read after the files when the command line names none.

    Such as ``/etc/glance/glance-api.conf.d``, as oslo.config does for other
    services; those of the second file after those of the first.
    """
    return list(dict.fromkeys(
        path for name in (MAIN_FILE, IMPORT_FILE)
        for path in cfg.find_config_dirs(
            project='glance', prog=name.removesuffix('.conf'))))


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
                if option(conf, group, name) is None:
                    unknown.add(f'[{section}] {name}')
    return sorted(unknown)


def words(conf: cfg.ConfigOpts) -> dict[tuple[str, str], list[str]]:
    """What the files say, word by word: (section, option) -> values.

    The values of the file that counts most come last.
    """
    found: dict[tuple[str, str], list[str]] = {}
    namespace = conf._namespace  # type: ignore[attr-defined]
    for parsed in reversed(getattr(namespace, '_parsed', ())):
        for section, values in parsed.items():
            for name, said in values.items():
                found.setdefault((section, name), []).extend(said)
    return found


def sections(conf: cfg.ConfigOpts) -> dict[str, dict[str, list[str]]]:
    """What the files say: option -> values, by section; no [DEFAULT]."""
    found: dict[str, dict[str, list[str]]] = {}
    for (section, name), said in words(conf).items():
        if section != 'DEFAULT':
            found.setdefault(section, {})[name] = said
    return found


def option(conf: cfg.ConfigOpts, group: str | None, name: str
           ) -> cfg.Opt | None:
    """The option of that name, also by an old name; None for one unknown."""
    if group is None:
        known = conf._opts  # type: ignore[attr-defined]
    elif group in conf._groups:  # type: ignore[attr-defined]
        known = conf._groups[group]._opts  # type: ignore[attr-defined]
    else:
        return None
    wanted = name.replace('-', '_')
    if wanted in known:
        return known[wanted]['opt']
    for info in known.values():
        for old in info['opt'].deprecated_opts:
            if old.name and old.name.replace('-', '_') == wanted:
                return info['opt']
    return None
