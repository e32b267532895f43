"""Definitions over HTTP: unusual requests, and many at once."""

import concurrent.futures
import urllib.parse

import pytest

from glance_import.api import endpoints
from tests.metadefs import conversation
from tests import service as services

NS = conversation.NS
P = conversation.P


def make(api, name='n', **more):
    answer = api.request('POST', NS, {'namespace': name, **more})
    assert answer.status == 201, answer
    return answer.json


def test_horizon_has_something_to_list(api):
    """A new database has the namespace of our own properties."""
    own, = api.request('GET', NS + '?resource_types=OS::Glance::Image',
                       token=services.READER).json['namespaces']
    assert (own['visibility'], own['protected']) == ('public', True)
    shown = api.request('GET', own['self'], token=services.READER).json
    assert 'os_glance_import_error' in shown['properties']
    assert all(each['readonly'] for each in shown['properties'].values())
    assert shown['owner'] == 'admin'


def test_made_twice_at_once(clean):
    def create(_):
        return clean.request('POST', NS, {
            'namespace': 'n', 'tags': [{'name': 't'}]}).status

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        said = sorted(pool.map(create, range(6)))
    assert said == [201] + [409] * 5


def test_what_fails_in_the_middle_leaves_nothing(clean):
    answer = clean.request('POST', NS, {
        'namespace': 'n', 'objects': [{'name': 'o'}],
        'resource_type_associations': [{'name': 'Fresh'}],
        'tags': [{'name': 'one'}, {'name': 'two'}, {'name': 'one'}]})
    assert answer.status == 409 and 'one' in answer.message
    assert clean.request('GET', f'{NS}/n').status == 404
    assert 'Fresh' not in str(clean.request(
        'GET', '/v2/metadefs/resource_types').json)
    assert make(clean)['namespace'] == 'n'


@pytest.mark.parametrize('name', [
    'Ünï', 'with space', 'a:b', 'q?x=1&y', 'h#ash', 'per%2Fcent', 'line\n',
    "q'uo\"te", '...', 'semi;colon', '+plus', 'x' * 80])
def test_names_that_have_to_be_encoded(clean, name):
    """A link leads to what it names, and so does the location."""
    made = make(clean, name, visibility='public', tags=[{'name': name}],
                objects=[{'name': name}], properties={name: P})
    answer = clean.request('GET', made['self'])
    assert (answer.status, answer.json['namespace']) == (200, name)
    linked = answer.json['objects'][0]['self']
    assert clean.request('GET', linked).json['name'] == name
    quoted = urllib.parse.quote(name, safe='')
    for kind in ('tags', 'properties', 'objects'):
        one = f'{NS}/{quoted}/{kind}/{quoted}'
        assert clean.request('GET', one).json['name'] == name
        assert clean.request('DELETE', one).status == 204
    assert clean.request('POST', f'{NS}/{quoted}/tags/{quoted}').json[
        'name'] == name
    first = clean.request('GET', f'{NS}?limit=1').json
    assert first['next'].endswith(urllib.parse.quote_plus(name))
    assert clean.request('GET', first['next']).json['namespaces'] == []
    assert clean.request('DELETE', made['self']).status == 204


def test_the_location(clean):
    answer = clean.request('POST', NS, {'namespace': 'a b'})
    assert answer.headers['location'] == (
        f'http://127.0.0.1:{clean.port}{NS}/a%20b')


@pytest.mark.parametrize('path', [
    'a%2Fb', 'a%2Ftags%2Fx', '%00', '%ff', 'n/objects/a%2Fb', 'n/tags/%00'])
def test_paths_that_lead_nowhere(clean, path):
    make(clean)
    for method in ('GET', 'DELETE'):
        assert clean.request(method, f'{NS}/{path}').status in (400, 404, 405)
    assert clean.request('POST', f'{NS}/n/tags/a%2Fb').status == 404


