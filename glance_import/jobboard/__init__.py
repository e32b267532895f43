"""Where imports wait for a conductor: the same few calls for every board.

The rows of import_jobs are the truth: what was accepted, whose turn it is,
who holds what, and the epoch that fences off who held it before. A board of
taskflow's outside the database (redis, etcd, zookeeper) tells conductors
apart one step earlier: a row is claimed only by who has claimed its posting.
What such a board loses is posted again, what it kept too long is taken off;
nothing is decided by it alone, so it may be lost, emptied or restarted at any
time. taskflow and the client of a board are imported when they are used.
"""

from __future__ import annotations

import collections.abc
import contextlib
import threading
import time
import typing

from oslo_config import cfg
from oslo_log import log

from glance_import.db import engine as db_engine
from glance_import.db import jobs as db_jobs
from glance_import.db import turns as db_turns
from glance_import import errors
from glance_import.jobboard import clients

LOG = log.getLogger(__name__)
SQL = 'sql'
# The posting of an import says no more than its id.
KEY = 'import'


AWAY = ('The job board of this service does not answer, so imports cannot be '
        'taken now. Ask again later.')
RETRY_SECONDS = 1.0
# What was accepted and is not on the board after so long was lost.
POST_SECONDS = 2.0


class BoardAway(errors.Unavailable):
    """The job board does not answer; the text is one line."""


class Offer(typing.NamedTuple):
    """An import that may be claimed; ``posting`` is a taskflow job.

    It has none where the database itself is the board.
    """

    job_id: str
    posting: typing.Any = None


