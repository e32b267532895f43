"""The lines of the log that tell of events, one line each.

What would come once a request is said when it begins, and then at most once
a minute. Each line carries its values as fields too, for ``use_json``.
Touches the log.
"""

from __future__ import annotations

import collections.abc
import threading
import time
import typing

from oslo_log import log

from glance_import.observe import events

LOG = log.getLogger(__name__)
# Seconds between two lines that say the same of one project.
PAUSE = 60.0
# Projects that are told apart at once.
_MAX_KEYS = 1000


class Journal:
    """One for a process; safe to use from many threads."""

    def __init__(self, clock: collections.abc.Callable[[], float]
                 = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # When it was said last, and how often not since.
        self._said: dict[typing.Any, tuple[float, int]] = {}
        self._away: dict[str, str] = {}

    def listeners(self) -> dict[type, collections.abc.Callable]:
        """For the channel."""
        return {events.ImportEnded: self.import_ended,
                events.RequestRefused: self.refused,
                events.DatabaseAway: self.database_away,
                events.StoreHeard: self.store_heard}

    def import_ended(self, event: events.ImportEnded) -> None:
        """One line: what of, whose, how much, how long, and why not."""
        fields: dict[str, typing.Any] = {
            'image_id': event.image_id, 'task_id': event.job_id,
            'project': event.project, 'user': event.user_id,
            'asked_as': event.request_id, 'method': event.method,
            'bytes': event.size, 'queue_seconds': event.waited,
            'run_seconds': event.running, 'steps': dict(event.steps),
            'stores': sorted(event.stores), 'code': event.code}
        about = (f'project {event.project or "-"}, user '
                 f'{event.user_id or "-"}, {event.request_id or "-"}, method '
                 f'{event.method}, {_times(event)}')
        if event.code is None:
            LOG.info('import of image %s (task %s) succeeded: %s bytes in '
                     '%s, %s', event.image_id, event.job_id,
                     '?' if event.size is None else event.size,
                     ', '.join(sorted(event.stores)) or 'no further store',
                     about, **fields)
        else:
            LOG.warning('import of image %s (task %s) failed: %s%s [%s; %s]',
                        event.image_id, event.job_id,
                        f'plugin {event.said_by}: ' if event.said_by else '',
                        event.reason, event.code, about,
                        reason=event.reason, plugin=event.said_by, **fields)

    def refused(self, event: events.RequestRefused) -> None:
        """A quota, a limit or the staging area."""
        unsaid = self._may_say((event.code, event.project))
        if unsaid is not None:
            LOG.warning('refused to project %s: %s [%s]%s',
                        event.project or '-', event.reason, event.code,
                        _more(unsaid), project=event.project,
                        code=event.code, unsaid=unsaid)

    def database_away(self, event: events.DatabaseAway) -> None:
        """It keeps requests from being answered."""
        unsaid = self._may_say('database')
        if unsaid is not None:
            LOG.error('the database does not answer: %s%s', event.reason,
                      _more(unsaid), unsaid=unsaid)

    def store_heard(self, event: events.StoreHeard) -> None:
        """A line when it goes, and one when it comes back."""
        if event.trouble is None and event.store not in self._away:
            return
        with self._lock:
            before = self._away.pop(event.store, None)
            if event.trouble is not None:
                self._away[event.store] = event.trouble
        if event.trouble is None and before is not None:
            LOG.info('store %s takes data again', event.store,
                     store=event.store)
        elif event.trouble is not None and before is None:
            LOG.error('store %s fails: %s', event.store, event.trouble,
                      store=event.store)

    def _may_say(self, key: typing.Any) -> int | None:
        """How often it was not said since the last time; None: be silent.
        """
        now = self._clock()
        with self._lock:
            last, unsaid = self._said.get(key, (now - PAUSE, 0))
            if now - last < PAUSE:
                self._said[key] = (last, unsaid + 1)
                return None
            if len(self._said) >= _MAX_KEYS:
                self._said.clear()
            self._said[key] = (now, 0)
            return unsaid


def _more(unsaid: int) -> str:
    return f' ({unsaid} more like this since the last line)' if unsaid else ''


def _times(event: events.ImportEnded) -> str:
    if event.waited is None or event.running is None:
        return 'never run'
    steps = ', '.join(f'{name} {seconds:.2f}' for name, seconds
                      in event.steps.items())
    return (f'{event.waited:.2f} s in the queue, {event.running:.2f} s '
            f'running{f" ({steps})" if steps else ""}')
