"""What taskflow records of an import, in the service's own database.

taskflow's SQLAlchemy backend on our engine, with one connection for a lease:
its tables are built once (so that SQLAlchemy's cache of statements works),
and it writes only while the lease is in force. A record says which steps are
finished, with their results, and which way the flow goes. That a step runs is
not written: one that is not finished is begun again, whether it had begun or
not. Knows taskflow and the database, nothing of what the steps do.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import itertools
import threading
import typing

import sqlalchemy as sa
from taskflow.persistence.backends import impl_sqlalchemy
from taskflow.persistence.backends.sqlalchemy import tables as taskflow_tables
from taskflow.persistence import models
from taskflow import states
from taskflow import storage as taskflow_storage
from taskflow import task
from taskflow.types import failure as failures

from glance_import.db import engine as db_engine
from glance_import.db import leases
from glance_import.db import tables
from glance_import import errors
from glance_import.imports import outcome
from glance_import.imports import runtime

# Raise it when the steps of a flow change so that a flow that was begun by
# an earlier release cannot be gone on with.
VERSION = 1

TABLES = taskflow_tables.Tables(
    tables.import_logbooks, tables.import_flowdetails,
    tables.import_atomdetails)
_FLOWS, _ATOMS = TABLES.flowdetails, TABLES.atomdetails
_INSERT_ATOMS = sa.insert(_ATOMS)
_UPDATE_ATOM = sa.update(_ATOMS).where(
    _ATOMS.c.uuid == sa.bindparam('atom_uuid'))
_UPDATE_FLOW = sa.update(_FLOWS).where(
    _FLOWS.c.uuid == sa.bindparam('flow_uuid'))

# States that say no more than that the conductor was at it.
_PASSING = {states.RUNNING: states.PENDING, states.REVERTING: states.SUCCESS}
_BACK = (states.REVERTED, states.REVERT_FAILURE)
# Characters kept of the text of a failure.
_TEXT = 2000


class Unreadable(Exception):
    """A record that cannot be gone on with; the text says why."""


class OtherVersion(Unreadable):
    """A record made by another release, to be left alone."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What of a flow is worth a transaction of its own, by steps' names.

    A step that is cheap and safe to repeat is written together with the next
    one that is not. ``kept`` are those that nobody wants to do again, and
    ``undone`` those whose reversal nobody wants to do again. ``dangerous``
    ones may end this process, so that they are named before they begin;
    ``notes`` names the next such step with the record of the one before it.
    ``owned`` is all that is a plugin's.
    """

    kept: frozenset[str] = frozenset()
    undone: frozenset[str] = frozenset()
    dangerous: frozenset[str] = frozenset()
    notes: dict[str, str] = dataclasses.field(default_factory=dict)
    owned: frozenset[str] = frozenset()

    @classmethod
    def of(cls, steps: collections.abc.Sequence[task.Task],
           owners: collections.abc.Mapping[str, str]) -> Plan:
        """For the steps of a flow in their order.

        :param owners: whose they are, of those that are a plugin's
        """
        foreign = [step for step in steps if step.name in owners
                   and not hasattr(step, 'kept')]
        kept = [step for step in steps if getattr(step, 'kept', True)]
        return cls(
            kept=frozenset(step.name for step in kept),
            undone=frozenset(step.name for step in foreign
                             if _has_revert(step)),
            dangerous=frozenset(step.name for step in foreign),
            owned=frozenset(owners),
            notes={step.name: f'plugin {owners[following.name]}'
                   for step, following in itertools.pairwise(kept)
                   if following in foreign})


def _has_revert(step: task.Task) -> bool:
    if isinstance(step, task.FunctorTask):
        return step._revert is not None
    return type(step).revert is not task.Task.revert


class Backend(impl_sqlalchemy.SQLAlchemyBackend):
    """taskflow's backend on the service's engine."""

    def __init__(self, database: db_engine.Database) -> None:
        super().__init__({}, engine=database.engine)
        # The service has looked at its database itself.
        self._validated = True
        self.database = database


class Record(impl_sqlalchemy.Connection):
    """The record of one import under one lease; also its own backend.

    ``explain`` is given the name of a step and its failure and returns what
    the import comes to, which is kept in the job in the same transaction.
    """

    def __init__(self, backend: Backend, rt: runtime.Runtime,
                 explain: collections.abc.Callable[
                     [str, failures.Failure], outcome.Outcome]) -> None:
        # Not taskflow's: it would build new tables for each of these.
        self._backend = backend
        self._engine = backend.engine
        self._tables = TABLES
        self._converter = impl_sqlalchemy._Alchemist(TABLES)
        self._database = backend.database
        self._rt = rt
        self._explain = explain
        self._written: dict[str, dict[str, typing.Any]] = {}
        # What is written together with the next step.
        self._deferred: dict[str, dict[str, typing.Any]] = {}
        self._state: str | None = None
        self._kept = False
        self.plan = Plan()
        self._noted: str | None = None
        self.flow: models.FlowDetail | None = None

    # A backend has connections, and this is the only one there is.
    def get_connection(self) -> Record:
        return self

    def load(self) -> models.FlowDetail | None:
        """The flow as it was recorded; None when nothing is.

        :raises OtherVersion: another release has made it
        :raises Unreadable: it is damaged
        """
        try:
            flow = self._load()
        except (ValueError, TypeError, LookupError) as failure:
            raise Unreadable(
                'the record of its steps is damaged '
                f'({type(failure).__name__})') from failure
        if flow is None:
            return None
        version = (flow.meta or {}).get('version')
        if version != VERSION:
            raise OtherVersion(
                f'the record of its steps has the version {version!r}, and '
                f'this release goes on with version {VERSION} only')
        self._kept = True
        self._state = flow.state
        self._written = {atom.uuid: _essence(atom) for atom in flow}
        self.flow = flow
        return flow

    def _load(self) -> models.FlowDetail | None:
        with self._database.read() as conn:
            row = conn.execute(sa.select(_FLOWS).where(
                _FLOWS.c.uuid == self._rt.job.id)).first()
            if row is None:
                return None
            flow = self._converter.convert_flow_detail(row._mapping)
            self._converter.populate_flow_detail(conn, flow)
            return flow

    def begin(self, name: str, steps: list[str]) -> models.FlowDetail:
        """A flow of which nothing is recorded yet.

        :param steps: names of its steps in order, for people to read
        """
        self.flow = models.FlowDetail(name, self._rt.job.id)
        self.flow.meta = {'version': VERSION, 'steps': steps}
        return self.flow

    # -- what taskflow calls

    def note(self, step: str) -> None:
        """Write what the import is at before that begins, if it is not."""
        if step != self._noted:
            self._write({}, {'step': step})
            self._noted = step

    def update_flow_details(self, flow_detail: models.FlowDetail
                            ) -> models.FlowDetail:
        """Write that the flow was reverted; steps go with what is kept."""
        if (flow_detail.state == states.REVERTED
                and self._state != states.REVERTED):
            with self._leased() as conn:
                self._begin_book(conn, flow_detail)
                conn.execute(_UPDATE_FLOW, {
                    'flow_uuid': flow_detail.uuid,
                    'state': flow_detail.state})
            self._book_begun(flow_detail)
            self._state = flow_detail.state
        return flow_detail

    def update_atom_details(self, atom_detail: models.AtomDetail
                            ) -> models.AtomDetail:
        """Write what a step came to, or which way it shall go.

        A step that ended because the lease is lost, the import is handed
        over or the database is away has not failed: that exception comes out
        of here, and stops the engine.

        :raises errors.Interrupted, errors.LeaseLost: as above
        :raises oslo_db.exception.DBError: as above
        """
        essence = _essence(atom_detail)
        if self._written.get(atom_detail.uuid) == essence:
            self._deferred.pop(atom_detail.uuid, None)
            return atom_detail
        changes: dict[str, typing.Any] = {}
        if atom_detail.state == states.SUCCESS:
            if atom_detail.intention != states.EXECUTE \
                    or not self._is_kept(atom_detail):
                self._deferred[atom_detail.uuid] = essence
                return atom_detail
            # It gets on: what is counted is how often one step was begun.
            changes = {'attempts': 1, 'retries': 0}
            note = self.plan.notes.get(atom_detail.name)
            if note is not None:
                changes['step'] = self._noted = note
        elif self._rt.stopped.handed_over:
            raise errors.Interrupted(self._rt.job.id)
        cause = getattr(atom_detail.failure, 'exception', None)
        before = self._written.get(atom_detail.uuid, {}).get('state')
        failed = atom_detail.state == states.FAILURE != before
        if failed and cause is not None:
            if (isinstance(cause, (errors.LeaseLost, errors.Interrupted))
                    or db_engine.may_pass(cause)):
                raise cause
            said = self._explain(atom_detail.name, atom_detail.failure)
            changes = {'message': str(said), 'code': said.code}
        elif atom_detail.state != states.SUCCESS and not (
                atom_detail.state in _BACK
                and atom_detail.name in self.plan.undone):
            # It is begun, or on its way back, which follows from a failure.
            self._deferred[atom_detail.uuid] = essence
            return atom_detail
        self._write({atom_detail.uuid: essence}, changes)
        return atom_detail

    def _is_kept(self, atom: models.AtomDetail) -> bool:
        if isinstance(atom, models.RetryDetail):
            # A controller of a plugin's: how often it has tried.
            return atom.name in self.plan.owned and any(
                failed for _data, failed in atom.results)
        return atom.name in self.plan.kept

    @db_engine.retried
    def _write(self, atoms: dict[str, dict[str, typing.Any]],
               changes: dict[str, typing.Any]) -> None:
        assert self.flow is not None
        wanted = {**self._deferred, **atoms}
        with self._leased(**changes) as conn:
            inserted = self._begin_book(conn, self.flow, wanted)
            for each, values in wanted.items():
                if each in inserted:
                    continue
                conn.execute(_UPDATE_ATOM, {'atom_uuid': each, **values})
            for write in self._rt.unwritten:
                write(conn)
        self._rt.unwritten.clear()
        self._book_begun(self.flow)
        self._written |= wanted
        self._deferred.clear()

    def _begin_book(self, conn: sa.Connection, flow: models.FlowDetail,
                    wanted: collections.abc.Mapping[
                        str, dict[str, typing.Any]] = {}) -> set[str]:
        """What is not in the database yet of the flow and its steps.

        :param wanted: what is to be written of some of them
        """
        if not self._kept:
            self._insert_book(conn, flow)
        new = [atom for atom in flow if atom.uuid not in self._written]
        if new:
            conn.execute(_INSERT_ATOMS, [
                {**(wanted.get(atom.uuid) or _essence(atom)),
                 'uuid': atom.uuid, 'name': atom.name,
                 'meta': {}, 'parent_uuid': flow.uuid,
                 'atom_type': models.atom_detail_type(atom)}
                for atom in new])
        return {atom.uuid for atom in new}

    def _book_begun(self, flow: models.FlowDetail) -> None:
        """The transaction of ``_begin_book`` is committed."""
        self._kept = True
        for atom in flow:
            self._written.setdefault(atom.uuid, _essence(atom))

    def _insert_book(self, conn: sa.Connection,
                     flow: models.FlowDetail) -> None:
        conn.execute(sa.insert(TABLES.logbooks), {
            'uuid': flow.uuid, 'name': flow.name, 'meta': flow.meta,
            'created_at': db_engine.utcnow()})
        conn.execute(sa.insert(_FLOWS), {
            'uuid': flow.uuid, 'parent_uuid': flow.uuid, 'name': flow.name,
            'meta': flow.meta, 'created_at': db_engine.utcnow()})

    def _leased(self, **values: typing.Any
                ) -> contextlib.AbstractContextManager[sa.Connection]:
        return leases.writing(self._database, self._rt.lease, **values)


class _OneAtATime:
    """In place of a lock of readers and writers, at a tenth of its cost."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def read_lock(self) -> contextlib.AbstractContextManager[typing.Any]:
        return self._lock

    write_lock = read_lock


