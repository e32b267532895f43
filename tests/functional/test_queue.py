"""The queue: bounded, and fair to projects."""

import json

import pytest

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
