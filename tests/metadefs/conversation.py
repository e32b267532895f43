"""Requests about metadata definitions, for us and a real Glance alike.

Where we answer otherwise on purpose, the request says which status and why.
"""

import dataclasses
import itertools
import typing

from tests import service as services

NS = '/v2/metadefs/namespaces'
A, M, O, R = (services.ADMIN, services.MEMBER, services.OTHER,
              services.READER)
NOBODY = 'odd:red:odd'
LONG = 'x' * 81
P = {'title': 'T', 'type': 'string'}

# Why we answer otherwise.
CRASH = 'Glance answers 500'
UNREACHABLE = 'Glance makes what no path leads to'
TOO_LONG = 'Glance on SQLite keeps what MySQL and PostgreSQL refuse with 500'
NO_SCHEMA = 'Glance keeps a definition that no form can be drawn of'
LOST = 'Glance keeps less than it was told, without a word'
MANGLED = 'Glance takes the UTF-8 of a path for Latin-1'
DROPPED = 'Glance leaves what has no such key off the pages behind the first'
KEPT = 'Glance refuses characters beyond U+FFFF also where they can be kept'
ONE_SCHEMA = 'Glance takes it only with the whole namespace'


@dataclasses.dataclass
class Step:
    who: str
    method: str
    path: str
    body: typing.Any = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    ours: int | None = None
    because: str | None = None


def ask(who, method, path, body=None, ours=None, because=None, **headers):
    return Step(who, method, path, body, {
        name.replace('_', '-'): value for name, value in headers.items()},
        ours, because)


def post(body, ours=None, because=None, path=NS, who=A):
    return ask(who, 'POST', path, body, ours, because)


def fine(**more):
    return {'namespace': 'q', **more}


def beginning():
    """Two namespaces; the public one holds something of each kind."""
    yield post({'namespace': 'mine'})
    yield post({
        'namespace': 'all', 'visibility': 'public', 'display_name': 'All',
        'description': 'Of all kinds', 'owner': 'red',
        'properties': {'p1': {**P, 'default': '5', 'enum': ['a', '5']},
                       'p2': {**P, 'type': 'array', 'items': {
                           'type': 'string', 'enum': ['a']}}},
        'objects': [{'name': 'o1', 'required': ['p'], 'description': 'O',
                     'properties': {'p': {**P, 'minimum': 1}}},
                    {'name': 'o2'}],
        'tags': [{'name': 't1'}, {'name': 't2'}],
        'resource_type_associations': [
            {'name': 'OS::Glance::Image', 'prefix': 'hw_'},
            {'name': 'X', 'properties_target': 'image'}]})


READS = ('', '?resource_type=OS::Glance::Image', '?resource_type=X',
         '?resource_type=none', '?resource_type=', '/objects', '/objects/o1',
         '/objects/o2', '/objects/no', '/properties', '/properties/p1',
         '/properties/no', '/tags', '/tags/t1', '/tags/no', '/resource_types',
         '/properties/hw_p1?resource_type=OS::Glance::Image',
         '/properties/p1?resource_type=OS::Glance::Image',
         '/properties/p1?resource_type=X', '/properties/p1?resource_type=no',
         '/properties/p1?resource_type=')


def reading():
    for tail in READS:
        yield ask(A, 'GET', f'{NS}/all{tail}')
    yield ask(A, 'GET', f'{NS}/all?foo=1', None, 200, CRASH)
    yield ask(A, 'GET', f'{NS}/all/properties/p1?foo=1', None, 200, CRASH)
    yield ask(A, 'GET', f'{NS}/no')
    yield ask(A, 'GET', f'{NS}/no/tags')
    yield ask(A, 'GET', '/v2/metadefs/resource_types')
    for name in ('namespace', 'object', 'property', 'tag', 'resource_type'):
        yield ask(A, 'GET', f'/v2/schemas/metadefs/{name}')
    for path in ('/v2/metadefs', '/v2/schemas/metadefs/no'):
        yield ask(A, 'GET', path)
    for method, path in (('PATCH', 'all'), ('POST', 'all'),
                         ('GET', 'all/resource_types/X'),
                         ('PUT', 'all/resource_types/X'), ('HEAD', 'all')):
        yield ask(A, method, f'{NS}/{path}', {} if method != 'GET' and
                  method != 'HEAD' else None)


