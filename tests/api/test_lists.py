"""Lists: every filter and sort, alone and together, and the links."""

import itertools
import urllib.parse
import uuid

import pytest

from tests import service as services

V21 = 'application/openstack-images-v2.1-json-patch'
OWN = 'lis:lists:member,reader'
PEER = 'pat:peers:member,reader'
KIND = 'listed'


@pytest.fixture(scope='module')
def made(api):
    """name -> id of some images that differ in everything."""
    found = {}

    def create(label, token=OWN, **attributes):
        found[label] = api.create(token, name=f'list {label}', kind=KIND,
                                  **attributes)
        return found[label]

    create('one', tags=['a', 'b'], min_disk=1, colour='red')
    create('two', tags=['a'], min_disk=2, min_ram=5, disk_format='qcow2')
    create('comma, quoted', tags=['b'], protected=True)
    create('private', visibility='private', disk_format=None,
           container_format=None, colour='blue')
    create('hidden', os_hidden=True)
    create('mine', visibility='community')
    create('public', services.ADMIN, visibility='public')
    create('theirs', PEER)
    create('theirs too', PEER, visibility='community')
    create('unseen', PEER, visibility='private')
    for label, status in (('asked', 'pending'), ('joined', 'accepted'),
                          ('left', 'rejected')):
        image_id = create(label, PEER)
        api.request('POST', f'/v2/images/{image_id}/members',
                    {'member': 'lists'}, token=PEER)
        api.request('PUT', f'/v2/images/{image_id}/members/lists',
                    {'status': status}, token=OWN)
    api.stage(found['two'], b'x' * 100, token=OWN)
    yield found
    api.request('PATCH', f"/v2/images/{found['comma, quoted']}",
                [{'op': 'replace', 'path': '/protected', 'value': False}],
                {'Content-Type': V21}, token=OWN)


MINE = {'one', 'two', 'comma, quoted', 'private', 'mine'}
SEEN = MINE | {'public', 'joined'}
ALL = SEEN | {'theirs', 'theirs too', 'unseen', 'asked', 'left'}


def listed(api, made, query, token=OWN):
    answer = api.request(
        'GET', f'/v2/images?kind={KIND}&limit=1000&{query}', token=token)
    assert answer.status == 200, answer
    labels = {image_id: label for label, image_id in made.items()}
    ids = [image['id'] for image in answer.json['images']]
    assert len(ids) == len(set(ids))
    return [labels[image_id] for image_id in ids]


FILTERS = [
    ('', SEEN), ('os_hidden=true', {'hidden'}), ('os_hidden=False', SEEN),
    ('visibility=public', {'public'}), ('visibility=private', {'private'}),
    ('visibility=shared', {'one', 'two', 'comma, quoted', 'joined'}),
    ('visibility=community', {'mine', 'theirs too'}),
    ('visibility=all', SEEN | {'theirs too'}),
    ('member_status=pending', SEEN - {'joined'} | {'asked'}),
    ('member_status=rejected', SEEN - {'joined'} | {'left'}),
    ('member_status=all', SEEN | {'asked', 'left'}),
    ('visibility=shared&member_status=pending',
     {'one', 'two', 'comma, quoted', 'asked'}),
    ('owner=lists', MINE), ('owner=peers', {'joined'}),
    ('owner=nobody', set()),
    ('name=list one', {'one'}), ('name=LIST ONE', set()),
    ('name=in:list one,list two', {'one', 'two'}),
    ('name=in:"list comma, quoted",list one', {'comma, quoted', 'one'}),
    ('name=in:"list one"', {'one'}),
    ('status=uploading', {'two'}), ('status=in:uploading,queued', SEEN),
    ('disk_format=in:qcow2,vmdk', {'two'}),
    ('container_format=bare', SEEN - {'private'}),
    ('tag=a', {'one', 'two'}), ('tag=a&tag=b', {'one'}), ('tag=x', set()),
    ('tag=a&tag=a', {'one', 'two'}),
    ('protected=true', {'comma, quoted'}),
    ('protected=false', SEEN - {'comma, quoted'}),
    ('min_disk=2', {'two'}), ('min_disk_min=1', {'one', 'two'}),
    ('min_disk_min=1&min_disk_max=1', {'one'}), ('min_ram_min=5', {'two'}),
    ('size=100', {'two'}), ('size_min=100', {'two'}),
    ('size_min=101', set()), ('size_max=99', set()), ('size_max=100',
                                                      {'two'}),
    ('colour=red', {'one'}), ('colour=red&tag=a&name=list one', {'one'}),
    ('colour=blue&tag=a', set()), ('colour_min=red', set()),
    ('created_at=gt:2001-01-01T00:00:00Z', SEEN),
    ('created_at=lt:2001-01-01T00:00:00Z', set()),
    ('created_at=gte:2001-01-01T00:00:00Z&updated_at='
     'lte:2999-01-01T00:00:00+02:00', SEEN),
    ('created_at=2001-01-01T00:00:00Z', set()),
    ('created_at=neq:2001-01-01T00:00:00Z', SEEN),
    ('created_at=eq:2001-01-01', set()),
]


