"""Behind a real Keystone: who is who, and Keystone that goes away."""

import pytest


@pytest.fixture
def service(authenticated):
    return authenticated.service


def test_roles_and_projects(authenticated, service):
    tokens = authenticated.tokens
    image_id = service.create(tokens['ann'])
    image = service.show(image_id, tokens['ann'])
    assert image['owner'] == authenticated.projects['red']
    path = f'/v2/images/{image_id}'
    for user, show, delete in (('eve', 200, 403), ('bob', 404, 404)):
        assert service.request('GET', path, token=tokens[user]
                               ).status == show
        assert service.request('DELETE', path, token=tokens[user]
                               ).status == delete
    assert service.request('POST', '/v2/images', {}, token=tokens['eve']
                           ).status == 403
    for user, status in (('ann', 403), ('root', 200)):
        assert service.request('GET', '/v2/tasks', token=tokens[user]
                               ).status == status
    assert service.request('DELETE', path, token=tokens['root']
                           ).status == 204


def test_tokens_that_are_none(service):
    for token in ('x', 'ann:red:member,reader', 'g' * 200, 'ü'.encode(
            ).decode('latin-1')):
        answer = service.request('GET', '/v2/images', token=token)
        assert answer.status == 401
        assert 'Keystone uri' in answer.headers['www-authenticate']
    # What a client claims by itself is not believed.
    answer = service.request('GET', '/v2/images', headers={
        'X-Identity-Status': 'Confirmed', 'X-Roles': 'admin',
        'X-Project-Id': 'x', 'X-User-Id': 'x'}, token='x')
    assert answer.status == 401
    for path in ('/', '/versions', '/healthcheck'):
        assert service.request('GET', path, token='x').status in (200, 300)


def test_keystone_goes_and_comes(authenticated, keystone, service):
    """503 while it is away, not 500; then as before, without a restart."""
    fresh = [keystone.token('ann', 'red') for _ in range(2)]
    keystone.stop()
    try:
        answer = service.request('GET', '/v2/images', token=fresh[0])
        assert answer.status == 503, answer
        assert b'Traceback' not in answer.body
        assert service.request('GET', '/versions').status == 200
    finally:
        keystone.start()
    for token in fresh:
        assert service.request('GET', '/v2/images', token=token
                               ).status == 200
