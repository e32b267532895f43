"""Starting, stopping, reloading: what an operator sees of it."""

import contextlib
import http.client
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import sys
import time

import pytest

from glance_import.imports import embedded
from tests.observe import scraping
from tests import servers
from tests import service as services

DATA = b'started' * 1000
ETC = pathlib.Path(__file__).resolve().parents[2] / 'etc'


@pytest.fixture(autouse=True)
def cold(request, monkeypatch):
    """As users start it, but for the many that do not come that far."""
    monkeypatch.setattr(services.Service, 'is_cold',
                        'stop_the_start' not in request.node.name)


def line_of(done):
    """The one line with which a command ended."""
    assert done.returncode not in (0, None), done
    line, = done.stderr.strip().splitlines()
    assert 'Traceback' not in line
    return line


@pytest.mark.parametrize('group, name, value, words', [
    ('task', 'task_executor', 'eventlet', ["'eventlet'", 'taskflow']),
    ('DEFAULT', 'node_staging_uri', 'http://x/y', ['file://']),
    ('DEFAULT', 'node_staging_uri', '/var/tmp/staging', ['file://']),
    ('DEFAULT', 'node_staging_uri', 'file://relative/path', ['absolute']),
    ('DEFAULT', 'node_staging_uri', 'file:///proc/staging', ['/proc']),
    ('DEFAULT', 'node_staging_uri', '', ['file://']),
    ('DEFAULT', 'enabled_import_methods', '[glance-direct, nonsense]',
     ['nonsense', 'glance_direct']),
    ('DEFAULT', 'enabled_import_methods', 'glance-direct', ['brackets']),
    ('DEFAULT', 'bind_port', 'http', ['bind_port']),
    ('DEFAULT', 'bind_host', '0.0.0.0', ['loopback', 'flavor']),
    ('DEFAULT', 'unbounded_addresses', '10.0.0.0/8, proxy', ["'proxy'"]),
    ('DEFAULT', 'unbounded_addresses', '10.0.0.1/8', ['host bits']),
    ('DEFAULT', 'max_connections', '0', ['max_connections']),
    ('DEFAULT', 'image_size_cap', '0', ['image_size_cap']),
    ('taskflow_executor', 'engine_mode', 'worker-based', ['engine_mode']),
    ('taskflow_executor', 'max_workers', '0', ['max_workers']),
    ('paste_deploy', 'flavor', 'nothing', ['glance-api-nothing']),
    ('paste_deploy', 'config_file', '/nowhere.ini', ['/nowhere.ini']),
    ('glance_store', 'stores', 'floppy', ['floppy']),
    ('glance_store', 'filesystem_store_datadir', '/proc/images', ['/proc']),
    ('database', 'connection', 'nonsense://', ['connection']),
])
def test_options_that_stop_the_start(make_service, group, name, value, words):
    service = make_service(options={group: {name: value}})
    line = line_of(service.run('api'))
    for word in words if name == 'flavor' else (name, *words):
        assert word in line, line


def test_staging_directory_of_others(make_service):
    service = make_service()
    service.staging.mkdir()
    service.staging.chmod(0o777)
    assert 'others' in line_of(service.run('api'))
    service.staging.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(service.staging, pwd.getpwnam('nobody').pw_uid, -1)
        assert 'belongs to' in line_of(service.run('api'))


def test_address_in_use(make_service):
    service = make_service()
    with socket.create_server(('127.0.0.1', service.port)):
        assert str(service.port) in line_of(service.run('api'))


def test_configuration_that_is_none(make_service):
    service = make_service()
    (service.conf / 'glance-api.conf').write_text('[DEFAULT\n')
    assert 'glance-api.conf' in line_of(service.run('api'))


def test_unknown_options_are_named_in_the_log(make_service):
    service = make_service(options={
        'DEFAULT': {'enable_v1_api': 'True', 'debug': 'False'},
        'image_converison': {'output_format': 'raw'}}).start()
    warned, = [line for line in service.text().splitlines()
               if 'does not have' in line]
    assert '[DEFAULT] enable_v1_api' in warned
    assert '[image_converison] output_format' in warned
    assert 'debug' not in warned


def test_generated_files_with_overrides_beside(make_service):
    """etc/ as it is, with a second --config-dir that wins."""
    service = make_service()
    process = subprocess.Popen(
        [*service.command('api')[:3], '--config-dir', str(ETC),
         '--config-dir', str(service.conf)],
        env=service.environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, start_new_session=True)
    try:
        def answers():
            with contextlib.suppress(OSError):
                return service.request('GET', '/v2/info/import')
        answer = services.wait_for(answers)
        assert answer.json['import-methods']['value'] == [
            'glance-direct', 'web-download']
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()


