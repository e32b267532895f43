"""What must be true before the service answers, checked in one place.

Options and plugins first, the database last. Each check fails with one line
that names the option and the file it was read from; the commands print it
and end with a status other than 0. Used by every way of starting: the API,
the conductor, another WSGI server, ``glance-import-status``.
"""

from __future__ import annotations

import collections.abc
import functools
import importlib.util
import logging
import os
import re
import sys
import typing
import warnings

from oslo_config import cfg
from oslo_log import log

from glance_import import conf as configuration
from glance_import.conf import reserved
from glance_import.db import engine
from glance_import.db import upgrade
from glance_import.domain import quotas
from glance_import.imports import methods
from glance_import.jobboard import clients
from glance_import.net import addresses
from glance_import.net import client
from glance_import.net import resolver
from glance_import.observe import notifications
from glance_import.plugin import entry_points
from glance_import.plugin import registry
from glance_import.plugin import second_opinion
from glance_import.plugin import sections
from glance_import import policies
from glance_import.policies import protections
from glance_import.policies import rules_file
from glance_import.server import limits
from glance_import import services
from glance_import import staging
from glance_import import state
from glance_import.stores import configured as store_registry
from glance_import import version

LOG = log.getLogger(__name__)
# What is in state_path by default, and is opened by its name.
STATE_FILES = ('glance.sqlite', 'glance.sqlite-wal', 'glance.sqlite-shm',
               'glance.sqlite-journal')


class StartupError(Exception):
    """The service cannot start; the text is one line."""


def read(argv: collections.abc.Sequence[str], prog: str) -> cfg.ConfigOpts:
    """Configuration and logging, as the command line asks for them.

    :raises StartupError: a file is absent or malformed
    """
    conf = load(argv, prog)
    set_up_logging(conf)
    return conf


def load(argv: collections.abc.Sequence[str], prog: str) -> cfg.ConfigOpts:
    """The configuration alone: the process logs as it did.

    :raises StartupError: a file is absent or malformed
    """
    try:
        return configuration.load(argv, prog=prog, version=version.text())
    except cfg.Error as failure:
        raise StartupError(_one_line(failure)) from failure


def set_up_logging(conf: cfg.ConfigOpts) -> None:
    """oslo.log for everything, with the request id on every line.

    :raises StartupError: its options cannot be used
    """
    log.set_defaults(default_log_levels=[
        'sqlalchemy=WARNING', 'alembic=WARNING', 'taskflow=WARNING',
        # What stops an engine is told by who runs it, without its trace.
        'taskflow.engines=CRITICAL',
        'stevedore=WARNING', 'keystonemiddleware=WARNING',
        'keystoneauth=WARNING', 'urllib3=WARNING', 'routes=WARNING'])
    try:
        log.setup(conf, 'glance_import')
    except (log.LogConfigError, OSError, ValueError) as failure:
        raise StartupError(
            f'the log cannot be written as asked for: {_one_line(failure)}'
        ) from failure
    warnings.filterwarnings('ignore', category=DeprecationWarning)


def check_options(conf: cfg.ConfigOpts) -> None:
    """Every option has a value that means something here.

    :raises StartupError: naming the first that has not
    """
    _readable(conf)
    if conf.task.task_executor != 'taskflow':
        raise _refused(conf, 'task_executor', 'task',
                       f"'{conf.task.task_executor}' is not known; the only "
                       'executor is taskflow')
    try:
        store_registry.register(conf)
    except store_registry.Misconfigured as failure:
        raise _refused(conf, failure.option, failure.group,
                       str(failure)) from failure
    try:
        limits.networks(conf.unbounded_addresses)
    except ValueError as failure:
        raise _refused(conf, 'unbounded_addresses', None,
                       str(failure)) from failure
    _check_downloads(conf)
    board = conf.taskflow_executor.jobboard
    module = clients.missing(board)
    if module is not None:
        raise _refused(conf, 'jobboard', 'taskflow_executor',
                       f'{board} needs the Python module {module}; try: '
                       f"pip install 'glance-import[{board}]'")
    try:
        notifications.check(conf)
    except notifications.Misconfigured as failure:
        raise _refused(conf, failure.option, failure.group,
                       str(failure)) from failure
    try:
        quotas.parse(conf.user_storage_quota)
    except ValueError as failure:
        raise _refused(
            conf, 'user_storage_quota', None,
            f'{conf.user_storage_quota!r} is not {failure}') from failure
    if conf.use_keystone_limits and not importlib.util.find_spec(
            'oslo_limit'):
        raise _refused(conf, 'use_keystone_limits', None,
                       'the package oslo.limit is not installed')
    if conf.paste_deploy.flavor is not None and not conf.paste_deploy.flavor:
        raise _refused(conf, 'flavor', 'paste_deploy', 'is empty')