def listing():
    yield from (post({'namespace': f'n{number}', 'visibility': visibility,
                      'display_name': f'N {9 - number}'})
                for number, visibility in enumerate(['public', 'private'] * 2))
    for query in ('', '?limit=2', '?limit=2&marker=n1', '?limit=0',
                  '?limit=-1', '?marker=all', '?marker=no', '?marker=',
                  '?sort_key=namespace&sort_dir=asc',
                  '?sort_key=namespace&sort_dir=asc&limit=2&marker=mine',
                  '?sort_key=display_name&sort_dir=asc',
                  '?sort_key=id', '?sort_key=visibility&sort_dir=asc',
                  '?sort_key=owner', '?sort_key=protected',
                  '?sort_key=updated_at', '?sort_dir=up',
                  '?visibility=public', '?visibility=private',
                  '?visibility=shared', '?resource_types=X,Y',
                  '?resource_types=', '?resource_types=no', '?foo=bar',
                  '?resource_types=OS::Glance::Image&visibility=public'):
        yield ask(A, 'GET', NS + query)
    for query in ('?limit=x', '?limit=', '?sort_key=no',
                  '?sort_key=created_at,id'):
        yield ask(A, 'GET', NS + query, None, 400, CRASH)
    yield ask(A, 'GET', NS + '?sort_key=display_name&marker=n1', None, 200,
              DROPPED)
    yield from (ask(A, 'DELETE', f'{NS}/n{number}') for number in range(4))
    for query in ('?limit=1', '?limit=0', '?limit=x', '?limit=',
                  '?sort_dir=x', '?sort_key=no', '?marker=no',
                  '?visibility=no', '?visibility=shared'):
        yield ask(A, 'GET', f'{NS}/all/objects{query}')
    for query in ('?limit=1', '?limit=0', '?limit=x', '?limit=',
                  '?sort_dir=x', '?sort_key=name&sort_dir=asc', '?marker=no',
                  '?marker=t2', '?limit=1&marker=t1&sort_dir=asc',
                  '?visibility=no', '?sort_key=id'):
        yield ask(A, 'GET', f'{NS}/all/tags{query}')
    yield ask(A, 'GET', f'{NS}/all/tags?sort_key=no', None, 400, CRASH)


def others():
    """What everybody but an administrator may do."""
    changes = (('PUT', '', {'namespace': 'all'}), ('DELETE', '', None),
               ('POST', '/objects', {'name': 'z'}),
               ('PUT', '/objects/o1', {'name': 'o1'}),
               ('DELETE', '/objects/o1', None), ('DELETE', '/objects', None),
               ('POST', '/properties', {'name': 'z', **P}),
               ('PUT', '/properties/p1', {'name': 'p1', **P}),
               ('DELETE', '/properties/p1', None),
               ('DELETE', '/properties', None), ('POST', '/tags/z', None),
               ('POST', '/tags', {'tags': []}),
               ('PUT', '/tags/t1', {'name': 't1'}),
               ('DELETE', '/tags/t1', None), ('DELETE', '/tags', None),
               ('POST', '/resource_types', {'name': 'X'}),
               ('DELETE', '/resource_types/X', None))
    reads = (('GET', tail, None) for tail in
             ('', '/objects', '/objects/o1', '/properties', '/properties/p1',
              '/tags', '/tags/t1', '/resource_types'))
    requests = (*reads, *changes)
    for name, (method, tail, body) in itertools.product(
            ('all', 'mine'), requests):
        yield ask(M, method, f'{NS}/{name}{tail}', body)
    for who, (method, tail, body) in itertools.product(
            (O, R, NOBODY), requests[::4]):
        yield ask(who, method, f'{NS}/all{tail}', body)
    for who in (M, O, R, NOBODY):
        yield ask(who, 'GET', NS)
        yield post({'namespace': 'z'}, who=who)
        yield ask(who, 'GET', '/v2/metadefs/resource_types')


