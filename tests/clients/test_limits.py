"""use_keystone_limits: what a real Keystone lets a project have."""

import pytest

from tests import service as services

DEFAULTS = {'image_size_total': 2, 'image_stage_total': 1,
            'image_count_total': 5, 'image_count_uploading': 2}
MIB = 1 << 20


@pytest.fixture(scope='module')
def limited(keystone, tmp_path_factory):
    """A service of its own: one that has an endpoint for its limits."""
    service = services.Service(
        tmp_path_factory.mktemp('limited'), options={
            'DEFAULT': {'use_keystone_limits': True},
            'paste_deploy': {'flavor': 'keystone'},
            'keystone_authtoken': keystone.middleware()})
    endpoint = keystone.add_endpoint(
        'limited-image', 'limited', f'http://127.0.0.1:{service.port}')
    kind, = (each['id'] for each in keystone.call(
        'GET', '/services?name=limited')['services'])
    keystone.call('POST', '/registered_limits', {'registered_limits': [
        {'service_id': kind, 'region_id': 'RegionOne', 'resource_name': name,
         'default_limit': limit} for name, limit in DEFAULTS.items()]})
    service.configure(oslo_limit={
        **{name: value for name, value in keystone.middleware().items()
           if name in ('auth_url', 'auth_type', 'username', 'password',
                       'user_domain_id')},
        # Limits of all projects are read with a scope on the whole system.
        'system_scope': 'all', 'endpoint_id': endpoint})
    keystone.grant_system('glance', 'admin')
    for project in ('few', 'much'):
        keystone.add_project(project)
        keystone.add_user(f'{project}-user', project, 'member', 'reader')
    keystone.call('POST', '/limits', {'limits': [
        {'service_id': kind, 'region_id': 'RegionOne',
         'project_id': keystone.projects['much'],
         'resource_name': 'image_count_total', 'resource_limit': 7}]})
    service.start()
    yield service
    service.kill()


@pytest.fixture
def few(keystone):
    return keystone.token('few-user', 'few')


def test_limits(limited, keystone, few):
    made = [limited.create(few) for _ in range(5)]
    answer = limited.request('POST', '/v2/images', {}, token=few)
    assert answer.status == 413
    assert 'image_count_total' in answer.message
    # Another project's own limit is higher than the default.
    much = keystone.token('much-user', 'much')
    for _ in range(7):
        limited.create(much)
    assert limited.request('POST', '/v2/images', {}, token=much
                           ).status == 413
    # Staging: at most 1 MiB, of at most two images at a time.
    assert limited.stage(made[0], bytes(MIB + 1), token=few).status == 413
    assert limited.stage(made[0], bytes(MIB // 2), token=few).status == 204
    answer = limited.stage(made[1], bytes(MIB // 2 + 1), token=few)
    assert answer.status == 413
    assert 'image_stage_total' in answer.message
    assert limited.stage(made[1], bytes(MIB // 4), token=few).status == 204
    answer = limited.stage(made[2], b'x', token=few)
    assert answer.status == 413
    assert 'image_count_uploading' in answer.message
    # Stored: at most 2 MiB.
    for image_id in made[:2]:
        assert limited.start_import(image_id, few).status == 202
        limited.wait_status(image_id, 'active', token=few)
    for image_id in made[2:4]:
        assert limited.request(
            'PUT', f'/v2/images/{image_id}/file', bytes(MIB // 2),
            {'Content-Type': 'application/octet-stream'}, token=few
        ).status == 204
    answer = limited.request(
        'PUT', f'/v2/images/{made[4]}/file', bytes(MIB // 2),
        {'Content-Type': 'application/octet-stream'}, token=few)
    assert answer.status == 413
    assert 'image_size_total' in answer.message
    usage = limited.request('GET', '/v2/info/usage', token=few).json['usage']
    assert usage == {
        'image_size_total': {'usage': 1, 'limit': 2},
        'image_stage_total': {'usage': 0, 'limit': 1},
        'image_count_total': {'usage': 5, 'limit': 5},
        'image_count_uploading': {'usage': 0, 'limit': 2}}


def test_keystone_away(limited, keystone, few):
    # The token is known to the service by now.
    assert limited.request('GET', '/v2/info/usage', token=few).status == 200
    keystone.stop()
    try:
        answer = limited.request('GET', '/v2/info/usage', token=few)
        assert answer.status == 503
        assert int(answer.headers['retry-after']) > 0
        assert 'limits of your project' in answer.message
    finally:
        keystone.start()
    assert limited.request('GET', '/v2/info/usage', token=few).status == 200
