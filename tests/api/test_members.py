"""Sharing: who may add, see, accept and end a membership."""

import concurrent.futures

import pytest

from tests import service as services

OWNER = services.MEMBER
MEMBER = services.OTHER
STRANGER = 'kim:green:member,reader'


def members(api, method, image_id, member='', body=None, token=OWNER):
    path = f'/v2/images/{image_id}/members' + (f'/{member}' if member else '')
    return api.request(method, path, body, token=token)


@pytest.fixture
def shared(api):
    image_id = api.create()
    assert members(api, 'POST', image_id, body={'member': 'blue'}
                   ).status == 200
    return image_id


def ids(api, query, token):
    answer = api.request('GET', f'/v2/images?limit=1000&{query}', token=token)
    assert answer.status == 200, answer
    return [image['id'] for image in answer.json['images']]


def test_life(api):
    image_id = api.create()
    assert api.request('GET', f'/v2/images/{image_id}', token=MEMBER
                       ).status == 404
    made = members(api, 'POST', image_id, body={'member': 'blue'})
    assert made.status == 200
    assert set(made.json) == {'member_id', 'image_id', 'status',
                              'created_at', 'updated_at', 'schema'}
    assert made.json['status'] == 'pending'
    assert made.json['created_at'].endswith('Z')
    listed = members(api, 'GET', image_id)
    assert listed.json == {'members': [made.json],
                           'schema': '/v2/schemas/members'}
    assert members(api, 'GET', image_id, 'blue').json == made.json
    # Seen by id at once, listed when accepted.
    assert api.show(image_id, MEMBER)['id'] == image_id
    assert image_id not in ids(api, '', MEMBER)
    assert image_id in ids(api, 'member_status=pending', MEMBER)
    for status in ('accepted', 'rejected', 'pending', 'accepted'):
        answer = members(api, 'PUT', image_id, 'blue', {'status': status},
                         MEMBER)
        assert (answer.status, answer.json['status']) == (200, status)
        for asked in ('pending', 'accepted', 'rejected', 'all'):
            assert (image_id in ids(api, f'member_status={asked}', MEMBER)
                    ) == (asked in (status, 'all'))
    assert image_id in ids(api, '', MEMBER)
    assert image_id in ids(api, 'visibility=shared', MEMBER)
    assert members(api, 'DELETE', image_id, 'blue').status == 204
    assert members(api, 'DELETE', image_id, 'blue').status == 404
    assert api.request('GET', f'/v2/images/{image_id}', token=MEMBER
                       ).status == 404
    # And once more, within the same second.
    for _ in range(3):
        assert members(api, 'POST', image_id, body={'member': 'blue'}
                       ).status == 200
        assert members(api, 'DELETE', image_id, 'blue').status == 204


def test_who_may_what(api, shared):
    for token, seen in ((OWNER, 200), (MEMBER, 200), (services.ADMIN, 200),
                        (services.READER, 200), (STRANGER, 404)):
        assert members(api, 'GET', shared, token=token).status == seen
        assert members(api, 'GET', shared, 'blue', token=token
                       ).status == seen
    members(api, 'POST', shared, body={'member': 'green'})
    assert [each['member_id'] for each in members(
        api, 'GET', shared, token=MEMBER).json['members']] == ['blue']
    assert members(api, 'GET', shared, 'green', token=MEMBER).status == 404
    accept = {'status': 'accepted'}
    for token, status in ((OWNER, 403), (STRANGER, 403), (MEMBER, 200),
                          (services.ADMIN, 200),
                          ('r:blue:reader', 403), ('x:grey:member,reader',
                                                   404)):
        assert members(api, 'PUT', shared, 'blue', accept, token
                       ).status == status, token
    for token, status in ((MEMBER, 403), (services.READER, 403),
                          ('x:grey:member,reader', 404)):
        assert members(api, 'POST', shared, body={'member': 'new'},
                       token=token).status == status
        assert members(api, 'DELETE', shared, 'blue', token=token
                       ).status == status
    for method, path in (('PATCH', ''), ('DELETE', '')):
        body = [] if method == 'PATCH' else None
        assert api.request(method, f'/v2/images/{shared}', body, {
            'Content-Type': 'application/openstack-images-v2.1-json-patch'},
            token=MEMBER).status == 403


@pytest.mark.parametrize('body', [
    b'{', b'', [], 'x', {}, {'member': None}, {'member': ''}, {'member': ' '},
    {'member': 7}, {'member': ['blue']}, {'member': 'x' * 256},
    {'member': 'a\0'}])
def test_bad_member(api, shared, body):
    assert members(api, 'POST', shared, body=body).status == 400


@pytest.mark.parametrize('body', [
    b'{', [], 'x', {}, {'status': None}, {'status': ''}, {'status': 'yes'},
    {'status': 7}, {'status': ['accepted']}])
def test_bad_status(api, shared, body):
    assert members(api, 'PUT', shared, 'blue', body, MEMBER).status == 400


def test_refusals(api, shared):
    assert members(api, 'POST', shared, body={'member': 'blue'}
                   ).status == 409
    assert members(api, 'GET', shared, 'nobody').status == 404
    assert members(api, 'PUT', shared, 'nobody', {'status': 'accepted'},
                   services.ADMIN).status == 404
    for number, status in enumerate((200, 200, 413)):
        assert members(api, 'POST', shared, body={'member': f'm{number}'}
                       ).status == status
    for visibility in ('private', 'community'):
        image_id = api.create(visibility=visibility)
        assert members(api, 'POST', image_id, body={'member': 'blue'}
                       ).status == 403
        assert members(api, 'GET', image_id).status == 403
        assert members(api, 'GET', image_id, 'blue').status == 403
        assert members(api, 'DELETE', image_id, 'blue').status == 403


def test_an_image_deleted_in_the_second_its_member_came_back(api):
    # Often enough that a second begins in between in some of them at most.
    for _ in range(5):
        image_id = api.create()
        for method, member, body in (
                ('POST', '', {'member': 'blue'}), ('DELETE', 'blue', None),
                ('POST', '', {'member': 'blue'})):
            assert members(api, method, image_id, member, body).status < 300
        assert api.request('DELETE', f'/v2/images/{image_id}').status == 204


def test_one_member_by_many_at_once(api):
    image_id = api.create()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(
            lambda n: members(api, 'POST', image_id, body={'member': 'blue'}
                              ).status, range(6)))
    assert sorted(answers) == [200] + [409] * 5
    assert len(members(api, 'GET', image_id).json['members']) == 1
