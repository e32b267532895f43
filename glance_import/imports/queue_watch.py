"""Says in the log when imports wait and no conductor lives to run them.

Of the processes of a service on a node one does so, by a lock in the state
directory. The database is opened for each look alone, since the process that
looks may be one that forks. Touches the log, that lock and nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time

from oslo_config import cfg
from oslo_log import log

from glance_import.conf import reserved
from glance_import.db import conductors as db_conductors
from glance_import.db import engine
from glance_import import state

LOG = log.getLogger(__name__)
LOOK_SECONDS = 5.0
REMIND_SECONDS = 60.0
# A conductor that has just been started has not said so yet.
GRACE_SECONDS = 5.0


def identity(conf: cfg.ConfigOpts) -> str:
    """A digest of what makes two processes ones of the same service."""
    text = f'{conf.database.connection}\n{reserved.staging_uri(conf)}'
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def take_lock(state_path: str, name: str) -> int | None:
    """A descriptor that holds the lock; None when another process does.

    :raises OSError, state.StateError: the file cannot be opened
    """
    fd = state.open_file(state_path, name, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


class QueueWatch:
    """Looks now and then, when it is called often; used by one thread."""

    def __init__(self, conf: cfg.ConfigOpts, forking: threading.Lock) -> None:
        """:param forking: held over every fork"""
        self._conf = conf
        self._forking = forking
        self._lock_name = f'watch-{identity(conf)}.lock'
        self._lock_fd: int | None = None
        self._look_at = self._remind_at = 0.0

    def check(self) -> None:
        """Say so if imports wait for nobody; at most once a minute."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        try:
            if self._lock_fd is None:
                self._lock_fd = take_lock(self._conf.state_path,
                                          self._lock_name)
            if self._lock_fd is not None:
                self._say(now)
        except (OSError, state.StateError, engine.DatabaseProblem,
                *engine.ERRORS) as failure:
            LOG.debug('the queue cannot be looked at: %s', failure)

    def forget(self) -> None:
        """In a forked child: the lock is the parent's."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _say(self, now: float) -> None:
        ages = [age for age in self._ages() if age > GRACE_SECONDS]
        if not ages or now < self._remind_at:
            return
        self._remind_at = now + REMIND_SECONDS
        LOG.warning(
            '%d imports wait and no conductor lives that could run them, the '
            'oldest for %d s: start glance-import-conductor with the files '
            'of this service, on a node that has its staging area',
            len(ages), max(ages))

    def _ages(self) -> list[float]:
        """Seconds that imports have waited which nobody can run."""
        with self._forking:
            database = engine.Database(self._conf)
            try:
                with database.read() as conn:
                    return list(db_conductors.unattended(conn).values())
            finally:
                database.dispose()
