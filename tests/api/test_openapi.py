"""Every request that the description allows, and many that it does not.

Whatever is sent, the service answers with something other than 500, in the
usual form, and still works afterwards.
"""

import json
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

TEXT = st.one_of(
    st.text(max_size=20), st.sampled_from([
        '', ' ', 'x' * 300, '\0', '\U0001f4be', "'", '%', 'in:"', 'null',
        '../..', 'gt:', '-1', '1e999', 'os_glance_x', 'name', 'locations']))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), TEXT,
              st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(
        TEXT, inner, max_size=3)), max_leaves=6)
NAMES = ('name', 'tags', 'visibility', 'disk_format', 'id', 'owner',
         'protected', 'min_disk', 'method', 'member', 'status', 'type',
         'input', 'stores', 'all_stores', 'colour', 'locations')
OBJECTS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4)
PATCHES = st.lists(st.fixed_dictionaries(
    {'op': st.sampled_from(['add', 'remove', 'replace', 'move']),
     'path': st.one_of(TEXT, st.sampled_from(NAMES).map('/{}'.format))},
    optional={'value': JSON}), max_size=3)
BODIES = st.one_of(JSON, OBJECTS, PATCHES)
QUERIES = st.lists(st.tuples(st.one_of(TEXT, st.sampled_from(
    ['limit', 'marker', 'sort', 'sort_key', 'sort_dir', 'name', 'size_min',
     'created_at', 'visibility', 'member_status', 'tag', 'os_hidden', 'id',
     'status', 'type'])), TEXT), max_size=3)


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


@pytest.mark.parametrize(
    'path, method, operation', OPERATIONS,
    ids=[f'{method} {path}' for path, method, _ in OPERATIONS])
def test_never_an_error_of_ours(api, image_id, path, method, operation):
    media = next(iter(operation.get('requestBody', {}).get(
        'content', {'application/json': None})))

    @hypothesis.settings(
        max_examples=30, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(body=BODIES, query=QUERIES, name=TEXT,
                      own=st.booleans())
    def ask(body, query, name, own):
        if method == 'DELETE' and path == '/v2/images/{image_id}':
            own = False
        where = path
        for part in ('{image_id}', '{task_id}', '{tag}', '{member_id}',
                     '{name}'):
            value = image_id if part == '{image_id}' and own else name
            where = where.replace(part, urllib.parse.quote(
                value.encode('utf-8', 'surrogatepass'), safe=''))
        words = urllib.parse.urlencode(query, errors='surrogatepass')
        sends = 'requestBody' in operation
        answer = api.request(
            method, f'{where}?{words}',
            json.dumps(body).encode() if sends else None,
            {'Content-Type': media} if sends else {}, token=services.ADMIN)
        assert answer.status < 500, answer
        assert answer.headers['x-openstack-request-id'].startswith('req-')
        assert b'Traceback' not in answer.body

    ask()
    assert api.show(image_id, services.ADMIN)['id'] == image_id
