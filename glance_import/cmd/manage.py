"""glance-import-manage: what an operator does beside the running service.

Each group of subcommands is a module with ``NAME``, ``HELP`` and
``COMMANDS``, listed in ``GROUPS``. Here is only what all of them share:
parsing, exit status, and errors as one line.
"""

from __future__ import annotations

import argparse
import collections.abc
import contextlib
import logging
import sys
import typing

from oslo_config import cfg

from glance_import.cmd import manage_conductors
from glance_import.cmd import manage_db
from glance_import.cmd import manage_images
from glance_import.cmd import manage_imports
from glance_import.cmd import manage_metrics
from glance_import.cmd import manage_plugins
from glance_import.cmd import manage_samples
from glance_import.cmd import manage_staging
from glance_import.cmd import manage_stores
from glance_import.cmd import output
from glance_import.cmd import running_as
from glance_import import conf as configuration
from glance_import.db import engine
from glance_import.plugin import entry_points
from glance_import import startup
from glance_import import state
from glance_import import version

PROG = 'glance-import-manage'

# One line a group.
GROUPS = (manage_db, manage_images, manage_imports, manage_conductors,
          manage_staging, manage_stores, manage_metrics, manage_plugins)
# Commands that stand by themselves, and write where root tells them to.
SINGLE = (manage_samples,)

# What a command may raise for the operator to read, one line each.
ERRORS = (engine.DatabaseProblem, cfg.Error, entry_points.ExtensionError,
          startup.StartupError, state.StateError, running_as.WrongUser,
          manage_samples.CannotWrite, *engine.ERRORS)


class Command(typing.Protocol):
    """A row of a group's ``COMMANDS``: its function and what it is for."""

    def __call__(self, conf: cfg.ConfigOpts) -> int: ...


def main(argv: collections.abc.Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0: done; 1: refused or failed, with the reason in one line on stderr;
    2: the command line cannot be understood.
    """
    words = sys.argv[1:] if argv is None else argv
    try:
        conf = configuration.load(
            words, prog=PROG,
            version=version.text(),
            cli_opts=[cfg.SubCommandOpt('command', handler=_add_groups)])
        if conf.command.as_service:
            running_as.owner_of_state(conf)
        with _logging(conf):
            return conf.command.run(conf)
    except ERRORS as e:
        where = ('the database does not answer: '
                 if isinstance(e, engine.ERRORS) else '')
        print(f'{PROG}: {where}{engine.one_line(e)}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _add_groups(subparsers) -> None:
    # oslo.config makes the subparsers, and leaves them optional.
    subparsers.required = True
    subparsers.metavar = 'GROUP'
    for group in GROUPS:
        parser = subparsers.add_parser(
            group.NAME, help=group.HELP, description=group.HELP)
        commands = parser.add_subparsers(
            dest='subcommand', metavar='COMMAND', required=True)
        for name, (function, arguments) in group.COMMANDS.items():
            _add_command(commands, name, function, arguments)
    for single in SINGLE:
        _add_command(subparsers, single.NAME, single.run, single.ARGUMENTS,
                     as_service=False)


def _add_command(commands, name: str, function: Command,
                 arguments: collections.abc.Sequence[tuple], *,
                 as_service: bool = True) -> None:
    text = (function.__doc__ or '').strip()
    parser = commands.add_parser(
        name, help=text.splitlines()[0], description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    for flags, options in arguments:
        parser.add_argument(*flags, **options)
    if as_service and not any(
            '--format' in flags for flags, _options in arguments):
        for flags, options in (output.FORMAT, output.AS_JSON):
            parser.add_argument(*flags, **options)
    parser.set_defaults(run=function, as_service=as_service)


@contextlib.contextmanager
def _logging(conf: cfg.ConfigOpts) -> collections.abc.Iterator[None]:
    """To the log file where there is one; the terminal is for answers.

    Otherwise what libraries log, with stack traces, would be printed around
    our one line: oslo.log has put a handler for stderr in place.
    """
    if conf.debug or conf.log_file:
        startup.set_up_logging(conf)
        yield
        return
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        root.setLevel(level)


if __name__ == '__main__':
    sys.exit(main())
