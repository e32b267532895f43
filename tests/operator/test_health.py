"""What a probe is told: alive, ready, and why not."""

import socket
import threading
import time

import pytest
from webob import request

from glance_import.api.middleware import health
from glance_import.api.middleware import standard
from glance_import import checks
from glance_import import conf as configuration
from glance_import import services
from tests import servers
from tests import service as all_services

READY = ('/healthcheck', '/healthcheck/ready')


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    """One that has no conductor."""
    made = all_services.Service(
        tmp_path_factory.mktemp('service'),
        options={'taskflow_executor': {'embedded_conductor': False,
                                       'claim_expiry': 5}})
    made.start()
    yield made
    made.kill()


def probe(service, path, status, **headers):
    """Until a probe is answered so: what was seen stays for a moment."""
    def look():
        answer = service.request(
            'GET', path, headers={'Accept': 'text/plain', **headers})
        return answer if answer.status == status else None
    return all_services.wait_for(look, 10)


def test_ready(service):
    for path in READY:
        text = probe(service, path, 200).body.decode()
        for name in ('database', 'staging', 'conductor'):
            assert f'{name}: OK' in text, text
    answer = service.request('HEAD', '/healthcheck')
    assert answer.status in (200, 204) and answer.body == b''
    assert probe(service, '/healthcheck/live', 200).body == b'OK\n'


@pytest.mark.parametrize('method, path, status', [
    ('GET', '/healthcheck/nope', 404), ('POST', '/healthcheck/', 404),
    ('GET', '/healthcheck/live/', 404), ('GET', '/healthcheckup', 300),
    ('POST', '/healthcheck', 405), ('DELETE', '/healthcheck/live', 405),
    ('PUT', '/healthcheck/ready', 405), ('OPTIONS', '/healthcheck', 200)])
def test_nothing_else_is_there(service, method, path, status):
    answer = service.request(method, path)
    assert answer.status == status, answer
    assert (answer.headers.get('allow') == 'GET, HEAD, OPTIONS') == (
        status == 405)


def test_whom_the_options_do_not_let_ask(application, box):
    """They find nothing, and are told nothing by an error either."""
    box.conf.set_override('allowed_source_ranges', ['192.0.2.0/24'],
                          'healthcheck')
    answer = request.Request.blank(
        '/healthcheck', environ={'REMOTE_ADDR': '127.0.0.1'}
    ).get_response(standard.healthcheck(None, box))
    assert answer.status_int == 404


def test_without_its_staging_area(service):
    away = service.directory / 'away'
    service.staging.rename(away)
    try:
        for path in READY:
            assert b'staging: ' in probe(service, path, 503).body
        # Only this machine is told what is wrong.
        told = probe(service, '/healthcheck', 503,
                     **{'X-Forwarded-For': '192.0.2.7'})
        assert told.body == b''
        assert probe(service, '/healthcheck/live', 200).body == b'OK\n'
    finally:
        away.rename(service.staging)
    probe(service, '/healthcheck/ready', 200)


def test_imports_that_wait_for_nobody(service):
    image_id = service.ask(b'data')
    # A moment is no reason: it may just have been asked for.
    probe(service, '/healthcheck/ready', 200)
    service.execute('UPDATE import_jobs SET created_at = created_at - 60')
    said = probe(service, '/healthcheck', 503).body.decode()
    assert 'conductor: 1 imports wait' in said, said
    conductor = service.spawn('conductor')
    try:
        service.wait_status(image_id, 'active')
        probe(service, '/healthcheck', 200)
    finally:
        conductor.terminate()
        conductor.wait(30)


@pytest.fixture
def box(tmp_path):
    """Before a database that takes connections in silence."""
    servers.need_module('psycopg2')
    silent = socket.create_server(('127.0.0.1', 0))
    path = tmp_path / 'glance-api.conf'
    path.write_text(
        f'[DEFAULT]\nstate_path = {tmp_path}/state\n'
        f'node_staging_uri = file://{tmp_path}/staging\n'
        f'[glance_store]\nfilesystem_store_datadir = {tmp_path}/images\n'
        '[database]\nconnection = postgresql+psycopg2://u:p@127.0.0.1:'
        f'{silent.getsockname()[1]}/glance\n')
    box = services.build(configuration.load(['--config-file', str(path)]))
    yield box
    silent.close()
    box.close()


@pytest.fixture
def application(box):
    return standard.healthcheck(None, box)


def test_a_database_that_hangs(application, monkeypatch):
    """Every probe is answered, and they do not add up."""
    before = threading.active_count()
    for _ in range(20):
        answer = request.Request.blank(
            '/healthcheck', environ={'REMOTE_ADDR': '127.0.0.1'}
        ).get_response(application)
        assert answer.status_int == 503
        assert 'database: no answer' in answer.text
    # The two that ask the database.
    assert threading.active_count() <= before + 2
    # Others are not told.
    answer = request.Request.blank(
        '/healthcheck', environ={'REMOTE_ADDR': '192.0.2.1'}
    ).get_response(application)
    assert (answer.status_int, answer.text) == (503, '')


def test_a_look_that_is_lost_is_begun_again(monkeypatch):
    """So that a database which is back is seen, whatever hangs still."""
    hang, looks = threading.Event(), []

    def look(_subject):
        looks.append(1)
        if len(looks) == 1:
            hang.wait(30)
        return checks.good('fine')

    probe = health.Probe(checks.Check('x', look), None, patience=0.05)
    assert 'no answer' in probe.result().text
    assert 'no answer' in probe.result().text and looks == [1]
    monkeypatch.setattr(health, 'LOST', 0.0)
    probe._patience = 10
    assert probe.result().text == 'fine'
    hang.set()


def test_many_probes_are_one_look():
    looks = []

    def look(_subject):
        looks.append(1)
        time.sleep(0.05)
        return checks.good('fine')

    probe = health.Probe(checks.Check('x', look), None)
    threads = [threading.Thread(target=probe.result) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert looks == [1]
    assert probe.result().text == 'fine'
