"""The main job: an image goes in and comes out active, byte for byte."""

import hashlib
import os
import socket

import pytest

from tests import service as services

DATA = os.urandom(3 * 1024 * 1024 + 17)
PARTS = {'1 byte': 1, '64 KiB': 65536, '4 MiB': 4 << 20}
MANY = '9' * 5000


def parts(data, size):
    return (data[at:at + size] for at in range(0, len(data), size))


def check_active(service, image_id, data):
    image = service.wait_status(image_id, 'active', 'uploading', 'queued')
    assert image['status'] == 'active', image
    assert image['size'] == len(data)
    assert image['checksum'] == hashlib.md5(data).hexdigest()
    assert image['os_hash_algo'] == 'sha512'
    assert image['os_hash_value'] == hashlib.sha512(data).hexdigest()
    assert service.download(image_id) == data
    # Two more properties than it had, both empty; nothing else is left.
    assert image['os_glance_importing_to_stores'] == ''
    assert image['os_glance_failed_import'] == ''
    assert 'os_glance_import_task' not in image
    services.wait_for(lambda: image_id not in service.staged())


def test_by_content_length(service):
    image_id = service.create()
    assert service.show(image_id)['status'] == 'queued'
    assert service.stage(image_id, DATA).status == 204
    image = service.show(image_id)
    assert (image['status'], image['size']) == ('uploading', len(DATA))
    assert image['checksum'] is None
    answer = service.start_import(image_id)
    assert (answer.status, answer.body) == (202, b'')
    check_active(service, image_id, DATA)


@pytest.mark.parametrize('size', PARTS.values(), ids=PARTS)
def test_chunked(service, size):
    data = DATA[:20011] if size == 1 else DATA
    image_id = service.ask(chunks=parts(data, size))
    check_active(service, image_id, data)


