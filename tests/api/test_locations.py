"""Locations that users name: in a PATCH, and by the call made for it."""

import hashlib
import http.server
import threading

import pytest

from tests import service as services

V21 = 'application/openstack-images-v2.1-json-patch'
DATA = b'data on a web server' * 1000
SHA512 = hashlib.sha512(DATA).hexdigest()
SERVICE = 'nova:services:service'


class Handler(http.server.BaseHTTPRequestHandler):
    """Files of the test; /gone is none, /slow fails twice."""

    failures = 0
    files = {'/disk': DATA, '/copy': DATA, '/other': DATA + b'!',
             '/slow': DATA, '/fourth': DATA}

    def do_GET(self):
        found = self.files.get(self.path)
        if self.path == '/slow' and Handler.failures:
            Handler.failures -= 1
            self.send_error(503)
            return
        if self.path == '/away':
            self.send_response(302)
            self.send_header('Location', 'http://169.254.169.254/disk')
            self.end_headers()
            return
        if found is None:
            self.send_error(404)
            return
        given = self.headers.get('Range')
        first = int(given.partition('=')[2].partition('-')[0]) if given else 0
        self.send_response(206 if given else 200)
        if given:
            # /slow lies about the part that it sends.
            at = 0 if self.path == '/slow' else first
            self.send_header('Content-Range',
                             f'bytes {at}-{len(found) - 1}/{len(found)}')
        self.send_header('Content-Length', str(len(found) - first))
        self.end_headers()
        self.wfile.write(found[first:])

    def log_message(self, *words):
        """Quiet."""


@pytest.fixture(scope='module')
def web():
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


@pytest.fixture(scope='module')
def service(tmp_path_factory, web):
    running = services.Service(
        tmp_path_factory.mktemp('locations'), token=services.MEMBER,
        options={'paste_deploy': {'flavor': 'fakeauth'},
                 'DEFAULT': {'show_multiple_locations': True,
                             'image_location_quota': 3},
                 'glance_store': {'stores': 'file,http'},
                 'import_filtering_opts': {
                     'allowed_ports': f'[80,{web.rpartition(":")[2]}]',
                     'allowed_addresses': '[127.0.0.0/8]'}})
    running.start()
    yield running
    running.kill()


def patch(service, image_id, *operations, token=None):
    return service.request('PATCH', f'/v2/images/{image_id}',
                           list(operations), {'Content-Type': V21},
                           token=token)


def add(url, position='-', **more):
    return {'op': 'add', 'path': f'/locations/{position}',
            'value': {'url': url, 'metadata': {}, **more}}


def post(service, image_id, url, token=None, **more):
    return service.request('POST', f'/v2/images/{image_id}/locations',
                           {'url': url, **more}, token=token)


def test_a_queued_image_becomes_active(service, web):
    image_id = service.create()
    answer = patch(service, image_id, add(f'{web}/disk', validation_data={
        'os_hash_algo': 'sha512', 'os_hash_value': SHA512}))
    assert answer.status == 200, answer
    image = answer.json
    assert (image['status'], image['size'], image['os_hash_value']) == (
        'active', len(DATA), SHA512)
    assert image['locations'] == [{'url': f'{web}/disk', 'metadata': {}}]
    assert service.download(image_id) == DATA
    part = service.request('GET', f'/v2/images/{image_id}/file',
                           headers={'Range': 'bytes=100-119'})
    assert (part.status, part.body) == (206, DATA[100:120])
    # One more, then without the first; never without any.
    assert patch(service, image_id, add(f'{web}/copy', 0)).status == 200
    remove = {'op': 'remove', 'path': '/locations/0'}
    assert patch(service, image_id, remove).status == 403
    answer = patch(service, image_id, remove, token=services.ADMIN)
    assert [each['url'] for each in answer.json['locations']] == [
        f'{web}/copy']
    assert patch(service, image_id, remove, token=services.ADMIN
                 ).status == 403
    # What is said of a place may be said anew.
    answer = patch(service, image_id, {
        'op': 'replace', 'path': '/locations',
        'value': [{'url': f'{web}/copy', 'metadata': {'room': '1'}}]})
    assert answer.json['locations'][0]['metadata'] == {'room': '1'}
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204


