"""PATCH of an image: both media types, every refusal, and no lost change."""

import concurrent.futures
import urllib.parse
import uuid

import pytest

from tests import service as services

V21 = 'application/openstack-images-v2.1-json-patch'
V20 = 'application/openstack-images-v2.0-json-patch'


def patch(api, image_id, body, media=V21, token=None):
    return api.request('PATCH', f'/v2/images/{image_id}', body,
                       {'Content-Type': media}, token=token)


def one(op, path, *value):
    return [{'op': op, 'path': path, **({'value': value[0]} if value else {})}]


def test_operations_in_order(api):
    image_id = api.create(colour='red', old='x', tags=['a', 'b'])
    answer = patch(api, image_id, [
        {'op': 'replace', 'path': '/name', 'value': 'changed'},
        {'op': 'add', 'path': '/colour', 'value': 'blue'},
        {'op': 'add', 'path': '/a~1b~0c', 'value': 'escaped'},
        {'op': 'remove', 'path': '/old'},
        {'op': 'add', 'path': '/old', 'value': 'again'},
        {'op': 'add', 'path': '/tags', 'value': ['b', 'c', 'c']},
        {'op': 'replace', 'path': '/min_ram', 'value': 7},
        {'op': 'replace', 'path': '/protected', 'value': True},
        {'op': 'replace', 'path': '/os_hidden', 'value': True},
        {'op': 'replace', 'path': '/visibility', 'value': 'private'},
        {'op': 'replace', 'path': '/disk_format', 'value': 'qcow2'},
    ])
    assert answer.status == 200, answer
    assert answer.headers['content-type'].startswith('application/json')
    image = api.show(image_id)
    assert image == answer.json
    wanted = {'name': 'changed', 'colour': 'blue', 'a/b~c': 'escaped',
              'old': 'again', 'min_ram': 7, 'protected': True,
              'os_hidden': True, 'visibility': 'private',
              'disk_format': 'qcow2'}
    assert {name: image[name] for name in wanted} == wanted
    assert sorted(image['tags']) == ['b', 'c']
    assert patch(api, image_id, one('replace', '/protected', False)
                 ).status == 200


def test_version_2_0(api):
    image_id = api.create(colour='red')
    assert patch(api, image_id, [
        {'replace': '/colour', 'value': 'blue'},
        {'add': '/size_hint', 'value': 'big'}, {'remove': '/size_hint'},
        {'add': '/name', 'value': 'x'}], V20).status == 200
    assert api.show(image_id)['colour'] == 'blue'
    assert api.show(image_id)['name'] == 'x'
    # Here, and only here, an add refuses what is there.
    assert patch(api, image_id, [{'add': '/colour', 'value': 'x'}],
                 V20).status == 409
    assert patch(api, image_id, one('add', '/colour', 'x')).status == 200


def test_nothing_to_do_changes_nothing(api):
    image_id = api.create()
    before = api.show(image_id)
    answer = patch(api, image_id, [])
    assert (answer.status, answer.json) == (200, before)


def test_other_media_types(api):
    image_id = api.create()
    for media in ('application/json', 'text/plain', '',
                  'application/openstack-images-v2.2-json-patch'):
        answer = patch(api, image_id, one('add', '/a', 'b'), media)
        assert answer.status == 415
        assert answer.headers['accept-patch'] == f'{V21}, {V20}'


