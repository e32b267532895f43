"""Bad input: the stated code, an image to go on with, and no leaked file."""

import concurrent.futures
import contextlib
import json
import os
import socket
import stat
import subprocess
import time
import uuid

import pytest

from glance_import.plugin import sandbox
from tests import mounts
from tests import service as services

# An id that no image has; the same in every process of a test run.
NOBODY = '6f1b7c0e-9d3a-4c5f-8e21-0a4b5c6d7e8f'
DATA = os.urandom(200_000)
IMPORT = {'method': {'name': 'glance-direct'}}


def no_files(service, image_id):
    return not [name for name in service.staged() + service.stored()
                if name.startswith(image_id)]


def check_usable(service, image_id):
    """From here the user gets to an active image."""
    assert service.stage(image_id, DATA).status == 204
    assert service.start_import(image_id).status == 202
    image = service.wait_status(image_id, 'active', 'queued')
    assert image['status'] == 'active', image
    assert service.download(image_id) == DATA


@pytest.mark.parametrize('body', [
    b'{', b'', b'[]', b'"text"', b'7', b'null', b'\xff\xfe',
    b'{"method": NaN}',
    b'[' * 100000, b'{}', b'{"method": null}',
    b'{"method": "glance-direct"}',
    b'{"method": []}', b'{"method": {}}', b'{"method": {"name": 7}}',
    b'{"method": {"name": ["glance-direct"]}}',
    b'{"method": {"name": "copy-image"}}', b'{"method": {"name": "x\\u0000"}}',
    b'{"method": {"name": "glance-direct"}, "all_stores": "yes"}',
    b'{"method": {"name": "glance-direct"}, "all_stores_must_succeed": 1}',
    b'{"method": {"name": "glance-direct"}, "stores": "file"}',
])
def test_import_bodies_that_are_none(service, body):
    image_id = service.create()
    service.stage(image_id, DATA)
    answer = service.request(
        'POST', f'/v2/images/{image_id}/import', body)
    assert answer.status == 400, answer
    assert 'Traceback' not in answer.message
    assert service.show(image_id)['status'] == 'uploading'
    assert service.start_import(image_id).status == 202
    service.wait_status(image_id, 'active')


def test_what_clients_of_several_stores_send_is_accepted(service):
    image_id = service.create()
    service.stage(image_id, DATA)
    answer = service.request('POST', f'/v2/images/{image_id}/import', {
        **IMPORT, 'all_stores': True, 'all_stores_must_succeed': False,
        'stores': ['x']})
    assert answer.status == 202
    service.wait_status(image_id, 'active')


def test_a_file_named_by_the_client_is_ignored(service, tmp_path):
    secret = tmp_path / 'secret'
    secret.write_bytes(b'not an image')
    image_id = service.create()
    service.stage(image_id, DATA)
    uri = f'file://{secret}'
    answer = service.request('POST', f'/v2/images/{image_id}/import', {
        'method': {'name': 'glance-direct', 'uri': uri, 'file_path': uri,
                   'path': str(secret)},
        'file_path': uri, 'import_from': uri})
    assert answer.status == 202
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == DATA
    assert secret.read_bytes() == b'not an image'


@pytest.mark.parametrize('content_type', [None, 'application/json',
                                          'text/plain', ''])
def test_stage_needs_its_content_type(service, content_type):
    image_id = service.create()
    headers = {} if content_type is None else {'Content-Type': content_type}
    answer = service.request('PUT', f'/v2/images/{image_id}/stage', DATA,
                             headers)
    assert answer.status == 415
    assert 'application/octet-stream' in answer.message
    assert service.show(image_id)['status'] == 'queued'
    check_usable(service, image_id)


def test_content_type_with_parameters(service):
    image_id = service.create()
    answer = service.stage(image_id, DATA, headers={
        'Content-Type': 'application/octet-stream; charset=binary'})
    assert answer.status == 204


@pytest.mark.parametrize('image_id', [
    NOBODY, 'no-uuid', 'x' * 300, '%00', '%ff%fe', '..%2f..%2fetc',
    "'; DROP TABLE images; --", '%F0%9F%92%BE'])
