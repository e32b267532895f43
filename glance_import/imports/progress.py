"""How far a step is, for users to read: at most one write a second.

A step calls ``report`` as often as it likes. Writing goes under the claim, in
the thread of the step, and a database that is away costs nothing but a gap in
the numbers.
"""

from __future__ import annotations

import time

from oslo_log import log

from glance_import.db import engine as db_engine
from glance_import.db import jobs as db_jobs
from glance_import.imports import runtime

LOG = log.getLogger(__name__)
SECONDS = 1.0
QUICK_SECONDS = 0.2


class Reporter:
    """Of one step of one attempt."""

    def __init__(self, rt: runtime.Runtime, step: str) -> None:
        self._rt = rt
        self._step = step
        self._written = False
        # What is done at once need not be told.
        self._next = time.monotonic() + QUICK_SECONDS

    def report(self, done: int, total: int | None) -> None:
        """``done`` of ``total`` bytes; also says the last.

        :param total: None when nobody knows yet
        """
        now = time.monotonic()
        if now < self._next and (
                total is None or done < total or not self._written):
            return
        self._written = True
        self._next = now + SECONDS
        try:
            with self._rt.services.db.write() as conn:
                db_jobs.check_fence(conn, self._rt.claim, step=self._step,
                                    bytes_done=done, bytes_total=total)
        except db_engine.ERRORS as failure:
            LOG.debug('progress is not written: %s', failure)
