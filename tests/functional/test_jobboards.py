"""The same imports over each job board, and boards that are not there."""

import os
import uuid

import pytest

from glance_import import conf as configuration
from glance_import.db import jobs as db_jobs
from glance_import import jobboard
from glance_import import startup
from tests.boards import etcd  # noqa: F401
from tests.boards import redis  # noqa: F401
from tests.boards import zookeeper  # noqa: F401
from tests import service as services

DATA = os.urandom(200_000)
OUTSIDE = ('redis', 'etcd', 'zookeeper')


@pytest.fixture
def start(make_service, request):
    def make(kind, **options):
        board = request.getfixturevalue(kind)
        return make_service(options={'taskflow_executor': board.options(
            jobboard_path=f't-{uuid.uuid4()}', **options)}).start()
    return make


def postings(service):
    """What is on the service's board, by import."""
    conf = configuration.load(['--config-dir', str(service.conf)])
    box = startup.open_all(conf, accepting=False)
    try:
        return {job_id: len(found)
                for job_id, found in box.board._postings().items()}
    finally:
        box.close()


@pytest.mark.parametrize('kind', OUTSIDE)
def test_imports(start, kind):
    service = start(kind)
    for _ in range(3):
        image_id = service.ask(DATA)
        service.wait_status(image_id, 'active')
        assert service.download(image_id) == DATA
    services.wait_for(lambda: postings(service) == {})
    assert f'job board: {kind} at 127.0.0.1:' in service.text()
    assert 'ERROR' not in service.text(), service.text()


@pytest.mark.parametrize('kind', OUTSIDE[:1])
def test_posted_and_cancelled(start, kind):
    service = start(kind, embedded_conductor=False)
    image_id = service.ask(DATA)
    (job_id, posted), = service.execute('SELECT id, posted FROM import_jobs')
    assert posted is not None
    assert postings(service) == {job_id: 1}
    assert service.request(
        'DELETE', f'/v2/images/{image_id}/import').status == 202
    service.configure(taskflow_executor={'embedded_conductor': True})
    service.stop()
    service.start()
    service.wait_status(image_id, 'uploading')
    services.wait_for(lambda: postings(service) == {})


@pytest.mark.parametrize('kind', OUTSIDE)
def test_what_the_board_lost_or_has_twice(start, kind):
    """Posted again where it is gone; taken off where it is too much."""
    service = start(kind, embedded_conductor=False)
    first, second = service.ask(DATA), service.ask(DATA)
    conf = configuration.load(['--config-dir', str(service.conf)])
    box = startup.open_all(conf, accepting=False)
    found = box.board._postings()
    with box.db.read() as conn:
        lost = db_jobs.of_image(conn, first).id
        doubled = db_jobs.of_image(conn, second).id
    offer = jobboard.Offer(lost, found[lost][0])
    assert box.board._claim_posting(offer, 'loser', 30)
    box.board.consume(offer, 'loser')
    box.board._post([doubled, 'nobody-knows-this'])
    assert {name: len(each) for name, each
            in box.board._postings().items()} == {
                doubled: 2, 'nobody-knows-this': 1}
    box.close()
    service.configure(taskflow_executor={'embedded_conductor': True})
    service.stop()
    service.start()
    for image_id in (first, second):
        service.wait_status(image_id, 'active')
    services.wait_for(lambda: postings(service) == {})


@pytest.mark.parametrize('kind', OUTSIDE)
def test_a_board_that_is_not_there(make_service, kind):
    """Reads are answered, imports refused, and one line says why."""
    service = make_service(options={'taskflow_executor': {
        'jobboard': kind, 'jobboard_port': services.servers.free_port(),
        'jobboard_timeout': 0.5}}).start()
    image_id = service.create()
    assert service.stage(image_id, DATA).status == 204
    answer = service.start_import(image_id)
    assert answer.status == 503, answer
    assert int(answer.headers['retry-after']) > 0
    assert 'job board' in answer.message
    assert service.show(image_id)['status'] == 'uploading'
    assert service.execute('SELECT count(*) FROM import_jobs') == [(0,)]
    line, = {line.partition(' ERROR ')[2] for line
             in service.text().splitlines()
             if 'does not answer' in line and 'ERROR' in line}
    assert kind in line and '127.0.0.1' in line
    assert 'Traceback' not in service.text()


def test_unknown_board(make_service):
    service = make_service(options={
        'taskflow_executor': {'jobboard': 'paper'}})
    for command in ('api', 'conductor'):
        done = service.run(command)
        assert done.returncode == 1
        line, = done.stderr.strip().splitlines()
        assert '[taskflow_executor] jobboard' in line and 'paper' in line


def test_the_worker_based_engine_is_refused(make_service):
    service = make_service(options={
        'taskflow_executor': {'engine_mode': 'worker-based'}})
    done = service.run('api')
    assert done.returncode == 1
    line, = done.stderr.strip().splitlines()
    assert 'engine_mode' in line and 'worker-based' in line


def test_a_client_that_is_not_installed(make_service, monkeypatch):
    service = make_service(options={
        'taskflow_executor': {'jobboard': 'etcd'}})
    conf = configuration.load(['--config-dir', str(service.conf)])
    monkeypatch.setitem(jobboard.clients.KINDS, 'etcd', (2379, 'no_such'))
    with pytest.raises(startup.StartupError, match=r'no_such.*\[etcd\]'):
        startup.check_options(conf)