def test_plugin_list_beside_the_main_file_is_read(make_service):
    """--config-file glance-api.conf brings glance-image-import.conf too."""
    service = make_service()
    (service.conf / 'glance-image-import.conf').write_text(
        '[image_import_opts]\nimage_import_plugins = [no_such_plugin]\n')
    done = subprocess.run(
        [*service.command('api')[:3], '--config-file',
         str(service.conf / 'glance-api.conf')],
        env=service.environment, capture_output=True, text=True, timeout=60)
    line = line_of(done)
    assert 'no_such_plugin' in line
    assert 'glance-image-import.conf' in line


def test_stop_lets_requests_finish(make_service):
    service = make_service().start()
    image_id = service.create()
    half = len(DATA) // 2
    with service.stage_by_hand(image_id, len(DATA)) as sock:
        sock.sendall(DATA[:half])
        services.wait_for(
            lambda: service.show(image_id)['status'] == 'uploading')
        process = service.process
        process.send_signal(signal.SIGTERM)
        services.wait_for(lambda: refuses(service.port))
        sock.sendall(DATA[half:])
        assert services.answer_of(sock)[0] == 204
    assert process.wait(30) == 0
    service.process = None
    service.start()
    assert service.start_import(image_id).status == 202
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == DATA


def refuses(port):
    try:
        socket.create_connection(('127.0.0.1', port), 1).close()
    except OSError:
        return True
    return False


def test_stop_right_after_the_start(make_service):
    """Whichever thread the kernel would give the signal to."""
    service = make_service()
    for _ in range(4):
        service.start()
        assert service.stop() == 0
        assert not service.text().count('Traceback')


def test_stop_leaves_a_stuck_upload_as_cut(make_service):
    service = make_service(
        options={'DEFAULT': {'graceful_shutdown_timeout': 1}}).start()
    image_id = service.create()
    with service.stage_by_hand(image_id, 1000000) as sock:
        sock.sendall(DATA)
        services.wait_for(
            lambda: service.show(image_id)['status'] == 'uploading')
        assert service.stop() == 0
    service.start()
    assert service.start_import(image_id).status == 409
    assert service.stage(image_id, DATA).status == 204


def test_killed_in_mid_upload_the_next_stage_is_let_in_at_once(make_service):
    service = make_service().start()
    image_id = service.create()
    with service.stage_by_hand(image_id, 1000000) as sock:
        sock.sendall(DATA)
        services.wait_for(
            lambda: service.show(image_id)['status'] == 'uploading')
        assert service.stage(image_id, DATA).status == 409
        service.kill()
    service.start()
    assert service.show(image_id)['status'] == 'uploading'
    assert service.start_import(image_id).status == 409
    assert service.stage(image_id, DATA).status == 204
    service.start_import(image_id)
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == DATA


def test_children_die_with_their_parent(make_service):
    service = make_service(options={'DEFAULT': {'workers': 2}}).start()
    service.conductor_pid()
    children = service.children()
    assert len(children) >= 3
    process, service.process = service.process, None
    for pid in children:
        assert os.getpgid(pid) == os.getpgid(process.pid)
    process.kill()
    process.wait(10)
    services.wait_for(lambda: not any(
        os.path.exists(f'/proc/{pid}') for pid in children), 10)


@pytest.mark.parametrize('number, said', [
    (signal.SIGUSR1, 'SIGUSR1: thread MainThread'),
    (signal.SIGUSR2, 'SIGUSR2: report of ')])
def test_signals_sent_out_of_habit_end_nothing(make_service, number, said):
    service = make_service().start()
    services.wait_for(lambda: 'runs up to' in service.text())
    processes = [service.process.pid, *service.children()]
    for _ in range(3):
        for pid in processes:
            os.kill(pid, number)
    image_id = service.ask(DATA)
    assert service.wait_status(image_id, 'active')
    assert [service.process.pid, *service.children()] == processes
    services.wait_for(lambda: service.text().count(said) >= len(processes))


def test_a_conductor_that_starts_survives_them_too(make_service):
    """From its first moment on, which is when nobody listens yet."""
    service = make_service().start()
    first = service.conductor_pid()
    os.kill(first, signal.SIGKILL)
    second = services.wait_for(lambda: next((
        pid for pid, words in service.children().items()
        if 'cmd.conductor' in words and pid != first), None))
    os.kill(second, signal.SIGUSR1)
    os.kill(second, signal.SIGUSR2)
    image_id = service.ask(DATA)
    service.wait_status(image_id, 'active')
    assert service.conductor_pid() == second


