"""glance-import-manage db: the database's revision.

Touches the database through ``glance_import.db.upgrade`` alone. A command
gets the configuration (its arguments are in ``conf.command``) and returns an
exit status.
"""

from __future__ import annotations

import collections.abc
import contextlib
import os

from oslo_config import cfg

from glance_import.db import engine
from glance_import.db import upgrade
from glance_import import state

NAME = 'db'
HELP = 'Create the database, bring it up to date, tell where it stands.'

# What `db check` says for each state.
_SAYINGS = {
    'empty': 'the database is empty',
    'behind': 'the database is at revision {current}, head is {head}',
    'head': 'the database is at head ({head})',
    'ahead': 'the database is at revision {current}, which this release '
             'does not know',
    'foreign': 'the database is not one of Glance 2024.1 or later',
}


@contextlib.contextmanager
def _database(conf: cfg.ConfigOpts
              ) -> collections.abc.Iterator[engine.Database]:
    if os.path.isdir(conf.state_path):
        # Where the database is unless the options say otherwise.
        state.prepare(conf.state_path)
    database = engine.Database(conf)
    try:
        yield database
    finally:
        database.dispose()


def _say(found: upgrade.Status) -> None:
    print(_SAYINGS[found.state].format(
        current=found.current or 'none', head=found.head))


def sync(conf: cfg.ConfigOpts) -> int:
    """Create the database or bring it to this release's revision.

    In an empty database Glance's tables are created too. Those of an
    existing Glance are left as they are, but for indexes named import_*.
    Running it twice does no harm.
    """
    with _database(conf) as database:
        upgrade.sync(database)
        _say(upgrade.status(database))
    return 0


def version(conf: cfg.ConfigOpts) -> int:
    """Print the revision the database is at (none: not synced yet)."""
    with _database(conf) as database:
        print(upgrade.status(database).current or 'none')
    return 0


def check(conf: cfg.ConfigOpts) -> int:
    """Say whether the database is up to date; exit status 1 when not."""
    with _database(conf) as database:
        found = upgrade.status(database)
    _say(found)
    return 0 if found.state == 'head' else 1


# name: (function, [(flags, argparse options), ...])
COMMANDS: dict[str, tuple] = {
    'sync': (sync, ()),
    'version': (version, ()),
    'check': (check, ()),
}
