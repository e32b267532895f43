"""The database alone, for commands that need nothing else."""

from __future__ import annotations

import collections.abc
import contextlib
import os

from oslo_config import cfg

from glance_import.db import engine
from glance_import.db import upgrade
from glance_import import state


@contextlib.contextmanager
def opened(conf: cfg.ConfigOpts) -> collections.abc.Iterator[engine.Database]:
    """The database of a configuration, closed at the end.

    :raises engine.DatabaseProblem: it cannot be used
    """
    if os.path.isdir(conf.state_path):
        # Where the database is unless the options say otherwise.
        state.prepare(conf.state_path)
    database = engine.Database(conf)
    try:
        yield database
    finally:
        database.dispose()


@contextlib.contextmanager
def at_head(conf: cfg.ConfigOpts
            ) -> collections.abc.Iterator[engine.Database]:
    """The same, if it is at this release's revision; makes nothing.

    :raises engine.DatabaseProblem: it is not, with what to do about it
    """
    with opened(conf) as database:
        found = upgrade.status(database)
        if found.state != 'head':
            raise engine.DatabaseProblem(upgrade.advice(database, found))
        yield database
