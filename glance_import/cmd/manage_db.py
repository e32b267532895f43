"""glance-import-manage db: the database's revision, what is in it, old rows.

A command gets the configuration (its arguments are in ``conf.command``) and
returns an exit status.
"""

from __future__ import annotations

import argparse
import collections
import collections.abc
import datetime
import os
import sqlite3
import sys

from oslo_config import cfg
import sqlalchemy as sa

from glance_import.cmd import databases
from glance_import.cmd import manage_metadefs
from glance_import.cmd import output
from glance_import.db import engine
from glance_import.db import purge as purging
from glance_import.db import sqlite
from glance_import.db import upgrade
from glance_import.domain import metadef_files

NAME = 'db'
HELP = 'Create the database, bring it up to date, tell where it stands.'

# Rows that one transaction removes.
_BATCH = 500
# What `db check` says for each state.
_SAYINGS = {
    'empty': 'the database is empty',
    'behind': 'the database is at revision {current}, head is {head}',
    'head': 'the database is at head ({head})',
    'ahead': 'the database is at revision {current}, which this release '
             'does not know',
    'foreign': 'the database is not one of Glance 2024.1 or later',
}


def _say(conf: cfg.ConfigOpts, found: upgrade.Status) -> None:
    if output.chosen(conf):
        output.rows(conf, [found._asdict()])
    else:
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
        if metadef_files.seed(database) and not output.chosen(conf):
            print('there were no metadata definitions: loaded those of this '
                  'service')
        _say(conf, upgrade.status(database))
    return 0


def version(conf: cfg.ConfigOpts) -> int:
    """Print the revision the database is at (none: not synced yet)."""
    with databases.opened(conf) as database:
        found = upgrade.status(database)
    if output.chosen(conf):
        _say(conf, found)
    else:
        print(found.current or 'none')
    return 0


def check(conf: cfg.ConfigOpts) -> int:
    """Say whether the database is up to date; exit status 1 when not."""
    with databases.opened(conf) as database:
        found = upgrade.status(database)
    _say(conf, found)
    return 0 if found.state == 'head' else 1


def backup(conf: cfg.ConfigOpts) -> int:
    """Copy an SQLite database into a new file, while the service runs.

    A copy of the file alone would lose what is in the log beside it. Other
    databases are backed up by their own tools (pg_dump, mysqldump).
    """
    with databases.at_head(conf) as database:
        if not database.is_sqlite or not database.url.database:
            raise engine.DatabaseProblem(
                'this is for SQLite; use pg_dump, or mysqldump '
                '--single-transaction')
        path, target = database.url.database, conf.command.path
        try:
            sqlite.backup(path, target)
        except FileExistsError as failure:
            raise engine.DatabaseProblem(f'{target} is there already'
                                         ) from failure
        except (OSError, sqlite3.Error) as failure:
            raise engine.DatabaseProblem(
                f'cannot copy {path} to {target}: {failure}') from failure
    output.rows(conf, [{'database': path, 'copy': target,
                        'bytes': os.path.getsize(target)}])
    return 0


def purge(conf: cfg.ConfigOpts) -> int:
    """Remove for good what was deleted long ago, but for images themselves.

    Properties, tags, locations, members and tasks. In batches, so that
    nothing waits for it.
    """
    return _purge(conf, purging.rows)


def purge_images(conf: cfg.ConfigOpts) -> int:
    """Remove images for good that were deleted long ago.

    Their ids may be given to other images from then on: hosts that cache
    images by id must have forgotten them.
    """
    return _purge(conf, purging.images)


def _purge(conf: cfg.ConfigOpts, remove: collections.abc.Callable[
        [sa.Connection, datetime.datetime, int], dict[str, int]]) -> int:
    words = conf.command
    before = engine.utcnow() - datetime.timedelta(days=words.age_in_days)
    left = words.max_rows if words.max_rows >= 0 else sys.maxsize
    removed: collections.Counter[str] = collections.Counter()
    with databases.at_head(conf) as database:
        while left > 0:
            with database.write() as conn:
                found = remove(conn, before, min(left, _BATCH))
            removed.update(found)
            left -= max(found.values())
            if not any(found.values()):
                break
    output.rows(conf, [{'table': name, 'removed': count}
                       for name, count in sorted(removed.items())])
    return 0


def _days(text: str) -> int:
    """Argparse's type: at least one day."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError('must be a number of days, 1 or more')
    return int(text)


_PURGE = (
    (('--age-in-days', '--age_in_days'), {
        'type': _days, 'default': 30, 'metavar': 'DAYS',
        'help': 'deleted longer ago than that (30)'}),
    (('--max-rows', '--max_rows'), {
        'type': int, 'default': 100, 'metavar': 'N',
        'help': 'of each table at most (100); -1: all'}))

# name: (function, [(flags, argparse options), ...])
COMMANDS: dict[str, tuple] = {
    'sync': (sync, ()),
    'version': (version, ()),
    'check': (check, ()),
    'backup': (backup, ((('path',), {'help': 'a file that is not there'}),)),
    'purge': (purge, _PURGE),
    'purge-images': (purge_images, _PURGE),
    **manage_metadefs.COMMANDS,
}
