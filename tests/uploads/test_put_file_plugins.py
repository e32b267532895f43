"""PUT file where plugins are listed: they run before the image is active."""

import hashlib
import os
import socket
import time

import pytest

from tests import service as services

GOOD = os.urandom(300_000)
OCTETS = {'Content-Type': 'application/octet-stream'}
# A contract plugin that goes by the first bytes, and a get_flow plugin that
# waits for a file when it is told to.
JUDGE = '''
from glance_import.plugin import ImagePlugin


class Judge(ImagePlugin):
    api = 1

    def inspect(self, data):
        head = data.read(4)
        if head == b'EVIL':
            return self.reject('it calls itself evil')
        if head == b'CRASH'[:4]:
            raise RuntimeError('boom')
        return self.accept()
'''
GATE = '''
import os
import select

from taskflow.patterns import linear_flow
from taskflow import task


class _Wait(task.Task):
    def execute(self, file_path):
        with open(file_path[len('file://'):], 'rb') as data:
            head = data.read(5)
        while head == b'WAIT:' and not os.path.exists(os.environ['GATE']):
            select.select([], [], [], 0.05)
        if head == b'FLOW:':
            raise ValueError('not through this gate')


def get_flow(task_id, **kwargs):
    return linear_flow.Flow('gate').add(_Wait(name=f'gate-{task_id}'))
'''


@pytest.fixture(scope='module')
def gate(tmp_path_factory):
    return tmp_path_factory.mktemp('gate') / 'open'


@pytest.fixture(scope='module')
def service(tmp_path_factory, gate):
    directory = tmp_path_factory.mktemp('service')
    judge = directory / 'judge.py'
    judge.write_text(JUDGE)
    plugins = services.write_distribution(
        directory / 'plugins', 'gate', {'gate': GATE},
        {'glance.image_import.plugins': {'gate': 'gate:get_flow'}})
    made = services.Service(directory, path=[plugins], options={
        'image_import_opts': {
            'image_import_plugins': f'[gate, "file:{judge}:Judge"]',
            'isolation': 'process', 'upload_run_timeout': 2}})
    made.environment['GATE'] = str(gate)
    made.start()
    yield made
    made.kill()


def put(service, image_id, data=GOOD, **headers):
    return service.request('PUT', f'/v2/images/{image_id}/file', data,
                           {**OCTETS, **headers})


def test_an_image_is_active_when_the_answer_comes(service):
    image_id = service.create()
    assert put(service, image_id).status == 204
    image = service.show(image_id)
    assert image['status'] == 'active'
    assert image['os_hash_value'] == hashlib.sha512(GOOD).hexdigest()
    assert service.download(image_id) == GOOD
    task, = service.tasks(image_id)
    assert (task['type'], task['status']) == ('api_image_import', 'success')
    services.wait_for(lambda: not [name for name in service.staged()
                                   if image_id in name])


@pytest.mark.parametrize('data, reason, code', [
    (b'EVIL' + GOOD, 'it calls itself evil', 'refused.plugin'),
    (b'CRASH' + GOOD, 'RuntimeError', 'plugin.failed'),
    (b'FLOW:' + GOOD, 'not through this gate', 'plugin.failed'),
])
def test_what_a_plugin_refuses_is_never_active(service, data, reason, code):
    image_id = service.create()
    answer = put(service, image_id, data)
    assert answer.status == 400, answer
    assert reason in answer.message and code in answer.message
    assert answer.message.index(reason) < answer.message.index(image_id)
    image = service.show(image_id)
    # As after an import of staged data that was refused.
    assert image['status'] == 'uploading'
    assert image['os_glance_import_error_code'] == code
    assert reason in image['os_glance_import_error']
    assert service.request('GET', f'/v2/images/{image_id}/file').status == 204
    # It may be imported again as it is, or replaced, by PUT file too.
    assert put(service, image_id).status == 204
    assert service.download(image_id) == GOOD


def test_content_that_lies_is_a_415(service):
    image_id = service.create(disk_format='qcow2')
    answer = put(service, image_id)
    assert answer.status == 415, answer
    assert 'refused.format' in answer.message
    assert service.show(image_id)['status'] == 'uploading'


