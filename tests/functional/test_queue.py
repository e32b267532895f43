"""The queue: bounded, and fair to projects."""

import json
import threading

import pytest

from glance_import import conf as configuration
from glance_import.imports import queue_watch
from tests import service as services

DATA = b'queue' * 100


@pytest.fixture
def start(make_service):
    def make(**options):
        return make_service(options={
            'paste_deploy': {'flavor': 'fakeauth'},
            'taskflow_executor': {'embedded_conductor': False, **options},
        }).start()
    return make


def ask(service, token):
    image_id = service.create(token=token)
    assert service.stage(image_id, DATA, token=token).status == 204
    return image_id, service.start_import(image_id, token=token)


def test_queue_that_is_full(start):
    service = start(max_queued_imports=2)
    for _ in range(2):
        assert ask(service, services.MEMBER)[1].status == 202
    image_id, answer = ask(service, services.OTHER)
    assert answer.status == 503
    assert int(answer.headers['retry-after']) > 0
    assert service.show(image_id, services.OTHER)['status'] == 'uploading'
    service.execute('DELETE FROM import_jobs')
    assert service.start_import(image_id, services.OTHER).status == 202


def test_share_of_a_project(start):
    service = start(max_imports_per_project=2)
    for _ in range(2):
        assert ask(service, services.MEMBER)[1].status == 202
    image_id, answer = ask(service, services.MEMBER)
    assert answer.status == 413
    assert 'max_imports_per_project' in answer.message
    assert service.show(image_id, services.MEMBER)['status'] == 'uploading'
    assert ask(service, services.OTHER)[1].status == 202


def test_projects_take_turns(start):
    """One worker; ten of red wait before the two of blue."""
    service = start(max_workers=1)
    for token, number in ((services.MEMBER, 10), (services.OTHER, 2)):
        for _ in range(number):
            assert ask(service, token)[1].status == 202
    service.execute(
        'CREATE TABLE begun (n INTEGER PRIMARY KEY, project TEXT)')
    service.execute(
        'CREATE TRIGGER note AFTER UPDATE OF owner ON import_jobs WHEN '
        'NEW.owner IS NOT NULL AND OLD.owner IS NULL BEGIN INSERT INTO '
        'begun (project) VALUES (NEW.project); END')
    service.configure(taskflow_executor={'embedded_conductor': True})
    service.stop()
    service.start()
    services.wait_for(lambda: service.execute(
        'SELECT count(*) FROM import_jobs') == [(0,)])
    order = [project for project, in service.execute(
        'SELECT project FROM begun ORDER BY n')]
    assert len(order) == 12, json.dumps(order)
    # Both of blue's are done before red's fourth.
    assert 'blue' not in order[5:], json.dumps(order)


@pytest.fixture
def two(make_service, tmp_path):
    """Two services of one host with the same state_path."""
    made = []
    for name in ('first', 'second'):
        service = make_service(options={
            'DEFAULT': {'state_path': tmp_path / 'state'},
            'database': {'connection': f'sqlite:///{tmp_path}/{name}.sqlite'}})
        made.append(service.start())
        made[0].conductor_pid()
    return made


def test_a_service_without_a_conductor_says_so(two, tmp_path, monkeypatch,
                                               caplog):
    first, second = two
    first.wait_status(first.ask(DATA), 'active')
    line, = [line for line in second.text().splitlines()
             if 'no conductor is started for this service' in line]
    assert str(first.process.pid) in line and 'state_path' in line
    assert 'no conductor is started' not in first.text()
    assert not [words for words in second.children().values()
                if 'cmd.conductor' in words]
    image_id = second.ask(DATA)
    said, row = second.run('manage', 'imports', 'list').stdout.splitlines()
    assert said.startswith('1 waiting')
    assert said.endswith('no conductor lives that could run 1 of them')
    assert image_id in row and row.endswith('no conductor')
    found = json.loads(second.run('manage', 'imports', 'list', '--json'
                                  ).stdout)
    assert found['unattended'] == 1 and found['imports'][0]['unattended']

    # While it waits, one process of a service says so again and again.
    monkeypatch.setattr(queue_watch, 'GRACE_SECONDS', 0)
    monkeypatch.setattr(queue_watch, 'LOOK_SECONDS', 0)
    conf = configuration.load(['--config-dir', str(second.conf)])
    conf.set_override('state_path', str(tmp_path))
    watch, sibling = (queue_watch.QueueWatch(conf, threading.Lock())
                      for _ in range(2))
    for expected in (1, 1):
        watch.check()
        sibling.check()
        assert caplog.text.count('1 imports wait and no conductor lives'
                                 ) == expected
    monkeypatch.setattr(watch, '_remind_at', 0)
    watch.check()
    assert caplog.text.count('no conductor lives') == 2
    # Until the first one ends: it is the second's turn then.
    first.kill()
    second.wait_status(image_id, 'active')
    monkeypatch.setattr(watch, '_remind_at', 0)
    watch.check()
    assert caplog.text.count('no conductor lives') == 2
    assert second.run('manage', 'imports', 'list').stdout == (
        '0 waiting; 0 running\n')
    watch.forget()


WATCH = (
    'CREATE TABLE seen (running INTEGER)',
    'CREATE TRIGGER watch AFTER UPDATE OF owner ON import_jobs BEGIN '
    'INSERT INTO seen SELECT count(*) FROM import_jobs '
    'WHERE owner IS NOT NULL; END')


@pytest.mark.parametrize('limit', ['project', 'store'])
def test_running_at_once(make_service, limit):
    """All of them get their turn, and never two at a time."""
    service = make_service(options={'taskflow_executor': {
        f'max_running_imports_per_{limit}': 1, 'max_workers': 4,
        'embedded_conductor': False}}).start()
    for statement in WATCH:
        service.execute(statement)
    images = [service.ask(DATA) for _ in range(5)]
    service.configure(taskflow_executor={'embedded_conductor': True})
    service.stop()
    service.start()
    for image_id in images:
        service.wait_status(image_id, 'active')
    assert service.execute('SELECT max(running) FROM seen') == [(1,)]