def bad_namespaces():
    for body in ({}, 'x', None, b'', b'{', b'null', {'namespace': LONG},
                 {'namespace': 5}, {'namespace': None}, fine(foo=1),
                 fine(self='x'), fine(created_at='x'), fine(updated_at='x'),
                 fine(schema='x'), {'namespace': 'all'},
                 fine(description='x' * 501), fine(visibility='shared'),
                 fine(protected='yes'), fine(display_name=None),
                 fine(display_name=LONG), fine(owner='x' * 256),
                 fine(tags=['a']), fine(tags={}), fine(objects={}),
                 fine(properties=[]), fine(properties={'p': {}}),
                 fine(objects=[{'name': 'a', 'properties': {'p': {}}}]),
                 fine(objects=[{'name': 'a'}] * 2),
                 fine(tags=[{'name': 'a'}] * 2),
                 fine(resource_type_associations=[{'name': 'X'}] * 2),
                 {'namespace': 'smile \U0001f600'}, {'namespace': 'nul\0'}):
        yield post(body)
        yield ask(A, 'GET', f'{NS}/q')
    for body in ([], fine(objects=[{}]), fine(tags=[{}]),
                 fine(resource_type_associations=[{}]),
                 fine(properties={'p': {**P, 'foo': 1}}),
                 fine(objects=[{'name': 'x', 'foo': 1}]),
                 fine(properties={'p': {**P, 'required': ['a']}}),
                 b'{"namespace": "half \\ud800"}'):
        yield post(body, 400, CRASH)
        yield ask(A, 'GET', f'{NS}/q')
    for body in ({'namespace': ''}, {'namespace': 'a/b'},
                 fine(tags=[{'name': 'a/b'}]),
                 fine(objects=[{'name': ''}])):
        yield post(body, 400, UNREACHABLE)
    for body in (fine(properties={LONG: P}), fine(objects=[{'name': LONG}]),
                 fine(tags=[{'name': LONG}]),
                 fine(resource_type_associations=[{'name': LONG}])):
        yield post(body, 400, TOO_LONG)
    yield post({'namespace': 'line\n'}, 201, CRASH)


def changing_namespaces():
    yield post({'namespace': 'm', 'visibility': 'public', 'display_name': 'D',
                'tags': [{'name': 't'}]})
    for body in ({}, [], {'namespace': 'all'}, {'namespace': 'm', 'x': 1},
                 {'namespace': 'm', 'self': 'x'}, {'namespace': LONG},
                 {'namespace': 'm'}, {'namespace': 'm', 'owner': 'blue',
                                      'description': 'new'},
                 {'namespace': 'm2', 'visibility': 'public', 'tags': [
                     {'name': 'not taken'}]}):
        yield ask(A, 'PUT', f'{NS}/m', body,
                  *((400, CRASH) if body == [] else ()))
    for name in ('m', 'm2'):
        yield ask(A, 'GET', f'{NS}/{name}')
    yield ask(A, 'PUT', f'{NS}/m2', {'namespace': 'm', 'protected': True})
    yield ask(A, 'DELETE', f'{NS}/m')
    yield ask(A, 'PUT', f'{NS}/m', {'namespace': 'm'})
    yield ask(A, 'DELETE', f'{NS}/m')
    yield ask(A, 'DELETE', f'{NS}/m')
    yield post({'namespace': 'with space'})
    yield ask(A, 'GET', f'{NS}/with%20space')
    yield ask(A, 'DELETE', f'{NS}/with%20space')


