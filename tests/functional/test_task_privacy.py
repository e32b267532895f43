"""What a task tells, and whom."""

import os

import pytest

from glance_import.net import urls
from tests import origins
from tests import service as services

DATA = os.urandom(10_000)
QUERY = '?X-Amz-Signature=s3cr3t&x=1'
IMPORTER = 'ann:red:member,reader'
SAME_PROJECT = 'eve:red:reader'
STRANGER = 'bob:blue:member,reader'
PROTECTED = '''
[plugin_secret]
create = admin
read = admin
update = admin
delete = admin
[.*]
create = @
read = @
update = @
delete = @
'''


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    top = tmp_path_factory.mktemp('service')
    (top / 'protected.conf').write_text(PROTECTED)
    running = services.Service(top, token=IMPORTER, options={
        'DEFAULT': {'limit_param_default': 3, 'api_limit_max': 5,
                    'property_protection_file': top / 'protected.conf'},
        'paste_deploy': {'flavor': 'fakeauth'},
        'import_downloads': {'retries': 0},
        'import_filtering_opts': {'allowed_addresses': '[127.0.0.1/32]',
                                  'allowed_ports': '[]'}})
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope='module')
def downloaded(service):
    """A public image whose import has failed once and then succeeded."""
    image_id = service.create(visibility='community')
    with origins.Origin(origins.serve(DATA)) as origin:
        for url in ('http://127.0.0.1:1/gone' + QUERY, origin.url() + QUERY):
            answer = service.request(
                'POST', f'/v2/images/{image_id}/import', {
                    'method': {'name': 'web-download', 'uri': url,
                               'password': 'secret', 'extra': {'a': 1},
                               'checksum': None},
                    'stores': [], 'comment': 'secret', 'user': {'x': 'y'}})
            assert answer.status == 202, answer
            service.wait_status(image_id, 'queued', 'active')
    assert service.show(image_id)['status'] == 'active'
    return image_id


def test_strangers_see_no_tasks(service, downloaded):
    for token, number in ((IMPORTER, 2), (SAME_PROJECT, 2), (STRANGER, 0),
                          (services.ADMIN, 2)):
        found = service.tasks(downloaded, token)
        assert len(found) == number, (token, found)
    answer = service.request('GET', f'/v2/images/{downloaded}/tasks',
                             token='x::member,reader')
    assert (answer.status, answer.json) == (200, {'tasks': []})


def test_neither_signature_nor_unknown_keys(service, downloaded):
    tasks = service.tasks(downloaded)
    for task in tasks:
        method = task['input']['import_req']['method']
        assert set(method) == {'name', 'uri', 'checksum'}
        assert set(task['input']['import_req']) == {'method', 'stores'}
        assert method['uri'].startswith('http://127.0.0.1:')
        assert '?' not in method['uri']
    everything = [service.request('GET', path, token=services.ADMIN).body
                  for path in (f'/v2/images/{downloaded}/tasks', '/v2/tasks',
                               *(f"/v2/tasks/{task['id']}"
                                 for task in tasks))]
    assert b's3cr3t' not in b''.join(everything)
    assert b'secret' not in b''.join(everything)


def test_the_old_task_hides_it_too(service):
    with origins.Origin(origins.serve(DATA)) as origin:
        answer = service.request('POST', '/v2/tasks', {
            'type': 'import', 'input': {
                'import_from': origin.url() + QUERY, 'password': 'secret',
                'import_from_format': 'raw', 'image_properties': {}}},
            token=services.ADMIN)
        assert answer.status == 201, answer
        assert b's3cr3t' not in answer.body
        assert answer.json['input'] == {
            'import_from': origin.url(), 'import_from_format': 'raw',
            'image_properties': {}}
        services.wait_for(lambda: service.request(
            'GET', f"/v2/tasks/{answer.json['id']}", token=services.ADMIN
        ).json['status'] == 'success')


def test_a_failed_import_is_asked_for_again_with_its_signature(service):
    """What is hidden from readers is kept for the service itself."""
    image_id = service.create()
    with origins.Origin(origins.serve(DATA)) as origin:
        service.request('POST', f'/v2/images/{image_id}/import', {
            'method': {'name': 'web-download', 'uri':
                       origin.url('/missing') + QUERY, 'checksum': {
                           'algo': 'md5', 'value': '0' * 32}}})
        services.wait_for(lambda: service.tasks(image_id)[0]['status']
                          == 'failure')
        done = service.run('manage', 'imports', 'retry', image_id)
        assert done.returncode == 0, done.stderr
        services.wait_for(lambda: len(service.tasks(image_id)) == 2)
    task_input, = service.execute(
        'select distinct input from task_info where input like ?',
        f'%{image_id}%')
    assert QUERY in task_input[0]


