"""What is found out about a service, one sentence a thing.

A check is a function of a ``Subject`` that returns a ``Result`` or raises
what the start of the service would raise. ``glance-import-status`` and the
health checks run the same ones. A check makes no file, no directory and no
table, and changes nothing.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import queue
import threading

from oslo_config import cfg
from oslo_log import log

from glance_import.db import engine
from glance_import.plugin import registry
from glance_import import startup

LOG = log.getLogger(__name__)
# Seconds within which a check is answered, whatever it waits for.
PATIENCE = 30.0


class Level(enum.IntEnum):
    """How bad it is: the service does not work, or not as it may be meant.
    """

    SUCCESS = 0
    WARNING = 1
    FAILURE = 2


@dataclasses.dataclass(frozen=True)
class Result:
    """What a check found; ``text`` is one line."""

    level: Level
    text: str


@dataclasses.dataclass(frozen=True)
class Check:
    """A row of a table: what is looked at, and how."""

    name: str
    look: collections.abc.Callable[[Subject], Result]


class Subject:
    """What is checked: a configuration, and what it opens by being asked.

    :param database: that of a running service; its own otherwise
    """

    def __init__(self, conf: cfg.ConfigOpts,
                 database: engine.Database | None = None) -> None:
        self.conf = conf
        self._given = database

    @functools.cached_property
    def database(self) -> engine.Database:
        """:raises engine.DatabaseProblem: the option cannot be used"""
        return self._given or engine.Database(self.conf)

    @functools.cached_property
    def plugins(self) -> registry.Registry:
        """Those that are listed. :raises startup.StartupError:"""
        return startup.check_extensions(self.conf)

    def close(self) -> None:
        """Let go of what is open."""
        if self._given is None and 'database' in self.__dict__:
            self.database.dispose()


def good(text: str) -> Result:
    """All is as it should be."""
    return Result(Level.SUCCESS, text)


def odd(text: str) -> Result:
    """The service works, but perhaps not as it is meant to."""
    return Result(Level.WARNING, text)


def bad(text: str) -> Result:
    """The service does not start so, or does not do its work."""
    return Result(Level.FAILURE, text)


def run(check: Check, subject: Subject,
        patience: float = PATIENCE) -> Result:
    """One check, answered in time and without a trace.

    :param patience: seconds; one that takes longer is left behind in its
        thread
    """
    answers: queue.SimpleQueue[Result] = queue.SimpleQueue()
    threading.Thread(
        target=lambda: answers.put(answer(check, subject)), daemon=True,
        name=f'check {check.name}').start()
    try:
        return answers.get(timeout=patience)
    except queue.Empty:
        return bad(f'no answer within {patience:g} seconds')


def answer(check: Check, subject: Subject) -> Result:
    """One check, however long it takes; never raises."""
    try:
        found = check.look(subject)
    except Exception as failure:  # noqa: BLE001  an answer, whatever it is
        LOG.debug('check %s', check.name, exc_info=True)
        return bad(engine.one_line(failure))
    return dataclasses.replace(found, text=' '.join(found.text.split()))