def test_images_that_are_not_there(service, image_id):
    from urllib import parse
    image_id = parse.quote(image_id, safe='%')
    for method, tail, body in (
            ('GET', '', None), ('DELETE', '', None), ('GET', '/file', None),
            ('GET', '/tasks', None), ('POST', '/import', IMPORT),
            ('PUT', '/stage', b'x')):
        answer = service.request(
            method, f'/v2/images/{image_id}{tail}', body,
            {'Content-Type': 'application/octet-stream'})
        assert answer.status in (404, 400), (method, tail, answer)
        if image_id.count('-') == 4:
            assert answer.status == 404


@pytest.mark.parametrize('body, status', [
    (b'{', 400), (b'[]', 400), (b'null', 400), (b'"x"', 400), (b'', 400),
    ({'name': 7}, 400), ({'name': 'x' * 256}, 400), ({'min_disk': -1}, 400),
    ({'min_disk': 2 ** 31}, 400), ({'min_ram': '1'}, 400),
    ({'disk_format': 'floppy'}, 400), ({'container_format': 'box'}, 400),
    ({'visibility': 'secret'}, 400), ({'tags': 'x'}, 400),
    ({'tags': ['x' * 256]}, 400), ({'tags': [7]}, 400), ({'id': 'x'}, 400),
    ({'protected': 'yes'}, 400), ({'extra': 7}, 400), ({'extra': None}, 400),
    ({'x' * 256: 'y'}, 400), ({'': 'y'}, 400), ({'nul': 'a\0b'}, 400),
    ({'name': 'a\0b'}, 400), ({'lone': '\ud800'}, 400),
    ({'status': 'active'}, 403), ({'checksum': 'x'}, 403), ({'size': 1}, 403),
    ({'virtual_size': 1}, 403), ({'created_at': 'x'}, 403),
    ({'updated_at': 'x'}, 403), ({'self': 'x'}, 403), ({'file': 'x'}, 403),
    ({'schema': 'x'}, 403), ({'locations': []}, 403), ({'deleted': 'x'}, 403),
    ({'os_hash_algo': 'x'}, 403), ({'os_glance_anything': 'x'}, 403),
    ({'os_glance_import_task': 'x'}, 403),
    ({f'p{n}': 'x' for n in range(129)}, 413),
    ({'tags': [f't{n}' for n in range(129)]}, 413),
    ({'big': 'x' * (2 << 20)}, 413),
])
def test_create(service, body, status):
    answer = service.request('POST', '/v2/images', body)
    assert answer.status == status, answer
    assert answer.headers['x-openstack-request-id'].startswith('req-')


def test_odd_text_is_kept(service):
    for text in ('Ünïcödé', '名前', '\U0001f4be', 'a' * 255, '%s {} \' " \\'):
        image_id = service.create(name=text, odd=text, tags=[text])
        image = service.show(image_id)
        assert (image['name'], image['odd'], image['tags']) == (
            text, text, [text])
        from urllib import parse
        listed = service.request(
            'GET', '/v2/images?' + parse.urlencode({'odd': text})).json
        assert image_id in [each['id'] for each in listed['images']]


def test_id_used_twice(service):
    image_id = service.create()
    answer = service.request('POST', '/v2/images', {'id': image_id})
    assert answer.status == 409
    service.request('DELETE', f'/v2/images/{image_id}')
    assert service.request(
        'POST', '/v2/images', {'id': image_id}).status == 409


@pytest.mark.parametrize('query, status', [
    ('limit=-1', 400), ('limit=x', 400), ('limit=1e3', 400),
    ('limit=99999999999999999999', 400), ('limit=0', 200),
    ('marker=x', 400), (f'marker={NOBODY}', 400),
    ('sort_key=nothing', 400), ('sort_dir=up', 400), ('sort=name:up', 400),
    ('sort=name&sort_key=name', 400), ('visibility=secret', 400),
    ('protected=maybe', 400), ('os_hidden=maybe', 400),
    ('changes-since=2020-01-01', 400), ('name=%00', 400), ('%ff=1', 400),
    ('odd%20name=a%27b', 200)])
def test_lists(service, query, status):
    answer = service.request('GET', f'/v2/images?{query}')
    assert answer.status == status, answer


@pytest.mark.parametrize('query', [
    'limit=-1', 'marker=x', 'sort_key=input', 'sort_dir=up', 'status=done',
    'type=everything'])
def test_task_lists(service, query):
    assert service.request('GET', f'/v2/tasks?{query}').status == 400