def changing_properties():
    yield post({'namespace': 'm'})
    where = f'{NS}/m/properties'
    answers = {
        (400, NO_SCHEMA): ({'pattern': '('},),
        (201, LOST): ({'minimum': 1.5},),
        (400, LOST): ({'default': [1]},),
        (201, ONE_SCHEMA): ({'confidential': True},),
        (400, CRASH): ({'enum': [1]}, {'items': {}}, {'required': ['a']},
                       {'items': {'type': 'string', 'foo': 1}}),
        (400, UNREACHABLE): ({'name': ''}, {'name': 'a/b'}),
        (None, None): (
            {}, {}, {'minimum': '1'}, {'maximum': 10 ** 30}, {'default': 5},
            {'default': True}, {'default': 1.5}, {'default': None},
            {'default': ''}, {'enum': ['a', None]}, {'enum': []},
            {'enum': 'x'}, {'pattern': '^a$'}, {'pattern': 5},
            {'type': 'null'}, {'type': None}, {'type': ['string']},
            {'type': 'integer'}, {'items': {'type': 'string'}},
            {'items': {'type': 'x'}}, {'items': [{}]}, {'required': []},
            {'operators': ['<in>']}, {'operators': [1]}, {'operators': 'x'},
            {'readonly': True}, {'readonly': 'x'}, {'maxLength': -1},
            {'minLength': 2, 'maxLength': 1}, {'uniqueItems': 1},
            {'additionalItems': True}, {'title': ''}, {'title': 5},
            {'description': 'D'}, {'name': LONG}, {'foo': 1}, {'self': 'x'},
            {'created_at': 'x'}, {'minItems': 1.0}, {'minItems': 1.5})}
    number = itertools.count()
    for (ours, because), cases in answers.items():
        for case in cases:
            yield post({'name': f'r{next(number)}', **P, **case}, ours,
                       because, where)
    yield post({'name': 'twice', **P}, path=where)
    yield post({'name': 'twice', **P}, path=where)
    yield post({'name': 'é', **P, 'title': 'ü'}, path=where)
    yield post({'name': 'smile', **P, 'title': '\U0001f600'}, 201, KEPT,
               where)
    for body in (P, {'name': 'x', 'title': 'T'}, 'x', None):
        yield post(body, path=where)
    yield post([], 400, CRASH, where)
    yield post({'name': 'x', **P}, path=f'{NS}/no/properties')
    yield ask(A, 'GET', f'{where}/twice')
    for name, body in (('twice', {'name': 'twice', **P, 'title': 'new'}),
                       ('twice', {'name': 'once', **P}), ('twice', None),
                       ('no', {'name': 'no', **P}), ('once', P),
                       ('once', {'name': 'once', **P, 'foo': 1})):
        yield ask(A, 'PUT', f'{where}/{name}', body)
    yield post({'name': 'twice', **P}, path=where)
    yield ask(A, 'PUT', f'{where}/once', {'name': 'twice', **P}, 409, CRASH)
    for name in ('once', 'once'):
        yield ask(A, 'DELETE', f'{where}/{name}')
    yield ask(A, 'DELETE', where)
    yield ask(A, 'GET', where)


def changing_objects():
    where = f'{NS}/m/objects'
    for body in ({'name': 'o1'}, {'name': 'o1'},
                 {'name': 'o2', 'description': 'd' * 3000, 'required': ['a'],
                  'properties': {'a': {**P, 'minimum': 1, 'default': 3}}},
                 {}, {'name': LONG}, {'name': 'o3', 'foo': 1},
                 {'name': 'o4', 'self': 'x'}, {'name': 'o4', 'schema': 'x'},
                 {'name': 'o5', 'required': ['a', 'a']},
                 {'name': 'o6', 'required': []},
                 {'name': 'o7', 'properties': {'a': {'type': 'string'}}},
                 {'name': 'o8', 'properties': {'a': {**P, 'foo': 1}}},
                 {'name': 'o9', 'properties': {'a': {**P, 'name': 'zz'}}},
                 {'name': 'o10', 'properties': []},
                 {'name': 'o11', 'description': None}, 'x'):
        yield post(body, path=where)
    yield post([], 400, CRASH, where)
    yield ask(A, 'GET', where)
    yield post({'name': ''}, 400, UNREACHABLE, where)
    yield post({'name': 'a/b'}, 400, UNREACHABLE, where)
    yield post({'name': 'o12', 'required': ['a,b']}, 400, LOST, where)
    for body in ({'name': 'o2'}, {}, {'name': 'o2', 'self': 'x'},
                 {'name': 'new', 'properties': {'b': P}}, {'name': 'o2'}):
        yield ask(A, 'PUT', f'{where}/o2', body)
    yield ask(A, 'PUT', f'{where}/new', {'name': 'o1'}, 409, CRASH)
    yield ask(A, 'PUT', f'{where}/new', {
        'name': 'new', 'properties': {'a': {**P, 'foo': 1}}}, 400, CRASH)
    yield ask(A, 'GET', f'{where}/new')
    for name in ('new', 'new', 'o1'):
        yield ask(A, 'DELETE', f'{where}/{name}')
    yield ask(A, 'DELETE', where)
    yield ask(A, 'GET', where)


