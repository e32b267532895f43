"""What a service writes to its log: one line of each thing, and no secret."""

import json
import os
import pathlib
import signal
import socket
import sys

import pytest

from glance_import.observe import channel
from glance_import.observe import events
from glance_import.observe import journal
from tests import boards
from tests import servers
from tests import service as services

redis = boards.redis
DATA = b'data' * 1000
PASTE = '''
[pipeline:glance-api-audited]
pipeline = request healthcheck fakeauth context audit rootapp
[filter:request]
paste.filter_factory = glance_import.api.deploy:request_factory
[filter:healthcheck]
paste.filter_factory = glance_import.api.deploy:healthcheck_factory
[filter:fakeauth]
paste.filter_factory = glance_import.api.deploy:fakeauth_factory
[filter:context]
paste.filter_factory = glance_import.api.deploy:context_factory
[filter:audit]
paste.filter_factory = glance_import.api.deploy:audit_factory
audit_map_file = {audit_map}
[app:rootapp]
paste.app_factory = glance_import.api.deploy:app_factory
'''
TOKEN = 'alice:project-a:admin,member,reader'
SECRETS = ('seCretKey1', 'seCretUrl2', 'seCretProxy3', 'seCretToken4',
           'seCretQuery5')


@pytest.fixture(scope='module')
def told(tmp_path_factory, redis):  # noqa: F811
    """(lines, service): the JSON lines of a service that has had a life."""
    audit_map = pathlib.Path(sys.prefix, 'etc', 'pycadf',
                             'glance_api_audit_map.conf')
    top = tmp_path_factory.mktemp('told')
    paste = top / 'paste.ini'
    paste.write_text(PASTE.format(audit_map=audit_map))
    service = services.Service(top, token=TOKEN, options={
        'DEFAULT': {'use_json': True, 'user_storage_quota': '1MB',
                    'enabled_backends': 'here:file, away:s3',
                    'debug': True},
        'glance_store': {'default_backend': 'here'},
        'here': {'filesystem_store_datadir': top / 'here'},
        'away': {'s3_store_host': f'http://127.0.0.1:{servers.free_port()}',
                 's3_store_access_key': 'key', 's3_store_bucket': 'images',
                 's3_store_secret_key': SECRETS[0]},
        'paste_deploy': {'flavor': 'audited', 'config_file': paste,
                         'allow_remote_noauth': True},
        'taskflow_executor': {**redis.options(), 'step_retries': 0},
        'import_filtering_opts': {'allowed_ports': '[]',
                                  'disallowed_addresses': '[]',
                                  'allowed_addresses': '[127.0.0.0/8]'},
        'import_downloads': {
            'retries': 1, 'retry_interval': 0.1,
            'proxy': f'http://me:{SECRETS[2]}@127.0.0.1:'
                     f'{servers.free_port()}'},
        'audit_middleware_notifications': {'driver': 'log'}})
    try:
        service.start()
        lived(service)
        yield [json.loads(line) for line in service.text().split('\n')
               if line.startswith('{')], service
    finally:
        service.kill()


def lived(service):
    def get(path, **headers):
        return service.request('GET', path, headers=headers)

    for path in ('/healthcheck',) * 3:
        assert get(path).status == 200
    image_id = service.ask(DATA)
    service.wait_status(image_id, 'active')
    bad = service.create(token='bob:project-b:member')
    with_quota = [service.stage(service.create(), bytes(2_000_000)).status
                  for _ in range(3)]
    assert with_quota == [413] * 3
    get('/v2/images', **{'X-Service-Token': SECRETS[3]})
    service.request('GET', '/v2/images', token=f'alice:p:{SECRETS[3]}')
    for place, status in ((f'me:{SECRETS[1]}@127.0.0.1:1', 400),
                          ('127.0.0.1:1', 202)):
        answer = service.request('POST', f'/v2/images/{bad}/import', {
            'method': {'name': 'web-download', 'uri':
                       f'http://{place}/image?key={SECRETS[4]}'}})
        assert answer.status == status, answer
    services.wait_for(lambda: service.tasks(bad)[0]['status'] == 'failure')
    for _ in range(2):
        away = service.create()
        assert service.stage(away, DATA).status == 204
        assert service.request('POST', f'/v2/images/{away}/import', {
            'method': {'name': 'glance-direct'}, 'stores': ['away']}
        ).status == 202
        services.wait_for(lambda: service.tasks(away)[0]['status'] == (
            'failure'))


