"""The admin guide's five rules, and who may do what at the import."""

import json
import os
import signal

import pytest

from tests import service as services

DATA = os.urandom(10_000)

# As the guide prints them.
FIVE_LINES = '''"get_task": "",
"get_tasks": "",
"add_task": "",
"modify_task": "",
"tasks_api_access": "role:admin",
'''
AS_JSON = '{' + FIVE_LINES.strip().rstrip(',') + '}'
AS_YAML = FIVE_LINES.replace(',\n', '\n')


@pytest.fixture
def start(make_service):
    """A service with users by token, and a policy file."""
    def make(name=None, text=None):
        options = {'paste_deploy': {'flavor': 'fakeauth'}}
        if name is not None:
            options['oslo_policy'] = {'policy_file': name}
        service = make_service(options=options, token=services.MEMBER)
        if name is not None:
            (service.conf / name).write_text(text)
        return service.start()
    return make


@pytest.mark.parametrize('name, text', [
    (None, None), ('policy.json', AS_JSON), ('policy.yaml', AS_YAML)])
def test_the_guides_lines(start, name, text):
    if name == 'policy.json':
        assert set(json.loads(text)) == {
            'get_task', 'get_tasks', 'add_task', 'modify_task',
            'tasks_api_access'}
    service = start(name, text)
    image_id = service.ask(DATA)
    service.wait_status(image_id, 'active')
    # The Tasks API is not exposed to end users; their images' tasks are.
    task, = service.tasks(image_id)
    for method, path, body in (
            ('GET', '/v2/tasks', None), ('GET', '/v2/tasks/x', None),
            ('GET', f"/v2/tasks/{task['id']}", None),
            ('POST', '/v2/tasks', {}), ('DELETE', '/v2/tasks/x', None)):
        answer = service.request(method, path, body)
        assert answer.status == 403, (method, path, answer)
        assert 'tasks_api_access' in answer.message
    listed = service.request('GET', '/v2/tasks', token=services.ADMIN)
    assert task['id'] in [each['id'] for each in listed.json['tasks']]
    shown = service.request('GET', f"/v2/tasks/{task['id']}",
                            token=services.ADMIN)
    assert shown.json == task


@pytest.mark.parametrize('rule', ['add_task', 'get_task', 'modify_task'])
def test_a_denied_task_rule_is_a_403_and_never_a_hanging_task(start, rule):
    service = start('policy.yaml', f'"{rule}": "role:admin"\n')
    image_id = service.create()
    service.stage(image_id, DATA)
    answer = service.start_import(image_id)
    assert answer.status == 403
    assert f'"{rule}"' in answer.message
    assert service.show(image_id)['status'] == 'uploading'
    assert service.tasks(image_id) == []
    # Who has the right imports it.
    assert service.start_import(
        image_id, token='root:red:admin,member,reader').status == 202
    service.wait_status(image_id, 'active')


def test_others_images(start):
    service = start()
    private = service.create(visibility='private')
    shared = service.create()
    service.stage(private, DATA)
    public = service.create(visibility='public', token=services.ADMIN)
    community = service.create(visibility='community')
    for image_id, seen in ((private, False), (shared, False),
                           (public, True), (community, True)):
        refused = 403 if seen else 404
        for method, tail, body, wanted in (
                ('GET', '', None, 200 if seen else 404),
                ('GET', '/file', None, 204 if seen else 404),
                ('GET', '/tasks', None, 200 if seen else 404),
                ('DELETE', '', None, refused),
                ('PUT', '/stage', DATA, refused),
                ('POST', '/import', {'method': {'name': 'glance-direct'}},
                 refused)):
            answer = service.request(
                method, f'/v2/images/{image_id}{tail}', body,
                {'Content-Type': 'application/octet-stream'},
                token=services.OTHER)
            assert answer.status == wanted, (method, tail, seen, answer)
    mine = {image['id'] for image in service.request(
        'GET', '/v2/images', token=services.OTHER).json['images']}
    assert mine == {public}
    everything = {image['id'] for image in service.request(
        'GET', '/v2/images', token=services.ADMIN).json['images']}
    assert everything == {private, shared, public, community}