def test_no_conductor_outlives_the_api_that_started_it(make_service):
    service = make_service().start()
    conductor = service.conductor_pid()
    service.process.kill()
    service.process.wait()
    services.wait_for(lambda: not os.path.exists(f'/proc/{conductor}/exe'))


def test_a_conductor_whose_api_is_gone_already(make_service):
    """It had died before the conductor could ask to end with it."""
    done = make_service().run(
        'conductor', f'{embedded.FLAG}{2 ** 22}')
    assert done.returncode == 1, done


def test_a_conductor_on_its_own_survives_them(make_service):
    service = make_service(
        options={'taskflow_executor': {'embedded_conductor': False}}).start()
    with open(service.log, 'ab') as log:
        process = subprocess.Popen(
            service.command('conductor'), env=service.environment, stdout=log,
            stderr=log, start_new_session=True)
    try:
        services.wait_for(lambda: 'runs up to' in service.text())
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGUSR2)
        image_id = service.ask(DATA)
        service.wait_status(image_id, 'active')
        services.wait_for(lambda: all(
            said in service.text() for said in (
                'SIGUSR1: thread MainThread', 'SIGUSR2: report of ')))
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_reload_takes_new_options_and_refuses_bad_ones(make_service):
    service = make_service().start()
    assert service.request('GET', '/v2/images?limit=7').status == 200
    service.configure(DEFAULT={'limit_param_default': 1})
    service.create()
    service.create()
    service.process.send_signal(signal.SIGHUP)
    services.wait_for(lambda: len(service.request(
        'GET', '/v2/images').json['images']) == 1)
    # A list that is none: the service keeps what it had, and says so.
    service.configure(image_import_opts={
        'image_import_plugins': '[no_such_plugin]'})
    service.process.send_signal(signal.SIGHUP)
    services.wait_for(lambda: 'no_such_plugin' in service.text())
    time.sleep(0.5)
    image_id = service.ask(DATA)
    assert service.wait_status(image_id, 'active', 'uploading')[
        'status'] == 'active'


def test_reload_with_new_plugins_reaches_the_imports(make_service):
    service = make_service().start()
    service.configure(image_import_opts={'image_import_plugins': '[no_op]'})
    service.process.send_signal(signal.SIGHUP)

    def plugins_of_a_new_import():
        image_id = service.create()
        service.stage(image_id, DATA)
        service.execute(
            'CREATE TABLE IF NOT EXISTS seen (plugins TEXT)')
        service.execute(
            'CREATE TRIGGER IF NOT EXISTS see AFTER INSERT ON import_jobs '
            'BEGIN INSERT INTO seen VALUES (NEW.plugins); END')
        service.start_import(image_id)
        service.wait_status(image_id, 'active')
        return service.execute(
            "SELECT 1 FROM seen WHERE plugins = '[\"no_op\"]'")
    services.wait_for(plugins_of_a_new_import)


def test_a_dead_conductor_is_started_again(make_service):
    service = make_service().start()
    first = service.conductor_pid()
    os.kill(first, signal.SIGKILL)
    image_id = service.ask(DATA)
    service.wait_status(image_id, 'active')
    assert service.conductor_pid() != first