def test_another_part_than_was_asked_for(service, web):
    image_id = service.create()
    assert patch(service, image_id, add(f'{web}/slow')).status == 200
    answer = service.request('GET', f'/v2/images/{image_id}/file',
                             headers={'Range': 'bytes=100-119'})
    assert answer.status == 503


def test_a_signed_image_has_no_data_that_is_only_named(service, web):
    image_id = service.create(img_signature='x')
    answer = patch(service, image_id, add(f'{web}/disk'))
    assert answer.status == 400 and 'signed' in answer.message
    answer = post(service, image_id, f'{web}/disk')
    assert answer.status == 400 and 'signed' in answer.message
    assert service.show(image_id)['status'] == 'queued'


def test_which_store_has_it_is_not_for_users_to_say(service, web):
    image_id = service.create()
    assert patch(service, image_id, add(f'{web}/disk')).status == 200
    answer = patch(service, image_id, {
        'op': 'replace', 'path': '/locations',
        'value': [{'url': f'{web}/disk', 'metadata': {'store': 'file'}}]})
    assert answer.json['locations'] == [
        {'url': f'{web}/disk', 'metadata': {}}]


@pytest.mark.parametrize('operation, status, said', [
    (lambda w: add(f'{w}/disk', validation_data={
        'checksum': ' '.join(['aa'] * 16)}), 409, '32'),
    (lambda w: add(f'{w}/gone'), 400, '404'),
    (lambda w: add(f'{w}/away'), 400, '169.254.169.254'),
    (lambda w: add('http://127.0.0.1:1/disk'), 400, 'port'),
    (lambda w: add('file:///etc/passwd'), 400, 'No store'),
    (lambda w: add('s3://key:secret@host/bucket/x'), 400, 'No store'),
    (lambda w: add('nonsense'), 400, 'No store'),
    (lambda w: add(f'{w}/disk', 7), 400, 'position'),
    (lambda w: add(f'{w}/disk', 'x'), 400, 'position'),
    (lambda w: add(f'{w}/disk', '9' * 200), 400, 'position'),
    (lambda w: add(f'{w}/disk', '9' * 5000), 400, 'at most 255'),
    (lambda w: {'op': 'add', 'path': '/locations',
                'value': [{'url': f'{w}/disk', 'metadata': {}}]}, 400,
     'position'),
    (lambda w: {'op': 'replace', 'path': '/locations/0',
                'value': {'url': f'{w}/disk', 'metadata': {}}}, 400,
     'as a whole'),
    (lambda w: {'op': 'replace', 'path': '/locations', 'value': []}, 403,
     'none'),
    (lambda w: {'op': 'add', 'path': '/locations/-',
                'value': {'url': f'{w}/disk'}}, 400, 'metadata'),
    (lambda w: {'op': 'add', 'path': '/locations/-', 'value': 'x'}, 400,
     'schema'),
    (lambda w: {'op': 'remove', 'path': '/locations/0'}, 409, 'queued'),
    (lambda w: add(f'{w}/disk', validation_data={
        'os_hash_algo': 'md5', 'os_hash_value': 'x'}), 409, 'os_hash_algo'),
    (lambda w: add(f'{w}/disk', validation_data={
        'os_hash_algo': 'sha512', 'os_hash_value': 'x'}), 409, '128'),
    (lambda w: add(f'{w}/disk', validation_data={'size': '1'}), 400, 'size'),
])
def test_what_cannot_be(service, web, operation, status, said):
    image_id = service.create()
    answer = patch(service, image_id, operation(web), token=services.ADMIN)
    assert answer.status == status, answer
    assert said in answer.message
    image = service.show(image_id)
    assert (image['status'], image['locations']) == ('queued', [])


def test_locations_have_the_same_data(service, web):
    image_id = service.create()
    assert patch(service, image_id, add(f'{web}/disk')).status == 200
    answer = patch(service, image_id, add(f'{web}/other'))
    assert answer.status == 409 and 'differ in size' in answer.message
    assert patch(service, image_id, add(f'{web}/disk')).status == 400
    # Another digest than the one that is known.
    answer = patch(service, image_id, add(f'{web}/copy', validation_data={
        'os_hash_algo': 'sha512', 'os_hash_value': SHA512}))
    assert answer.status == 409
    for name in ('copy', 'slow'):
        assert patch(service, image_id, add(f'{web}/{name}')).status == 200
    answer = patch(service, image_id, add(f'{web}/fourth'))
    assert answer.status == 413 and 'locations' in answer.message
    assert len(service.show(image_id)['locations']) == 3