def lighten(storage: taskflow_storage.Storage) -> None:
    """Spare an engine what makes no difference to a ``Record``.

    That is most of what taskflow does for a step: each question takes a lock
    by way of four calls, each note goes through a controller of retries that
    a Record does by itself, and progress is kept that nobody reads.
    """
    def save(record: Record, known: models.AtomDetail,
             changed: models.AtomDetail) -> models.AtomDetail:
        known.update(record.update_atom_details(changed))
        return known

    vars(storage).update(
        _lock=_OneAtATime(), _save_atom_detail=save,
        set_task_progress=lambda name, progress, details=None: None)


def _essence(atom: models.AtomDetail) -> dict[str, typing.Any]:
    """What is worth keeping of a step, as columns."""
    found = atom.to_dict()
    state = _PASSING.get(found['state'], found['state'])
    if (found['state'] == states.REVERTING
            and found['failure'] is not None):
        state = states.FAILURE
    results = found['results']
    if isinstance(atom, models.RetryDetail):
        results = [[data, {name: _short(each) for name, each
                           in failed.items()}]
                   for data, failed in results or ()]
    return {
        'state': state, 'intention': found['intention'],
        'version': found['version'], 'results': results,
        'failure': _short(found['failure']),
        'revert_results': found['revert_results'],
        'revert_failure': _short(found['revert_failure'])}


def _short(failure: dict[str, typing.Any] | None
           ) -> dict[str, typing.Any] | None:
    """A failure without what may be secret, long, or no JSON.

    Its trace is in the log of the conductor that met it.
    """
    if failure is None:
        return None
    return {**failure, 'exception_str': failure['exception_str'][:_TEXT],
            'traceback_str': '', 'exc_args': [], 'causes': []}
