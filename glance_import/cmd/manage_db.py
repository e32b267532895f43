"""glance-import-manage db: the database's revision, and definitions.

Touches the database through ``glance_import.db.upgrade`` and
``glance_import.domain.metadef_files`` alone. A command gets the configuration
(its arguments are in ``conf.command``) and returns an exit status.
"""

from __future__ import annotations

from oslo_config import cfg

from glance_import.cmd import databases
from glance_import.cmd import manage_metadefs
from glance_import.db import upgrade
from glance_import.domain import metadef_files

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


def _say(found: upgrade.Status) -> None:
    print(_SAYINGS[found.state].format(
        current=found.current or 'none', head=found.head))


def sync(conf: cfg.ConfigOpts) -> int:
    """Create the database or bring it to this release's revision.

    In an empty database Glance's tables are created too. Those of an
    existing Glance are left as they are, but for indexes named import_*.
    Where there is no namespace of metadata definitions, that of this
    service's own properties is loaded.
    Running it twice does no harm.
    """
    with databases.opened(conf) as database:
        upgrade.sync(database)
        if metadef_files.seed(database):
            print('there were no metadata definitions: loaded those of this '
                  'service')
        _say(upgrade.status(database))
    return 0


def version(conf: cfg.ConfigOpts) -> int:
    """Print the revision the database is at (none: not synced yet)."""
    with databases.opened(conf) as database:
        print(upgrade.status(database).current or 'none')
    return 0


def check(conf: cfg.ConfigOpts) -> int:
    """Say whether the database is up to date; exit status 1 when not."""
    with databases.opened(conf) as database:
        found = upgrade.status(database)
    _say(found)
    return 0 if found.state == 'head' else 1


# name: (function, [(flags, argparse options), ...])
COMMANDS: dict[str, tuple] = {
    'sync': (sync, ()),
    'version': (version, ()),
    'check': (check, ()),
    **manage_metadefs.COMMANDS,
}