def test_formats_are_needed(service, web):
    made = service.request('POST', '/v2/images', {}).json['id']
    answer = patch(service, made, add(f'{web}/disk'))
    assert answer.status == 400 and 'format' in answer.message
    assert service.show(made)['status'] == 'queued'
    answer = patch(
        service, made, {'op': 'add', 'path': '/disk_format', 'value': 'raw'},
        {'op': 'add', 'path': '/container_format', 'value': 'bare'},
        add(f'{web}/disk'))
    assert answer.json['status'] == 'active'


def test_the_call_made_for_it(service, web):
    image_id = service.create()
    answer = post(service, image_id, f'{web}/disk', validation_data={
        'os_hash_algo': 'sha512', 'os_hash_value': SHA512})
    assert answer.status == 202, answer
    image = service.wait_status(image_id, 'active', 'queued')
    assert image['status'] == 'active', image
    assert (image['size'], image['os_hash_value'], image['checksum']) == (
        len(DATA), SHA512, hashlib.md5(DATA).hexdigest())
    task, = service.tasks(image_id)
    assert (task['type'], task['status']) == ('location_import', 'success')
    assert service.download(image_id) == DATA
    path = f'/v2/images/{image_id}/locations'
    assert service.request('GET', path).status == 403
    assert service.request('GET', path, token=services.OTHER).status == 404
    assert service.request('GET', path, token=SERVICE).status == 404
    service.request('PATCH', f'/v2/images/{image_id}', [
        {'op': 'replace', 'path': '/visibility', 'value': 'community'}],
        {'Content-Type': V21})
    assert service.request(
        'GET', path, token='nova:services:service,reader').json == [
        {'url': f'{web}/disk', 'metadata': {}}]
    assert post(service, image_id, f'{web}/copy').status == 409
    assert 'v2.17' in [each['id'] for each in service.request(
        'GET', '/versions').json['versions']]


def test_the_call_fails_with_its_reason(service, web):
    image_id = service.create()
    for body, status in (
            ({}, 400), ({'url': 7}, 400), ({'url': ''}, 400), ([], 400),
            ({'url': f'{web}/disk', 'validation_data': {'checksum': 'x'}},
             400),
            ({'url': f'{web}/disk', 'validation_data': {
                'os_hash_algo': 'sha512'}}, 400),
            ({'url': 'file:///etc/passwd'}, 400),
            ({'url': 'http://127.0.0.1:9/x'}, 400)):
        assert service.request(
            'POST', f'/v2/images/{image_id}/locations', body
        ).status == status, body
    assert post(service, image_id, f'{web}/disk', services.READER
                ).status == 403
    for url, more, said in (
            (f'{web}/gone', {}, '404'), (f'{web}/away', {}, '169.254'),
            (f'{web}/other', {'validation_data': {
                'os_hash_algo': 'sha512', 'os_hash_value': SHA512}},
             'not what was said')):
        assert post(service, image_id, url, **more).status == 202
        services.wait_for(lambda: said in service.show(image_id).get(
            'os_glance_import_error', ''))
        assert service.show(image_id)['status'] == 'queued'
    # An operator's asking again is the same again.
    done = service.run('manage', 'imports', 'retry', image_id)
    assert 'was asked for' in done.stdout, done
    services.wait_for(lambda: [
        each['status'] for each in service.tasks(image_id)]
        == ['failure'] * 4)
    assert {each['type'] for each in service.tasks(image_id)} == {
        'location_import'}
    Handler.failures = 2
    assert post(service, image_id, f'{web}/slow').status == 202
    service.wait_status(image_id, 'active')
    assert Handler.failures == 0


def test_not_where_plugins_would_not_see_it(tmp_path, web):
    service = services.Service(tmp_path, options={
        'DEFAULT': {'show_multiple_locations': True},
        'glance_store': {'stores': 'file,http'},
        'image_import_opts': {'image_import_plugins': '[no_op]'}})
    service.start()
    try:
        image_id = service.create()
        for answer in (patch(service, image_id, add(f'{web}/disk')),
                       post(service, image_id, f'{web}/disk')):
            assert answer.status == 403 and 'plugins' in answer.message
    finally:
        service.kill()
