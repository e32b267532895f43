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
from oslo_log import log

from glance_import.cmd import manage_db
from glance_import.cmd import manage_images
from glance_import.cmd import manage_imports
from glance_import.cmd import manage_metrics
from glance_import.cmd import manage_plugins
from glance_import import conf as configuration
from glance_import.db import engine
from glance_import.plugin import entry_points
from glance_import import state

PROG = 'glance-import-manage'

# One line a group.
GROUPS = (manage_db, manage_images, manage_imports, manage_metrics,
          manage_plugins)

# What a command may raise for the operator to read, one line each.
ERRORS = (engine.DatabaseProblem, cfg.Error, entry_points.ExtensionError,
          state.StateError)


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
            cli_opts=[cfg.SubCommandOpt('command', handler=_add_groups)])
        with _logging(conf):
            return conf.command.run(conf)
    except ERRORS as e:
        print(f'{PROG}: {engine.one_line(e)}', file=sys.stderr)
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


def _add_command(commands, name: str, function: Command,
                 arguments: collections.abc.Sequence[tuple]) -> None:
    text = (function.__doc__ or '').strip()
    parser = commands.add_parser(
        name, help=text.splitlines()[0], description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    for flags, options in arguments:
        parser.add_argument(*flags, **options)
    parser.set_defaults(run=function)


@contextlib.contextmanager
def _logging(conf: cfg.ConfigOpts) -> collections.abc.Iterator[None]:
    """To the log file where there is one; the terminal is for answers.

    Otherwise what libraries log, with stack traces, would be printed around
    our one line: oslo.log has put a handler for stderr in place.
    """
    if conf.debug or conf.log_file:
        log.setup(conf, 'glance_import')
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