def test_pages(service, downloaded):
    """Newest first; ``next`` only where there are more."""
    image_id = service.create(visibility='community')
    made = []
    for number in range(7):
        task_id = f'00000000-0000-4000-8000-00000000000{number}'
        service.execute(
            'insert into tasks (id, type, status, owner, image_id, '
            'created_at, updated_at, deleted) values (?, ?, ?, ?, ?, ?, ?, '
            '0)', task_id, 'api_image_import', 'failure',
            'red' if number != 3 else 'other', image_id,
            f'2026-01-0{1 + number // 2} 00:00:00.000000',
            '2026-01-01 00:00:00.000000')
        service.execute('insert into task_info (task_id, input, message) '
                        "values (?, '{}', '')", task_id)
        made.insert(0, task_id)
    path = f'/v2/images/{image_id}/tasks'
    seen = [each for each in made if not each.endswith('3')]

    def walk(where, token=IMPORTER):
        pages = []
        while where:
            answer = service.request('GET', where, token=token)
            assert answer.status == 200, answer
            pages.append([each['id'] for each in answer.json['tasks']])
            where = answer.json.get('next')
        return pages
    assert walk(path) == [seen[:3], seen[3:]]
    assert walk(f'{path}?limit=2') == [seen[:2], seen[2:4], seen[4:]]
    assert walk(f'{path}?limit=100', services.ADMIN) == [made[:5], made[5:]]
    assert walk(f'{path}?limit=0') == [[]]
    assert walk(f'{path}?limit=6', STRANGER) == [[]]
    for wrong in ('limit=-1', 'limit=x', 'marker=x', f'marker={made[3]}',
                  f"marker={service.tasks(downloaded)[0]['id']}"):
        answer = service.request('GET', f'{path}?{wrong}')
        assert answer.status == 400, (wrong, answer)


def test_properties_that_are_protected(service):
    """A plugin's word of one is for those who may read it."""
    image_id = service.create()
    task_id = '00000000-0000-4000-8000-0000000000aa'
    service.execute(
        'insert into tasks (id, type, status, owner, image_id, created_at, '
        "updated_at, deleted) values (?, 'api_image_import', 'success', "
        "'red', ?, '2026-01-01 00:00:00', '2026-01-01 00:00:00', 0)",
        task_id, image_id)
    service.execute(
        "insert into task_info (task_id, input, message, result) values "
        "(?, '{}', '', ?)", task_id,
        '{"image_id": "x", "plugins": [{"plugin": "p", "step": "s", '
        '"properties": {"plugin_secret": "hush", "plain": "1"}}]}')
    for token, seen in ((IMPORTER, {'plain': '1'}), (services.ADMIN, {
            'plain': '1', 'plugin_secret': 'hush'})):
        task, = service.tasks(image_id, token)
        assert task['result']['plugins'][0]['properties'] == seen
    # Nor does a filter say what it holds.
    service.request(
        'PATCH', f'/v2/images/{image_id}', [
            {'op': 'add', 'path': '/plugin_secret', 'value': 'hush'}],
        {'Content-Type': 'application/openstack-images-v2.1-json-patch'},
        token='root:red:admin,member,reader')
    for token, number in ((IMPORTER, 0), ('root:red:admin,member,reader',
                                          1)):
        found = service.request('GET', '/v2/images?plugin_secret=hush',
                                token=token).json['images']
        assert len(found) == number, token


@pytest.mark.parametrize('url, shown', [
    ('https://h/p?q=1', 'https://h/p'), ('https://h/p#f?q', 'https://h/p'),
    ('https://u:p@h:1/p', 'https://h:1/p'), ('https://h/a@b', 'https://h/a@b'),
    ('https://u:p@w@h/a', 'https://h/a'), ('HTTPS://u@h?q', 'HTTPS://h'),
    ('https://h?a@b', 'https://h'), ('https://h/p?q://x@y', 'https://h/p'),
    ('s3+https://KEY:a/b?c@h/bucket/o', 's3+https://h/bucket/o'),
    ('s3://KEY:a/b@h/bucket/o?x', 's3://h/bucket/o'),
    ('rbd://f/p/i/snap', 'rbd://f/p/i/snap'), ('u:p@h', 'h'), ('', ''),
    ('file:///var/x', 'file:///var/x')])
def test_urls(url, shown):
    assert urls.public(url) == shown
    assert urls.public_text(f'At {url} it fails') == f'At {shown} it fails' \
        or '://' not in url
