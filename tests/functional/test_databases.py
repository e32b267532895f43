"""The service on PostgreSQL and MariaDB: the same walk, the same refusals."""

import os

import pytest

from tests.servers import mariadb  # noqa: F401
from tests.servers import postgresql  # noqa: F401
from tests import service as services

DATA = os.urandom(500_000)


@pytest.mark.parametrize('kind', ['postgresql', 'mariadb'])
def test_walk(make_service, request, kind):
    server = request.getfixturevalue(kind)
    url = server.create()
    service = make_service(options={
        'database': {'connection': url}, 'paste_deploy': {
            'flavor': 'fakeauth'}}, token=services.MEMBER)
    done = service.run('api')
    assert done.returncode == 1
    line, = done.stderr.strip().splitlines()
    assert 'glance-import-manage db sync' in line
    assert service.run('manage', 'db', 'check').returncode == 1
    done = service.run('manage', 'db', 'sync')
    assert done.returncode == 0, done
    assert service.run('manage', 'db', 'check').returncode == 0
    service.start()
    image_id = service.create(tags=['a', 'b'], kind='disk', name='Ünï')
    assert service.stage(image_id, DATA).status == 204
    assert service.start_import(image_id).status == 202
    assert service.start_import(image_id).status == 409
    image = service.wait_status(image_id, 'active', 'uploading')
    assert image['status'] == 'active', image
    assert service.download(image_id) == DATA
    task, = service.tasks(image_id)
    assert task['status'] == 'success'
    assert image['tags'] == ['a', 'b']
    listed = service.request(
        'GET', '/v2/images?kind=disk&tag=a&sort=name:asc,size:desc').json
    assert [each['id'] for each in listed['images']] == [image_id]
    assert service.request('GET', f'/v2/images/{image_id}',
                           token=services.OTHER).status == 404
    # MySQL's utf8, which Glance's tables have, ends where emoji begin.
    takes = kind == 'postgresql'
    for method, path, body, codes in (
            ('POST', '/v2/images', {'name': 'a \U0001f4be'}, (201, 400)),
            ('POST', '/v2/images', {'\U0001f4be': 'disk'}, (201, 400)),
            ('POST', '/v2/images', {'tags': ['\U0001f4be']}, (201, 400)),
            ('PUT', f'/v2/images/{image_id}/tags/%F0%9F%92%BE', None,
             (204, 400)),
            ('GET', '/v2/images?name=%F0%9F%92%BE', None, (200, 200)),
            ('GET', '/v2/images?tag=%F0%9F%92%BE', None, (200, 200)),
            ('GET', '/v2/images?%F0%9F%92%BE=%F0%9F%92%BE', None,
             (200, 200))):
        answer = service.request(method, path, body)
        assert answer.status == codes[not takes], answer
        if answer.status == 400:
            assert 'character set' in answer.message
    # A failed import gives the bytes back; a server that restarts is
    # waited for.
    second = service.create()
    service.stage(second, DATA)
    (service.staging / second).unlink()
    service.start_import(second)
    assert 'disappeared' in service.wait_status(second, 'queued')[
        'os_glance_import_error']
    # PostgreSQL's own stop waits for us; the private MariaDB, killed, would
    # lose what it committed, since it runs without syncing.
    (server.kill if kind == 'postgresql' else server.stop)()
    answer = service.request('GET', f'/v2/images/{image_id}')
    assert answer.status == 503, answer
    assert 'retry-after' in answer.headers
    server.start()
    services.wait_for(lambda: service.request(
        'GET', f'/v2/images/{image_id}').status == 200)
    assert service.stage(second, DATA).status == 204
    assert service.start_import(second).status == 202
    service.wait_status(second, 'active')
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204
    assert 'unexpected error' not in service.text(), service.text()


PLUGIN = """
from glance_import.plugin import ImagePlugin


class Wordy(ImagePlugin):
    api = 1

    def inspect(self, ctx):
        return self.reject('no \U0001f4be taken')
"""


def test_a_reason_that_the_database_cannot_keep(
        make_service, mariadb, tmp_path):  # noqa: F811
    plugin = tmp_path / 'wordy.py'
    plugin.write_text(PLUGIN)
    plugin.chmod(0o644)
    service = make_service(options={
        'database': {'connection': mariadb.create()},
        'image_import_opts': {
            'image_import_plugins': f'[file:{plugin}:Wordy]'}})
    assert service.run('manage', 'db', 'sync').returncode == 0
    service.start()
    image_id = service.ask(DATA)
    image = service.wait_status(image_id, 'uploading', 'active')
    assert 'no \ufffd taken' in image['os_glance_import_error']
    assert service.tasks(image_id)[0]['status'] == 'failure'