def test_other_digest_than_announced(service):
    image_id = service.create()
    digest = hashlib.md5(b'other').hexdigest()
    answer = put(service, image_id, GOOD, **{'Content-MD5': digest})
    assert answer.status == 400, answer
    assert service.show(image_id)['status'] == 'queued'
    assert put(service, image_id).status == 204


def test_an_import_that_takes_longer_goes_on(service, gate):
    image_id = service.create()
    answer = put(service, image_id, b'WAIT:' + GOOD)
    try:
        assert answer.status == 503, answer
        assert answer.headers['retry-after']
        assert f'/v2/images/{image_id}/tasks' in answer.message
        assert service.show(image_id)['status'] == 'importing'
        assert put(service, image_id).status == 409
    finally:
        gate.touch()
    service.wait_status(image_id, 'active')
    gate.unlink()
    assert service.download(image_id) == b'WAIT:' + GOOD


def head_of(image_id, length):
    return (f'PUT /v2/images/{image_id}/file HTTP/1.1\r\nHost: localhost\r\n'
            'Content-Type: application/octet-stream\r\n'
            f'Content-Length: {length}\r\n\r\n').encode()


def test_a_client_that_goes_away_meanwhile_changes_nothing(service, gate):
    image_id = service.create()
    data = b'WAIT:' + GOOD
    try:
        with service.raw() as sock:
            sock.sendall(head_of(image_id, len(data)) + data)
            service.wait_status(image_id, 'importing')
            sock.shutdown(socket.SHUT_RDWR)
    finally:
        gate.touch()
    service.wait_status(image_id, 'active')
    gate.unlink()
    assert service.download(image_id) == data


def test_a_client_that_goes_away_before_leaves_a_queued_image(service):
    image_id = service.create()
    with service.raw() as sock:
        sock.sendall(head_of(image_id, len(GOOD)) + GOOD[:100_000])
        service.wait_status(image_id, 'uploading')
    service.wait_status(image_id, 'queued')
    services.wait_for(lambda: not [name for name in service.staged()
                                   if image_id in name])
    assert put(service, image_id).status == 204


def test_deleted_meanwhile(service, gate):
    image_id = service.create()
    data = b'WAIT:' + GOOD
    try:
        with service.raw() as sock:
            sock.sendall(head_of(image_id, len(data)) + data)
            service.wait_status(image_id, 'importing')
            assert service.request(
                'DELETE', f'/v2/images/{image_id}').status == 204
            status, body = services.answer_of(sock)
            assert status == 410, body
    finally:
        gate.touch()
    services.wait_for(lambda: not [
        name for name in service.staged() + service.stored()
        if image_id in name])
    gate.unlink()


def test_named_data_is_still_refused(service):
    image_id = service.create()
    answer = service.request(
        'POST', f'/v2/images/{image_id}/locations',
        {'url': 'http://127.0.0.1:1/x'})
    assert answer.status == 403, answer


def test_nobody_to_run_them(make_service):
    """The answer comes before the body is read."""
    service = make_service(options={
        'image_import_opts': {'image_import_plugins': '[no_op]'},
        'taskflow_executor': {'embedded_conductor': False}}).start()
    image_id = service.create()
    with service.raw() as sock:
        begun = time.monotonic()
        sock.sendall(head_of(image_id, len(GOOD)))
        status, body = services.answer_of(sock)
    assert status == 503 and b'conductor' in body, (
        body, time.monotonic() - begun)
    assert service.show(image_id)['status'] == 'queued'
    assert not service.staged()


def test_more_imports_than_a_project_may_have(make_service, tmp_path):
    """This too is said before the body is read."""
    gate = tmp_path / 'open'
    plugins = services.write_distribution(
        tmp_path / 'plugins', 'gate', {'gate': GATE},
        {'glance.image_import.plugins': {'gate': 'gate:get_flow'}})
    service = make_service(path=[plugins], options={
        'image_import_opts': {'image_import_plugins': '[gate]'},
        'taskflow_executor': {'max_imports_per_project': 1}})
    service.environment['GATE'] = str(gate)
    service.start()
    held = service.ask(b'WAIT:' + GOOD)
    image_id = service.create()
    with service.raw() as sock:
        sock.sendall(head_of(image_id, len(GOOD)))
        status, body = services.answer_of(sock)
    assert status == 413 and b'max_imports_per_project' in body, body
    assert service.show(image_id)['status'] == 'queued'
    gate.touch()
    service.wait_status(held, 'active')
