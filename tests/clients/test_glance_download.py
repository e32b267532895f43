"""glance-download: from a real Glance in another region, and from bad ones."""

import hashlib
import json
import os
import threading
import uuid

import pytest

from tests import environments
from tests.formats import corpus
from tests import glance as glances
from tests import origins
from tests import service as services

DATA = os.urandom(2_000_003)
METHODS = '[glance-direct, web-download, glance-download]'


@pytest.fixture(scope='module')
def other_region(cache, keystone, tmp_path_factory):
    """A real Glance that asks the same Keystone."""
    top = tmp_path_factory.mktemp('glance')
    glance = glances.Glance(
        environments.make('glance', cache), top, images=top / 'images',
        database=f'sqlite:///{top}/glance.sqlite?timeout=60',
        staging=top / 'staging', middleware=keystone.middleware())
    glance.sync()
    glance.start()
    keystone.add_region('North')
    url = f'http://127.0.0.1:{glance.port}'
    keystone.add_endpoint('image', 'north', url, 'North')
    yield glance
    keystone.remove_endpoints(url)
    glance.kill()


@pytest.fixture(scope='module')
def bad_region(keystone):
    """Answers as the test wants."""
    with origins.Origin(lambda handler: handler.begin(
            500, Content_Length=0)) as origin:
        keystone.add_region('Bad')
        url = origin.url('/image/v2/')
        keystone.add_endpoint('image', 'bad', url, 'Bad')
        yield origin
        keystone.remove_endpoints(url)


@pytest.fixture(scope='module')
def service(keystone, other_region, bad_region, tmp_path_factory):
    running = services.Service(
        tmp_path_factory.mktemp('here'), options={
            'DEFAULT': {'enabled_import_methods': METHODS, 'debug': True},
            'import_downloads': {'retries': 2, 'retry_interval': 0.05},
            'paste_deploy': {'flavor': 'keystone'},
            'keystone_authtoken': keystone.middleware()})
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope='module')
def token(keystone, service):
    return keystone.token('ann', 'red')


def ask(service, token, **method):
    image_id = service.create(token=token)
    return image_id, service.request(
        'POST', f'/v2/images/{image_id}/import', {
            'method': {'name': 'glance-download', **method}}, token=token)


def fetch(service, token, **method):
    image_id, answer = ask(service, token, **method)
    assert answer.status == 202, answer
    return service.wait_status(image_id, 'active', 'queued', token=token)


def check_no_trace(service, token):
    """The token is in no database and no log."""
    kept = [*service.state.iterdir(), service.log]
    for path in kept:
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path
    assert service.execute(
        'SELECT count(*) FROM import_jobs WHERE secret IS NOT NULL') == [
            (0,)]


def test_an_image_of_another_region(service, other_region, token):
    there = other_region.create(
        token=token, disk_format='qcow2', container_format='bare',
        hw_machine_type='q35', os_distro='debian', color='red')
    # Whatever it says it is, it must be: a small qcow2 of qemu-img's.
    path = other_region.directory / 'small.qcow2'
    next(case for case in corpus.TABLE if case.name == 'qcow2').make(path)
    data = path.read_bytes()
    assert other_region.request(
        'PUT', f'/v2/images/{there}/file', data,
        {'Content-Type': 'application/octet-stream'}, token=token
    ).status == 204
    image = fetch(service, token, glance_region='North',
                  glance_image_id=there)
    assert image['status'] == 'active', image
    assert (image['disk_format'], image['hw_machine_type'],
            image['os_distro']) == ('qcow2', 'q35', 'debian')
    assert 'color' not in image
    assert image['os_hash_value'] == hashlib.sha512(data).hexdigest()
    assert service.download(image['id'], token) == data
    check_no_trace(service, token)


def test_an_image_without_data(service, other_region, token):
    there = other_region.create(token=token)
    image = fetch(service, token, glance_region='North',
                  glance_image_id=there)
    assert 'queued, not active' in image['os_glance_import_error']


def test_an_image_that_is_not_there(service, token):
    image = fetch(service, token, glance_region='North',
                  glance_image_id=str(uuid.uuid4()))
    assert 'no such image' in image['os_glance_import_error']
    check_no_trace(service, token)