@pytest.mark.parametrize('query, wanted', FILTERS,
                         ids=[query for query, _ in FILTERS])
def test_filters(api, made, query, wanted):
    query = urllib.parse.quote(query, safe='=&:')
    assert set(listed(api, made, query)) == wanted


@pytest.mark.parametrize('query, wanted', [
    ('', ALL), ('visibility=all', ALL), ('os_hidden=true', {'hidden'}),
    ('visibility=private', {'private', 'unseen'}),
    ('owner=peers', ALL - SEEN | {'joined'}), ('owner=lists', MINE)])
def test_an_administrator_sees_everything(api, made, query, wanted):
    assert set(listed(api, made, query, services.ADMIN)) == wanted


@pytest.mark.parametrize('query', [
    'member_status=maybe', 'visibility=secret', 'visibility=', 'size=x',
    'size_min=x', 'size_max=', 'min_ram_min=1.5', 'size_min=' + '9' * 19,
    'size=' + '9' * 40, 'protected=1', 'os_hidden=',
    'created_at=yesterday', 'created_at=gt:', 'created_at=ge:2001-01-01',
    'updated_at=in:2001-01-01T00:00:00Z', 'created_at=gt:0001-01-01T00:00:00'
    '%2B14:00',
    'name=in:"open', 'name=in:a"b', 'name=in:"a"b', 'name=in:"a",b"'])
def test_filters_that_are_none(api, query):
    answer = api.request('GET', f'/v2/images?{query}')
    assert answer.status == 400, answer


@pytest.mark.parametrize('query', [
    "odd%20%27name%22=1", '%F0%9F%92%BE=%F0%9F%92%BE', 'x' * 300 + '=1',
    'name=' + 'x' * 3000, 'tag=%F0%9F%92%BE', 'a=%25_', 'in:=in:', '=',
    'name=in:', 'id=x', 'owner=', 'tag=', '_min=1', 'size_min=-5',
    'os_hash_value=x', 'checksum=y', 'deleted=true'])
def test_odd_filters_match_nothing_or_something(api, query):
    assert api.request('GET', f'/v2/images?{query}').status == 200


KEYS = ('name', 'status', 'container_format', 'disk_format', 'size', 'id',
        'created_at', 'updated_at')


@pytest.mark.parametrize('key, direction', list(itertools.product(
    KEYS, ('asc', 'desc'))))
def test_sort_in_pages(api, made, key, direction):
    """Pages of two, put together, are the whole list in order."""
    path = (f'/v2/images?kind={KIND}&limit=2&sort_key={key}'
            f'&sort_dir={direction}')
    seen = []
    while path:
        page = api.request('GET', path, token=OWN).json
        seen += page['images']
        path = page.get('next')
    labels = {image_id: label for label, image_id in made.items()}
    assert sorted(labels[image['id']] for image in seen) == sorted(SEEN)
    values = [image[key] for image in seen]
    blank = -1 if key == 'size' else ''
    keys = [blank if value is None else value for value in values]
    assert keys == sorted(keys, reverse=direction == 'desc')


def test_sort_by_several(api, made):
    names = listed(api, made, 'sort=status:asc,name:desc')
    rest = sorted((f'list {name}' for name in SEEN - {'two'}), reverse=True)
    assert [f'list {name}' for name in names] == rest + ['list two']
    assert names == listed(
        api, made, 'sort_key=status&sort_dir=asc&sort_key=name&sort_dir=desc')


def test_links_repeat_the_query(api, made):
    query = (f'kind={KIND}&tag=a&tag=a&limit=1&sort_key=name&sort_key=id'
             '&sort_dir=asc&sort_dir=desc')
    page = api.request('GET', f'/v2/images?{query}', token=OWN).json
    assert page['first'] == f'/v2/images?{query}'
    assert page['next'].startswith(f'/v2/images?{query}&marker=')
    assert page['schema'] == '/v2/schemas/images'
    last = api.request('GET', page['next'], token=OWN).json
    assert [image['name'] for image in page['images'] + last['images']] == [
        'list one', 'list two']
    # A full page points on, even when nothing is there.
    assert api.request('GET', last['next'], token=OWN).json['images'] == []


def test_marker(api, made):
    for marker in (made['unseen'], str(uuid.uuid4()), 'x'):
        answer = api.request('GET', f'/v2/images?marker={marker}', token=OWN)
        assert answer.status == 400
    gone = api.create(OWN)
    api.request('DELETE', f'/v2/images/{gone}', token=OWN)
    answer = api.request('GET', f'/v2/images?marker={gone}', token=OWN)
    assert answer.status == 400
    assert gone in answer.message


def test_without_a_project(api, made):
    token = 'x::member,reader'
    answer = api.request('GET', f'/v2/images?kind={KIND}', token=token)
    assert answer.status in (200, 403)
