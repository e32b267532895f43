"""Who goes on with an import begins where the one before it stood.

The service accepts imports and runs none; the claims are made here, in this
process, so that each can end where a test wants it to.
"""

import json
import os
import uuid

import pytest
from stevedore import extension

from glance_import import conf as configuration
from glance_import.db import jobs as db_jobs
from glance_import.db import tables
from glance_import import errors
from glance_import.imports import ending
from glance_import.imports import executor
from glance_import.imports import recording
from glance_import.imports import runtime
from glance_import.plugin import entry_points
from glance_import.plugin import snapshot
from glance_import import startup
from glance_import.stores import base as stores
from glance_import.stores import multi_store
from tests import service as services

DATA = os.urandom(300_000)
PLUGINS = '''
import os
from taskflow.patterns import linear_flow
from taskflow import retry
from taskflow import task


def note(line):
    with open(os.environ['NOTES'], 'a') as f:
        f.write(line + '\\n')


class Note(task.Task):
    def __init__(self, step, **kwargs):
        super().__init__(**kwargs)
        self.step = step

    def execute(self):
        note(self.step)

    def revert(self, **kwargs):
        note('undo ' + self.step)


class Odd(task.Task):
    def execute(self):
        return {1, 2}


class Flaky(task.Task):
    def execute(self):
        note('flaky')
        with open(os.environ['NOTES']) as f:
            if f.read().count('flaky') < 3:
                raise ValueError('not yet')


def one(task_id, **kwargs):
    return linear_flow.Flow('one').add(Note('one', name=f'one-{task_id}'))


def two(task_id, **kwargs):
    return linear_flow.Flow('two').add(Note('two', name=f'two-{task_id}'))


def odd(task_id, **kwargs):
    return linear_flow.Flow('odd').add(Odd(name=f'odd-{task_id}'))


def flaky(task_id, **kwargs):
    return linear_flow.Flow('flaky', retry=retry.Times(5, name='again')).add(
        Flaky(name=f'flaky-{task_id}'))
'''


class Desk:
    """A service that only accepts, and a hand that runs what it accepted."""

    def __init__(self, service, notes):
        self.service = service
        self.notes = notes
        conf = configuration.load(['--config-dir', str(service.conf)])
        self.box = startup.open_all(conf, accepting=False)
        self.executor = executor.TaskFlowExecutor(self.box)

    def accept(self, data=DATA):
        image_id = self.service.create()
        assert self.service.stage(image_id, data).status == 204
        assert self.service.start_import(image_id).status == 202
        return image_id

    def claim(self, image_id):
        with self.box.db.write() as conn:
            found = db_jobs.of_image(conn, image_id)
            conn.execute(tables.import_jobs.update().values(owner=None))
            job = db_jobs.claim(conn, found.id, token=uuid.uuid4().hex,
                                conductor='here:1', seconds=30)
        return job, db_jobs.Lease(job.id, job_token(self.box, job), job.epoch)

    def run(self, image_id, stopped=None):
        job, lease = self.claim(image_id)
        self.executor.run(job, lease, stopped or runtime.Stop())

    def seen(self):
        return self.notes.read_text().split('\n')[:-1] \
            if self.notes.exists() else []

    def records(self):
        with self.box.db.read() as conn:
            return {table.name: conn.execute(table.select()).all()
                    for table in recording.TABLES}

    def nothing_left(self):
        assert not any(self.records().values())
        assert self.service.execute('SELECT count(*) FROM import_jobs') == [
            (0,)]


def job_token(box, job):
    with box.db.read() as conn:
        return db_jobs.get(conn, job.id).owner


@pytest.fixture
def desk(make_service, tmp_path, monkeypatch):
    made = []

    def make(plugins='', **options):
        where = services.write_distribution(
            tmp_path / 'plugins', 'noting', {'noting': PLUGINS},
            {'glance.image_import.plugins': {
                name: f'noting:{name}'
                for name in ('one', 'two', 'odd', 'flaky')}})
        monkeypatch.syspath_prepend(str(where))
        # What other tests found installed is not all there is now.
        monkeypatch.setattr(extension.ExtensionManager, 'ENTRY_POINT_CACHE',
                            {})
        monkeypatch.setenv('NOTES', str(tmp_path / 'notes'))
        service = make_service(path=[where], options={
            'image_import_opts': {'image_import_plugins': f'[{plugins}]'},
            'taskflow_executor': {
                'embedded_conductor': False, 'step_retry_interval': 0.02,
                **options}}).start()
        made.append(Desk(service, tmp_path / 'notes'))
        return made[-1]

    yield make
    for each in made:
        each.executor.close()
        each.box.close()


