"""JSON of clients: what cannot be kept, or takes too much, is a clear 4xx."""

import json

import pytest

from tests import service as services

V21 = 'application/openstack-images-v2.1-json-patch'
V20 = 'application/openstack-images-v2.0-json-patch'
LONE = '\ud800'
FORMS = ('application/json', 'text/html', 'text/plain', '*/*', 'x/y')


def places(image_id, value):
    """(method, path, media type, body) of each body, with ``value`` in it."""
    path = f'/v2/images/{image_id}'
    json_type = 'application/json'
    for body in (value, [value], {'name': value}, {value: 'x'},
                 {'x': value}, {'tags': [value]}, {'owner': value},
                 {'visibility': value}, {'id': value}, {'status': value},
                 {'disk_format': value}, {'locations': [{'url': value}]},
                 {'os_glance_' + value: 'x'}, {'protected': value}):
        yield 'POST', '/v2/images', json_type, body
    for media, patches in ((V21, (
            [{'op': 'add', 'path': '/x', 'value': value}],
            [{'op': 'add', 'path': '/' + value, 'value': 'x'}],
            [{'op': 'add', 'path': value, 'value': 'x'}],
            [{'op': value, 'path': '/x'}], [{value: 'x'}],
            [{'op': 'remove', 'path': '/' + value}],
            [{'op': 'replace', 'path': f'/x/{value}', 'value': 'x'}],
            [{'op': 'add', 'path': f'/locations/{value}', 'value': {
                'url': 'http://x', 'metadata': {}}}],
            [{'op': 'add', 'path': '/locations/-', 'value': {
                'url': value, 'metadata': {value: value}}}],
            [{'op': 'replace', 'path': '/tags', 'value': [value]}],
            [{'op': 'add', 'path': '/os_glance_' + value, 'value': 'x'}])),
            (V20, ([{'add': '/' + value, 'value': 'x'}], [{value: '/x'}],
                   [{'remove': '/' + value}]))):
        for body in patches:
            yield 'PATCH', path, media, body
    for body in ({'method': value}, {'method': {'name': value}},
                 {'method': {'name': 'web-download', 'uri': value}},
                 {'method': {'name': 'web-download', 'uri': 'http://1.1.1.1',
                             'checksum': {'algo': value, 'value': value}}},
                 {'method': {'name': 'glance-direct'}, 'stores': [value]},
                 {'method': {'name': 'glance-direct'}, value: value}):
        yield 'POST', f'{path}/import', json_type, body
    for body in ({'url': value}, {'url': 'http://x', value: 1},
                 {'url': 'http://x', 'validation_data': {
                     'os_hash_algo': value, 'os_hash_value': value}}):
        yield 'POST', f'{path}/locations', json_type, body
    yield 'POST', f'{path}/members', json_type, {'member': value}
    yield 'PUT', f'{path}/members/blue', json_type, {'status': value}
    for body in ({'type': value, 'input': {}}, {'type': 'import', 'input': {
            'import_from': value, 'import_from_format': value,
            'image_properties': {value: value}}}):
        yield 'POST', '/v2/tasks', json_type, body


@pytest.fixture(scope='module')
def shared(api):
    image_id = api.create(services.ADMIN)
    assert api.request('POST', f'/v2/images/{image_id}/members',
                       {'member': 'blue'}, token=services.ADMIN
                       ).status == 200
    return image_id


def refused(answer, statuses=(400, 403, 404, 409, 413)):
    assert answer.status in statuses, answer
    assert len(answer.body) < 8000, answer
    assert b'Traceback' not in answer.body
    assert 'x-openstack-request-id' in answer.headers
    answer.body.decode('utf-8')


@pytest.mark.parametrize('value', [LONE, 'a' + LONE + 'b', '\udfff\ud800',
                                   'a\0b'])
