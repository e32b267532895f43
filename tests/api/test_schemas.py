"""The schemas served are true: every answer validates against its own."""

import jsonschema
import pytest

from tests import service as services

STATUSES = {'queued', 'saving', 'uploading', 'importing', 'active', 'killed',
            'deactivated', 'pending_delete', 'deleted'}


def schema(api, name):
    answer = api.request('GET', f'/v2/schemas/{name}')
    assert answer.status == 200
    return answer.json


def check(value, described):
    jsonschema.Draft7Validator({'type': 'object', **described}
                               ).validate(value)


def test_shapes(api):
    for name in ('image', 'images', 'member', 'members', 'task', 'tasks'):
        described = schema(api, name)
        assert described['name'] == name
        jsonschema.Draft7Validator.check_schema(described)
    image = schema(api, 'image')
    assert set(image['properties']['status']['enum']) == STATUSES
    assert image['additionalProperties'] == {'type': 'string'}
    assert {link['rel'] for link in image['links']} == {
        'self', 'enclosure', 'describedby'}
    assert {link['rel'] for link in schema(api, 'images')['links']} == {
        'first', 'next', 'describedby'}
    assert set(schema(api, 'members')['properties']) == {'members', 'schema'}
    for name in ('nothing', 'Image', '%00', '%F0%9F%92%BE'):
        assert api.request('GET', f'/v2/schemas/{name}').status in (400, 404)
    assert api.request('POST', '/v2/schemas/image', {}).status == 405


def test_answers_fit(api, active):
    image = schema(api, 'image')
    states = {
        'queued': api.create(disk_format=None, name=None, custom=''),
        'uploading': api.create(),
        'active': active(tags=['x'])}
    api.stage(states['uploading'], b'x')
    for status, image_id in states.items():
        shown = api.show(image_id)
        assert shown['status'] == status
        check(shown, image)
        assert set(image['properties']) - set(shown) == {
            'direct_url', 'stores', 'locations'}
    check(api.request('GET', '/v2/images').json, schema(api, 'images'))
    member = api.request('POST', f"/v2/images/{states['active']}/members",
                         {'member': 'blue'}).json
    check(member, schema(api, 'member'))
    task, = api.tasks(states['active'])
    check(task, schema(api, 'task'))
    listed = api.request('GET', '/v2/tasks', token=services.ADMIN).json
    check(listed, schema(api, 'tasks'))


@pytest.mark.parametrize('path', ['stores', 'stores/detail'])
def test_one_store_only(api, path):
    assert api.request('GET', f'/v2/info/{path}').status == 404


def test_usage(api):
    answer = api.request('GET', '/v2/info/usage')
    assert (answer.status, answer.json) == (200, {'usage': {}})