def test_tasks_are_not_made_by_hand(service):
    for body in ({'type': 'api_image_import', 'input': {'image_id': 'x'}},
                 {'type': 'import', 'input': {}}, {'type': 7, 'input': {}},
                 {'type': 'import'}, {'type': 'import', 'input': None}, []):
        assert service.request('POST', '/v2/tasks', body).status == 400


def test_methods_and_paths(service):
    image_id = service.create()
    for method, path, status, allow in (
            ('DELETE', '/v2/images', 405, 'GET, POST'),
            ('PUT', f'/v2/images/{image_id}', 405, 'DELETE, GET, PATCH'),
            ('GET', f'/v2/images/{image_id}/import', 405, 'DELETE, POST'),
            ('POST', f'/v2/images/{image_id}/stage', 405,
             'DELETE, HEAD, OPTIONS, PATCH, PUT'),
            ('OPTIONS', '/v2/images', 405, 'GET, POST'),
            ('DELETE', f'/v2/tasks/{uuid.uuid4()}', 405, 'GET'),
            ('BREW', '/v2/images', 501, None),
            ('GET', '/v2/nothing', 404, None), ('GET', '/v2/', 404, None),
            ('GET', '/v2/images/', 404, None),
            ('GET', '/v2', 302, None), ('GET', '/v3/images', 300, None)):
        answer = service.request(method, path)
        assert answer.status == status, (method, path, answer)
        assert answer.headers.get('allow') == allow
        assert 'x-openstack-request-id' in answer.headers


def test_a_body_where_none_belongs(service):
    image_id = service.create()
    for method, path in (('GET', '/v2/images'),
                         ('DELETE', f'/v2/images/{image_id}'),
                         ('GET', f'/v2/images/{image_id}')):
        assert service.request(method, path, b'x').status == 400


def test_error_forms(service):
    path = f'/v2/images/{uuid.uuid4()}'
    answer = service.request('GET', path, headers={
        'Accept': 'application/json'})
    assert set(answer.json) == {'code', 'title', 'message'}
    assert answer.json['code'] == '404 Not Found'
    for accept, kind in (('text/plain', 'text/plain'), ('', 'text/plain'),
                         ('*/*', 'text/html')):
        answer = service.request('GET', path, headers={'Accept': accept})
        assert answer.headers['content-type'].startswith(kind), accept
    answer = service.request('GET', path, headers={
        'X-OpenStack-Request-ID': 'req-mine'})
    assert answer.headers['x-openstack-request-id'] == 'req-mine'
    answer = service.request('GET', path, headers={
        'X-OpenStack-Request-ID': 'x' * 65})
    assert answer.status == 431


def test_two_imports_at_once(service):
    image_id = service.create()
    service.stage(image_id, DATA)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = sorted(answer.status for answer in pool.map(
            lambda _: service.start_import(image_id), range(8)))
    assert found == [202] + [409] * 7
    service.wait_status(image_id, 'active')
    assert len(service.tasks(image_id)) == 1


def test_two_stages_at_once(service):
    image_id = service.create()
    datas = [os.urandom(500_000) for _ in range(6)]

    def slowly(data):
        for at in range(0, len(data), 50_000):
            time.sleep(0.005)
            yield data[at:at + 50_000]

    def stage(data):
        try:
            return service.stage(image_id, chunks=slowly(data)).status
        except (BrokenPipeError, ConnectionResetError):
            # Refused before all of it was sent.
            return 409

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(stage, datas))
    assert sorted(found) == [204] + [409] * 5
    assert [name for name in service.staged()
            if name.startswith(image_id)] == [image_id]
    assert service.start_import(image_id).status == 202
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == datas[found.index(204)]


def test_body_shorter_than_its_length(service):
    image_id = service.create()
    with service.stage_by_hand(image_id, 1000) as sock:
        sock.sendall(b'x' * 400)
        sock.shutdown(socket.SHUT_WR)
        status, _body = services.answer_of(sock)
    assert status == 400
    image = service.show(image_id)
    assert image['status'] == 'uploading'
    assert image['size'] is None
    answer = service.start_import(image_id)
    assert answer.status == 409
    assert '400 of 1000' in answer.message
    check_usable(service, image_id)