def test_text_that_is_none(api, shared, value):
    """Whatever form the answer has, and wherever it stands."""
    for number, (method, path, media, body) in enumerate(
            places(shared, value)):
        answer = api.request(
            method, path, json.dumps(body).encode(),
            {'Content-Type': media, 'Accept': FORMS[number % len(FORMS)]},
            token=services.ADMIN)
        refused(answer)
        # As the bytes that Python makes of it, too.
        raw = json.dumps(body, ensure_ascii=False).encode(
            'utf-8', 'surrogatepass')
        refused(api.request(method, path, raw, {
            'Content-Type': media, 'Accept': 'text/plain'},
            token=services.ADMIN))


@pytest.mark.parametrize('number', [
    b'1e999', b'-1e999', b'NaN', b'Infinity', b'-Infinity', b'1E400',
    b'9' * 5000, b'-' + b'9' * 5000, b'1' * 400 + b'.0'])
def test_numbers_that_json_cannot_say_again(api, shared, number):
    for method, path, media, body in places(shared, 'PLACE'):
        text = json.dumps(body).encode().replace(b'"PLACE"', number)
        if number not in text or b'{' + number in text:
            continue
        answer = api.request(method, path, text, {'Content-Type': media},
                             token=services.ADMIN)
        refused(answer)
        assert answer.status in (400, 404), answer
    for path in ('/v2/images', '/v2/tasks', f'/v2/images/{shared}/tasks'):
        answer = api.request('GET', path, token=services.ADMIN)
        json.loads(answer.body, parse_constant=pytest.fail)


def test_what_was_kept_before(api):
    """Rows of an older release hold such numbers; lists are JSON still."""
    image_id = api.create(services.ADMIN)
    task_id = '00000000-0000-4000-8000-0000000000ff'
    api.execute(
        'insert into tasks (id, type, status, owner, image_id, created_at, '
        "updated_at, deleted) values (?, 'import', 'failure', 'ops', ?, "
        "'2026-01-01 00:00:00.0', '2026-01-01 00:00:00.0', 0)", task_id,
        image_id)
    api.execute(
        'insert into task_info (task_id, input, result, message) values (?, '
        "?, ?, '')", task_id, '{"a": Infinity}', '{"b": [NaN, -Infinity]}')
    for path in (f'/v2/tasks/{task_id}', f'/v2/images/{image_id}/tasks'):
        answer = api.request('GET', path, token=services.ADMIN)
        assert answer.status == 200, answer
        found = json.loads(answer.body, parse_constant=pytest.fail)
        task, = found.get('tasks', [found])
        assert (task['input'], task['result']) == (
            {'a': None}, {'b': [None, None]})


@pytest.mark.parametrize('depth', [33, 60, 350, 1000, 5000, 60000])
def test_depth(api, shared, depth):
    for opening, closing in ((b'[', b']'), (b'{"a":', b'}')):
        deep = opening * depth + b'1' + closing * depth
        if len(deep) > 200_000:
            continue
        for method, path, media, body in places(shared, 'PLACE'):
            text = json.dumps(body).encode().replace(b'"PLACE"', deep, 1)
            if '"PLACE":' in json.dumps(body) or deep not in text:
                continue
            answer = api.request(method, path, text, {'Content-Type': media},
                                 token=services.ADMIN)
            refused(answer, (400,))
            assert 'deep' in answer.message, (answer, body)
            if depth > 400:
                break


def test_depth_that_may_be(api):
    deep = {'a': 1}
    for _ in range(20):
        deep = {'a': deep}
    answer = api.request('POST', '/v2/images', {'x': deep})
    assert answer.status == 400
    assert 'deep' not in answer.message


@pytest.mark.parametrize('body', [
    b'[' * 10, b'{"a"', b'\xff', '"ü"'.encode('latin-1'),
    json.dumps({}).encode('utf-16'), json.dumps({}).encode('utf-32'), b'',
    b'  ', b'{} {}', b"{'a': 1}", b'{"a": 01}'])
def test_no_json(api, body):
    answer = api.request('POST', '/v2/images', body)
    assert answer.status == 400, answer


def test_a_byte_order_mark(api):
    assert api.request('POST', '/v2/images', b'\xef\xbb\xbf{"name": "x"}'
                       ).status == 201


