"""The table of requests says what the code does."""

import collections
import json

import pytest
import webob

from glance_import.api import deploy
from glance_import.api import endpoints
from glance_import import conf as configuration
from glance_import import policies
from glance_import import startup
from tests import service as services

PARTS = {'member_id': 'somebody', 'tag': 'a', 'name': 'image',
         'store_id': 'file', 'task_id': '0' * 8, 'namespace': 'named'}
NAMESPACES = '/v2/metadefs/namespaces'
PROPERTY = {'title': 'Image', 'type': 'string'}
HELD = {'objects': [{'name': 'image'}], 'properties': {'image': PROPERTY},
        'tags': [{'name': 'image'}],
        'resource_type_associations': [{'name': 'image'}]}
BODIES = {'/v2/images': {'name': 'one'},
          '/v2/images/{image_id}/import': {
              'method': {'name': 'glance-direct'}},
          '/v2/images/{image_id}/members': {'member': 'somebody'},
          '/v2/images/{image_id}/members/{member_id}': {
              'status': 'accepted'},
          '/v2/images/{image_id}/locations': {'url': 'file:///nowhere'},
          '/v2/tasks': {'type': 'import', 'input': {
              'import_from': 'http://127.0.0.1/', 'import_from_format': 'raw',
              'image_properties': {}}},
          NAMESPACES: {'namespace': 'other', **HELD},
          f'{NAMESPACES}/{{namespace}}': {'namespace': 'named'},
          f'{NAMESPACES}/{{namespace}}/tags': {'tags': [{'name': 'a'}]},
          f'{NAMESPACES}/{{namespace}}/properties': {
              'name': 'new', **PROPERTY},
          f'{NAMESPACES}/{{namespace}}/properties/{{name}}': {
              'name': 'image', **PROPERTY},
          **{f'{NAMESPACES}/{{namespace}}/{each}': {'name': 'new'}
             for each in ('objects', 'resource_types')},
          **{f'{NAMESPACES}/{{namespace}}/{each}/{{name}}': {'name': 'image'}
             for each in ('objects', 'tags')}}
ROWS = [(route, endpoint) for route in endpoints.TABLE
        for endpoint in route.endpoints]
IDS = [f'{endpoint.method} {route.path}' for route, endpoint in ROWS]


def test_rules_name_the_requests_that_ask_them():
    """Both ways: the policy page and the table say the same."""
    asked = collections.defaultdict(set)
    for route, endpoint in ROWS:
        for rule in endpoint.rules:
            asked[rule].add((endpoint.method, route.path))
    documented = {
        rule.name: {(each['method'], each['path'])
                    for each in rule.operations}
        for rule in policies.list_rules() if hasattr(rule, 'operations')}
    assert documented == asked


@pytest.fixture(scope='module')
def application(tmp_path_factory):
    """(the application in this process, its services)"""
    service = services.Service(tmp_path_factory.mktemp('endpoints'), options={
        'taskflow_executor': {'embedded_conductor': False}})
    conf = configuration.load(['--config-dir', str(service.conf)])
    box = startup.open_all(conf)
    yield deploy.load(box), box
    box.close()


@pytest.fixture
def recorded(application, monkeypatch):
    """(ask a request, a list that grows with each rule that is asked)"""
    app, box = application
    asked = []
    allows = box.policy.allows

    def recording(ctx, rule, target):
        asked.append(rule)
        return allows(ctx, rule, target)

    monkeypatch.setattr(box.policy, 'allows', recording)

    def ask(method, path, body=None, media=None):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request = webob.Request.blank(
            path, method=method, body=body or b'',
            environ={'REMOTE_ADDR': '127.0.0.1'},
            content_type=media or 'application/json' if body else None)
        return request.get_response(app)

    return ask, asked


@pytest.mark.parametrize('route, endpoint', ROWS, ids=IDS)
def test_no_other_rule_is_asked(recorded, route, endpoint):
    ask, asked = recorded
    image = ask('POST', '/v2/images', {'visibility': 'shared'}).json['id']
    ask('POST', f'/v2/images/{image}/members', {'member': 'somebody'})
    path = route.path.format(image_id=image, **PARTS)
    if path.startswith('/v2/metadefs'):
        for name in ('named', 'other'):
            ask('DELETE', f'{NAMESPACES}/{name}')
        ask('POST', NAMESPACES, {'namespace': 'named', **HELD})
        if endpoint.method == 'POST':
            path = path.replace('/image', '/new')
        if path.startswith(f'{NAMESPACES}/named/properties/'):
            # It has no prefix for it, so there is none of that name.
            path += '?resource_type=image'
    del asked[:]
    body = None
    if endpoint.body is not None:
        body = (b'data' if endpoint.body.media == endpoints.OCTETS
                else BODIES.get(route.path, []))
    answer = ask(
        endpoint.method, path, body,
        endpoint.body.media if endpoint.body else None)
    assert answer.status_int < 500
    # Who is an administrator is asked with each request, and whether one who
    # is refused may know that the image is there.
    assert set(asked) - {'context_is_admin', 'get_image'} <= set(
        endpoint.rules)
    if path.startswith('/v2/metadefs'):
        # Nothing stands in the way of one who may do everything.
        assert set(asked) - {'context_is_admin'} >= set(endpoint.rules), path
        assert answer.status_int == endpoint.status or (
            '?' in path and answer.status_int == 404)