def test_chunked_body_without_its_end(service):
    image_id = service.create()
    with service.stage_by_hand(image_id, None) as sock:
        sock.sendall(b'5\r\nhello\r\n')
        sock.shutdown(socket.SHUT_WR)
        status, _body = services.answer_of(sock)
    assert status == 400
    assert service.start_import(image_id).status == 409
    check_usable(service, image_id)


def test_broken_chunks(service):
    image_id = service.create()
    with service.stage_by_hand(image_id, None) as sock:
        sock.sendall(b'5\r\nhello\r\nzz\r\n')
        status, _body = services.answer_of(sock)
    assert status == 400
    assert service.show(image_id)['status'] == 'queued'
    assert no_files(service, image_id)
    check_usable(service, image_id)


def test_client_gone_in_mid_upload(service):
    image_id = service.create()
    with service.stage_by_hand(image_id, 1000000) as sock:
        sock.sendall(DATA)
        services.wait_for(
            lambda: service.show(image_id)['status'] == 'uploading')
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                        b'\1\0\0\0\0\0\0\0')
    services.wait_for(lambda: service.stage(image_id, DATA).status == 204)
    assert service.start_import(image_id).status == 202
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == DATA


@pytest.mark.parametrize('given', ['x', '-1', '1.5', '', '0x10', '٣'])
def test_announced_size_that_is_no_number(service, given):
    image_id = service.create()
    answer = service.stage(image_id, DATA, headers={
        'x-openstack-image-size': given.encode().decode('latin-1')})
    assert answer.status == 400
    check_usable(service, image_id)


@pytest.mark.parametrize('header, status', [
    ('Content-Length: ', 400), ('X-OpenStack-Image-Size: ', 400),
    ('Transfer-Encoding: chunked\r\nX: ', 400)])
def test_digits_without_end(service, header, status):
    """More than Python makes a number of; as sizes of chunks as well."""
    image_id = service.create()
    for digits in ('9' * 4301, '0' * 4301, '0' * 4300 + '5'):
        with service.raw() as sock:
            sock.sendall((
                f'PUT /v2/images/{image_id}/stage HTTP/1.1\r\nHost: '
                f'127.0.0.1\r\nContent-Type: application/octet-stream\r\n'
                f'{header}{digits}\r\n\r\n{digits}\r\n\r\n').encode())
            assert services.answer_of(sock)[0] == status, digits[-1]
    for header in ('Upload-Offset', 'Upload-Length'):
        for digits in ('9' * 4301, '9' * 20, '9' * 19):
            answer = service.request(
                'PATCH', f'/v2/images/{image_id}/stage', b'x', {
                    'Content-Type': 'application/offset+octet-stream',
                    'Tus-Resumable': '1.0.0', 'Upload-Offset': '0',
                    'Upload-Length': '1', header: digits})
            assert answer.status in (400, 409, 413), answer
    for digits in ('9' * 18, '9' * 19):
        answer = service.stage(image_id, b'x', headers={
            'X-OpenStack-Image-Size': digits})
        assert answer.status in (400, 413), answer
    check_usable(service, image_id)


def test_announced_size_that_is_wrong(service):
    image_id = service.create()
    for chunks in (None, [DATA]):
        answer = service.stage(image_id, DATA, chunks=chunks, headers={
            'x-openstack-image-size': str(len(DATA) + 1)})
        assert answer.status == 400
        assert service.show(image_id)['status'] == 'queued'
        assert no_files(service, image_id)
    check_usable(service, image_id)


def test_leftover_file_under_a_queued_images_name(service):
    image_id = service.create()
    (service.staging / image_id).write_bytes(b'left behind')
    (service.staging / f'{image_id}.part').write_bytes(b'and this')
    check_usable(service, image_id)


def test_staged_file_deleted_behind_our_back(service):
    image_id = service.create()
    service.stage(image_id, DATA)
    (service.staging / image_id).unlink()
    assert service.start_import(image_id).status in (202, 409)
    image = service.wait_status(image_id, 'queued', 'active')
    assert image['status'] == 'queued'
    assert 'disappeared' in image['os_glance_import_error']
    task, = service.tasks(image_id)
    assert task['status'] == 'failure'
    assert 'disappeared' in task['message']
    assert 'os_glance_import_task' not in image
    check_usable(service, image_id)
    assert 'os_glance_import_error' not in service.show(image_id)