def test_sizes(api, shared):
    for method, path, media, body in places(shared, 'x' * (257 << 10)):
        answer = api.request(method, path, json.dumps(body).encode(),
                             {'Content-Type': media}, token=services.ADMIN)
        refused(answer, (413,))
    for method, path, media, body in places(shared, 'é' * (120 << 10)):
        answer = api.request(
            method, path, json.dumps(body, ensure_ascii=False).encode(),
            {'Content-Type': media}, token=services.ADMIN)
        if b'"stores"' in json.dumps(body).encode() or (
                'method' in body and len(body) == 2):
            continue
        refused(answer)


def test_operations(api):
    image_id = api.create()
    each = {'op': 'add', 'path': '/x', 'value': 'y'}
    for number, status in ((1000, 200), (1001, 413), (5000, 413)):
        answer = api.request('PATCH', f'/v2/images/{image_id}',
                             [each] * number, {'Content-Type': V21})
        assert answer.status == status, answer
    assert 'operations' in answer.message


def test_who_may_not_learns_nothing_of_schemas(api, shared):
    """The rule is asked before anything is looked at in a body."""
    wrong = {'tags': [0] * 1000, 'method': 7}
    private = api.create(services.ADMIN, visibility='private')
    for path, method, tail, media, token, status in (
            ('/v2/images', 'POST', '', 'application/json', services.READER,
             403),
            ('/v2/tasks', 'POST', '', 'application/json', services.MEMBER,
             403),
            (f'/v2/images/{private}', 'PATCH', '', V21, services.OTHER, 404),
            (f'/v2/images/{shared}', 'PATCH', '', V21, services.OTHER, 403),
            (f'/v2/images/{private}', 'POST', '/import', 'application/json',
             services.OTHER, 404),
            (f'/v2/images/{private}', 'POST', '/locations',
             'application/json', services.OTHER, 404),
            (f'/v2/images/{shared}', 'POST', '/members', 'application/json',
             services.OTHER, 403)):
        broken = () if path == '/v2/images' else (b'{', b'[' * 5000)
        for body in (wrong, [wrong], *broken):
            answer = api.request(method, path + tail, body,
                                 {'Content-Type': media}, token=token)
            assert answer.status == status, (path, tail, answer)


@pytest.mark.parametrize('ending', ['\n', '\r', ' ', '\n\n', '\u2028'])
def test_ids_that_end_otherwise(api, ending):
    from urllib import parse
    image_id = '0aa0a0a0-0000-4000-8000-00000000000a'
    answer = api.request('POST', '/v2/images', {'id': image_id + ending})
    assert answer.status == 400, answer
    there = api.create(visibility='community')
    name = there + parse.quote(ending)
    for method, path in (('GET', f'/v2/images/{name}'),
                         ('DELETE', f'/v2/images/{name}'),
                         ('GET', f'/v2/images/{name}/file'),
                         ('GET', f'/v2/images/{there}/file'
                          + parse.quote(ending)),
                         ('GET', f'/v2/images/{name}/tasks'),
                         ('GET', f'/v2/tasks/{name}'),
                         ('GET', f'/v2/images/{there}'
                          + parse.quote(ending) + '/members')):
        answer = api.request(method, path, token=services.ADMIN)
        assert answer.status == 404, (path, answer)
    for query in (f'marker={name}', 'limit=1' + parse.quote(ending),
                  'size_min=1' + parse.quote(ending),
                  'created_at=gt:2026-01-01T00:00:00Z'
                  + parse.quote(ending)):
        answer = api.request('GET', f'/v2/images?{query}')
        assert answer.status == 400, (query, answer)
    assert api.show(there)['id'] == there


@pytest.mark.parametrize('tag', ['a\n', '\n', 'a b', 'a\n\n', '%0A', 'a%',
                                 'ü\n'])
def test_tags_are_what_they_are(api, tag):
    """A name that ends in a newline is not the name without it."""
    from urllib import parse
    image_id = api.create()
    path = f'/v2/images/{image_id}/tags/{parse.quote(tag, safe="")}'
    for _ in range(2):
        assert api.request('PUT', path).status == 204
        assert api.show(image_id)['tags'] == [tag]
    assert api.request('DELETE', path).status == 204
    assert api.show(image_id)['tags'] == []