def deep(levels):
    value = 'x'
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize('body, status, said', [
    ({'namespace': 'a/b'}, 400, "'namespace'"),
    ({'namespace': 'x' * 81}, 400, 'attribute namespace'),
    ({'namespace': 'n', 'owner': 'x' * 256}, 400, 'attribute owner'),
    ({'namespace': 'n', 'owner': '\U0001f600'}, 400, "'owner'"),
    ({'namespace': 'n\0'}, 400, 'NUL'),
    (b'{"namespace": "\\ud800"}', 400, 'surrogates'),
    (b'{"namespace": "n", "namespace": 5}', 400, 'attribute namespace'),
    (b'\xff', 400, 'UTF-8'),
    ({'namespace': 'n', 'properties': deep(40)}, 400, '32'),
    ({'namespace': 'n', 'description': 'x' * 300_000}, 413, 'bytes'),
    ({'namespace': 'n', 'properties': {'a/b': P}}, 400, 'slash'),
    ({'namespace': 'n', 'properties': {'': P}}, 400, 'slash'),
    ({'namespace': 'n', 'properties': {'x' * 81: P}}, 400, '80'),
    ({'namespace': 'n', 'objects': [{'name': 'o' * 81}]}, 400,
     'attribute objects.0.name'),
    ({'namespace': 'n', 'objects': [{'name': 'o', 'description': '\U0001f600'}]
      }, 400, "'description' of the object 'o'"),
    ({'namespace': 'n', 'objects': [{'name': 'o', 'description': 'x' * 65536}]
      }, 400, '65535'),
    ({'namespace': 'n', 'objects': [{'name': 'o', 'properties': {
        'p': {**P, 'description': 'x' * 65536}}}]}, 400, '65535'),
    ({'namespace': 'n', 'objects': [{'name': 'o', 'properties': {
        'p': {**P, 'pattern': '['}}}]}, 400, 'objects.0.properties.p.pattern'),
    ({'namespace': 'n', 'properties': {'p': {**P, 'pattern': '(' * 900}}},
     400, 'properties.p.pattern'),
    ({'namespace': 'n', 'properties': {'p': {**P, 'pattern': 'a|*b'}
                                       }}, 400, 'properties.p.pattern'),
    ({'namespace': 'n', 'properties': {'p': {**P, 'pattern': 'a' * 1001}}},
     400, 'properties.p.pattern'),
    ({'namespace': '..'}, 400, 'namespace'),
    ({'namespace': 'n', 'properties': {'p': {**P, 'type': 'text'}}}, 400,
     'properties.p.type'),
    ({'namespace': 'n', 'properties': {'p': {**P, 'enum': [{}]}}}, 400,
     'properties.p.enum.0'),
    ({'namespace': 'n', 'properties': {'p': {**P, 'items': {
        'type': 'string', 'enum': [1]}}}}, 400, 'properties.p.items.enum.0'),
    ({'namespace': 'n', 'properties': {'p': {**P, 'default': {}}}}, 400,
     'properties.p.default'),
    ({'namespace': 'n', 'properties': {'p': {**P, 'oneOf': []}}}, 400,
     'oneOf'),
    ({'namespace': 'n', 'tags': [{'name': 'a', 'colour': 'red'}]}, 400,
     'tags.0'),
])
def test_what_is_refused_says_why(clean, body, status, said):
    answer = clean.request('POST', NS, body)
    assert answer.status == status, answer
    assert said in answer.message.replace('&#x27;', "'"), answer.message
    assert clean.request('GET', NS).json['namespaces'] == []


def test_a_namespace_that_was_read_can_be_made(clean):
    """What it shows of dates and links is read-only, and passed over."""
    whole = {'visibility': 'public', 'objects': [{'name': 'o', 'properties': {
        'p': P}}], 'tags': [{'name': 't'}],
        'resource_type_associations': [{'name': 'X', 'prefix': 'x_'}]}
    made = make(clean, 'old', **whole)
    shown = clean.request('GET', made['self']).json
    for name in ('self', 'schema', 'created_at', 'updated_at'):
        del shown[name]
    copied = make(clean, 'new', **{**shown, 'namespace': 'new'})
    again = clean.request('GET', copied['self']).json
    assert again['objects'][0]['properties'] == {'p': P}
    assert again['resource_type_associations'][0]['prefix'] == 'x_'


BODIES = {
    ('PUT', ''): {'namespace': 'n'}, ('POST', '/objects'): {'name': 'y'},
    ('PUT', '/objects/x'): {'name': 'x'}, ('POST', '/properties'): {
        'name': 'y', **P}, ('PUT', '/properties/x'): {'name': 'x', **P},
    ('POST', '/tags'): {'tags': [{'name': 'y'}]},
    ('PUT', '/tags/x'): {'name': 'x'},
    ('POST', '/resource_types'): {'name': 'y'}}