class Died(errors.LeaseLost):
    """What a step raises where the process would have ended."""


def dies(*args, **kwargs):
    raise Died('here the process ends')


def begun(desk, monkeypatch, at=(ending, 'succeed'), then=dies,
          times=1):
    """An import whose process ended ``at`` some function; its image."""
    image_id = desk.accept()
    with monkeypatch.context() as patch:
        patch.setattr(*at, then)
        for _ in range(times):
            with pytest.raises(Died):
                desk.run(image_id)
    return image_id


def active(desk, image_id, data=DATA):
    image = desk.service.show(image_id)
    assert image['status'] == 'active', (image, desk.service.text())
    assert desk.service.download(image_id) == data
    # Two of the same second have no order.
    assert 'success' in [task['status']
                         for task in desk.service.tasks(image_id)]
    assert not desk.service.staged()
    desk.nothing_left()


def test_finished_steps_are_not_run_again(desk, monkeypatch):
    desk = desk('one,two')
    image_id = begun(desk, monkeypatch, (multi_store, 'add_file'))
    assert desk.seen() == ['one', 'two']
    assert desk.service.show(image_id)['status'] == 'importing'
    lines = desk.service.run(
        'manage', 'imports', 'show', image_id).stdout.splitlines()
    order = [line.split() for line in lines if line.startswith('  ')]
    # What is cheap and safe to repeat is not written by itself.
    states = {name.split('-')[0]: state for state, name in order}
    assert states['one'] == states['two'] == 'SUCCESS'
    assert [state for state, name in order if 'ImportToStore' in name] == [
        'PENDING']
    desk.run(image_id)
    assert desk.seen() == ['one', 'two']
    active(desk, image_id)


def test_a_plugin_that_is_gone_by_then(desk, monkeypatch, tmp_path):
    """The list is that of the request; who lacks some of it writes nothing."""
    desk = desk('one,two')
    image_id = begun(desk, monkeypatch, (multi_store, 'add_file'))
    services.write_distribution(
        tmp_path / 'plugins', 'noting', {},
        {'glance.image_import.plugins': {'one': 'noting:one'}})
    monkeypatch.setattr(extension.ExtensionManager, 'ENTRY_POINT_CACHE', {})
    # As in the process that is started in place of the one that died.
    entry_points._load.cache_clear()
    desk.box.registry._flows.clear()
    before = desk.records()
    with pytest.raises(snapshot.NotHonoured, match='plugin two') as caught:
        desk.run(image_id)
    assert "'two' is not registered" in caught.value.detail
    assert desk.records() == before
    assert desk.service.show(image_id)['status'] == 'importing'
    # Unless it is to end.
    desk.service.request('DELETE', f'/v2/images/{image_id}/import')
    desk.run(image_id)
    assert desk.service.show(image_id)['status'] == 'uploading'
    desk.nothing_left()


def test_what_an_earlier_claim_stored_is_kept(desk, monkeypatch):
    """Stored under epoch 1, activated under epoch 3, and not deleted."""
    desk = desk()
    stored = []
    add_file = multi_store.add_file

    def counted(targets, path, expected, order):
        stored.append(order.epoch)
        return add_file(targets, path, expected, order)

    monkeypatch.setattr(multi_store, 'add_file', counted)
    image_id = begun(desk, monkeypatch, times=2)
    inode = os.stat(desk.service.images / image_id).st_ino
    desk.run(image_id)
    assert stored == [1]
    assert desk.service.stored() == [image_id]
    assert os.stat(desk.service.images / image_id).st_ino == inode
    active(desk, image_id)


