"""Around each step of a flow: may it begin, what came of it, once more?

A step that meets a fault which may pass (a store that does not answer, a
database that restarts) is tried again, a bounded number of times with longer
and longer pauses; how often is kept in the job, so that it survives a restart
and can be seen. What a step gives must be plain JSON, since it is recorded.
"""

from __future__ import annotations

import functools
import json
import typing

from oslo_log import log
from taskflow import flow as flow_base
from taskflow import task

from glance_import.db import engine as db_engine
from glance_import.db import jobs as db_jobs
from glance_import import errors
from glance_import.imports import runtime
from glance_import.stores import base as stores

LOG = log.getLogger(__name__)
MAX_SECONDS = 30.0


class NotPlain(errors.ImportFailed):
    """A step gave something that cannot be recorded."""


def prepare(flow: flow_base.Flow, rt: runtime.Runtime,
            owners: dict[str, str]) -> None:
    """Put this around every step; only the service's own are tried again.

    :param owners: names of the steps that are a plugin's
    """
    for step in tasks(flow):
        execute = step.execute
        if step.name not in owners:
            execute = _patient(rt, step, execute)
        step.execute = _watched(rt, step.name, execute)


def tasks(flow: flow_base.Flow) -> typing.Iterator[task.Task]:
    """Every task of a flow, in its order; no retry controllers."""
    for node, _data in flow.iter_nodes():
        if isinstance(node, flow_base.Flow):
            yield from tasks(node)
        elif isinstance(node, task.Task):
            yield node


def _watched(rt: runtime.Runtime, name: str, execute):

    @functools.wraps(execute)
    def watched(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:
        check(rt)
        result = execute(*args, **kwargs)
        try:
            json.dumps(result)
        except (TypeError, ValueError) as failure:
            raise NotPlain(
                f'the task {name} gave a result that cannot be recorded as '
                f'JSON ({failure})') from failure
        return result

    return watched


def check(rt: runtime.Runtime) -> None:
    """:raises stores.Cancelled: the import was told to stop"""
    if rt.stopped.is_set():
        raise stores.Cancelled('the import was stopped')


def _patient(rt: runtime.Runtime, step: task.Task, execute):
    options = rt.services.conf.taskflow_executor
    # A step may have an option of its own for how often.
    most = getattr(step, 'most_retries', options.step_retries)
    label = getattr(step, 'label', step.name)

    @functools.wraps(execute)
    def patient(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:
        # Of this step, should the process have died while it was tried.
        tries = rt.job.retries if rt.job.step == label else 0
        while True:
            try:
                result = execute(*args, **kwargs)
            except Exception as failure:
                if not may_pass(failure) or tries >= most:
                    raise
                tries += 1
                pause = min(options.step_retry_interval * 2 ** (tries - 1),
                            MAX_SECONDS)
                _note(rt, label, failure, tries, most, pause)
                rt.stopped.wait(pause)
                check(rt)
            else:
                return result

    return patient


def may_pass(failure: BaseException) -> bool:
    """Whether the same step may succeed a little later."""
    return (isinstance(failure, stores.StoreUnavailable)
            or db_engine.may_pass(failure))


def describe(failure: BaseException) -> str:
    """The fault in words that a user may read."""
    if isinstance(failure, db_engine.ERRORS):
        return 'the database does not answer'
    return str(failure)


def _note(rt: runtime.Runtime, name: str, failure: BaseException,
          tries: int, most: int, pause: float) -> None:
    text = f'{describe(failure)}; trying again ({tries} of {most})'
    LOG.warning('import %s, %s: %s, in %.1f s', rt.job.id, name, text, pause)
    try:
        with rt.services.db.write() as conn:
            db_jobs.check_fence(conn, rt.claim, step=name, retries=tries,
                                message=text)
    except db_engine.ERRORS as unwritten:
        LOG.debug('the retry is not written: %s', unwritten)