@pytest.mark.parametrize('method', (
    {}, {'glance_region': 'North'}, {'glance_image_id': str(uuid.uuid4())},
    {'glance_region': 'North', 'glance_image_id': 'x'},
    {'glance_region': 'Nowhere', 'glance_image_id': str(uuid.uuid4())},
    {'glance_region': 'North', 'glance_image_id': str(uuid.uuid4()),
     'glance_service_interface': 'secret'}))
def test_what_is_wrong_at_once(service, token, method):
    image_id, answer = ask(service, token, **method)
    assert answer.status == 400, answer
    assert service.show(image_id, token)['status'] == 'queued'


def remote(data=DATA, **more):
    """An image service with one image; ``more`` is of the image."""
    image = {'status': 'active', 'disk_format': 'raw', 'size': len(data),
             'container_format': 'bare', 'os_hash_algo': 'sha256',
             'os_hash_value': hashlib.sha256(data).hexdigest(), **more}

    def answer(handler, at=None):
        assert handler.headers['X-Auth-Token']
        if not handler.path.endswith('/file'):
            body = json.dumps(image).encode()
            handler.begin(Content_Length=len(body))
            handler.wfile.write(body)
            return
        assert 'If-Range' not in handler.headers
        start = handler.start
        if start:
            handler.begin(206, Content_Length=len(data) - start,
                          Content_Range=f'bytes {start}-{len(data) - 1}/'
                          f'{len(data)}')
        else:
            handler.begin(Content_Length=len(data))
        handler.wfile.write(data[start:start + at] if at else data[start:])
    return answer


def from_bad(service, origin, token, answer):
    origin.requests.clear()
    origin.answer = answer
    return fetch(service, token, glance_region='Bad',
                 glance_image_id=str(uuid.uuid4()))


def test_it_goes_on_without_an_etag(service, bad_region, token):
    whole = remote()
    image = from_bad(service, bad_region, token,
                     lambda handler: whole(handler, 900_000))
    assert image['status'] == 'active', image
    assert service.download(image['id'], token) == DATA
    assert [each[1].get('Range') for each in bad_region.requests] == [
        None, None, 'bytes=900000-', 'bytes=1800000-']
    assert bad_region.requests[0][0].startswith('/image/v2/images/')


@pytest.mark.parametrize('answer, word', (
    (remote(os_hash_value='00' * 32), 'sha256'),
    (remote(size=5), 'bytes instead of 5'),
    (remote(status='deactivated'), 'deactivated'),
    (lambda handler: handler.begin(401, Content_Length=0), 'expired'),
    (lambda handler: handler.begin(403, Content_Length=0), '403'),
    (lambda handler: handler.begin(503, Content_Length=0), '503'),
    (lambda handler: handler.wfile.write(b'junk\r\n'), 'does not answer'),
    (lambda handler: (handler.begin(Content_Length=2),
                      handler.wfile.write(b'[]')), 'as an image service'),
), ids=('digest', 'size', 'status', '401', '403', '503', 'junk', 'list'))
def test_bad_regions(service, bad_region, token, answer, word):
    image = from_bad(service, bad_region, token, answer)
    assert image['status'] == 'queued', image
    assert word in image['os_glance_import_error'], image
    check_no_trace(service, token)


def test_the_token_goes_nowhere_else(service, bad_region, token):
    with origins.Origin(remote()) as thief:
        image = from_bad(
            service, bad_region, token, lambda handler: handler.begin(
                302, Location=thief.url('/v2/images/x'), Content_Length=0))
        assert not thief.requests
    assert 'redirect' in image['os_glance_import_error']


def test_while_it_waits_it_is_sealed(service, bad_region, token):
    """Looked at in the middle of the download."""
    go_on, whole = threading.Event(), remote()

    def answer(handler):
        if handler.path.endswith('/file'):
            go_on.wait(30)
        whole(handler)
    bad_region.requests.clear()
    bad_region.answer = answer
    image_id, asked = ask(service, token, glance_region='Bad',
                          glance_image_id=str(uuid.uuid4()))
    assert asked.status == 202
    services.wait_for(lambda: len(bad_region.requests) == 2)
    (sealed,), = service.execute(
        'SELECT secret FROM import_jobs WHERE image_id = ?', image_id)
    assert sealed and token not in sealed
    key = service.staging / '.token_key'
    assert key.stat().st_mode & 0o777 == 0o600
    go_on.set()
    image = service.wait_status(image_id, 'active', token=token)
    assert image['size'] == len(DATA)
    check_no_trace(service, token)