BAD = [
    (b'{', 400), (b'', 400), ({}, 400), ('x', 400), (None, 400), ([7], 400),
    ([[]], 400), ([{}], 400), ([{'op': 'add'}], 400),
    ([{'path': '/a', 'value': 'x'}], 400),
    (one('move', '/a', 'x'), 400), (one('test', '/a', 'x'), 400),
    (one(7, '/a', 'x'), 400), (one(['add'], '/a', 'x'), 400),
    (one('add', '/a'), 400), (one('replace', '/name'), 400),
    (one('add', 7, 'x'), 400), (one('add', 'a', 'x'), 400),
    (one('add', '', 'x'), 400), (one('add', '/', 'x'), 400),
    (one('add', '//a', 'x'), 400), (one('add', '/a/', 'x'), 400),
    (one('add', '/a~2', 'x'), 400), (one('add', '/a~', 'x'), 400),
    (one('add', '/ a', 'x'), 400),
    (one('add', '/tags/-', 'x'), 400), (one('add', '/a/b', 'x'), 400),
    (one('add', '/a', 7), 400), (one('add', '/a', None), 400),
    (one('add', '/a', 'x\0'), 400), (one('add', '/a\0', 'x'), 400),
    (one('add', '/' + 'a' * 256, 'x'), 400),
    (one('replace', '/name', 'x' * 256), 400),
    (one('replace', '/name', 7), 400),
    (one('replace', '/min_disk', -1), 400),
    (one('replace', '/min_disk', '7'), 400),
    (one('replace', '/protected', 'yes'), 400),
    (one('replace', '/visibility', 'secret'), 400),
    (one('replace', '/visibility', []), 400),
    (one('replace', '/visibility', {}), 400),
    (one('replace', '/visibility', None), 400),
    (one('replace', '/disk_format', 'floppy'), 400),
    (one('replace', '/disk_format', {}), 400),
    (one('replace', '/tags', 'x'), 400),
    (one('replace', '/tags', [7]), 400),
    *((one('replace', f'/{name}', 'x'), 403) for name in (
        'id', 'status', 'checksum', 'size', 'virtual_size', 'created_at',
        'updated_at', 'direct_url', 'self', 'file', 'schema', 'stores',
        'os_hash_algo', 'os_hash_value', 'location', 'deleted',
        'deleted_at', 'os_glance_import_task', 'os_glance_x')),
    (one('remove', '/status'), 403),
    *((one('remove', f'/{name}'), 403) for name in (
        'name', 'owner', 'visibility', 'tags', 'min_disk', 'protected',
        'disk_format', 'os_hidden')),
    (one('replace', '/owner', 'blue'), 403),
    (one('replace', '/locations', []), 403),
    (one('add', '/locations/-', {'url': 'file:///etc/passwd',
                                 'metadata': {}}), 403),
    (one('remove', '/locations/0'), 403),
    (one('replace', '/visibility', 'public'), 403),
    (one('replace', '/missing', 'x'), 409), (one('remove', '/missing'), 409),
    ([each for n in range(9) for each in one('add', f'/p{n}', 'x')], 413),
    (one('add', '/tags', ['1', '2', '3', '4', '5']), 413),
]


@pytest.fixture(scope='module')
def kept(api):
    return api.create(colour='red', tags=['a'])


@pytest.mark.parametrize('body, status', BAD, ids=lambda value: repr(
    value)[:60] if not isinstance(value, int) else None)
def test_refused_and_unchanged(api, kept, body, status):
    before = api.show(kept)
    answer = patch(api, kept, body)
    assert answer.status == status, answer
    assert len(answer.json['message']) > 20
    assert api.show(kept) == before


def test_all_or_nothing(api, kept):
    before = api.show(kept)
    assert patch(api, kept, one('add', '/colour', 'green')
                 + one('remove', '/missing')).status == 409
    assert api.show(kept) == before


def test_whose_image(api):
    image_id = api.create()
    body = one('add', '/a', 'b')
    assert patch(api, image_id, body, token=services.OTHER).status == 404
    assert patch(api, str(uuid.uuid4()), body).status == 404
    assert patch(api, image_id, body, token=services.READER).status == 403
    public = api.create(services.ADMIN, visibility='public')
    assert patch(api, public, body).status == 403
    assert patch(api, public, body, token=services.ADMIN).status == 200
    assert patch(api, image_id, one('replace', '/owner', 'blue'),
                 token=services.ADMIN).status == 200
    assert patch(api, image_id, body).status == 404
    assert patch(api, image_id, body, token=services.OTHER).status == 200


def test_formats_until_the_import(api, active):
    """What was staged without formats can still be given them."""
    image_id = api.create(disk_format=None, container_format=None)
    assert api.stage(image_id, b'some data').status == 204
    assert api.start_import(image_id).status == 409
    assert patch(api, image_id, [
        {'op': 'replace', 'path': '/disk_format', 'value': 'raw'},
        {'op': 'add', 'path': '/container_format', 'value': 'bare'},
    ]).status == 200
    assert api.start_import(image_id).status == 202
    api.wait_status(image_id, 'active')
    answer = patch(api, image_id, one('replace', '/disk_format', 'qcow2'))
    assert answer.status == 403
    # What it is already may be said again.
    assert patch(api, image_id, one('replace', '/disk_format', 'raw')
                 ).status == 200
    assert patch(api, image_id, one('replace', '/name', 'late')
                 ).status == 200