def test_members_that_end_in_a_newline(api):
    image_id = api.create()
    path = f'/v2/images/{image_id}/members'
    for member in ('blue', 'blue\n'):
        assert api.request('POST', path, {'member': member}).status == 200
    assert api.request('DELETE', path + '/blue%0A').status == 204
    left, = api.request('GET', path).json['members']
    assert left['member_id'] == 'blue'


def test_long_values_in_errors(api):
    long = 'x' * 5000
    for query in (f'sort_key={long}', f'sort=name:{long}', f'limit={long}',
                  f'marker={long}', f'visibility={long}', f'size_min={long}',
                  f'created_at={long}', f'os_hidden={long}',
                  f'name=in:"{long}', f'status=in:{long}"'):
        answer = api.request('GET', f'/v2/images?{query}')
        refused(answer, (400,))
    for query in (f'type={long}', f'status={long}', f'sort_key={long}',
                  f'sort_dir={long}', f'marker={long}'):
        refused(api.request('GET', f'/v2/tasks?{query}',
                            token=services.ADMIN), (400,))
    for path in (f'/v2/images/{long}', f'/v2/tasks/{long}',
                 f'/v2/schemas/{long}', f'/v2/images/{long}/file'):
        refused(api.request('GET', path, token=services.ADMIN), (404,))
    assert api.request('GET', '/v2/images?' + 'name=in:' + ','.join(
        'ab' for _ in range(1001))).status == 400


@pytest.mark.parametrize('given, status', [
    ('bytes=0-' + '9' * 5000, 200), ('bytes=-' + '9' * 4999, 200),
    ('bytes=' + '1' * 5000 + '-', 416), ('bytes=' + ' ' * 5000 + '1', 416)])
def test_ranges_without_end(api, active, given, status):
    """What is past the end of the image is cut to it (RFC 9110, 14.1.2)."""
    image_id = active()
    for name in ('Range', 'Content-Range'):
        answer = api.request('GET', f'/v2/images/{image_id}/file',
                             headers={name: given})
        assert answer.status == status, answer


@pytest.mark.parametrize('text, values', [
    ('a', ['a']), ('a,b', ['a', 'b']), (' a , b ', ['a', 'b']),
    ('"a,b",c', ['a,b', 'c']), ('"a\\"b"', ['a"b']), ('""', ['']),
    ('', ['']), (',', ['', '']), ('a,', ['a', '']), ('"a" ,b', ['a', 'b']),
    ('"a\\\\"', ['a\\']), ('a\\b', ['a\\b']),
    ('"', None), ('"a', None), ('a"b', None), ('"a"b', None), ('"a\\"', None),
    ('a,"', None), ('"a\\', None)])
def test_lists_of_values(text, values):
    from glance_import.domain import listing
    from glance_import import errors
    if values is not None:
        assert listing._split(text) == values
        return
    with pytest.raises(errors.Invalid):
        listing._split(text)


def test_many_filters_and_orders(api):
    """What a statement of a list holds is bounded, whatever is asked."""
    image_id = api.create(**{'p1': 'x'})
    for query, status in (
            ('&'.join(f'q{n}=x' for n in range(201)), 400),
            ('&'.join(f'q{n}=x' for n in range(1500)), 400),
            ('&'.join(f'tag=t{n}' for n in range(1500)), 400),
            ('&'.join(['p1=x'] * 1500), 200),
            ('&'.join(f'q{n}=x' for n in range(200)), 200),
            ('&'.join(f'tag=t{n}' for n in range(200)), 200),
            ('sort=' + ','.join(['name'] * 2500), 200),
            ('&'.join(['sort_key=name&sort_dir=asc'] * 500), 200)):
        answer = api.request('GET', f'/v2/images?{query}')
        assert answer.status == status, (query[:40], answer)
    found = api.request('GET', '/v2/images?p1=x&sort=name:asc,name:desc')
    assert image_id in [each['id'] for each in found.json['images']]
