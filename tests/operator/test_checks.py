"""What the upgrade check says: each row right once, and wrong once."""

import contextlib
import http.server
import json
import os
import pathlib
import socket
import sqlite3
import subprocess
import threading
import uuid

import prometheus_client
import pytest

from glance_import.api import checking
from glance_import import checks
from glance_import import conf as configuration
from glance_import.db import conductors
from glance_import.db import upgrade
from glance_import.domain import free_space
from glance_import.exposition import checked
from glance_import.stores import configured
from tests.observe import scraping
from tests import servers
from tests import service as services
from tests import users

ROWS = {check.name: check for check in checking.TABLE}


class Place:
    """A configuration in a directory of its own."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.options = {
            'DEFAULT': {
                'state_path': directory / 'state',
                'node_staging_uri': f'file://{directory}/staging',
                'enable_image_import': True},
            'glance_store': {
                'filesystem_store_datadir': directory / 'images'}}

    def set(self, group: str, **values) -> None:
        self.options.setdefault(group, {}).update(values)

    def subject(self) -> checks.Subject:
        path = self.directory / 'glance-api.conf'
        path.write_text(''.join(
            f'[{group}]\n' + ''.join(f'{name} = {value}\n' for name, value
                                     in values.items())
            for group, values in self.options.items()))
        conf = configuration.load(['--config-file', str(path)])
        configured.register(conf)
        return checks.Subject(conf)

    def database(self) -> None:
        """At head."""
        (self.directory / 'state').mkdir(exist_ok=True)
        subject = self.subject()
        upgrade.sync(subject.database)
        subject.close()

    def execute(self, statement: str, *values) -> None:
        with sqlite3.connect(self.directory / 'state/glance.sqlite') as conn:
            conn.execute(statement, values)
        conn.close()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def look(place, row, patience=checks.PATIENCE):
    subject = place.subject()
    try:
        return checks.run(ROWS[row], subject, patience)
    finally:
        subject.close()


def files_of(directory):
    return sorted(str(path.relative_to(directory))
                  for path in directory.rglob('*'))


# -- each made wrong: what is done, and what the row says then

def an_option(place):
    place.set('DEFAULT', user_storage_quota='many')


def an_absent_policy(place):
    place.set('oslo_policy', policy_file='/etc/none/policy.yaml')


def an_unknown_one(place):
    place.set('glance_store', filesystem_store_datdir='/x')


def an_open_door(place):
    place.set('DEFAULT', bind_host='0.0.0.0')


def a_pipeline(place):
    place.set('paste_deploy', flavor='cake')


def a_keystone(place):
    place.set('paste_deploy', flavor='keystone')
    place.set('keystone_authtoken', auth_type='password', username='u',
              password='secret-word', project_name='p', user_domain_id='d',
              project_domain_id='d',
              auth_url=f'http://127.0.0.1:{servers.free_port()}/v3')


def a_keystone_that_is_not_set(place):
    place.set('paste_deploy', flavor='keystone')


def a_plugin(place):
    place.set('image_import_opts', image_import_plugins='[cake]')


def a_path_of_a_plugin(place):
    place.set('image_import_opts', image_import_plugins='[format_report]')
    place.set('format_report', sockets='/nowhere/scanner.sock')


def no_sandbox(place):
    place.set('image_import_opts', isolation='process')


def a_program(place):
    place.set('image_format', second_opinion_program='qemu-image',
              second_opinion='required')


def a_state_directory(place):
    (place.directory / 'state').mkdir()
    (place.directory / 'state').chmod(0o777)


def a_staging_area(place):
    (place.directory / 'staging').mkdir()
    (place.directory / 'staging').chmod(0o777)


def a_staging_area_that_is_a_file(place):
    (place.directory / 'staging').touch()


def a_store(place):
    (place.directory / 'images').touch()


def a_foreign_database(place):
    (place.directory / 'state').mkdir()
    place.execute('CREATE TABLE images (id INTEGER)')


def a_later_database(place):
    place.database()
    place.execute("UPDATE import_alembic_version SET version_num = 'r9'")


def an_absent_database(place):
    place.set('database', connection='postgresql+psycopg2://u:secret-word@'
              f'127.0.0.1:{servers.free_port()}/glance')


def a_board(place):
    place.set('taskflow_executor', jobboard='redis',
              jobboard_port=servers.free_port(), jobboard_timeout=1)


def a_conductor(place):
    place.database()
    place.set('taskflow_executor', embedded_conductor=False)


def an_import(place):
    place.database()
    place.execute(
        'INSERT INTO images (id, status, visibility, min_disk, min_ram, '
        'protected, os_hidden, created_at, updated_at, deleted) VALUES '
        "(?, 'importing', 'private', 0, 0, 0, 0, '2026-01-01 00:00:00', "
        "'2026-01-01 00:00:00', 0)", str(uuid.uuid4()))


WRONG = [
    ('Options', an_option, 2, 'user_storage_quota'),
    ('Options', an_absent_policy, 1, 'there is no /etc/none/policy.yaml'),
    ('Unknown options', an_unknown_one, 1, 'filesystem_store_datdir'),
    ('Who can connect', an_open_door, 2, 'bind_host'),
    ('Pipeline', a_pipeline, 2, 'glance-api-cake'),
    ('Keystone', a_keystone, 2, 'keystone_authtoken'),
    ('Keystone', a_keystone_that_is_not_set, 2, 'auth_type'),
    ('Plugins and methods', a_plugin, 2, 'cake'),
    ('Paths of plugins', a_path_of_a_plugin, 2, '/nowhere/scanner.sock'),
    ('Sandbox', no_sandbox, 1, 'no wall'),
    ('Programs', a_program, 2, 'qemu-utils'),
    ('State directory', a_state_directory, 2, 'chmod'),
    ('Staging', a_staging_area, 2, 'written by others'),
    ('Staging', a_staging_area_that_is_a_file, 2, 'not a directory'),
    ('Stores', a_store, 2, 'not a directory'),
    ('Database', a_foreign_database, 2, 'not a database of Glance'),
    ('Database', a_later_database, 2, 'later release'),
    ('Database', an_absent_database, 2, 'cannot use the database'),
    ('Job board', a_board, 2, 'does not answer'),
    ('Conductor', a_conductor, 1, 'glance-import-conductor'),
    ('Imports', an_import, 1, 'imports stranded'),
]


@pytest.mark.parametrize(
    'row, spoil, level, word', WRONG,
    ids=[f'{row}: {spoil.__name__}' for row, spoil, _, _ in WRONG])
def test_made_wrong(place, row, spoil, level, word, caplog):
    spoil(place)
    before = files_of(place.directory)
    found = look(place, row)
    assert (found.level, word in found.text) == (level, True), found
    assert 'Traceback' not in found.text and '\n' not in found.text
    assert 'secret-word' not in found.text
    is_seen(row, found, caplog)
    after = files_of(place.directory)
    assert [name for name in after if name not in before] in (
        [], ['glance-api.conf'])


def is_seen(row, found, caplog):
    """Once in the log, and as long as it lasts in the metric."""
    watch = checked.Checks(configuration.load([]))
    registry = prometheus_client.CollectorRegistry()
    registry.register(watch)
    caplog.set_level('INFO', checked.LOG.logger.name)
    for level, text in ((found.level, found.text), (found.level, 'other'),
                        (0, 'fine'), (0, 'fine')):
        watch.note({row: (int(level), text)})
        assert registry.get_sample_value(
            'glance_import_check_level', {'check': row}) == level
    assert [(each.levelname, each.getMessage()) for each in caplog.records
            if each.name == checked.LOG.logger.name] == [
        ({1: 'WARNING', 2: 'ERROR'}[found.level],
         f'check "{row}": {found.text}'),
        ('INFO', f'check "{row}" is good again: fine')]


def test_the_check_is_run_now_and_then(make_service):
    """By the process that serves metrics, with the files as they are."""
    port = servers.free_port()
    service = make_service(options={
        'glance_store': {'filesystem_store_datdir': '/x'},
        'metrics': {'bind_port': port, 'check_interval': 0.2}})
    exporter = service.spawn('exporter')
    try:
        is_told(service, port, 'Unknown options', 1, ': ignored')
        del service.options['glance_store']['filesystem_store_datdir']
        service.configure()
        is_told(service, port, 'Unknown options', 0, ' is good again')
        (service.conf / 'glance-api.conf').write_text('no file of options')
        is_told(service, port, 'Options', 2, ': glance-import-status: ')
    finally:
        exporter.terminate()
        exporter.wait(30)


def is_told(service, port, row, level, word):
    scraping.until(port, lambda each: row in each.labels(
        'check_level', 'check') and each.total(
            'check_level', check=row) == level)
    assert f'check "{row}"{word}' in service.text()


def test_every_row_was_made_wrong():
    assert {row for row, *_ in WRONG} == set(ROWS)


def test_all_rows_of_a_new_service_are_good_and_nothing_is_made(
        make_service):
    """The command itself, before a first start."""
    for program in ('bwrap', 'qemu-img'):
        servers.program(program)
    service = make_service()
    before = files_of(service.directory)
    done = service.run('status', 'upgrade', 'check', '--json')
    found = json.loads(done.stdout)['checks']
    assert done.returncode == 0, done
    assert [each['check'] for each in found] == list(ROWS)
    # Told on success too.
    assert all(each['details'] for each in found), found
    said = {each['check']: each['details'] for each in found}
    assert 'qemu-img version' in said['Programs']
    assert 'bubblewrap' in said['Programs'] and 'strict' in said['Sandbox']
    assert files_of(service.directory) == before


def test_the_command_with_all_that_is_wrong(make_service, tmp_path):
    """One answer, whatever there is, and as a table too."""
    service = make_service()
    (tmp_path / 'file').touch()
    service.configure(
        DEFAULT={'node_staging_uri': f'file://{tmp_path}/file'},
        paste_deploy={'flavor': 'cake'},
        database={'connection': 'nosuch://x'})
    done = service.run('status', 'upgrade', 'check')
    assert done.returncode == 2, done
    assert done.stdout.count('Result: Failure') >= 3, done.stdout
    assert 'Traceback' not in done.stdout + done.stderr
    done = service.run('status', '--config-file', '/nowhere', 'upgrade',
                       'check')
    assert done.returncode == 255 and done.stderr.count('\n') == 1, done


def test_a_check_that_hangs_is_answered_in_time(place):
    """A database that takes connections and says nothing."""
    silent = socket.create_server(('127.0.0.1', 0))
    place.set('database', connection='postgresql+psycopg2://u:p@127.0.0.1:'
              f'{silent.getsockname()[1]}/glance')
    servers.need_module('psycopg2')
    found = look(place, 'Database', patience=0.3)
    silent.close()
    assert found.level is checks.Level.FAILURE and 'no answer' in found.text


def test_little_room_is_told(place, monkeypatch):
    (place.directory / 'staging').mkdir(mode=0o700)
    (place.directory / 'images').mkdir()
    monkeypatch.setattr(free_space, 'free', lambda path: 5 << 20)
    for row in ('Staging', 'Stores'):
        found = look(place, row)
        assert found.level is checks.Level.WARNING, found
        assert 'little' in found.text


def test_a_conductor_of_this_area(place):
    place.database()
    (place.directory / 'staging').mkdir(mode=0o700)
    area = str(uuid.uuid4())
    (place.directory / 'staging/.staging_area_id').write_text(area)
    subject = place.subject()
    with subject.database.write() as conn:
        for name, where in (('one', area), ('two', 'elsewhere')):
            conductors.announce(conn, name=name, node='n', area=where,
                                version='1', honours=None)
    subject.close()
    found = look(place, 'Conductor')
    assert found.level is checks.Level.SUCCESS, found
    assert 'one (1)' in found.text and 'two' not in found.text


def test_sections_of_listed_plugins_are_known(place):
    servers.program('bwrap')
    place.set('image_import_opts', image_import_plugins='[format_report]')
    place.set('format_report', timeout=5, colour='red')
    found = look(place, 'Unknown options')
    assert '[format_report] colour' in found.text, found
    assert 'timeout' not in found.text


def test_a_token_that_keystone_makes_and_validates(place):
    """An identity service reduced to what is asked of it."""
    with identity() as (url, asked):
        a_keystone(place)
        place.set('keystone_authtoken', auth_url=url)
        found = look(place, 'Keystone')
    assert found.level is checks.Level.SUCCESS, found
    assert asked == ['POST /v3/auth/tokens', 'GET /v3/auth/tokens']


def test_root_becomes_the_owner_of_the_state():
    """What root makes, the service can open; others are refused."""
    with users.directory() as directory:
        _root_becomes_the_owner(services.Service(directory))


def _root_becomes_the_owner(service):
    words = users.command('manage', '--config-dir', str(service.conf), 'db',
                          'sync')
    service.state.mkdir(mode=0o700)
    os.chown(service.state, users.API, users.GROUP)
    done = subprocess.run(words, env=users.environment(), text=True,
                          capture_output=True)
    assert done.returncode == 0, done
    assert list(service.state.iterdir())
    for path in service.state.iterdir():
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (users.API, users.GROUP), path
    before = files_of(service.directory)
    done = subprocess.run(
        users.command('manage', '--config-dir', str(service.conf), 'db',
                      'check', user=users.CONDUCTOR),
        env=users.environment(), text=True, capture_output=True)
    assert done.returncode == 1 and done.stderr.count('\n') == 1, done
    assert 'run this as that user' in done.stderr
    assert files_of(service.directory) == before


def identity():
    asked = []
    token = {'token': {
        'methods': ['password'], 'expires_at': '2099-01-01T00:00:00.000000Z',
        'issued_at': '2026-01-01T00:00:00.000000Z',
        'user': {'id': 'u', 'name': 'u', 'domain': {'id': 'd', 'name': 'd'}},
        'project': {'id': 'p', 'name': 'p',
                    'domain': {'id': 'd', 'name': 'd'}},
        'roles': [{'id': 'r', 'name': 'service'}], 'catalog': []}}

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self, status, body):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header('Content-Type', 'application/json')
            self.send_header('Content-Length', str(len(data)))
            self.send_header('X-Subject-Token', 'abc')
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            if self.path.endswith('/auth/tokens'):
                asked.append(f'GET {self.path}')
                assert self.headers['X-Subject-Token'] == 'abc'
                return self._answer(200, token)
            host = f'http://127.0.0.1:{self.server.server_port}/v3/'
            version = {'id': 'v3.14', 'status': 'stable',
                       'links': [{'rel': 'self', 'href': host}]}
            return self._answer(200, {'version': version})

        def do_POST(self):
            asked.append(f'POST {self.path}')
            self.rfile.read(int(self.headers['Content-Length']))
            host = f'http://127.0.0.1:{self.server.server_port}/v3'
            answer = {'token': {**token['token'], 'catalog': [{
                'type': 'identity', 'name': 'keystone', 'id': 'k',
                'endpoints': [{'id': 'e', 'interface': interface,
                               'region': None, 'region_id': None,
                               'url': host}
                              for interface in ('internal', 'public',
                                                'admin')]}]}}
            self._answer(201, answer)

        def log_message(self, *_):
            pass

    @contextlib.contextmanager
    def serve():
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f'http://127.0.0.1:{server.server_port}/v3', asked
        finally:
            server.shutdown()
            server.server_close()
    return serve()