def test_a_property_comes_back(api):
    image_id = api.create(colour='red')
    for value in ('green', 'blue'):
        assert patch(api, image_id, one('remove', '/colour')).status == 200
        assert 'colour' not in api.show(image_id)
        assert patch(api, image_id, one('add', '/colour', value)
                     ).status == 200
        assert api.show(image_id)['colour'] == value


def test_changes_at_once_are_all_kept(api):
    image_id = api.create()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda n: patch(
            api, image_id, one('add', f'/p{n}', str(n))), range(6)))
    assert [answer.status for answer in answers] == [200] * 6
    image = api.show(image_id)
    assert [image[f'p{n}'] for n in range(6)] == list('012345')


def test_the_service_s_own_properties_do_not_count(api, active):
    image_id = active(**{f'p{n}': 'x' for n in range(8)})
    assert patch(api, image_id, one('replace', '/p0', 'y')).status == 200
    assert patch(api, image_id, one('add', '/p8', 'y')).status == 413


def test_what_an_import_left_behind_may_go(api, active):
    """openstacksdk removes every property that it was not told of."""
    image_id = active()
    for name in ('os_glance_failed_import', 'os_glance_importing_to_stores'):
        assert api.show(image_id)[name] == ''
        assert patch(api, image_id, one('replace', f'/{name}', 'x')
                     ).status == 403
        assert patch(api, image_id, one('remove', f'/{name}')).status == 200
        assert name not in api.show(image_id)
        assert patch(api, image_id, one('remove', f'/{name}')).status == 403


# -- tags ------------------------------------------------------------------

def tag(api, method, image_id, name, token=None):
    return api.request(
        method, f'/v2/images/{image_id}/tags/{urllib.parse.quote(name)}',
        token=token)


def test_tags(api):
    image_id = api.create()
    for name in ('one', 'one', 'Ünïcödé', '\U0001f4be with a blank'):
        answer = tag(api, 'PUT', image_id, name)
        assert (answer.status, answer.body) == (204, b'')
    assert sorted(api.show(image_id)['tags']) == sorted(
        ['one', 'Ünïcödé', '\U0001f4be with a blank'])
    assert tag(api, 'PUT', image_id, 'x' * 255).status == 204
    assert tag(api, 'PUT', image_id, 'fifth').status == 413
    assert tag(api, 'DELETE', image_id, 'one').status == 204
    assert tag(api, 'DELETE', image_id, 'one').status == 404
    assert tag(api, 'PUT', image_id, 'x' * 256).status == 400
    assert tag(api, 'PUT', image_id, 'a\0').status == 400
    assert tag(api, 'GET', image_id, 'one').status == 405
    assert tag(api, 'PUT', image_id, 'x', services.READER).status == 403
    assert tag(api, 'PUT', image_id, 'x', services.OTHER).status == 404
    assert api.request('PUT', f'/v2/images/{image_id}/tags/x',
                       b'body').status == 400


def test_one_tag_by_many_at_once(api):
    image_id = api.create()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(
            lambda n: tag(api, 'PUT', image_id, 'same').status, range(6)))
    assert answers == [204] * 6
    assert api.show(image_id)['tags'] == ['same']
    assert tag(api, 'DELETE', image_id, 'same').status == 204
    assert api.show(image_id)['tags'] == []


# -- deactivate and reactivate ----------------------------------------------

def act(api, image_id, action, token=None, body=None):
    return api.request('POST', f'/v2/images/{image_id}/actions/{action}',
                       body, token=token)


def test_deactivate(api, active):
    image_id = active()
    for _ in range(2):
        assert act(api, image_id, 'deactivate').status == 204
        assert api.show(image_id)['status'] == 'deactivated'
    path = f'/v2/images/{image_id}/file'
    assert api.request('GET', path).status == 403
    assert api.request('GET', path, token=services.ADMIN).status == 200
    for _ in range(2):
        assert act(api, image_id, 'reactivate').status == 204
        assert api.show(image_id)['status'] == 'active'
    assert api.request('GET', path).status == 200
    assert act(api, image_id, 'deactivate', body=b'x').status == 400
    assert act(api, image_id, 'explode').status == 404
    assert act(api, image_id, 'deactivate', services.READER).status == 403
    assert act(api, image_id, 'deactivate', services.OTHER).status == 404
    queued = api.create()
    for action in ('deactivate', 'reactivate'):
        assert act(api, queued, action).status == 403
