"""What a conductor tells others of itself: that it lives, what it can run.

An import may demand plugins that this process does not have as they were
where the import was asked for. It is left to others then, which is said once
in the log and kept in the database; from time to time it is looked at again,
and when nobody could run it for long it fails.
"""

from __future__ import annotations

import collections.abc
import functools

from oslo_log import log

from glance_import.db import conductors as db_conductors
from glance_import.db import jobs as db_jobs
from glance_import.db import turns as db_turns
from glance_import import errors
from glance_import.imports import ending
from glance_import.imports import outcome
from glance_import import jobboard
from glance_import.plugin import entry_points
from glance_import.plugin import snapshot
from glance_import import services as all_services
from glance_import import version

LOG = log.getLogger(__name__)
# Between two announcements; a third of what makes a conductor count as dead.
SECONDS = 15.0


class Announcer:
    """The voice of one conductor; safe to share by threads."""

    def __init__(self, services: all_services.Services, name: str, node: str
                 ) -> None:
        self._services = services
        self._name = name
        self._node = node
        self._version = version.text()[:64]
        self._said: str | None = None
        # An operator wants it to take no more.
        self._draining = False

    def announce(self) -> None:
        """We live, and run imports like those asked for with our options."""
        honours = self._honours()
        with self._services.db.write() as conn:
            db_conductors.announce(
                conn, name=self._name, node=self._node,
                area=self._services.area.id, version=self._version,
                honours=honours)

    def may_take(self) -> bool:
        """Whether no operator has drained us; a change is said once."""
        with self._services.db.read() as conn:
            draining = db_conductors.is_draining(conn, self._name)
        if draining != self._draining:
            LOG.info('conductor %s %s', self._name,
                     'takes no more imports: it is drained' if draining
                     else 'takes imports again')
        self._draining = draining
        return not draining

    def leave(self) -> None:
        """We end; what we refused is no longer refused by us."""
        with self._services.db.write() as conn:
            db_conductors.leave(conn, self._name)

    def sift(self, offers: collections.abc.Sequence[jobboard.Offer]
             ) -> list[jobboard.Offer]:
        """Those that this process can run as they were asked for."""
        with self._services.db.read() as conn:
            demands = db_turns.demanding(
                conn, [offer.job_id for offer in offers])
        refused = self._problems(demands)
        for job_id, failure in refused.items():
            self.refuse(job_id, failure)
        return [offer for offer in offers if offer.job_id not in refused]

    def refuse(self, job_id: str, failure: snapshot.NotHonoured) -> None:
        """Leave an import to others."""
        LOG.warning('import %s is left to another conductor: %s%s', job_id,
                    failure, f' ({failure.detail})' if failure.detail else '')
        with self._services.db.write() as conn:
            db_conductors.refuse(conn, job_id, self._name, str(failure))

    def reconsider(self) -> int:
        """Take back refusals that are no longer true; how many."""
        with self._services.db.read() as conn:
            ids = db_conductors.refused_by(conn, self._name)
            demands = db_turns.demanding(conn, ids)
        still = self._problems(demands)
        fine = [job_id for job_id in ids if job_id not in still]
        if fine:
            with self._services.db.write() as conn:
                for job_id in fine:
                    db_conductors.accept(conn, job_id, self._name)
        return len(fine)

    def end_unhonoured(self) -> None:
        """Fail what nobody has been able to run for too long.

        With the reason; what a client staged is kept.
        """
        services = self._services
        seconds = services.conf.taskflow_executor.unhonoured_import_lifetime
        with services.db.read() as conn:
            ids = db_conductors.unhonoured(conn, [services.area.id], seconds)
            reasons = {refusal.job_id: refusal.reason for refusal
                       in db_conductors.refusals(conn, ids)}
        for job_id, reason in reasons.items():
            try:
                ending.fail_waiting(
                    services, job_id, self._name,
                    functools.partial(_unhonoured, reason),
                    area=services.area.id)
            except errors.LeaseLost as failure:
                LOG.debug('%s', failure)

    def _problems(self, demands: dict[str, str | None]
                  ) -> dict[str, snapshot.NotHonoured]:
        """Why imports cannot be run here; those that can are absent.

        Each demand is looked at once, however many imports have it.
        """
        known = {text: self._problem(text) for text in {*demands.values()}}
        return {job_id: failure for job_id, text in demands.items()
                if (failure := known[text]) is not None}

    def _problem(self, text: str | None) -> snapshot.NotHonoured | None:
        try:
            self._services.honour(snapshot.load(text))
        except snapshot.NotHonoured as failure:
            return failure
        return None

    def _honours(self) -> str | None:
        """The requirement of what is configured here; None for nothing."""
        known = self._services.registry
        try:
            found: str | None = self._services.honouring.pin(
                known.listed).requirement
            problem = None
        except entry_points.ExtensionError as failure:
            found, problem = None, str(failure)
        if problem != self._said and problem is not None:
            LOG.warning('the plugins that are configured here cannot be '
                        'used: %s', problem)
        self._said = problem
        return found


def _unhonoured(reason: str, job: db_jobs.Job) -> outcome.Outcome:
    return outcome.Outcome(
        'unhonoured',
        'no conductor of this service can run the import as it was asked '
        f'for: {reason}. Ask for it again; it is then judged by the plugins '
        f'and options in force by then (reference {job.request_id})')
