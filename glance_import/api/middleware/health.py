"""Backends of oslo.middleware's health check: is this service ready?

What a probe is told is at most a moment old, and told in time whatever the
database does: the looking is done in a thread, one at a time for each check.
"""

from __future__ import annotations

import collections.abc
import contextlib
import contextvars
import threading
import time
import typing

from oslo_middleware.healthcheck import pluginbase

from glance_import import checks
from glance_import.checks import places
from glance_import.checks import records

if typing.TYPE_CHECKING:
    from glance_import import services as all_services

# Seconds for which an answer is good, and within which one is given.
FRESH = 1.0
PATIENCE = 2.0
# Seconds after which a look that has not come back is left behind.
LOST = 60.0

# The library makes the backends itself, and gives them the options alone.
_looked_at: contextvars.ContextVar[all_services.Services | None] = \
    contextvars.ContextVar('glance_import_services', default=None)


@contextlib.contextmanager
def looking_at(services: all_services.Services
               ) -> collections.abc.Iterator[None]:
    """Backends that are made meanwhile look at these."""
    token = _looked_at.set(services)
    try:
        yield
    finally:
        _looked_at.reset(token)


class _Look:
    """One look that is under way, or was."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.done = threading.Event()
        self.found: checks.Result | None = None


class Probe:
    """A check that many may ask often; safe to share by threads."""

    def __init__(self, check: checks.Check, subject: checks.Subject,
                 patience: float = PATIENCE) -> None:
        self._check = check
        self._subject = subject
        self._patience = patience
        self._lock = threading.Lock()
        self._last: _Look | None = None

    def result(self) -> checks.Result:
        """What was found a moment ago, or is found now, in time."""
        look = self._fresh()
        left = look.begun + self._patience - time.monotonic()
        look.done.wait(max(left, 0))
        if look.found is None:
            return checks.bad('no answer for '
                              f'{time.monotonic() - look.begun:.0f} seconds')
        return look.found

    def _fresh(self) -> _Look:
        with self._lock:
            last = self._last
            if last is not None and time.monotonic() - last.begun < (
                    FRESH if last.done.is_set() else LOST):
                return last
            self._last = look = _Look()
        threading.Thread(target=self._run, args=(look,), daemon=True,
                         name=f'health: {self._check.name}').start()
        return look

    def _run(self, look: _Look) -> None:
        look.found = checks.answer(self._check, self._subject)
        look.done.set()


class Backend(pluginbase.HealthcheckBaseExtension):
    """One check as the library wants it."""

    check: checks.Check

    def __init__(self, oslo_conf, conf) -> None:
        super().__init__(oslo_conf, conf)
        services = _looked_at.get()
        self._probe = Probe(self.check, checks.Subject(
            oslo_conf, services.db if services is not None else None))

    def healthcheck(self, server_port: int) -> pluginbase.HealthcheckResult:
        """As the library wants it; the reason names what was looked at."""
        found = self._probe.result()
        name = self.check.name
        available = found.level is not checks.Level.FAILURE
        return pluginbase.HealthcheckResult(
            available, f'{name}: {"OK" if available else found.text}',
            found.text)


class Database(Backend):
    """It answers."""

    check = checks.Check('database', records.database_answers)


class Staging(Backend):
    """Staged data can be written."""

    check = checks.Check('staging', places.staging_answers)


class Conductor(Backend):
    """Who waits has somebody to wait for."""

    check = checks.Check('conductor', records.attended)
