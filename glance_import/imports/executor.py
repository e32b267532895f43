"""Runs one claimed import with taskflow, from where it stands to its end.

What earlier leases recorded is resumed: finished steps keep their results, and
a flow that was being reverted is reverted to its end. However the flow ends,
the image is left as the domain says, with the reason in words; what an attempt
leaves on disk besides is removed here. Knows flows and the domain; the
conductor above decides when and how many.
"""

from __future__ import annotations

import collections.abc
import concurrent.futures
import contextlib
import dataclasses
import time
import typing

from oslo_log import log
from taskflow import engines
from taskflow import exceptions as taskflow_exc
from taskflow import flow as flow_base
from taskflow import states as taskflow_states
from taskflow.types import failure as failures

from glance_import.conf import overlay
from glance_import import context
from glance_import.db import engine as db_engine
from glance_import.db import jobs as db_jobs
from glance_import.domain import telling
from glance_import import errors
from glance_import.imports import admission
from glance_import.imports import ending
from glance_import.imports import flow as import_flow
from glance_import.imports import holding
from glance_import.imports import outcome as outcomes
from glance_import.imports import recording
from glance_import.imports import runtime
from glance_import.imports import steps
from glance_import.observe import events
from glance_import.plugin import entry_points
from glance_import.plugin import snapshot
from glance_import import services
from glance_import import states

LOG = log.getLogger(__name__)
NAME = 'taskflow'


Interrupted = runtime.Interrupted


class LeftAlone(Exception):
    """The import cannot be gone on with here, and must not be touched."""