def test_image_deleted_while_it_is_imported_leaves_nothing(make_service):
    service = make_service(
        options={'taskflow_executor': {'embedded_conductor': False}}).start()
    image_id = service.ask(DATA)
    task, = service.tasks(image_id)
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204
    assert no_files(service, image_id)
    task = service.request('GET', f"/v2/tasks/{task['id']}").json
    assert task['status'] == 'failure'
    assert 'deleted' in task['message']
    assert service.execute('SELECT count(*) FROM import_jobs') == [(0,)]


def test_over_the_size_cap(make_service):
    service = make_service(options={'DEFAULT': {'image_size_cap': 100_000}})
    service.start()
    image_id = service.create()
    # By its announced length: refused before the client has sent it.
    with service.stage_by_hand(image_id, 100001) as sock:
        status, body = services.answer_of(sock)
    assert status == 413
    assert b'image_size_cap' in body
    # By what comes: refused as soon as it is too much.
    with service.stage_by_hand(image_id, None) as sock:
        sock.sendall(b'%x\r\n' % 100001 + b'x' * 100001 + b'\r\n')
        status, _body = services.answer_of(sock)
    assert status == 413
    services.wait_for(lambda: service.show(image_id)['status'] == 'queued')
    assert no_files(service, image_id)
    data = b'y' * 100_000
    assert service.stage(image_id, data).status == 204
    service.start_import(image_id)
    service.wait_status(image_id, 'active')


def test_upload_slower_than_the_limit(make_service):
    service = make_service(options={'DEFAULT': {'client_socket_timeout': 1}})
    service.start()
    image_id = service.create()
    with service.stage_by_hand(image_id, 100000) as sock:
        sock.sendall(b'x')
        status, _body = services.answer_of(sock)
    assert status in (400, 408)
    assert service.show(image_id)['status'] == 'uploading'
    check_usable(service, image_id)


def test_staging_directory_full(make_service):
    service = make_service()
    with mounts.memory(service.staging, '1M'):
        service.start()
        image_id = service.create()
        answer = None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            answer = service.stage(image_id, b'x' * (2 << 20))
        assert answer is None or answer.status == 413, answer
        services.wait_for(
            lambda: service.show(image_id)['status'] == 'queued')
        assert no_files(service, image_id)
        check_usable(service, image_id)
        service.stop()


def test_store_full(make_service):
    """Another filesystem, so that the bytes have to be copied."""
    service = make_service()
    with mounts.memory(service.images, '1M'):
        service.start()
        image_id = service.ask(os.urandom(2 << 20))
        image = service.wait_status(image_id, 'uploading', 'active')
        services.wait_for(lambda: not service.show(image_id).get(
            'os_glance_import_task'))
        image = service.show(image_id)
        assert image['status'] == 'uploading', image
        assert 'room' in image['os_glance_import_error'] \
            or 'space' in image['os_glance_import_error'], image
        assert service.stored() == []
        # The bytes are still there: other room, and the same call works.
        subprocess.run(['mount', '-o', 'remount,size=8M', service.images],
                       check=True)
        assert service.start_import(image_id).status == 202
        assert service.wait_status(image_id, 'active')['size'] == 2 << 20
        service.stop()


def test_staging_directory_not_writable(make_service):
    service = make_service()
    with mounts.memory(service.staging, '1M'):
        service.start()
        image_id = service.create()
        subprocess.run(['mount', '-o', 'remount,ro', service.staging],
                       check=True)
        answer = service.stage(image_id, DATA)
        assert answer.status == 503, answer
        assert 'retry-after' in answer.headers
        assert service.show(image_id)['status'] == 'queued'
        subprocess.run(['mount', '-o', 'remount,rw', service.staging],
                       check=True)
        check_usable(service, image_id)
        service.stop()


def test_nothing_staged_can_be_read_by_others(service):
    image_id = service.create()
    service.stage(image_id, DATA)
    for path in (service.staging, service.staging / image_id,
                 service.state / 'glance.sqlite'):
        found = path.stat()
        mode = stat.S_IMODE(found.st_mode)
        if found.st_gid == sandbox.READERS:
            # A group that no process has but a plugin's that is given the
            # data by name.
            mode &= ~0o040
        assert not mode & 0o077, path


def test_no_request_was_an_error_of_ours(service):
    """Runs last in this module: nothing above may have been a 500."""
    assert json.dumps('unexpected error') not in service.text()
    assert 'Traceback' not in service.text(), service.text()[-5000:]
