"""glance-import-manage conductors: who runs imports, and who shall not.

A command gets the configuration (its arguments are in ``conf.command``) and
returns an exit status.
"""

from __future__ import annotations

import functools
import sys
import time

from oslo_config import cfg

from glance_import.cmd import manage_imports
from glance_import.cmd import opening
from glance_import.cmd import output
from glance_import.db import conductors as db_conductors
from glance_import import errors
from glance_import import services as all_services

NAME = 'conductors'
HELP = 'See the conductors, and have one take no more imports.'
# Between two looks whether it has ended what it ran.
_LOOK_SECONDS = 0.5


def drain(conf: cfg.ConfigOpts) -> int:
    """Have a conductor take no more imports, before its host is worked on.

    It goes on with those that it runs. Drained until it is started again, or
    until "resume".
    """
    told = sys.stderr if output.chosen(conf) else sys.stdout
    with opening.opened(conf) as services:
        status = output.each(conf, [conf.command.conductor],
                             functools.partial(_set, services, True))
        while conf.command.wait and not status:
            running = _running(services, conf.command.conductor)
            print(f'{running or "none"} running', flush=True, file=told)
            if not running:
                break
            time.sleep(_LOOK_SECONDS)
    return status


def resume(conf: cfg.ConfigOpts) -> int:
    """Let a conductor that was drained take imports again."""
    with opening.opened(conf) as services:
        return output.each(conf, [conf.command.conductor],
                           functools.partial(_set, services, False))


def _set(services: all_services.Services, wanted: bool, name: str) -> str:
    with services.db.write() as conn:
        found = db_conductors.drain(conn, name, wanted)
    if not found:
        raise errors.NotFound(
            f'{name}: no conductor, and no node of one, has that name')
    services.wake()
    return f'{name}: ' + ('takes no more imports' if wanted
                          else 'takes imports again')


def _running(services: all_services.Services, name: str) -> int:
    with services.db.read() as conn:
        return db_conductors.running(conn, name)


_NAME = (('conductor',), {'help': 'of a conductor, or of its node'})

# name: (function, [(flags, argparse options), ...])
COMMANDS: dict[str, tuple] = {
    'list': (manage_imports.conductors,
             manage_imports.COMMANDS['conductors'][1]),
    'drain': (drain, (_NAME, (('--wait',), {
        'action': 'store_true',
        'help': 'until it has ended what it runs'}))),
    'resume': (resume, (_NAME,)),
}
