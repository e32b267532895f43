"""user_storage_quota: asked before data comes, while it comes, and after."""

import pytest

from tests import service as services

QUOTA = 10000


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    running = services.Service(
        tmp_path_factory.mktemp('quotas'), token=services.MEMBER,
        options={'paste_deploy': {'flavor': 'fakeauth'},
                 'DEFAULT': {'user_storage_quota': f'{QUOTA}B'}})
    running.start()
    yield running
    running.kill()


@pytest.fixture(autouse=True)
def empty(service):
    yield
    for token in (services.MEMBER, services.OTHER):
        for image in service.request(
                'GET', '/v2/images', token=token).json['images']:
            service.request('DELETE', f'/v2/images/{image["id"]}',
                            token=services.ADMIN)


def add(service, size, token=services.MEMBER):
    image_id = service.create(token)
    assert service.stage(image_id, bytes(size), token=token).status == 204
    assert service.start_import(image_id, token).status == 202
    service.wait_status(image_id, 'active', token=token)
    return image_id


def put(service, image_id, size, **chunks):
    return service.request(
        'PUT', f'/v2/images/{image_id}/file',
        None if chunks else bytes(size),
        {'Content-Type': 'application/octet-stream',
         **({'Transfer-Encoding': 'chunked'} if chunks else {})}, **chunks)


def test_what_does_not_fit_is_refused_when_it_is_announced(service):
    add(service, 7000)
    image_id = service.create()
    answer = service.stage(image_id, bytes(3001))
    assert answer.status == 413
    assert 'user_storage_quota' in answer.message
    assert '3000 are left' in answer.message
    assert service.show(image_id)['status'] == 'queued'
    assert service.stage(image_id, bytes(3000)).status == 204
    assert service.start_import(image_id).status == 202
    service.wait_status(image_id, 'active')
    # Nothing is left at all.
    assert service.stage(service.create(), b'x').status == 413
    assert put(service, service.create(), 1).status == 413


def test_what_does_not_fit_is_refused_while_it_comes(service):
    add(service, 7000)
    image_id = service.create()
    answer = service.stage(
        image_id, None, chunks=iter([bytes(1000)] * 4))
    assert answer.status == 413
    assert 'user_storage_quota' in answer.message
    assert service.show(image_id)['status'] == 'queued'
    assert service.staged() == []
    answer = put(service, image_id, None, chunks=iter([bytes(1000)] * 4))
    assert answer.status == 413
    assert service.show(image_id)['status'] == 'queued'


def test_parts_of_an_upload(service):
    add(service, 7000)
    image_id = service.create()
    headers = {'Content-Type': 'application/offset+octet-stream',
               'Tus-Resumable': '1.0.0', 'Upload-Offset': '0',
               'Upload-Length': '3001'}
    path = f'/v2/images/{image_id}/stage'
    assert service.request('PATCH', path, bytes(10), headers).status == 413
    headers['Upload-Length'] = '3000'
    assert service.request('PATCH', path, bytes(10), headers).status == 204
    # Meanwhile another image takes the room.
    add(service, 2000)
    headers['Upload-Offset'] = '10'
    answer = service.request('PATCH', path, bytes(2990), headers)
    assert answer.status == 413
    assert '1000 are left' in answer.message


def test_staged_data_that_no_longer_fits(service):
    """It stays, and is imported when there is room again."""
    image_id = service.create()
    assert service.stage(image_id, bytes(6000)).status == 204
    other = add(service, 6000)
    answer = service.start_import(image_id)
    assert answer.status == 413
    assert 'user_storage_quota' in answer.message
    assert service.show(image_id)['status'] == 'uploading'
    service.request('DELETE', f'/v2/images/{other}')
    assert service.start_import(image_id).status == 202
    service.wait_status(image_id, 'active')


def test_each_copy_counts_beside_a_lower_cap(tmp_path):
    stores = {name: {'filesystem_store_datadir': tmp_path / name}
              for name in ('one', 'two', 'three')}
    service = services.Service(tmp_path, token=services.MEMBER, options={
        'paste_deploy': {'flavor': 'fakeauth'},
        'DEFAULT': {'user_storage_quota': f'{QUOTA}B', 'image_size_cap': 5000,
                    'enabled_backends': 'one:file, two:file, three:file'},
        'glance_store': {'default_backend': 'one'}, **stores}).start()
    try:
        image_id = service.create()
        assert service.stage(image_id, bytes(4000)).status == 204
        path = f'/v2/images/{image_id}/import'
        body = {'method': {'name': 'glance-direct'}, 'all_stores': True}
        answer = service.request('POST', path, body)
        assert answer.status == 413, answer
        assert 'user_storage_quota' in answer.message
        assert service.request('POST', path, {
            **body, 'all_stores': False, 'stores': ['one', 'two']}
            ).status == 202
        service.wait_status(image_id, 'active')
    finally:
        service.kill()


def test_each_project_has_its_own(service):
    add(service, 9000)
    add(service, 9000, services.OTHER)
    image_id = service.create()
    assert service.stage(image_id, bytes(2000)).status == 413
    # An administrator fills the project of the image, not its own.
    answer = service.stage(image_id, bytes(2000), token=services.ADMIN)
    assert answer.status == 413


def test_usage_without_limits_in_keystone(service):
    assert service.request('GET', '/v2/info/usage').json == {'usage': {}}


@pytest.mark.parametrize('text', ['10 GB', 'much', '-1', '1.5GB', 'GB'])
def test_a_quota_that_is_none(tmp_path, text):
    service = services.Service(tmp_path, options={
        'DEFAULT': {'user_storage_quota': text}})
    done = service.run('api')
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert 'user_storage_quota' in line and 'such as 500GB' in line
    assert 'Traceback' not in done.stderr