def test_effect_without_record(desk, monkeypatch):
    """Killed between the commit of success and the record of its step."""
    desk = desk()
    succeed = ending.succeed

    def and_dies(*args, **kwargs):
        succeed(*args, **kwargs)
        dies()

    image_id = begun(desk, monkeypatch, then=and_dies)
    assert desk.service.show(image_id)['status'] == 'active'
    assert desk.service.staged() == [image_id]
    desk.run(image_id)
    active(desk, image_id)
    assert len(desk.service.execute('SELECT * FROM image_locations')) == 1


def test_a_failure_goes_on_back(desk, monkeypatch):
    """Died after the failure was recorded: undone and told by the next."""
    desk = desk('one,two')
    with monkeypatch.context() as patch:
        patch.setattr(multi_store, 'add_file', full)
        image_id = begun(
            desk, monkeypatch, (recording.Record, 'update_atom_details'),
            after(recording.Record.update_atom_details, 'FAILURE', dies))
    assert desk.seen() == ['one', 'two']
    desk.run(image_id)
    assert desk.seen() == ['one', 'two', 'undo two', 'undo one']
    image = desk.service.show(image_id)
    assert image['status'] == 'uploading'
    assert image['os_glance_import_error'] == 'no room: the disk is small'
    desk.nothing_left()
    # And it can be asked for again at once.
    assert desk.service.start_import(image_id).status == 202
    desk.run(image_id)
    active(desk, image_id)


def test_a_flow_found_reverted_is_not_run_again(desk, monkeypatch):
    desk = desk('one')
    with monkeypatch.context() as patch:
        patch.setattr(multi_store, 'add_file', full)
        image_id = begun(desk, monkeypatch, (ending, 'fail'))
    assert desk.seen() == ['one', 'undo one']
    (state,), = desk.service.execute('SELECT state FROM import_flowdetails')
    assert state == 'REVERTED'
    desk.run(image_id)
    assert desk.seen() == ['one', 'undo one']
    image = desk.service.show(image_id)
    assert image['os_glance_import_error'] == 'no room: the disk is small'
    desk.nothing_left()


def full(*args, **kwargs):
    raise stores.StoreFull('no room: the disk is small')


def after(function, state, then):
    def wrapped(self, atom):
        found = function(self, atom)
        if atom.state == state:
            then()
        return found
    return wrapped