def changing_tags():
    where = f'{NS}/m/tags'
    for name in ('t1', 't1', 'T1', LONG, 'with%20space'):
        yield ask(A, 'POST', f'{where}/{name}')
    yield ask(A, 'POST', f'{where}/%C3%BC', None, 201, MANGLED)
    yield ask(A, 'DELETE', f'{where}/%C3%BC')
    yield ask(A, 'POST', f'{where}/t9', {'name': 't9'})
    yield ask(A, 'POST', f'{NS}/no/tags/t')
    for name, body in (('t1', {'name': 't2'}), ('t2', {'name': 't2'}),
                       ('t2', {'name': 'T1'}), ('no', {'name': 'T1'}),
                       ('t2', {}), ('t2', {'name': 'x', 'foo': 1}),
                       ('t2', {'name': 'x', 'created_at': 'x'})):
        yield ask(A, 'PUT', f'{where}/{name}', body)
    yield ask(A, 'GET', where)
    for header in ('true', 'True', '1', 'no', None):
        headers = {'X_Openstack_Append': header} if header else {}
        yield ask(A, 'POST', where, {'tags': [{'name': f'by {header}'}]},
                  **headers)
        yield ask(A, 'GET', where)
    for body in ({'tags': []}, {'tags': [{'name': 'd'}] * 2},
                 {'tags': [{'foo': 1}]}, {'tags': ['a']}, {'foo': 1},
                 {'tags': [{'name': 'c', 'created_at': 'x'}]},
                 {'created_at': 'x'}):
        yield post(body, path=where)
    yield post({}, 400, CRASH, where)
    yield post([], 400, CRASH, where)
    yield post({'tags': [{'name': LONG}]}, 400, TOO_LONG, where)
    yield post({'tags': [{'name': 'a'}, {'name': 'b'}]}, path=where)
    yield ask(A, 'GET', where)
    for name in ('a', 'a'):
        yield ask(A, 'DELETE', f'{where}/{name}')
    yield ask(A, 'DELETE', where)
    yield ask(A, 'GET', where)


def changing_associations():
    where = f'{NS}/m/resource_types'
    for body in ({'name': 'R', 'prefix': 'pre:'}, {'name': 'R'}, {},
                 {'name': LONG}, {'name': 'Q', 'properties_target': LONG},
                 {'name': 'Q', 'prefix': LONG}, {'name': 'S', 'foo': 'x'},
                 {'name': 'S', 'created_at': 'x'}, {'name': 'N'}):
        yield post(body, path=where)
    yield ask(A, 'GET', where)
    for name in ('N', 'N', 'never'):
        yield ask(A, 'DELETE', f'{where}/{name}')
    yield ask(A, 'GET', '/v2/metadefs/resource_types')


def protecting():
    yield post({'namespace': 'all', 'visibility': 'public', 'owner': 'red',
                'protected': True}, path=f'{NS}/all')
    yield ask(A, 'PUT', f'{NS}/all', {
        'namespace': 'all', 'visibility': 'public', 'owner': 'red',
        'protected': True})
    for tail in ('', '/objects', '/objects/o1', '/objects/no', '/properties',
                 '/properties/p1', '/properties/no', '/tags', '/tags/t1',
                 '/tags/no', '/resource_types/X', '/resource_types/no'):
        yield ask(A, 'DELETE', f'{NS}/all{tail}')
    yield ask(A, 'POST', f'{NS}/all/tags', {'tags': [{'name': 'other'}]})
    yield ask(A, 'GET', f'{NS}/all')


def whole():
    """Every request, in an order in which they make sense."""
    for part in (beginning, reading, listing, others, bad_namespaces,
                 changing_namespaces, changing_properties, changing_objects,
                 changing_tags, changing_associations, protecting):
        yield from part()