class TaskFlowExecutor:
    """One for a process; ``run`` is called in a thread for each import."""

    def __init__(self, services: services.Services) -> None:
        self._services = services
        self._backend = recording.Backend(services.db)
        options = services.conf.taskflow_executor
        self._mode = options.engine_mode
        self._pool = None
        if self._mode == 'parallel':
            # One pool for all flows: a pool made for each costs a second
            # when taskflow's own is shut down.
            self._pool = concurrent.futures.ThreadPoolExecutor(
                options.max_workers, thread_name_prefix='import-step')

    def close(self) -> None:
        """Let go of the threads; running steps are not waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def run(self, job: db_jobs.Job, lease: db_jobs.Lease,
            stopped: runtime.Stop) -> None:
        """Run or finish an import.

        :raises errors.LeaseLost: somebody else has it; nothing was written
        :raises Interrupted: ``stopped`` was set; the job can be given back
        :raises snapshot.NotHonoured: nor can its plugins be had here
        :raises holding.Held: it waits for an operator, and is not ours any
            more
        :raises LeftAlone: another release must go on with it
        :raises oslo_db.exception.DBError: the database is away; likewise
        """
        ctx = context.RequestContext(
            user_id=job.user_id, project_id=job.project, roles=job.roles,
            request_id=job.request_id, read_only=False)
        rt = runtime.Runtime(self._services, job, lease, ctx, stopped)
        if job.first:
            image, task = telling.records(self._services, job.image_id,
                                          job.id)
            self._services.events.tell(events.ImportBegun(
                job.id, job.image_id, job.method, job.waited or 0.0, image,
                task))
        held = None
        try:
            self._bring_to_an_end(rt)
        except holding.Held as failure:
            held = failure
        except (errors.LeaseLost, Interrupted):
            ending.clean_up_lost(self._services, lease, rt.job.image_id)
            raise
        except LeftAlone:
            raise
        except Exception as failure:
            if db_engine.may_pass(failure):
                raise
            LOG.exception('import %s: unexpected error', job.id)
            self._fail(rt, outcomes.internal(type(failure).__name__,
                                             job.request_id))
        if held is not None:
            holding.suspend(rt, held)
            raise held
        ending.close(self._services, lease)

    def _bring_to_an_end(self, rt: runtime.Runtime) -> None:
        job = rt.job
        # One that was never begun has neither ended nor been recorded.
        ended = None if job.first else ending.status(self._services, job)
        limit = self._services.conf.taskflow_executor.max_attempts
        if ended == states.SUCCESS and job.attempts <= limit:
            # What comes after the image is active may be left to do.
            with contextlib.suppress(snapshot.NotHonoured):
                self._attempt(rt)
        if ended is not None:
            LOG.info('import %s had ended before its conductor died', job.id)
            ending.clean_up_ended(self._services, rt.lease, job.image_id)
        elif job.damaged:
            self._fail(rt, outcomes.Outcome(
                'lost.record',
                f"its entry in the database is damaged ('{job.damaged}' "
                'cannot be read), so it cannot be run; ask for it again '
                f'(reference {job.request_id})'))
        elif job.attempts > limit:
            self._fail(rt, outcomes.Outcome(
                'lost.conductor',
                f'it was begun {job.attempts - 1} times, and each time the '
                'process that ran it died'
                + (f' in the step {job.step}' if job.step else '')
                + f' (reference {job.request_id})'))
        else:
            self._attempt(rt)

    def _attempt(self, rt: runtime.Runtime) -> None:
        known: list[outcomes.Outcome] = []
        owners: dict[str, str] = {}

        def explain(atom: str, failure: failures.Failure
                    ) -> outcomes.Outcome:
            known.append(self._outcome(rt, owners, atom, failure.exception))
            return known[-1]

        record = recording.Record(self._backend, rt, explain)
        if not self._can_go_on(rt, record) or not self._configure(rt):
            return
        flow = self._build(rt)
        if flow is None:
            return
        owners.update(import_flow.owners(flow))
        steps.guard(flow, rt)
        tasks = list(steps.tasks(flow))
        record.plan = recording.Plan.of(tasks, owners)
        products = _files_given(flow, record.flow)
        engine = engines.load(
            flow, engine=self._mode, backend=record,
            flow_detail=record.flow or record.begin(
                flow.name, [each.name for each in tasks]),
            **({'executor': self._pool} if self._pool is not None else {}))
        recording.lighten(engine.storage)
        begun: list[str] = []
        _time_steps(engine, rt, tasks, owners)
        engine.atom_notifier.register(
            taskflow_states.RUNNING,
            lambda _state, details: self._note_step(
                rt, record, owners, details.get('task_name'), begun))
        engine.atom_notifier.register(
            taskflow_states.SUCCESS,
            lambda _state, details: products.extend(
                _provided_file(engine, details)))
        try:
            engine.run()
        except BaseException as failure:
            # Also a step that wants to end the process (SystemExit).
            self._fail(rt, self._reverted(rt, engine, owners, failure, begun,
                                          known))
        # Only now: whoever goes on with an interrupted flow needs them.
        self._remove_products(rt, products)

    def _can_go_on(self, rt: runtime.Runtime,
                   record: recording.Record) -> bool:
        """Whether there is anything to run; otherwise the import has ended.

        :raises LeftAlone: another release has recorded it
        """
        cancelled = rt.job.cancel
        try:
            flow = None if rt.job.first else record.load()
        except recording.OtherVersion as failure:
            if not cancelled:
                raise LeftAlone(str(failure)) from failure
            flow = None
        except recording.Unreadable as failure:
            self._fail(rt, outcomes.Outcome(
                'lost.record',
                f'it cannot be gone on with: {failure}; ask for it again '
                f'(reference {rt.job.request_id})'))
            return False
        if flow is None and cancelled:
            self._fail(rt, outcomes.CANCELLED)
            return False
        if flow is not None and flow.state == taskflow_states.REVERTED:
            # Its conductor died between the last step back and the end;
            # taskflow would run it once more.
            self._fail(rt, _known_before(rt))
            return False
        if cancelled:
            # What was done is undone: the next step refuses to begin.
            rt.stopped.cancel()
        return True

    def _configure(self, rt: runtime.Runtime) -> bool:
        """Have the import run with the options that it was asked for with.

        Whether there is anything to run; a cancelled one ends here if it
        cannot be run, and so cannot be reverted step by step.

        :raises snapshot.NotHonoured: that is not possible here
        """
        services, job = self._services, rt.job
        try:
            rt.snapshot = snapshot.load(job.snapshot, job.plugins)
            rt.plugins = services.honour(rt.snapshot)
        except snapshot.NotHonoured:
            if not job.cancel:
                raise
            self._fail(rt, outcomes.CANCELLED)
            self._remove_products(rt, [])
            return False
        conf = overlay.over(services.conf, rt.snapshot.options)
        rt.services = dataclasses.replace(
            services, conf=conf, adviser=services.adviser.judging_by(conf))
        return True

    def _build(self, rt: runtime.Runtime) -> flow_base.Flow | None:
        """The flow; None when it cannot be made, which fails the import."""
        job = rt.job
        try:
            make = entry_points.load(entry_points.FLOWS, admission.TASK_TYPE)
            with runtime.use(rt):
                return typing.cast(flow_base.Flow, make(
                    task_id=job.id, task_type=admission.TASK_TYPE,
                    image_id=job.image_id, method=job.method,
                    import_req=job.request, plugins=job.plugins,
                    backend=job.stores or [None]))
        except (outcomes.PluginFailed, errors.ImportFailed) as failure:
            self._fail(rt, self._outcome(rt, {}, None, failure))
        except entry_points.ExtensionError as failure:
            self._fail(rt, outcomes.Outcome(outcomes.INTERNAL, str(failure)))
        except Exception as failure:
            LOG.exception('the flow of import %s cannot be built', job.id)
            self._fail(rt, outcomes.internal(type(failure).__name__,
                                             job.request_id))
        return None

    def _note_step(self, rt: runtime.Runtime, record: recording.Record,
                   owners: dict[str, str], atom: str | None,
                   begun: list[str]) -> None:
        """Say which plugin is about to run, should it take us down."""
        begun.append(atom or '')
        plugin = owners.get(atom or '')
        if plugin is None:
            return
        rt.stopped.step = f'plugin {plugin}'
        if atom in record.plan.dangerous:
            record.note(rt.stopped.step)

    def _reverted(self, rt: runtime.Runtime, engine, owners: dict[str, str],
                  failure: BaseException, begun: list[str],
                  known: list[outcomes.Outcome]) -> outcomes.Outcome:
        """What a flow that failed, and was reverted, comes to.

        :param known: of steps that failed under this lease
        :raises errors.LeaseLost, Interrupted: it neither failed nor ended
        :raises oslo_db.exception.DBError: likewise
        """
        step, cause = _first_failure(engine, failure)
        for each in (failure, cause):
            if isinstance(each, (errors.LeaseLost, Interrupted)) \
                    or db_engine.may_pass(each):
                raise each
        if rt.stopped.handed_over:
            raise Interrupted(rt.job.id)
        if rt.stopped.cancelled:
            return outcomes.CANCELLED
        if known:
            return known[-1]
        if isinstance(cause, taskflow_exc.WrappedFailure):
            # It failed under an earlier lease.
            return _known_before(rt)
        if step is None and begun and not isinstance(
                cause, taskflow_exc.TaskFlowException):
            step = begun[-1]
        return self._outcome(rt, owners, step, cause)

    def _outcome(self, rt: runtime.Runtime, owners: dict[str, str],
                 step: str | None, cause: BaseException) -> outcomes.Outcome:
        """What a failure comes to; whatever it does not say is logged."""
        if rt.stopped.cancelled:
            return outcomes.CANCELLED
        plugin, reference = owners.get(step or ''), rt.job.request_id
        found = (outcomes.of_wiring(cause, owners, reference)
                 or outcomes.of(cause, plugin=plugin, reference=reference))
        if plugin is not None and not isinstance(cause,
                                                 outcomes.PluginFailed):
            LOG.error('plugin %s failed in import %s', plugin, rt.job.id,
                      exc_info=cause)
        elif found.code == outcomes.INTERNAL:
            LOG.error('import %s failed in %s', rt.job.id, step,
                      exc_info=cause)
        return found

    def _fail(self, rt: runtime.Runtime, outcome: outcomes.Outcome) -> None:
        ending.fail(self._services, rt.lease, rt.job.image_id, outcome,
                    rt.times, rt.failed)

    def _remove_products(self, rt: runtime.Runtime,
                         products: list[str]) -> None:
        """Delete the files that plugins put in place of the staged one.

        The original itself stays until the image is active; a store deletes
        nothing it has taken, since what it keeps is a file of its own.
        """
        keep = {self._services.area.path(rt.job.image_id)}
        if rt.job.plugins:
            products = products + [
                steps.SCHEME + each.path
                for each in self._services.area.products()
                if each.image_id == rt.job.image_id
                and each.epoch <= rt.lease.epoch]
        for uri in products:
            with contextlib.suppress(ValueError, OSError):
                path = steps.local_path(uri)
                if path not in keep and not self._services.stores.owns(path):
                    steps.remove_file(path)


def _time_steps(engine, rt: runtime.Runtime,
                tasks: collections.abc.Iterable[typing.Any],
                owners: dict[str, str]) -> None:
    """Note how long each step takes, by a label that tells no image."""
    labels = {each.name: (each.label if isinstance(each, steps.Step)
                          else f'plugin {owners.get(each.name, "")}'.strip())
              for each in tasks}
    begun: dict[str, float] = {}

    def begin(_state: str, details: dict[str, typing.Any]) -> None:
        begun[details['task_name']] = time.monotonic()
        rt.stopped.at = labels.get(details['task_name'])

    def end(state: str, details: dict[str, typing.Any]) -> None:
        since = begun.pop(details['task_name'], None)
        label = labels.get(details['task_name'])
        if since is not None and label is not None:
            rt.times[label] = (rt.times.get(label, 0.0)
                               + time.monotonic() - since)
        if state == taskflow_states.FAILURE:
            rt.failed = label

    for state, listener in ((taskflow_states.RUNNING, begin),
                            (taskflow_states.SUCCESS, end),
                            (taskflow_states.FAILURE, end)):
        engine.atom_notifier.register(state, listener)


def _first_failure(engine, failure: BaseException
                   ) -> tuple[str | None, BaseException]:
    """(atom, exception) of what made the flow fail."""
    try:
        failures = dict(engine.storage.get_execute_failures())
    except Exception:
        failures = {}
    for atom, found in failures.items():
        if found.exception is not None:
            return atom, found.exception
    if isinstance(failure, taskflow_exc.WrappedFailure):
        for found in failure:
            if found.exception is not None:
                return None, found.exception
    return None, failure


def _known_before(rt: runtime.Runtime) -> outcomes.Outcome:
    """What an earlier lease left in the job."""
    if not rt.job.message:
        return outcomes.internal(None, rt.job.request_id)
    return outcomes.Outcome(rt.job.code or 'failed', rt.job.message)


def _files_given(flow: flow_base.Flow, recorded) -> list[str]:
    """The file_path of each step that an earlier lease finished."""
    results = {each.name: each.results for each in recorded or ()
               if each.state == taskflow_states.SUCCESS}
    return [path for step in steps.tasks(flow)
            for path in _file_given(step, results.get(step.name))]


def _provided_file(engine, details: dict[str, typing.Any]) -> list[str]:
    """The file_path that a step gave when it succeeded, if it gave one.

    Asked at once, since a step that is reverted loses its result.
    """
    for node in engine.compilation.execution_graph.nodes:
        if node.name == details.get('task_name'):
            return _file_given(node, details.get('result'))
    return []


def _file_given(step: typing.Any, result: typing.Any) -> list[str]:
    if 'file_path' not in getattr(step, 'save_as', {}):
        return []
    index = step.save_as['file_path']
    if index is not None and not isinstance(result, str):
        with contextlib.suppress(LookupError, TypeError):
            result = result[index]
    return [result] if isinstance(result, str) else []