def _check_downloads(conf: cfg.ConfigOpts) -> None:
    for group, option, read in (
            ('import_filtering_opts', 'allowed_addresses',
             addresses.networks),
            ('import_filtering_opts', 'disallowed_addresses',
             addresses.networks),
            ('import_downloads', 'dns_servers', resolver.by_servers)):
        try:
            read(conf[group][option])
        except ValueError as failure:
            raise _refused(conf, option, group, str(failure)) from failure
    options = conf.import_downloads
    if options.ca_file and not os.access(options.ca_file, os.R_OK):
        raise _refused(conf, 'ca_file', 'import_downloads',
                       f'{options.ca_file} cannot be read')
    if options.proxy and not client.is_proxy(options.proxy):
        raise _refused(conf, 'proxy', 'import_downloads',
                       'must be http://[user:password@]host[:port]')


def check_extensions(conf: cfg.ConfigOpts) -> registry.Registry:
    """Every plugin and method that is named can be used; the plugins.

    :raises StartupError: naming the culprit and the file it was read from
    """
    for method in conf.enabled_import_methods:
        _extension(conf, 'enabled_import_methods', None,
                   functools.partial(entry_points.load_method, method))
        if method not in methods.TABLE:
            raise _refused(conf, 'enabled_import_methods', None,
                           f"'{method}' is not a method of this service; "
                           f"it has {', '.join(methods.TABLE)}")
    found = registry.Registry(conf)
    _extension(
        conf, 'image_import_plugins', 'image_import_opts',
        lambda: found.load(conf.image_import_opts.image_import_plugins))
    _check_bundled(conf, found)
    if found.in_force():
        LOG.info('isolation of plugins: %s', found.in_force())
    return found


def _check_bundled(conf: cfg.ConfigOpts, found: registry.Registry) -> None:
    """What the bundled plugins need beside themselves."""
    listed = list(conf.image_import_opts.image_import_plugins)
    rewriting = [name for name in listed
                 if name in ('image_decompression', 'image_conversion')]
    if rewriting == ['image_conversion', 'image_decompression']:
        raise _refused(conf, 'image_import_plugins', 'image_import_opts',
                       'image_decompression has to be listed before '
                       'image_conversion')
    for plugin in found.load(listed):
        if isinstance(plugin, registry.FlowPlugin):
            _extension(conf, 'image_import_plugins', 'image_import_opts',
                       functools.partial(found.check_needs, plugin))


def check_policy(conf: cfg.ConfigOpts) -> None:
    """:raises StartupError: the policy file cannot be used"""
    try:
        policies.new_enforcer(conf)
    except rules_file.BrokenRules as failure:
        raise _broken_rules(conf, failure) from failure


def _broken_rules(conf: cfg.ConfigOpts,
                  failure: rules_file.BrokenRules) -> StartupError:
    return _refused(conf, 'policy_file', 'oslo_policy', str(failure))


def check(conf: cfg.ConfigOpts) -> services.Services:
    """All of it; what the process works with from then on.

    :raises StartupError: naming what is wrong, in one line
    """
    check_options(conf)
    return open_all(conf, check_extensions(conf))


def open_all(conf: cfg.ConfigOpts,
             plugins: registry.Registry | None = None, *,
             accepting: bool = True) -> services.Services:
    """Directories, store and database, without judging the options.

    :param plugins: those that were looked at already
    :param accepting: see ``services.build``
    :raises StartupError: one of them cannot be used
    """
    opened = open_services(conf, plugins, accepting=accepting)
    try:
        if upgrade.ensure(opened.db):
            # Imported where it is used: once in the life of a database.
            from glance_import.domain import metadef_files
            metadef_files.seed(opened.db)
    except engine.DatabaseProblem as failure:
        raise StartupError(_one_line(failure)) from failure
    finally:
        # Whoever starts may fork next; no child can use an open SQLite file.
        opened.db.dispose()
    _check_opinion(conf, opened)
    return opened


def _check_opinion(conf: cfg.ConfigOpts, opened: services.Services
                   ) -> None:
    """Say whether qemu-img has a say about images."""
    trouble = opened.adviser.trouble()
    if trouble is None:
        LOG.info('second opinion on images: qemu-img, in the sandbox')
    elif opened.adviser.mode == second_opinion.REQUIRED:
        raise _refused(conf, 'second_opinion', 'image_format',
                       f'cannot be had: {trouble}')
    else:
        LOG.warning('no second opinion on images: %s', trouble)