FORKS = """
import os, signal, threading
from glance_import.imports import embedded


def spawn():
    for _ in range(30):
        embedded.spawn(['true']).wait()


thread = threading.Thread(target=spawn, daemon=True)
thread.start()
children = []
while thread.is_alive():
    pid = os.fork()
    if not pid:
        signal.pause()
    children.append(pid)
    thread.join(0.001)
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


def test_programs_are_started_beside_forks():
    """No child that lives on keeps the start of another from ending."""
    process = subprocess.Popen([sys.executable, '-c', FORKS],
                               start_new_session=True)
    try:
        assert process.wait(60) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_imports_asked_for_before_a_kill_are_done_after_it(make_service):
    service = make_service(
        options={'taskflow_executor': {'embedded_conductor': False}}).start()
    images = []
    for number in range(5):
        image_id = service.ask(DATA + bytes([number]))
        images.append(image_id)
    service.kill()
    service.configure(taskflow_executor={'embedded_conductor': True})
    service.start()
    for number, image_id in enumerate(images):
        service.wait_status(image_id, 'active')
        assert service.download(image_id) == DATA + bytes([number])


def test_noauth_under_another_server_answers_this_machine_only(
        make_service, tmp_path):
    """The rule holds in the pipeline, not only at our own start."""
    service = make_service()
    environment = dict(service.environment,
                       OS_GLANCE_CONFIG_DIR=str(service.conf))
    code = (
        'import sys\n'
        'from glance_import.wsgi import application\n'
        'def ask(address, **more):\n'
        '    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/v2/images",\n'
        '        "SCRIPT_NAME": "", "QUERY_STRING": "", "wsgi.url_scheme":\n'
        '        "http", "SERVER_NAME": "x", "SERVER_PORT": "1",\n'
        '        "wsgi.version": (1, 0), "wsgi.input": None,\n'
        '        "wsgi.errors": sys.stderr, "REMOTE_ADDR": address, **more}\n'
        '    found = []\n'
        '    list(application(environ, lambda s, h, e=None:'
        ' found.append(s)))\n'
        '    return found[0][:3]\n'
        'print(ask("127.0.0.1"), ask("::1"), ask("::ffff:127.0.0.1"),\n'
        '    ask("192.0.2.7"), ask(""), ask("127.0.0.1",\n'
        '    HTTP_X_FORWARDED_FOR="192.0.2.7"), ask("127.0.0.1",\n'
        '    HTTP_X_USER_ID="root", HTTP_FORWARDED="for=192.0.2.7"))\n')
    done = subprocess.run(
        [service.command('api')[0], '-c', code], env=environment,
        capture_output=True, text=True, timeout=60)
    # Behind what the service says when it starts.
    assert done.stdout.splitlines()[-1].split() == [
        '200', '200', '200', '403', '403', '403', '403'], done


def server_command(kind, service):
    if kind.startswith('gunicorn'):
        return [servers.program('gunicorn', os.path.dirname(
                    service.command('api')[0])),
                '--bind', f'127.0.0.1:{service.port}', '--workers', '2',
                '--threads', '4', '--worker-class', 'gthread',
                *kind.split()[1:], 'glance_import.wsgi:application']
    return [servers.program('uwsgi', os.path.dirname(
                service.command('api')[0])),
            '--http-socket', f'127.0.0.1:{service.port}', '--master',
            '--processes', '2', '--threads', '4', '--enable-threads',
            '--die-on-term', '--http-chunked-input',
            '--module', 'glance_import.wsgi:application']


def open_databases(pid):
    """SQLite files that a process has open."""
    found = (os.path.realpath(f'/proc/{pid}/fd/{number}')
             for number in os.listdir(f'/proc/{pid}/fd'))
    return [path for path in found if 'sqlite' in path]


def test_who_forks_has_no_database_open(make_service):
    """Nor has it after it was told to read its files again."""
    service = make_service()
    service.start()
    service.ask(DATA)
    assert open_databases(service.process.pid) == []
    service.process.send_signal(signal.SIGHUP)
    services.wait_for(lambda: 'reloading' in service.text())
    assert service.request('GET', '/versions').status == 200
    assert open_databases(service.process.pid) == []


@pytest.mark.parametrize('kind', ['gunicorn', 'gunicorn --preload', 'uwsgi'])
def test_under_other_servers(make_service, kind):
    metrics = servers.free_port()
    service = make_service(options={'metrics': {'bind_port': metrics}})
    environment = dict(service.environment,
                       OS_GLANCE_CONFIG_DIR=str(service.conf))
    with open(service.log, 'ab') as log:
        service.process = subprocess.Popen(
            server_command(kind, service), env=environment, stdout=log,
            stderr=log, start_new_session=True)

    def answers():
        assert service.process.poll() is None, service.text()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return service.request('GET', '/versions')
    assert services.wait_for(answers).status == 200
    for chunks in (None, [DATA[:100], DATA[100:]]):
        image_id = service.ask(DATA, chunks=chunks)
        service.wait_status(image_id, 'active')
        assert service.download(image_id) == DATA
        part = service.request('GET', f'/v2/images/{image_id}/file',
                               headers={'Range': 'bytes=10-19'})
        assert (part.status, part.body) == (206, DATA[10:20])
    # Numbers that are too long to be any.
    for header in ('Content-Length', 'Range', 'X-OpenStack-Image-Size'):
        with service.raw() as sock:
            sock.sendall((
                f'GET /v2/images/{image_id}/file HTTP/1.1\r\nHost: '
                f'127.0.0.1\r\n{header}: {"9" * 5000}\r\n\r\n').encode())
            # uWSGI closes the connection on so long a head.
            with contextlib.suppress(ConnectionResetError):
                assert services.answer_of(sock)[0] in (200, 400, 416)
    assert 'Traceback' not in service.text()
    # A client that goes away leaves an upload known to be cut.
    image_id = service.create()
    with service.stage_by_hand(image_id, 100000) as sock:
        sock.sendall(DATA)
        services.wait_for(
            lambda: service.show(image_id)['status'] == 'uploading')
    assert service.start_import(image_id).status == 409
    services.wait_for(
        lambda: service.stage(image_id, DATA).status == 204)
    assert len([words for words in service.children().values()
                if 'cmd.conductor' in words]) == 1
    # Both workers and the conductor count, and one process serves it.
    found = scraping.until(metrics, lambda each: each.total(
        'http_requests_total', route='/v2/images/{image_id}/import') >= 2)
    assert found.total('imports_total') == 2
    assert found.total('sent_bytes_total') >= len(DATA) + 10
    assert found.total('database_up') == 1
    assert len([words for words in service.children().values()
                if 'cmd.exporter' in words]) == 1
    # Of this one the processes that answer were forked.
    assert open_databases(service.process.pid) == []
    assert service.stop() in (0, -15, 30)


def test_keystone_pipeline_asks_for_a_token(make_service):
    """Without a Keystone to ask, as far as it goes: nobody gets in."""
    service = make_service(options={
        'paste_deploy': {'flavor': 'keystone'},
        'keystone_authtoken': {
            'www_authenticate_uri': 'http://127.0.0.1:9/v3',
            'auth_url': 'http://127.0.0.1:9/v3', 'auth_type': 'password',
            'username': 'glance', 'password': 'x', 'project_name': 'service',
            'user_domain_id': 'default', 'project_domain_id': 'default'}})
    service.start()
    for headers in ({}, {'X-Identity-Status': 'Confirmed', 'X-Roles': 'admin',
                         'X-User-Id': 'root', 'X-Project-Id': 'x'}):
        answer = service.request('GET', '/v2/images', headers=headers)
        assert answer.status == 401, answer
        assert 'x-openstack-request-id' in answer.headers
        assert 'www-authenticate' in answer.headers
    assert service.request('GET', '/versions').status == 200


def test_bodies_without_a_token_take_no_places(make_service):
    service = make_service(options={
        'DEFAULT': {'max_request_bodies': 2},
        'paste_deploy': {'flavor': 'keystone'},
        'keystone_authtoken': {
            'www_authenticate_uri': 'http://127.0.0.1:9/v3',
            'auth_url': 'http://127.0.0.1:9/v3', 'auth_type': 'password',
            'username': 'glance', 'password': 'x', 'project_name': 'service',
            'user_domain_id': 'default', 'project_domain_id': 'default'}})
    service.start()
    with contextlib.ExitStack() as stack:
        for number in range(6):
            sock = stack.enter_context(service.stage_by_hand(
                '00000000-0000-4000-8000-000000000000', 1000))
            assert services.answer_of(sock)[0] == 401, number
            sock.sendall(b'x')


def test_standard_filters_read_our_files(make_service):
    service = make_service(options={
        'cors': {'allowed_origin': 'https://horizon.example'},
        'oslo_middleware': {'enable_proxy_headers_parsing': 'True'}}).start()
    answer = service.request('OPTIONS', '/v2/images', headers={
        'Origin': 'https://horizon.example',
        'Access-Control-Request-Method': 'GET'})
    assert answer.headers['access-control-allow-origin'] == (
        'https://horizon.example')
    answer = service.request('GET', '/v2/images/nothing', headers={
        'Origin': 'https://horizon.example'})
    assert answer.status == 404
    assert 'access-control-allow-origin' in answer.headers
    answer = service.request('GET', '/versions', headers={
        'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': 'image.example'})
    link, = answer.json['versions'][0]['links']
    assert link['href'] == 'https://image.example/v2/'


def test_upgrade_check(make_service):
    service = make_service()
    done = service.run('status', 'upgrade', 'check')
    assert done.returncode == 0, done
    assert 'Plugins and methods' in done.stdout
    service.configure(image_import_opts={
        'image_import_plugins': '[no_such_plugin]'})
    done = service.run('status', 'upgrade', 'check')
    assert done.returncode == 2, done
    assert 'no_such_plugin' in done.stdout.replace('\n', '')