class Board:
    """The board that the configuration names; safe to share by threads.

    Nothing is connected before it is used, so it may be made anywhere.
    """

    def __init__(self, conf: cfg.ConfigOpts,
                 database: db_engine.Database) -> None:
        self._conf = conf.taskflow_executor
        self.kind: str = self._conf.jobboard
        self._database = database
        self._lock = threading.Lock()
        self._open: tuple[typing.Any, typing.Any] | None = None
        self._away = False
        self._retry_at = 0.0

    @property
    def outside(self) -> bool:
        """Whether the board is not the database itself."""
        return self.kind != SQL

    def __str__(self) -> str:
        if not self.outside:
            return 'the database'
        return f'{self.kind} at {", ".join(clients.addresses(self._conf))}'

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            found, self._open = self._open, None
        if found is not None:
            with contextlib.suppress(Exception):
                found[0].close()
            clients.close(self.kind, found[1])

    def _lost(self) -> None:
        """Begin anew with the next call, but not at once.

        A server that came back with nothing it knew takes no client from
        before, and who asks must not wait for each attempt.
        """
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self.close()

    # -- for who accepts imports

    def check(self) -> None:
        """:raises BoardAway: imports cannot be distributed now"""
        if self.outside:
            with self._answering():
                board, client = self._connected()
                clients.ping(self.kind, client)

    def post_new(self) -> None:
        """Post what was accepted and not posted yet.

        What cannot be posted now is posted by a conductor.
        """
        if self.outside:
            with self._database.write() as conn:
                ids = db_jobs.take_to_post(conn)
            self._post(ids)

    # -- for who runs them

    def offers(self, areas: collections.abc.Collection[str],
               limit: int, conductor: str | None = None, *,
               per_project: int = 0, per_store: int = 0,
               cancelled: bool = False) -> list[Offer]:
        """What may be claimed, whose turn it is first.

        Without what ``conductor`` has left to others, nor what would be more
        than may run at once of a project or to a store (0: any number), or
        only those that are to be cancelled.
        Whoever looks at the same moment may see the same.

        :raises BoardAway: the board does not answer
        """
        with self._database.read() as conn:
            busy = db_turns.running_in_stores(conn) if per_store else {}
            ids = db_turns.waiting(
                conn, areas=areas, limit=limit, conductor=conductor,
                share=per_project, cancelled=cancelled, full=[
                    store for store, running in busy.items()
                    if running >= per_store])
        if not ids:
            return []
        if not self.outside:
            return [Offer(job_id) for job_id in ids]
        postings = self._postings()
        lost = [job_id for job_id in ids if job_id not in postings]
        if lost and self._post_again(lost):
            postings = self._postings()
        return [Offer(job_id, postings[job_id][0]) for job_id in ids
                if job_id in postings]

    def claim(self, offer: Offer, *, token: str, conductor: str,
              seconds: int, area: str) -> db_jobs.Job | None:
        """The import, ours for so long; None when somebody was faster.

        :raises BoardAway: the board does not answer
        """
        if self.outside and not self._claim_posting(offer, token, seconds):
            return None
        job = self._claim_row(offer.job_id, token=token, conductor=conductor,
                              seconds=seconds, area=area)
        if job is None and self.outside:
            # The board had forgotten who runs it.
            self.abandon(offer, token)
        return job

    @db_engine.retried
    def _claim_row(self, job_id: str, **how: typing.Any
                   ) -> db_jobs.Job | None:
        with self._database.write() as conn:
            return db_jobs.claim(conn, job_id, **how)

    def renew(self, offer: Offer, seconds: int) -> None:
        """Keep the posting ours; the row's claim is what counts.

        :raises BoardAway: the board does not answer
        """
        if self.outside and self.kind != 'zookeeper':
            with self._answering():
                offer.posting.extend_expiry(seconds)

    def abandon(self, offer: Offer, token: str) -> None:
        """Leave the posting to others, if the board hears us."""
        self._give_up('abandon', offer, token)

    def consume(self, offer: Offer, token: str) -> None:
        """Take the posting off, if the board hears us."""
        self._give_up('consume', offer, token)

    def free(self, tokens: dict[str, str]) -> None:
        """Abandon the postings of a dead conductor: import -> its token."""
        if not self.outside or not tokens:
            return
        with contextlib.suppress(BoardAway):
            postings = self._postings()
            for job_id, token in tokens.items():
                for posting in postings.get(job_id, ()):
                    self.abandon(Offer(job_id, posting), token)

    def reconcile(self, token: str, seconds: int) -> None:
        """Take off what no row knows any more, and what is posted twice.

        :raises BoardAway: the board does not answer
        """
        if not self.outside:
            return
        self.post_new()
        postings = self._postings()
        with self._database.read() as conn:
            known = db_jobs.known(conn, postings)
        for job_id, found in postings.items():
            for posting in found[1 if job_id in known else 0:]:
                offer = Offer(job_id, posting)
                if self._claim_posting(offer, token, seconds):
                    self.consume(offer, token)
                    LOG.info('took the posting of import %s off the board: '
                             '%s', job_id, 'it is there twice'
                             if job_id in known else 'it has ended')

    # -- the board itself

    def _claim_posting(self, offer: Offer, token: str,
                       seconds: int) -> bool:
        from taskflow import exceptions as taskflow_exc
        board, _client = self._connected()
        terms = {} if self.kind == 'zookeeper' else {'expiry': seconds}
        with self._answering():
            try:
                board.claim(offer.posting, token, **terms)
            except (taskflow_exc.UnclaimableJob, taskflow_exc.NotFound):
                return False
        return True

    def _give_up(self, how: str, offer: Offer, token: str) -> None:
        if not self.outside:
            return
        from taskflow import exceptions as taskflow_exc
        with contextlib.suppress(BoardAway), self._answering():
            board, _client = self._connected()
            with contextlib.suppress(taskflow_exc.NotFound):
                getattr(board, how)(offer.posting, token)

    def _post_again(self, lost: collections.abc.Collection[str]) -> bool:
        """Post what is not on the board and nobody is just posting."""
        with self._database.write() as conn:
            ids = db_jobs.take_to_post(conn, lost, seconds=POST_SECONDS)
        self._post(ids)
        return bool(ids)

    def _post(self, ids: collections.abc.Collection[str]) -> None:
        if not ids:
            return
        try:
            with self._answering():
                board, _client = self._connected()
                for job_id in ids:
                    board.post(f'import-{job_id}', details={KEY: job_id})
        except BoardAway:
            with self._database.write() as conn:
                db_jobs.note_unposted(conn, ids)
            raise

    def _postings(self) -> dict[str, list[typing.Any]]:
        """Import -> its postings, normally one."""
        found: dict[str, list[typing.Any]] = {}
        with self._answering():
            board, _client = self._connected()
            for posting in board.iterjobs(ensure_fresh=True):
                job_id = (posting.details or {}).get(KEY)
                if isinstance(job_id, str):
                    found.setdefault(job_id, []).append(posting)
        return found

    def _connected(self) -> tuple[typing.Any, typing.Any]:
        """(taskflow's board, the client it talks through)."""
        if self._open is None and time.monotonic() < self._retry_at:
            raise BoardAway(AWAY)
        with self._answering(), self._lock:
            if self._open is None:
                self._open = self._connect()
            return self._open

    def _connect(self) -> tuple[typing.Any, typing.Any]:
        from taskflow.jobs import backends
        client, options = clients.make(self.kind, self._conf)
        try:
            board = backends.fetch(
                'imports', {'board': self.kind, **options}, client=client)
            board.connect()
            clients.ping(self.kind, client)
        except BaseException:
            clients.close(self.kind, client)
            raise
        return board, client

    @contextlib.contextmanager
    def _answering(self) -> collections.abc.Iterator[None]:
        """Say in one line that the board is away, and when it is back."""
        from taskflow import exceptions as taskflow_exc
        try:
            yield
        except (BoardAway, taskflow_exc.NotFound,
                taskflow_exc.UnclaimableJob, *db_engine.ERRORS):
            raise
        except Exception as failure:
            if isinstance(failure, clients.OURS):
                raise
            reason = clients.reason(failure)
            if not self._away:
                LOG.error('the job board %s does not answer: %s', self,
                          reason)
            self._away = True
            self._lost()
            raise BoardAway(AWAY) from failure
        else:
            if self._away:
                LOG.info('the job board %s answers again', self)
            self._away = False
