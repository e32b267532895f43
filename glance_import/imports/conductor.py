"""Takes imports from the job board and runs them, a bounded number at once.

A lease has a token and an epoch and is renewed by a heartbeat; who loses it
stops and writes nothing. One conductor a node holds the node's lock, and so
knows at its start that whatever its predecessor had leased is free again.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import fcntl
import itertools
import os
import select
import socket
import threading
import time
import typing
import uuid

from oslo_config import cfg
from oslo_log import log

from glance_import.db import engine as db_engine
from glance_import.db import jobs as db_jobs
from glance_import.domain import deletions
from glance_import import errors
from glance_import import housekeeping
from glance_import.imports import announcer
from glance_import.imports import ending
from glance_import.imports import executor
from glance_import.imports import holding
from glance_import.imports import outcome
from glance_import.imports import runtime
from glance_import import jobboard
from glance_import.observe import events
from glance_import.plugin import snapshot
from glance_import import services
from glance_import import state

LOG = log.getLogger(__name__)
LOCK_FILE = 'conductor.lock'
HOUSEKEEPING_MINUTES = 10
# Between two comparisons of a board outside the database with the database.
RECONCILE_SECONDS = 30
# What a step that is told to stop may still take.
STOP_SECONDS = 1.0
# Between two looks at an import that another release must go on with.
LEFT_ALONE_SECONDS = 60.0


@dataclasses.dataclass(slots=True)
class _Work:
    """An import that is ours now."""

    offer: jobboard.Offer
    lease: db_jobs.Lease
    stopped: runtime.Stop
    lost: bool = False


class Conductor:
    """``run`` until ``stop``; safe to stop from a signal handler."""

    def __init__(self, services: services.Services) -> None:
        options = services.conf.taskflow_executor
        self._services = services
        self._board = services.board
        self._expiry = options.claim_expiry
        self._poll = options.poll_interval
        self._slots = options.max_workers
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._running: dict[str, _Work] = {}
        # What is to be given back when the database answers again.
        self._owed: dict[str, _Work] = {}
        self._wakened = threading.Event()
        # Said once, not with each of its looks.
        self._database_away = False
        self._executor = executor.TaskFlowExecutor(services)
        self._pool = concurrent.futures.ThreadPoolExecutor(
            self._slots, thread_name_prefix='import')
        self._wake_fd = _open_fifo(services.conf)
        self._node_lock, self.node = take_node_lock(services.conf.state_path)
        self.name = f'{self.node}:{os.getpid()}:{uuid.uuid4().hex[:8]}'
        self._announcer = announcer.Announcer(services, self.name, self.node)
        # Set when the others know of us, and called with each look for work.
        self.announced = threading.Event()
        self.at_work: typing.Callable[[], object] = lambda: None
        # Imports whose steps had not ended when ``run`` did.
        self.left_behind: list[str] = []

    def run(self, *, patience: float = 60.0) -> None:
        """Work until stopped, then give back what is not done.

        :param patience: seconds running steps may still take at the end
        """
        LOG.info('conductor %s runs up to %d imports at once, job board: %s',
                 self.name, self._slots, self._board)
        # None may wait for a board, a directory or a store that is slow.
        for task in (self._heartbeat, self._watch_for_stops, self._keep_house,
                     self._announce):
            threading.Thread(target=task, daemon=True,
                             name=task.__name__.strip('_')).start()
        self._release_predecessor()
        reconcile_at = 0.0
        while not self._stop.is_set():
            self.at_work()
            self._guarded(self._give_back_owed)
            claimed = self._guarded(self._claim_some) or 0
            if time.monotonic() >= reconcile_at:
                self._guarded(lambda: self._board.reconcile(
                    f'{self.name}:reconciler', self._expiry))
                reconcile_at = time.monotonic() + RECONCILE_SECONDS
            if not claimed:
                self._wait()
        self._end(patience)

    def stop(self) -> None:
        """End soon; running imports are handed over."""
        self._stop.set()
        services.poke(self._services.conf)

    def running(self) -> list[str]:
        """A line about each import that this conductor runs."""
        with self._lock:
            running = list(self._running.values())
        return [f'{work.lease.job_id}: {work.stopped.at or "to begin"}'
                f', epoch {work.lease.epoch}'
                + (', is to stop' if work.stopped.is_set() else '')
                for work in running]

    # -- finding work

    def _release_predecessor(self) -> None:
        """Free the leases of this node's dead conductor.

        Only with the node's lock, which proves that it is dead.
        """
        if self._node_lock is None:
            return

        def release() -> int:
            with self._services.db.write() as conn:
                tokens = db_jobs.tokens_of_node(conn, self.node)
                db_jobs.release_node(conn, self.node)
            self._board.free(tokens)
            return len(tokens)

        freed = self._guarded(release)
        if freed:
            LOG.info('took over %d imports of the conductor before this one',
                     freed)

    def _claim_some(self) -> int:
        """Claim as many jobs as there are free slots.

        How many it got, or 0 where there is no more to be had now: whoever
        posts another, or makes room for one, wakes us.
        """
        with self._lock:
            free = self._slots - len(self._running)
            mine = {*self._running, *self._owed}
        if free <= 0:
            return 0
        options = self._services.conf.taskflow_executor
        per_store = options.max_running_imports_per_store
        limit = free + len(mine)
        offers = self._board.offers(
            [self._services.area.id], limit, self.name,
            per_project=options.max_running_imports_per_project,
            per_store=per_store, cancelled=not self._announcer.may_take())
        if self._database_away:
            self._database_away = False
            LOG.info('the database answers again')
        # Never what still runs here, whatever became of its lease.
        new = [offer for offer in offers if offer.job_id not in mine][:free]
        if per_store:
            # How many run there is looked at before each.
            new = new[:1]
        ours = self._announcer.sift(new)
        # What was refused now makes room for others at once.
        got = sum(map(self._claim_one, ours)) + len(new) - len(ours)
        is_all = (len(offers) < limit and len(ours) == len(new)
                  and not per_store)
        return 0 if is_all else got

    def _claim_one(self, offer: jobboard.Offer) -> int:
        token = uuid.uuid4().hex
        job = self._board.claim(
            offer, token=token, conductor=self.name, seconds=self._expiry,
            area=self._services.area.id)
        if job is None:
            return 0
        work = _Work(offer, db_jobs.Lease(offer.job_id, token, job.epoch),
                     runtime.Stop())
        with self._lock:
            self._running[offer.job_id] = work
        self._pool.submit(self._run_one, job, work)
        return 1

    def _wait(self) -> None:
        """Until somebody wakes us, or it is time to look again."""
        ready, _, _ = select.select([self._wake_fd], [], [], self._poll)
        if ready:
            try:
                os.read(self._wake_fd, 4096)
            except BlockingIOError:
                pass
            self._wakened.set()

    def _guarded(self, action):
        """Do something whose failure must not end the conductor."""
        try:
            return action()
        except jobboard.BoardAway:
            # Said once, by the board.
            pass
        except db_engine.ERRORS as failure:
            if not self._database_away:
                LOG.warning('the database does not answer: %s',
                            db_engine.one_line(failure))
            self._database_away = db_engine.may_pass(failure)
        except Exception:
            LOG.exception('unexpected error in the conductor')
        self._stop.wait(min(self._poll, 1.0))
        return None

    # -- stopping it

    def _watch_for_stops(self) -> None:
        """In a thread: notice what is to stop, when woken or by itself."""
        while not self._stop.is_set():
            self._wakened.wait(min(self._poll, STOP_SECONDS))
            self._wakened.clear()
            self._guarded(self._check_running)

    def _check_running(self) -> None:
        """Stop what was cancelled, or whose image was deleted."""
        with self._lock:
            running = [work for work in self._running.values()
                       if not work.stopped.is_set()]
        if not running:
            return
        with self._services.db.read() as conn:
            going = db_jobs.not_stopped(
                conn, [work.lease for work in running])
        for work in running:
            job_id = work.lease.job_id
            if going.get(job_id):
                continue
            LOG.info('import %s is to be stopped', job_id)
            if job_id not in going:
                work.stopped.hand_over()
            else:
                work.stopped.cancel()
                threading.Timer(STOP_SECONDS, self._leave_behind,
                                [work.lease]).start()

    def _leave_behind(self, lease: db_jobs.Lease) -> None:
        """End a cancelled import whose step does not listen.

        A get_flow plugin runs in this process and cannot be interrupted. It
        loses its lease here, and with it the right to write anything.
        """
        with self._lock:
            if lease.job_id not in self._running:
                return

        def end() -> None:
            with self._services.db.read() as conn:
                job = db_jobs.get(conn, lease.job_id)
            if job is None or job.owner != lease.token:
                return
            ending.fail(self._services, lease, job.image_id,
                        outcome.CANCELLED)
            ending.close(self._services, lease)
        try:
            self._guarded(end)
        except errors.LeaseLost:
            pass

    # -- running it

    def _run_one(self, job: db_jobs.Job, work: _Work) -> None:
        try:
            self._executor.run(job, work.lease, work.stopped)
            self._board.consume(work.offer, work.lease.token)
        except errors.LeaseLost as failure:
            LOG.warning('%s', failure)
            self._tell_lost(work)
            self._board.abandon(work.offer, work.lease.token)
        except snapshot.NotHonoured as failure:
            refusal = failure
            self._guarded(lambda: self._refuse(work, refusal))
        except holding.Held:
            self._board.abandon(work.offer, work.lease.token)
        except executor.Interrupted:
            LOG.info('import %s is handed over', job.id)
            self._guarded(lambda: self._give_back(work))
        except executor.LeftAlone as failure:
            LOG.error('import %s is left alone: %s', job.id, failure)
            reason = str(failure)
            self._guarded(lambda: self._leave_alone(work, reason))
        except BaseException as failure:
            if db_engine.may_pass(failure):
                LOG.error('import %s waits: the database does not answer: '
                          '%s', job.id, db_engine.one_line(failure))
                with self._lock:
                    self._owed[job.id] = work
            else:
                # The lease runs out and the import is gone on with, until
                # max_attempts fails it with this in the log.
                LOG.exception('import %s: unexpected error', job.id)
        finally:
            with self._lock:
                del self._running[job.id]
            services.poke(self._services.conf)

    @db_engine.retried
    def _give_back(self, work: _Work) -> None:
        with self._services.db.write() as conn:
            db_jobs.release(conn, work.lease, refund_attempt=True)
        self._board.abandon(work.offer, work.lease.token)

    def _refuse(self, work: _Work, failure: snapshot.NotHonoured) -> None:
        """Since it was claimed, something has changed here."""
        self._announcer.refuse(work.lease.job_id, failure)
        self._give_back(work)

    @db_engine.retried
    def _leave_alone(self, work: _Work, reason: str) -> None:
        """For another release to go on with, or an operator to end."""
        with self._services.db.write() as conn:
            db_jobs.release(conn, work.lease, seconds=LEFT_ALONE_SECONDS,
                            message=reason, refund_attempt=True)
        self._board.abandon(work.offer, work.lease.token)

    def _give_back_owed(self) -> None:
        """What was to be given back while the database was away."""
        with self._lock:
            owed = list(self._owed.values())
        for work in owed:
            self._give_back(work)
            with self._lock:
                del self._owed[work.lease.job_id]

    def _keep_house(self) -> None:
        for minute in itertools.count():
            self._guarded(
                lambda: housekeeping.look_at_stores(self._services))
            if minute % HOUSEKEEPING_MINUTES == 0:
                self._guarded(lambda: housekeeping.clean(self._services))
            else:
                self._guarded(lambda: deletions.retry(self._services))
            if self._stop.wait(60):
                return

    def _announce(self) -> None:
        """In a thread: say that we live, and mind what we cannot run."""
        options = self._services.conf.taskflow_executor
        pause = min(announcer.SECONDS, options.hold_lifetime / 4,
                    options.unhonoured_import_lifetime / 4)
        while not self._stop.is_set():
            self._guarded(self._announce_once)
            if self._guarded(self._announcer.reconsider):
                services.poke(self._services.conf)
            self._guarded(self._announcer.end_unhonoured)
            self._guarded(lambda: holding.end_forgotten(self._services,
                                                        self.name))
            self._stop.wait(pause)

    def _announce_once(self) -> None:
        self._announcer.announce()
        self.announced.set()

    def _heartbeat(self) -> None:
        """Renew every lease three times as often as it must be."""
        while not self._stop.wait(self._expiry / 3):
            with self._lock:
                running = list(self._running.values())
            for work in running:
                self._renew(work)
            self._renew_postings(running)

    def _renew_postings(self, running: list[_Work]) -> None:
        """Whatever the board does, leases of rows go on being renewed."""
        for work in running:
            try:
                self._board.renew(work.offer, self._expiry)
            except jobboard.BoardAway:
                # Asking for the others too would cost their leases time.
                return
            except Exception as failure:
                # The board has lost it, say; it is posted again.
                LOG.debug('cannot renew the posting of import %s: %r',
                          work.lease.job_id, failure)

    def _renew(self, work: _Work) -> None:
        try:
            with self._services.db.write() as conn:
                held = db_jobs.extend(conn, work.lease, self._expiry,
                                      step=work.stopped.step)
        except Exception as failure:
            # It runs out by itself; the fence protects what it guarded.
            LOG.warning('cannot renew the lease of import %s: %s',
                        work.lease.job_id, db_engine.one_line(failure))
            return
        if not held:
            LOG.warning('import %s is no longer ours', work.lease.job_id)
            self._tell_lost(work)
            work.stopped.hand_over()

    def _tell_lost(self, work: _Work) -> None:
        """Once, however often it is found."""
        if not work.lost:
            work.lost = True
            self._services.events.tell(events.LeaseLost(work.lease.job_id))

    def _end(self, patience: float) -> None:
        with self._lock:
            running = list(self._running.values())
        for work in running:
            work.stopped.hand_over()
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with self._lock:
                if not self._running:
                    break
            time.sleep(0.02)
        with self._lock:
            self.left_behind = list(self._running)
        for job_id in self.left_behind:
            LOG.warning('import %s is left behind: what it has asked a store '
                        'or a disk has not been answered', job_id)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._executor.close()
        self._guarded(self._announcer.leave)
        LOG.info('conductor %s ends', self.name)


def take_node_lock(state_path: str) -> tuple[int | None, str]:
    """(descriptor or None, node id): the lock that one conductor holds.

    Who holds it knows that no other conductor of this node is alive. The
    node's id is kept in the locked file.
    """
    state.prepare(state_path)
    fd = state.open_file(state_path, LOCK_FILE, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        # Not the node's own name: nobody must free these leases but time.
        return None, f'{socket.gethostname()}-{uuid.uuid4().hex[:8]}'
    node = os.pread(fd, 64, 0).decode('ascii', 'replace').strip()
    if not node:
        node = str(uuid.uuid4())
        os.pwrite(fd, node.encode('ascii'), 0)
    return fd, node


def _open_fifo(conf: cfg.ConfigOpts) -> int:
    """The FIFO by which posters wake this node's conductor."""
    directory, name = services.wake_fifo(conf)
    state.prepare(directory)
    try:
        os.mkfifo(os.path.join(directory, name), 0o600)
    except FileExistsError:
        made = False
    else:
        made = True
    # For reading and writing, so that it never reports an end of file.
    fd = state.open_file(directory, name, os.O_RDWR | os.O_NONBLOCK)
    if made:
        state.share(fd, directory, 0o660)
    return fd