def of(told, logger, start=''):
    return [line for line in told[0] if line['name'] == logger
            and line['message'].startswith(start)]


def test_an_import_that_ended(told):
    line, = of(told, 'glance_import.observe.journal', 'import of image')[:1]
    assert line['levelname'] == 'INFO'
    extra = line['extra']
    assert extra['method'] == 'glance-direct' and extra['code'] is None
    assert extra['bytes'] == len(DATA) and extra['stores'] == ['here']
    assert (extra['user'], extra['project']) == ('alice', 'project-a')
    assert extra['asked_as'].startswith('req-')
    assert extra['queue_seconds'] >= 0 and extra['run_seconds'] >= 0
    assert 'CheckContent' in extra['steps']
    for word in (extra['image_id'], extra['task_id'], 'project-a', 'alice',
                 'glance-direct', '4000 bytes', 'in the queue', 'running'):
        assert word in line['message']


def test_imports_that_failed(told):
    lines = of(told, 'glance_import.observe.journal', 'import of image')[1:]
    assert [line['levelname'] for line in lines] == ['WARNING'] * 3
    codes = [line['extra']['code'] for line in lines]
    assert codes[0] == 'source.unreachable'
    assert all(code.startswith('store.') for code in codes[1:])
    for line in lines:
        assert f'[{line["extra"]["code"]}; ' in line['message']


def test_one_line_of_what_goes_on_and_on(told):
    quota, = of(told, 'glance_import.observe.journal', 'refused to project')
    assert quota['extra']['code'] == 'refused.size'
    assert quota['extra']['project'] == 'project-a'
    away, = of(told, 'glance_import.observe.journal', 'store away fails')
    assert away['levelname'] == 'ERROR'


def test_who_asked(told):
    lines = of(told, 'glance_import.access')
    assert lines
    assert not [line for line in lines if 'healthcheck' in line['message']]
    posts = [line for line in lines if '"POST /v2/images HTTP' in
             line['message']]
    assert {(line['extra']['user'], line['extra']['project'])
            for line in posts} == {('alice', 'project-a'),
                                   ('bob', 'project-b')}
    assert all(line['extra']['asked_as'].startswith('req-')
               and ' alice project-a] ' in line['message']
               or 'bob' in line['message'] for line in posts)


def test_no_secret(told):
    text = told[1].text() + json.dumps(
        [told[1].tasks(image['id']) for image in told[1].request(
            'GET', '/v2/images').json['images']])
    password = told[1].options['taskflow_executor']['jobboard_password']
    for secret in (*SECRETS, password):
        assert secret not in text, [
            line for line in text.split('\n') if secret in line][:3]


def test_the_audit_filter(told):
    """Each request is two events of CADF, by who asked."""
    lines = [line for line in told[0]
             if line['name'].startswith('oslo.messaging.notification.audit')]
    found = [json.loads(line['message']) for line in lines]
    created = [each for each in found
               if each['event_type'] == 'audit.http.response'
               and each['payload']['requestPath'] == '/v2/images'
               and each['payload']['action'] == 'create']
    assert created
    assert created[0]['payload']['outcome'] == 'success'
    assert {each['payload']['initiator']['id'] for each in created} == {
        'alice', 'bob'}
    assert {each['event_type'] for each in found} == {
        'audit.http.request', 'audit.http.response'}