def test_readers_read(start):
    service = start()
    image_id = service.create()
    service.stage(image_id, DATA)
    for method, tail, body, wanted in (
            ('GET', '', None, 200), ('GET', '/tasks', None, 200),
            ('GET', '/file', None, 403), ('DELETE', '', None, 403),
            ('PUT', '/stage', DATA, 403),
            ('POST', '/import', {'method': {'name': 'glance-direct'}}, 403)):
        answer = service.request(
            method, f'/v2/images/{image_id}{tail}', body,
            {'Content-Type': 'application/octet-stream'},
            token=services.READER)
        assert answer.status == wanted, (method, tail, answer)
    assert service.request('POST', '/v2/images', {},
                           token=services.READER).status == 403


def test_owner_and_visibility_need_rights(start):
    service = start()
    for body, token, wanted in (
            ({'owner': 'blue'}, services.MEMBER, 403),
            ({'owner': 'blue'}, services.ADMIN, 201),
            ({'visibility': 'public'}, services.MEMBER, 403),
            ({'visibility': 'public'}, services.ADMIN, 201),
            ({'visibility': 'community'}, services.MEMBER, 201)):
        assert service.request('POST', '/v2/images', body,
                               token=token).status == wanted, body


def test_without_a_token(start):
    service = start()
    image_id = service.create()
    for method, path in (
            ('GET', '/v2/images'), ('PUT', f'/v2/images/{image_id}/stage'),
            ('POST', f'/v2/images/{image_id}/import'), ('GET', '/v2/tasks'),
            ('GET', '/v2/nothing')):
        for token in ('nonsense', '::', 'a:b'):
            answer = service.request(
                method, path, headers={
                    'X-Auth-Token': token, 'X-Identity-Status': 'Confirmed',
                    'X-User-Id': 'root', 'X-Roles': 'admin'}, token=token)
            assert answer.status == 401, (method, path, token)
            assert 'x-openstack-request-id' in answer.headers
    assert service.request('GET', '/versions', token='x').status == 200
    assert service.request('GET', '/healthcheck', token='x').status == 200


def test_a_policy_file_that_breaks_while_the_service_runs(start):
    """What was in force stays in force, also over SIGHUP."""
    service = start('policy.yaml', '"get_images": "role:watcher"\n')
    path = service.conf / 'policy.yaml'
    watcher = 'w:red:watcher'

    def listed():
        return [service.request('GET', '/v2/images', token=token).status
                for token in (watcher, services.MEMBER)]
    assert listed() == [200, 403]
    for number, text in enumerate(('"get_images": [', '- 1', '',
                                   '"get_images": "nonsense"\n',
                                   '"get_images":', '"get_images": false',
                                   '"context_is_admin": {}')):
        path.write_text(text)
        services.wait_for(lambda: listed() and service.text().count(
            'stay in force') > number)
        assert listed() == [200, 403]
    assert str(path) in service.text()
    service.process.send_signal(signal.SIGHUP)
    services.wait_for(lambda: '[oslo_policy] policy_file' in service.text())
    assert listed() == [200, 403]
    path.write_text('"get_images": "role:member"\n')
    services.wait_for(lambda: listed() == [403, 200])
    # A conductor asks no rules, so it comes up beside a broken file.
    path.write_text('"get_images": [')
    os.kill(service.conductor_pid(), signal.SIGKILL)
    image_id = service.ask(DATA)
    service.wait_status(image_id, 'active')


@pytest.mark.parametrize('text', ['"a": [', '- 1', '"get_image": "x"',
                                  '"publicize_image":',
                                  '"publicize_image": false'])
def test_a_policy_file_that_is_broken_at_the_start(make_service, text):
    service = make_service(options={
        'oslo_policy': {'policy_file': 'policy.yaml'}})
    (service.conf / 'policy.yaml').write_text(text)
    done = service.run('api')
    assert done.returncode == 1
    line, = (line for line in done.stderr.splitlines()
             if line.startswith('glance-import-api:'))
    assert '[oslo_policy] policy_file' in line
    assert str(service.conf / 'policy.yaml') in line
