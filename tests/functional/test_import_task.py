"""Tasks of the type import: the older way, on the same machinery."""

import os

import pytest

from tests import origins
from tests import service as services

DATA = os.urandom(200_003)


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    running = services.Service(
        tmp_path_factory.mktemp('service'), token=services.ADMIN, options={
            'paste_deploy': {'flavor': 'fakeauth'},
            'image_import_opts': {'image_import_plugins':
                                  '[inject_image_metadata]'},
            'inject_metadata_properties': {'inject': 'seen:yes',
                                           'ignore_user_roles': ''},
            'import_downloads': {'retries': 0},
            'import_filtering_opts': {
                'allowed_addresses': '[127.0.0.1/32]',
                'allowed_ports': '[]'}})
    running.start()
    yield running
    running.kill()


def ask(service, token=None, **given):
    return service.request('POST', '/v2/tasks', {
        'type': 'import', 'input': given}, token=token)


def ended(service, task):
    def look():
        found = service.request('GET', f"/v2/tasks/{task['id']}").json
        return found if found['status'] in ('success', 'failure') else None
    return services.wait_for(look)


def images(service):
    return service.request('GET', '/v2/images?limit=1000').json['images']


def test_an_image_is_made(service):
    with origins.Origin(origins.serve(DATA)) as origin:
        given = {'import_from': origin.url(), 'import_from_format': 'raw',
                 'image_properties': {'name': 'old way', 'color': 'red'}}
        answer = ask(service, **given)
        assert answer.status == 201, answer
        made = answer.json
        assert answer.headers['location'].endswith(f"/v2/tasks/{made['id']}")
        assert (made['type'], made['status'], made['input']) == (
            'import', 'pending', given)
        task = ended(service, made)
    assert task['status'] == 'success', task
    image = service.show(task['result']['image_id'])
    assert (image['status'], image['name'], image['color'], image['seen'],
            image['disk_format'], image['container_format']) == (
        'active', 'old way', 'red', 'yes', 'raw', 'bare')
    assert service.download(image['id']) == DATA
    listed = service.request('GET', '/v2/tasks?type=import').json['tasks']
    assert made['id'] in [each['id'] for each in listed]


def test_a_failure_has_its_reason(service):
    with origins.Origin(lambda handler: handler.begin(
            404, Content_Length=0)) as origin:
        task = ended(service, ask(
            service, import_from=origin.url(), import_from_format='raw',
            image_properties={}).json)
    assert task['status'] == 'failure'
    assert '404 Not Found' in task['message']


URL = 'http://mirror.example/image'


@pytest.mark.parametrize('given', (
    {}, {'import_from': URL}, {'import_from': URL, 'image_properties': {}},
    {'import_from': 5, 'import_from_format': 'raw', 'image_properties': {}},
    {'import_from': URL, 'import_from_format': 'raw',
     'image_properties': []},
    {'import_from': URL, 'import_from_format': 'nonsense',
     'image_properties': {}},
    {'import_from': URL, 'import_from_format': 'raw',
     'image_properties': {'disk_format': 'qcow2'}},
    {'import_from': URL, 'import_from_format': 'raw',
     'image_properties': {'min_disk': 'many'}},
    *({'import_from': url, 'import_from_format': 'raw',
       'image_properties': {'protected': True}} for url in (
        'file:///etc/passwd', 'http://169.254.169.254/', 'http://10.1/',
        'swift://x/y', 'https://user@mirror.example/', '/etc/passwd')),
))
def test_what_is_wrong_at_once(service, given):
    before = len(images(service))
    answer = ask(service, **given)
    assert answer.status == 400, answer
    assert len(images(service)) == before


def test_what_an_image_may_not_have(service):
    for properties in ({'status': 'active'}, {'os_glance_x': 'y'}):
        answer = ask(service, import_from=URL, import_from_format='raw',
                     image_properties=properties)
        assert answer.status == 403, answer


def test_members_are_not_let_in(service):
    answer = ask(service, services.MEMBER, import_from=URL,
                 import_from_format='raw', image_properties={})
    assert answer.status == 403


def test_where_web_download_is_off(make_service):
    service = make_service(options={
        'DEFAULT': {'enabled_import_methods': '[glance-direct]'}}).start()
    answer = ask(service, import_from=URL, import_from_format='raw',
                 image_properties={})
    assert answer.status == 400 and 'web-download' in answer.message