def open_services(conf: cfg.ConfigOpts,
                  plugins: registry.Registry | None = None, *,
                  accepting: bool = True
                  ) -> services.Services:
    """The services, on an area and a store that can be written.

    :raises StartupError: one of them cannot
    """
    check_state(conf)
    try:
        return services.build(conf, plugins, accepting=accepting)
    except staging.StagingError as failure:
        raise StartupError(
            _where(conf, *reserved.staging_option(conf))
            + str(failure)) from failure
    except store_registry.Misconfigured as failure:
        raise _refused(conf, failure.option, failure.group,
                       str(failure)) from failure
    except rules_file.BrokenRules as failure:
        raise _broken_rules(conf, failure) from failure
    except protections.ProtectionError as failure:
        raise StartupError(
            _where(conf, 'property_protection_file', None)
            + str(failure)) from failure
    except engine.DatabaseProblem as failure:
        raise StartupError(_one_line(failure)) from failure


def check_state(conf: cfg.ConfigOpts) -> None:
    """Make the directory of this node's state, or judge it.

    :raises StartupError: others can change what is in it
    """
    try:
        state.prepare(conf.state_path)
        for name in STATE_FILES:
            state.check_file(os.path.join(conf.state_path, name))
    except state.StateError as failure:
        raise _refused(conf, 'state_path', None, str(failure)) from failure


def absent_policy(conf: cfg.ConfigOpts) -> str | None:
    """What is odd about a policy file that is named and not there."""
    found = conf.get_location('policy_file', 'oslo_policy')
    name = conf.oslo_policy.policy_file
    if found is None or not found.location.is_user_controlled \
            or conf.find_file(name):
        return None
    return (f'[oslo_policy] policy_file: there is no {name}, so the rules in '
            'code are in force')


def warn_unknown(conf: cfg.ConfigOpts) -> None:
    """Say once what of the files nothing here reads, or is not there."""
    absent = absent_policy(conf)
    if absent:
        LOG.warning('%s', absent)
    unknown = configuration.unknown_options(conf)
    if unknown:
        LOG.warning('options that this service does not have, and ignores: '
                    '%s', ', '.join(unknown))


def fail(prog: str, failure: BaseException) -> int:
    """Print and log the one line; the exit status."""
    text = _one_line(failure)
    print(f'{prog}: {text}', file=sys.stderr)
    if any(isinstance(handler, logging.FileHandler)
           for handler in logging.getLogger().handlers):
        LOG.critical('%s', text)
    return 1


# -- how things are said

def _readable(conf: cfg.ConfigOpts) -> None:
    """Read every option once: oslo.config judges values when they are read.

    (A list without its brackets is found here and not in the
    middle of an import.)
    """
    for group, options in (configuration.list_opts()
                           + configuration.list_image_import_opts()):
        for option in options:
            try:
                section = conf[group] if group else conf
                getattr(section, option.dest)
            except cfg.Error as failure:
                raise _refused(conf, option.name, group,
                               _reason(failure),
                               _file_in(failure)) from failure


def _reason(failure: cfg.Error) -> str:
    text = _one_line(failure)
    text = text.rpartition('is not valid: ')[2] or text
    if '"["' in text or '"]"' in text:
        text += '; it must be a list in square brackets, such as [no_op]'
    return text


def _file_in(failure: cfg.Error) -> str:
    """The file that oslo.config names, in its own way, in its errors."""
    found = re.search(r"detail='([^']+)'", str(failure))
    return f'{found.group(1)}: ' if found else ''


def _extension(conf: cfg.ConfigOpts, option: str, group: str | None,
               load: typing.Callable[[], object]) -> None:
    try:
        load()
    except sections.SectionError as failure:
        raise _refused(conf, failure.option or '', failure.section,
                       str(failure)) from failure
    except entry_points.ExtensionError as failure:
        raise _refused(conf, option, group, str(failure)) from failure


def _where(conf: cfg.ConfigOpts, option: str, group: str | None) -> str:
    """The file an option was read from, as the beginning of a line."""
    try:
        location = conf.get_location(option, group)
    except cfg.Error:
        return ''
    detail = getattr(location, 'detail', '') if location else ''
    return f'{detail}: ' if detail and os.path.exists(detail) else ''


def _refused(conf: cfg.ConfigOpts, option: str, group: str | None,
             reason: str, where: str | None = None) -> StartupError:
    if where is None:
        where = _where(conf, option, group)
    return StartupError(
        f'{where}[{group or "DEFAULT"}] {option}: {reason}')


def _one_line(failure: BaseException) -> str:
    return ' '.join(str(failure).split()) or type(failure).__name__
