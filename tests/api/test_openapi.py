"""Every request that the description allows, and many that it does not.

Whatever is sent, the service answers with something other than 500, in the
usual form, and still works afterwards.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys
import urllib.parse

import hypothesis
from hypothesis import strategies as st
import jsonschema
import pytest

from tests import service as services

TOP = pathlib.Path(__file__).parents[2]
DESCRIBED = json.loads(
    (TOP / 'doc' / 'source' / 'api' / 'openapi.json').read_text())
OPERATIONS = [(path, method.upper(), operation)
              for path, methods in DESCRIBED['paths'].items()
              for method, operation in methods.items()
              if method != 'parameters']

# What is no text, what a pattern stumbles over, and what ends a line.
ODD = st.text(alphabet=st.sampled_from(
    '\ud800\udfff\0\n\r\t \x85\xa0\u2028"\'\\,;:=/%~.-0a\uffff\U0001f4be'),
    max_size=30)
TEXT = st.one_of(
    st.text(max_size=20), ODD, st.sampled_from([
        # Six of them fit into a request line, each sign as three.
        ' ' * 400, '"' * 400, ',' * 400, 'in:' + ' ' * 400 + '"',
        '9' * 400, '1e999', 'x\n', '\n', 'gt:' + '0' * 400,
        '', ' ', 'x' * 300, '\0', '\U0001f4be', "'", '%', 'in:"', 'null',
        '../..', 'gt:', '-1', '1e999', 'os_glance_x', 'name', 'locations']))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), TEXT, st.floats(),
              st.sampled_from([10 ** 4200, -10 ** 39, 1e308, 2 ** 63])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(
        TEXT, inner, max_size=3)), max_leaves=6)
NAMES = ('name', 'tags', 'visibility', 'disk_format', 'id', 'owner',
         'protected', 'min_disk', 'method', 'member', 'status', 'type',
         'input', 'stores', 'all_stores', 'colour', 'locations', 'namespace',
         'properties', 'objects', 'resource_type_associations', 'required',
         'title', 'pattern', 'enum', 'default', 'items', 'prefix')
OBJECTS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4)
PATCHES = st.lists(st.fixed_dictionaries(
    {'op': st.sampled_from(['add', 'remove', 'replace', 'move']),
     'path': st.one_of(TEXT, st.sampled_from(NAMES).map('/{}'.format))},
    optional={'value': JSON}), max_size=3)
DEEP = st.integers(1, 3000).map(lambda depth: functools.reduce(
    lambda inner, _: [inner], range(min(depth, 900)), 'x'))
BODIES = st.one_of(JSON, OBJECTS, PATCHES, DEEP)
# The long form is for a night.
EXAMPLES = 2000 if 'LONG_TESTS' in os.environ else 30
QUERIES = st.lists(st.tuples(st.one_of(TEXT, st.sampled_from(
    ['limit', 'marker', 'sort', 'sort_key', 'sort_dir', 'name', 'size_min',
     'created_at', 'visibility', 'member_status', 'tag', 'os_hidden', 'id',
     'status', 'type', 'resource_type', 'resource_types'])), TEXT),
    max_size=3)
NAMESPACE = 'named'


def as_escapes(body):
    return json.dumps(body).encode()


def as_bytes(body):
    return json.dumps(body, ensure_ascii=False).encode(
        'utf-8', 'surrogatepass')


def test_described_as_served():
    done = subprocess.run([sys.executable, 'tools/openapi.py', '--check'],
                          cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for shape in DESCRIBED['components']['schemas'].values():
        jsonschema.Draft202012Validator.check_schema(shape)
    for path, method, operation in OPERATIONS:
        assert operation['summary'], (path, method)


@pytest.fixture(scope='module')
def image_id(api):
    return api.create(services.ADMIN)


@pytest.fixture(scope='module')
def namespace(api):
    assert api.request('POST', '/v2/metadefs/namespaces', {
        'namespace': NAMESPACE, 'objects': [{'name': 'image'}],
        'tags': [{'name': 'image'}]}, token=services.ADMIN).status == 201


@pytest.mark.parametrize(
    'path, method, operation', OPERATIONS,
    ids=[f'{method} {path}' for path, method, _ in OPERATIONS])
def test_never_an_error_of_ours(api, image_id, namespace, path, method,
                                operation):
    media = next(iter(operation.get('requestBody', {}).get(
        'content', {'application/json': None})))

    # One set of handlers serves every kind of metadata definitions.
    several = 2 if path.startswith('/v2/metadefs') else 1

    @hypothesis.settings(
        max_examples=EXAMPLES // several, deadline=None, derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(body=BODIES, query=QUERIES, name=TEXT,
                      own=st.booleans(), accept=st.sampled_from(
                          ['application/json', 'text/plain', 'text/html']),
                      written=st.sampled_from([as_escapes, as_bytes]))
    def ask(body, query, name, own, accept, written):
        if method == 'DELETE' and path in (
                '/v2/images/{image_id}',
                '/v2/metadefs/namespaces/{namespace}'):
            own = False
        where = path
        for part in ('{image_id}', '{task_id}', '{tag}', '{member_id}',
                     '{name}', '{namespace}'):
            value = {'{image_id}': image_id, '{namespace}': NAMESPACE}.get(
                part, name) if own else name
            where = where.replace(part, urllib.parse.quote(
                value.encode('utf-8', 'surrogatepass'), safe=''))
        words = urllib.parse.urlencode(query, errors='surrogatepass')
        sends = 'requestBody' in operation
        answer = api.request(
            method, f'{where}?{words}',
            written(body) if sends else None,
            {'Content-Type': media, 'Accept': accept} if sends
            else {'Accept': accept}, token=services.ADMIN)
        assert answer.status < 500, answer
        assert str(answer.status) in operation['responses'], answer
        if answer.headers.get('content-type', '').startswith(
                'application/json'):
            json.loads(answer.body, parse_constant=pytest.fail)
        assert answer.headers['x-openstack-request-id'].startswith('req-')
        assert b'Traceback' not in answer.body

    ask()
    assert api.show(image_id, services.ADMIN)['id'] == image_id