def test_handed_over_in_the_middle(desk, monkeypatch):
    """Told to stop while a step runs: nothing is undone, nothing repeated."""
    desk = desk('one,two')
    image_id = desk.accept()
    stopped = runtime.Stop()
    add_file = multi_store.add_file

    def is_stopped(*args, **kwargs):
        stopped.hand_over()
        return add_file(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(multi_store, 'add_file', is_stopped)
        with pytest.raises(runtime.Interrupted):
            desk.run(image_id, stopped)
    assert desk.seen() == ['one', 'two']
    desk.run(image_id)
    assert desk.seen() == ['one', 'two']
    active(desk, image_id)


def test_cancelled_before_it_is_gone_on_with(desk, monkeypatch):
    desk = desk('one,two')
    image_id = begun(desk, monkeypatch)
    assert desk.service.stored() == [image_id]
    assert desk.service.request(
        'DELETE', f'/v2/images/{image_id}/import').status == 202
    desk.run(image_id)
    assert desk.seen() == ['one', 'two', 'undo two', 'undo one']
    image = desk.service.show(image_id)
    assert image['status'] == 'uploading'
    assert image['os_glance_import_error'] == 'the import was cancelled'
    assert not desk.service.stored()
    desk.nothing_left()


def test_a_zombie_records_nothing(desk, monkeypatch):
    """Its claim is taken while a step of its runs."""
    desk = desk('one')
    image_id = desk.accept()
    add_file = multi_store.add_file
    records = []

    def overtaken(*args, **kwargs):
        monkeypatch.setattr(multi_store, 'add_file', add_file)
        desk.run(image_id)
        records.append((desk.service.execute('SELECT * FROM images'),
                        desk.service.execute('SELECT * FROM tasks'),
                        desk.service.execute('SELECT * FROM image_locations'),
                        desk.service.stored()))
        return add_file(*args, **kwargs)

    monkeypatch.setattr(multi_store, 'add_file', overtaken)
    with pytest.raises(errors.LeaseLost):
        desk.run(image_id)
    records.append((desk.service.execute('SELECT * FROM images'),
                    desk.service.execute('SELECT * FROM tasks'),
                    desk.service.execute('SELECT * FROM image_locations'),
                    desk.service.stored()))
    assert records[0] == records[1]
    assert desk.seen() == ['one']


def test_results_must_be_plain(desk):
    desk = desk('one,odd')
    image_id = desk.accept()
    desk.run(image_id)
    error = desk.service.show(image_id)['os_glance_import_error']
    assert error.startswith('plugin odd: ') and 'JSON' in error
    assert desk.seen() == ['one', 'undo one']
    desk.nothing_left()


def test_a_plugins_own_retries(desk):
    desk = desk('flaky')
    image_id = desk.accept()
    desk.run(image_id)
    assert desk.seen() == ['flaky'] * 3
    active(desk, image_id)


def fails(times, add_file):
    left = [times]

    def flaky(*args, **kwargs):
        if left[0]:
            left[0] -= 1
            raise stores.StoreUnavailable('store file does not answer')
        return add_file(*args, **kwargs)

    return flaky


def test_a_fault_that_passes(desk, monkeypatch):
    desk = desk('one')
    image_id = desk.accept()
    monkeypatch.setattr(multi_store, 'add_file', fails(
        3, multi_store.add_file))
    desk.run(image_id)
    assert desk.seen() == ['one']
    active(desk, image_id)


def test_retries_are_bounded_over_restarts(desk, monkeypatch):
    """Two tries before the death and three after it are five in all."""
    desk = desk('one', step_retries=5)
    image_id = desk.accept()
    tries = []

    def unavailable(*args, **kwargs):
        tries.append(1)
        if len(tries) == 3:
            row, = desk.service.execute(
                'SELECT retries, message FROM import_jobs')
            assert row == (2, 'store file does not answer; trying again '
                              '(2 of 5)')
            task, = desk.service.tasks(image_id)
            assert task['progress']['retries'] == 2
            assert 'does not answer' in task['progress']['trouble']
            dies()
        raise stores.StoreUnavailable('store file does not answer')

    monkeypatch.setattr(multi_store, 'add_file', unavailable)
    with pytest.raises(Died):
        desk.run(image_id)
    desk.run(image_id)
    assert len(tries) == 3 + 4
    image = desk.service.show(image_id)
    assert image['status'] == 'uploading'
    assert image['os_glance_import_error'] == 'store file does not answer'


def test_a_book_of_another_release_is_left_alone(desk, monkeypatch):
    desk = desk('one')
    image_id = begun(desk, monkeypatch)
    desk.service.execute('UPDATE import_flowdetails SET meta = ?',
                         json.dumps({'version': 99}))
    before = desk.records()
    with pytest.raises(executor.LeftAlone, match='version 99'):
        desk.run(image_id)
    assert desk.records() == before
    assert desk.service.show(image_id)['status'] == 'importing'
    # Unless it is to end.
    desk.service.request('DELETE', f'/v2/images/{image_id}/import')
    desk.run(image_id)
    assert desk.service.show(image_id)['status'] == 'uploading'
    assert not desk.service.stored()
    desk.nothing_left()


@pytest.mark.parametrize('statement, word', [
    ("UPDATE import_jobs SET request = '{'", "'request'"),
    ("UPDATE import_jobs SET plugins = '7'", "'plugins'"),
    ("UPDATE import_jobs SET roles = NULL", "'roles'"),
    ("UPDATE import_flowdetails SET meta = '{'", 'record of its steps'),
    ("UPDATE import_atomdetails SET results = 'x'", 'record of its steps'),
    ("UPDATE import_jobs SET method = 'astral'", 'astral'),
])
def test_damaged(desk, monkeypatch, statement, word):
    desk = desk('one')
    image_id = begun(desk, monkeypatch)
    desk.service.execute(statement)
    desk.run(image_id)
    image = desk.service.show(image_id)
    assert image['status'] == 'uploading'
    assert word in image['os_glance_import_error']
    assert not desk.service.stored()
    desk.nothing_left()
