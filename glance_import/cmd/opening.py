"""What the commands of glance-import-manage work on."""

from __future__ import annotations

import collections.abc
import contextlib

from oslo_config import cfg

from glance_import.cmd import databases
from glance_import.db import engine
from glance_import import services
from glance_import import startup


@contextlib.contextmanager
def opened(conf: cfg.ConfigOpts, *, accepting: bool = False
           ) -> collections.abc.Iterator[services.Services]:
    """The services of a configuration, closed at the end.

    :raises engine.DatabaseProblem: in one line, that they cannot be opened
    """
    with databases.at_head(conf):
        pass
    try:
        box = startup.open_services(conf, accepting=accepting)
    except startup.StartupError as failure:
        raise engine.DatabaseProblem(str(failure)) from failure
    try:
        yield box
    finally:
        box.close()