def test_private_to_others_by_every_path(clean):
    """Who does not see a namespace is told that it is not there."""
    make(clean, objects=[{'name': 'x'}], properties={'x': P},
         tags=[{'name': 'x'}],
         resource_type_associations=[{'name': 'x', 'prefix': 'p_'}])
    answered = set()
    for route in endpoints.TABLE:
        if not route.path.startswith(f'{NS}/'):
            continue
        tail = route.path.removeprefix(f'{NS}/{{namespace}}').replace(
            '{name}', 'x')
        for method in route.methods:
            for query in ('', '?resource_type=x'):
                answer = clean.request(
                    method, f'{NS}/n{tail}{query}', BODIES.get((method, tail)),
                    token=services.OTHER)
                assert answer.status == 404, (method, tail, answer)
                answered.add(answer.message)
    # Each time in the same words, which tell nothing.
    assert len(answered) == 1, answered
    assert clean.request('GET', NS, token=services.OTHER).json[
        'namespaces'] == []
    assert clean.request('GET', f'{NS}?marker=n',
                         token=services.OTHER).status == 404


def test_an_owner_who_may_only_look(clean):
    make(clean, owner='red')
    for who, status in ((services.MEMBER, 200), (services.READER, 200),
                        (services.OTHER, 404), ('odd:red:odd', 404)):
        assert clean.request('GET', f'{NS}/n', token=who).status == status
    answer = clean.request('PUT', f'{NS}/n', {'namespace': 'n'},
                           token=services.MEMBER)
    assert answer.status == 403
    assert 'modify_metadef_namespace' in answer.message


def test_unusual_orders(clean):
    """Each kind of request, after what it is about has gone."""
    made = make(clean, tags=[{'name': 't'}], visibility='public')
    assert clean.request('PUT', made['self'], {
        'namespace': 'other', 'visibility': 'public'}).status == 200
    assert clean.request('GET', f'{NS}/n/tags').status == 404
    assert clean.request('GET', f'{NS}/other/tags').json['tags'] == [
        {'name': 't'}]
    assert clean.request('DELETE', f'{NS}/other').status == 204
    for method, tail, body in (
            ('DELETE', '', None), ('PUT', '', {'namespace': 'x'}),
            ('DELETE', '/tags', None), ('POST', '/tags', {'tags': []}),
            ('POST', '/objects', {'name': 'o'})):
        assert clean.request(method, f'{NS}/other{tail}', body).status == 404
    again = make(clean, 'other')
    assert clean.request('GET', f"{again['self']}/tags").json == {'tags': []}


def test_protected_is_protected_from_the_moment_it_is(clean):
    make(clean, protected=True, tags=[{'name': 't'}],
         resource_type_associations=[{'name': 'X'}])
    for tail in ('', '/tags', '/tags/t', '/objects', '/properties',
                 '/resource_types/X'):
        answer = clean.request('DELETE', f'{NS}/n{tail}')
        assert answer.status == 403 and 'protected' in answer.message
    assert clean.request('PUT', f'{NS}/n', {'namespace': 'n'}).status == 200
    assert clean.request('DELETE', f'{NS}/n').status == 204


def test_policies_can_be_changed(clean):
    """The names of the rules are Glance's, so its policy files go on."""
    (clean.conf / 'policy.yaml').write_text(
        'add_metadef_namespace: role:member\n'
        'get_metadef_object: role:admin\n')
    try:
        def may():
            return clean.request('POST', NS, {
                'namespace': 'n', 'visibility': 'public',
                'owner': 'red'}, token=services.MEMBER).status == 201
        services.wait_for(may, 20)
        # What it would hold is asked about too.
        answer = clean.request('POST', NS, {
            'namespace': 'm', 'tags': [{'name': 't'}]}, token=services.MEMBER)
        assert answer.status == 403 and 'add_metadef_tag' in answer.message
        clean.request('POST', f'{NS}/n/objects', {'name': 'o'})
        assert clean.request('GET', f'{NS}/n/objects', token=services.MEMBER
                             ).json['objects'] == []
        assert clean.request('GET', f'{NS}/n/objects/o',
                             token=services.MEMBER).status == 403
    finally:
        (clean.conf / 'policy.yaml').unlink()