def test_the_report_at_sigusr2(told):
    """Of the parent, a worker and the conductor, which runs an import.

    It waits for a proxy that takes a connection and says nothing.
    """
    service = told[1]
    proxy = service.options['import_downloads']['proxy']
    with socket.create_server(('127.0.0.1', int(proxy.rpartition(':')[2]))
                              ) as silent:
        image_id = service.create()
        assert service.request('POST', f'/v2/images/{image_id}/import', {
            'method': {'name': 'web-download', 'uri': 'http://127.0.0.1:1/'}
        }).status == 202
        connection, _address = silent.accept()
        with connection:
            running = service.tasks(image_id)[0]['id']
            reports_of(service, running)


def reports_of(service, running):
    processes = [service.process.pid, *(
        pid for pid, words in service.children().items())]
    for pid in processes:
        os.kill(pid, signal.SIGUSR2)

    def reports():
        # The last one may be half written.
        found = [json.loads(line) for line in service.text().split('\n')[:-1]
                 if 'SIGUSR2: report of' in line and line.startswith('{')]
        return found if len(found) == len(processes) else None
    texts = [line['message'] for line in services.wait_for(reports)]
    assert sum(f'{running}: WebDownload, epoch 1' in text
               for text in texts) == 1
    for text in texts:
        for words in ('Guru Meditation', 'thread MainThread', 'Imports',
                      'Configuration', 'jobboard_password = ***',
                      's3_store_secret_key = ***'):
            assert words in text, (words, text)
        for secret in SECRETS:
            assert secret not in text


# -- the lines themselves ---------------------------------------------------

def test_said_when_it_begins_and_once_a_minute(caplog):
    now = [1000.0]
    made = channel.Channel(journal.Journal(lambda: now[0]).listeners())

    def refuse(project='p'):
        made.tell(events.RequestRefused('staging.full', 'It is full.',
                                        project))
    with caplog.at_level('INFO'):
        for _ in range(5):
            refuse()
        refuse('q')
        now[0] += journal.PAUSE
        refuse()
    assert [record.getMessage() for record in caplog.records] == [
        'refused to project p: It is full. [staging.full]',
        'refused to project q: It is full. [staging.full]',
        'refused to project p: It is full. [staging.full] (4 more like this '
        'since the last line)']


def test_a_store_that_goes_and_comes_back(caplog):
    made = channel.Channel(journal.Journal().listeners())
    with caplog.at_level('INFO'):
        for trouble in (None, 'gone', 'gone', None, None, 'gone again'):
            made.tell(events.StoreHeard('s3', trouble))
    assert [record.getMessage() for record in caplog.records] == [
        'store s3 fails: gone', 'store s3 takes data again',
        'store s3 fails: gone again']


def test_a_listener_that_fails_is_nobody_elses_concern(caplog):
    heard = []

    def fail(_event):
        raise ValueError('it is broken')

    made = channel.Channel({events.LeaseLost: fail},
                           {events.LeaseLost: heard.append})
    made.tell(events.LeaseLost('1'))
    assert len(heard) == 1
    assert 'LeaseLost' in caplog.text


def test_a_report_in_a_file_and_an_image_that_goes(make_service, tmp_path):
    service = make_service(options={
        'oslo_reports': {'log_dir': tmp_path},
        'taskflow_executor': {'embedded_conductor': False}}).start()
    os.kill(service.process.pid, signal.SIGUSR2)
    found, = services.wait_for(
        lambda: list(tmp_path.glob('glance-import-api-*_gurumeditation_*')))
    assert found.stat().st_mode & 0o777 == 0o600
    services.wait_for(lambda: f'report of glance-import-api in {found}'
                      in service.text())
    assert 'Configuration' in found.read_text()
    # Nobody runs its import, which ends all the same, and is told of.
    image_id = service.ask(DATA)
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204
    line, = [line for line in service.text().split('\n')
             if f'import of image {image_id} (task' in line]
    assert ' WARNING ' in line and '[image.gone; ' in line
    assert 'never run' in line
