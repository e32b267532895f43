"""A step by itself: tried again, stopped, and how far it is."""

import threading
import types

import pytest

from glance_import.imports import runtime
from glance_import.imports import steps
from glance_import.stores import base as stores


class Database:
    """Counts what is written; keeps nothing."""

    def __init__(self):
        self.writes = 0

    def write(self):
        self.writes += 1
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def execute(self, _statement, _values=None):
        return types.SimpleNamespace(rowcount=1)


def make(run, *, retries=3, job_retries=0, job_step=None):
    """A step that does ``run``, with pauses of no time."""
    options = types.SimpleNamespace(step_retries=retries,
                                    step_retry_interval=0.0)
    rt = runtime.Runtime(
        types.SimpleNamespace(
            db=Database(),
            conf=types.SimpleNamespace(taskflow_executor=options)),
        types.SimpleNamespace(id='job', retries=job_retries, step=job_step),
        types.SimpleNamespace(job_id='job', token='t', epoch=1), None,
        runtime.Stop())

    class Step(steps.Step):
        label = 'Once'

        def run(self):
            return run()

    return Step(rt, 'task', 'type', 'image')


def failing(times, failure):
    """(function, list of its calls): it fails so often, then gives 7."""
    calls = []

    def run():
        calls.append(1)
        if len(calls) <= times:
            raise failure
        return 7

    return run, calls


def test_what_may_pass_is_tried_again():
    run, calls = failing(3, stores.StoreUnavailable('away'))
    step = make(run)
    assert step.execute() == 7
    assert len(calls) == 4
    # Each retry is noted, to be seen and to survive the process.
    assert step.rt.services.db.writes == 3


def test_not_without_end():
    run, calls = failing(9, stores.StoreUnavailable('away'))
    with pytest.raises(stores.StoreUnavailable, match='away'):
        make(run).execute()
    assert len(calls) == 4


@pytest.mark.parametrize('failure', [
    stores.StoreFull('full'), ValueError('a fault of ours')])
def test_anything_else_fails_at_once(failure):
    run, calls = failing(1, failure)
    with pytest.raises(type(failure)):
        make(run).execute()
    assert len(calls) == 1


def test_tries_before_a_death_count():
    run, calls = failing(9, stores.StoreUnavailable('away'))
    with pytest.raises(stores.StoreUnavailable):
        make(run, job_retries=2, job_step='Once').execute()
    assert len(calls) == 2


def test_those_of_another_step_do_not():
    run, calls = failing(9, stores.StoreUnavailable('away'))
    with pytest.raises(stores.StoreUnavailable):
        make(run, job_retries=2, job_step='Other').execute()
    assert len(calls) == 4


def test_a_stopped_import_begins_no_step():
    run, calls = failing(0, None)
    step = make(run)
    step.rt.stopped.cancel()
    with pytest.raises(stores.Cancelled):
        step.execute()
    assert calls == []


def test_a_pause_ends_when_the_import_is_stopped():
    run, calls = failing(9, stores.StoreUnavailable('away'))
    step = make(run)
    step.rt.services.conf.taskflow_executor.step_retry_interval = 3600.0
    threading.Timer(0.1, step.rt.stopped.cancel).start()
    with pytest.raises(stores.Cancelled):
        step.execute()
    assert len(calls) == 1


def test_inputs_are_those_of_run():
    class Step(steps.Step):
        label = 'Two'

        def run(self, file_path, remote):
            return [file_path, remote]

    step = Step(make(lambda: None).rt, 'task', 'type', 'image')
    assert set(step.requires) == {'file_path', 'remote'}
    assert step.execute(file_path='a', remote='b') == ['a', 'b']


def test_progress_is_written_once_a_second_and_at_the_end():
    step = make(lambda: None)
    for done in range(1000):
        step.progress.report(done, 1000)
    assert step.rt.services.db.writes == 0
    step.progress._next = 0.0
    step.progress.report(999, 1000)
    step.progress.report(1000, 1000)
    assert step.rt.services.db.writes == 2