@pytest.mark.parametrize('size', PARTS.values(), ids=PARTS)
def test_by_content_length_in_parts(service, size):
    data = DATA[:20011] if size == 1 else DATA
    image_id = service.create()
    with service.stage_by_hand(image_id, len(data)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts(data, size):
            sock.sendall(part)
        assert services.answer_of(sock)[0] == 204
    assert service.start_import(image_id).status == 202
    check_active(service, image_id, data)


def test_empty_image(service):
    image_id = service.ask(b'')
    check_active(service, image_id, b'')


def test_the_task_tells_what_happened(service):
    image_id = service.create()
    service.stage(image_id, DATA)
    answer = service.start_import(image_id)
    assert answer.headers['location'].endswith(
        f'/v2/images/{image_id}/tasks')
    service.wait_status(image_id, 'active')
    task, = service.tasks(image_id)
    assert task['type'] == 'api_image_import'
    assert task['status'] == 'success'
    assert task['message'] == ''
    assert task['result'] == {'image_id': image_id}
    assert task['input']['image_id'] == image_id
    assert task['request_id'] == answer.headers['x-openstack-request-id']
    assert task['expires_at'].endswith('Z')
    assert service.request('GET', f"/v2/tasks/{task['id']}").json == task
    listed = service.request('GET', '/v2/tasks?type=api_image_import').json
    assert task['id'] in [each['id'] for each in listed['tasks']]
    assert all('input' not in each for each in listed['tasks'])


def test_ranges(service):
    image_id = service.ask(DATA)
    service.wait_status(image_id, 'active')
    path = f'/v2/images/{image_id}/file'
    whole = service.request('GET', path)
    assert whole.headers['content-md5'] == hashlib.md5(DATA).hexdigest()
    assert whole.headers['content-length'] == str(len(DATA))
    for given, wanted in (
            ('bytes=0-0', DATA[:1]), ('bytes=100-199', DATA[100:200]),
            ('bytes=1000000-', DATA[1000000:]), ('bytes=-17', DATA[-17:]),
            (f'bytes=5-{len(DATA) + 9}', DATA[5:]),
            # Numbers of any length are numbers.
            ('bytes=5-' + MANY, DATA[5:]),
            (f'bytes={"0" * 5000}5-{"0" * 5000}9', DATA[5:10]),
            ('Bytes = 5 - 9 ', DATA[5:10])):
        answer = service.request('GET', path, headers={'Range': given})
        assert (answer.status, answer.body) == (206, wanted), given
        assert answer.headers['content-range'].endswith(f'/{len(DATA)}')
    for given, status in ((f'bytes={len(DATA)}-', 416), ('bytes=9-3', 416),
                          ('lines=1-2', 416), ('bytes=0-1,3-4', 400),
                          ('bytes=-', 416), ('bytes=', 416),
                          ('bytes=-0', 416), ('bytes=--1', 416),
                          ('bytes=1-2-3', 416), ('bytes=+1-2', 416),
                          ('bytes=1_0-20', 416), ('bytes=0x1-2', 416),
                          ('bytes=\xb2-3', 416), ('bytes=' + MANY + '-', 416),
                          (f'bytes={MANY}-{MANY}', 416)):
        answer = service.request('GET', path, headers={'Range': given})
        assert answer.status == status, given
    # The older way to ask, which Glance still takes.
    answer = service.request('GET', path, headers={
        'Content-Range': 'bytes 3-9/*'})
    assert (answer.status, answer.body) == (206, DATA[3:10])
    for given, status in ((f'bytes 3-{MANY}/*', 206), ('bytes -3/*', 416),
                          (f'bytes 3-9/{MANY}', 206), ('bytes */9', 416),
                          (f'bytes {MANY}-{MANY}/{MANY}', 416),
                          ('bytes 3-9', 416), ('bytes 3-9/x', 416),
                          ('bytes 3-16/15', 416), ('bytes 3-15/15', 416),
                          ('bytes 3-14/15', 206), ('bytes 0-0/0', 416),
                          ('Bytes 3-14/15', 206), ('Byte 3-14/15', 416),
                          ('bytes 9-3/15', 416), ('bytes 0-0/1', 206)):
        answer = service.request('GET', path, headers={
            'Content-Range': given})
        assert answer.status == status, given
    assert 'Traceback' not in service.text()


def test_a_part_of_the_data_is_not_put(service):
    """It would be taken for all of it (RFC 9110, 14.5)."""
    for name in ('stage', 'file'):
        path = f'/v2/images/{service.create()}/{name}'
        for given, status in (
                ('bytes 5-9/10', 400), ('bytes 0-4/10', 400),
                ('bytes 0-4/*', 400), ('bytes */5', 400), ('x', 400),
                ('Bytes 0-4/5', 204)):
            answer = service.request('PUT', path, b'parts', {
                'Content-Type': 'application/octet-stream',
                'Content-Range': given})
            assert answer.status == status, (given, answer)


def test_head_of_data(service):
    image_id = service.create()
    path = f'/v2/images/{image_id}/file'
    assert service.request('HEAD', path).status == 204
    service.stage(image_id, DATA)
    service.start_import(image_id)
    service.wait_status(image_id, 'active')
    whole = service.request('GET', path)
    head = service.request('HEAD', path, headers={'Range': 'bytes=0-1'})
    assert (head.status, head.body) == (200, b'')
    for name in ('content-length', 'content-type', 'content-md5',
                 'accept-ranges'):
        assert head.headers[name] == whole.headers[name]
    assert service.request('HEAD', f'/v2/images/{"0" * 8}/file'
                           ).status == 404


def test_delete_removes_record_and_bytes(service):
    image_id = service.ask(DATA)
    service.wait_status(image_id, 'active')
    assert image_id in service.stored()
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204
    assert image_id not in service.stored()
    assert service.request('GET', f'/v2/images/{image_id}').status == 404
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 404


def test_list_pages(service):
    made = [service.create(name=f'page-{n}', kind='pages', tags=['x', 'y'])
            for n in range(5)]
    seen, path = [], '/v2/images?kind=pages&tag=x&tag=y&limit=2&sort_dir=asc'
    while path:
        page = service.request('GET', path).json
        assert len(page['images']) <= 2
        seen += [image['id'] for image in page['images']]
        path = page.get('next')
        assert path is None or path.count('tag=') == 2
    assert sorted(seen) == sorted(made)
