"""What a service counts and serves, through real sockets and processes."""

import http.client
import json
import os
import pathlib
import random
import re
import signal
import socket
import string
import subprocess
import threading

import pytest

from glance_import import conf as configuration
from glance_import.exposition import gauges
from glance_import.exposition import serving
from glance_import.observe import channel
from glance_import.observe import events
from glance_import.observe import series
from glance_import.observe import slots
from tests.observe import scraping
from tests import servers
from tests import service as services

ETC = pathlib.Path(__file__).parents[2] / 'etc'
RULES = ETC / 'prometheus' / 'glance-import.rules.yml'
DASHBOARD = ETC / 'grafana' / 'glance-import.json'
DATA = b'data ' * 1000
NAMES = re.compile(r'glance_import_[a-z0-9_]+')


@pytest.fixture(scope='module')
def watched(tmp_path_factory):
    """(service, port of its metrics): one for all tests of this module."""
    port = servers.free_port()
    service = services.Service(
        tmp_path_factory.mktemp('watched'), options={
            'DEFAULT': {'workers': 2, 'user_storage_quota': '1MB'},
            'metrics': {'bind_port': port, 'refresh_interval': 1}})
    try:
        service.start()
        service.conductor_pid()
        image_id = service.ask(DATA)
        service.wait_status(image_id, 'active')
        assert service.download(image_id) == DATA
        bad = service.ask(b'QFI\xfb' + bytes(1000))
        service.wait_status(bad, 'uploading')
        big = service.create()
        assert service.stage(big, bytes(2_000_000)).status == 413
        yield service, port
    finally:
        service.kill()


def test_what_has_happened_is_counted(watched):
    service, port = watched
    # Requests are counted a moment later.
    found = scraping.until(port, lambda each: each.total(
        'imports_total') == 2 and each.total(
            'http_requests_total', status='413') == 1 and each.total(
                'http_request_duration_seconds_count', method='POST',
                route='/v2/images') == 3)
    assert found.total('imports_total', method='glance-direct',
                       outcome='success') == 1
    assert found.total('imports_total', outcome='failure',
                       code='refused.format') == 1
    assert found.total('imports_begun_total') == 2
    assert found.total('import_queue_seconds_count') == 2
    assert found.total('import_run_seconds_count', outcome='success') == 1
    assert found.total('import_step_seconds_count',
                       step='CheckContent') == 2
    assert found.total('stored_bytes_total', store='file') == len(DATA)
    assert found.total('sent_bytes_total') == len(DATA)
    assert found.total('received_bytes_total', source='stage') >= (
        len(DATA) + 1004)
    assert found.total('refusals_total', code='refused.size') == 1
    assert found.total('http_requests_total', method='PUT', status='413',
                       route='/v2/images/{image_id}/stage') == 1
    assert found.total('http_request_duration_seconds_count', method='POST',
                       route='/v2/images') == 3


def test_how_things_stand(watched):
    service, port = watched
    found = scraping.until(port, lambda each: each.total('conductors') == 1)
    for name in ('database_up', 'staging_up'):
        assert found.total(name) == 1
    assert found.total('store_up', store='file') == 1
    assert found.total('imports_waiting') == 0
    assert found.total('oldest_waiting_import_seconds') == 0
    # The one that was refused, and may be imported again.
    assert found.total('staging_bytes', state='complete') == 1004
    assert found.total('staging_bytes', state='receiving') == 0
    for where in ('staging', 'file'):
        assert 0 < found.total('free_bytes', where=where) <= found.total(
            'capacity_bytes', where=where)


def test_names_are_as_prometheus_wants_them(watched):
    _service, port = watched
    done = subprocess.run(
        [servers.program('promtool'), 'check', 'metrics'],
        input=scraping.scrape(port).text, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_nothing_else_is_served(watched):
    _service, port = watched
    for path, status in (('/', 200), ('/metrics?x=1', 200), ('/nope', 404),
                         ('/metrics/x', 404), ('/favicon.ico', 404)):
        conn = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
        conn.request('GET', path)
        assert conn.getresponse().status == status, path
        conn.close()


def test_what_clients_send_makes_no_series(watched):
    """A thousand paths, and methods, are one route, and one method."""
    service, port = watched
    before = len(scraping.scrape(port).samples)
    rng = random.Random(1)
    letters = string.ascii_letters + string.digits + '._~-'
    with service.raw() as sock:
        reader = sock.makefile('rb')
        for number in range(1000):
            word = ''.join(rng.choices(letters, k=20))
            method = 'GET' if number % 10 else f'M{word[:8].upper()}'
            method = re.sub('[^A-Z]', 'X', method)
            path = f'/v2/{word}/{number}' if number % 2 else (
                f'/v2/images/{word}')
            sock.sendall(f'{method} {path} HTTP/1.1\r\nHost: x\r\n'
                         'Accept: application/json\r\n\r\n'.encode())
            length = 0
            while (line := reader.readline().strip()):
                name, _, value = line.partition(b':')
                if name.lower() == b'content-length':
                    length = int(value)
            reader.read(length)
    found = scraping.until(port, lambda each: each.total(
        'http_requests_total') > 1000)
    # Two statuses of two routes, and two histograms, of two methods each.
    assert len(found.samples) - before < 100
    assert found.labels('http_requests_total', 'method') <= (
        series.METHODS | {series.OTHER})
    assert all('{' in route or route.count('/') < 4 for route
               in found.labels('http_requests_total', 'route'))


def test_workers_come_and_go(watched):
    """No counter falls, and no file more is there than processes."""
    service, port = watched
    directory = service.state / slots.DIRECTORY
    for _ in range(3):
        before = scraping.scrape(port).total('http_requests_total')
        victim = min(_workers(service))
        os.kill(victim, signal.SIGKILL)
        services.wait_for(lambda: len(_workers(service) - {victim}) == 2)
        for _ in range(20):
            assert service.request('GET', '/v2/images').status == 200
        found = scraping.until(port, lambda each: each.total(
            'http_requests_total') >= before + 20)
        assert found.total('imports_total') == 2
    # Two workers and a conductor count, and a fourth may have begun to
    # before the kernel had ended the first.
    assert len(list(directory.glob('counter_*.db'))) <= 4


def _workers(service):
    return {pid for pid, words in service.children().items()
            if 'cmd.conductor' not in words and 'cmd.exporter' not in words}


def test_the_server_of_metrics_is_started_again(watched):
    service, port = watched
    victim = next(pid for pid, words in service.children().items()
                  if 'cmd.exporter' in words)
    os.kill(victim, signal.SIGTERM)
    services.wait_for(lambda: not os.path.exists(f'/proc/{victim}/exe'))
    assert scraping.scrape(port).total('imports_total') == 2


def test_every_name_of_the_dashboard_and_the_alerts_is_served(watched):
    """Or counts something that has not happened here."""
    _service, port = watched
    served = set(NAMES.findall(scraping.scrape(port).text))
    for name, (_text, _labels) in series.COUNTERS.items():
        served.add(series.PREFIX + name)
    for name in series.HISTOGRAMS:
        served |= {f'{series.PREFIX}{name}_{part}'
                   for part in ('bucket', 'sum', 'count')}
    # There is no board outside of the database here, and the first check
    # comes later.
    served |= {series.PREFIX + 'job_board_up', series.PREFIX + 'check_level'}
    assert {series.PREFIX + name for name in gauges.GAUGES} <= served
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [target['expr'] for panel in dashboard['panels']
                   for target in panel.get('targets', ())]
    assert len(expressions) > 10
    for text in [*expressions, RULES.read_text()]:
        assert set(NAMES.findall(text)) <= served, text
    assert len({panel['id'] for panel in dashboard['panels']}) == len(
        dashboard['panels'])


def test_every_expression_of_the_dashboard_is_one(tmp_path):
    """promtool parses them, as rules."""
    dashboard = json.loads(DASHBOARD.read_text())
    rules = [{'record': f'panel:{panel["id"]}:{number}', 'expr':
              target['expr'].replace('$__rate_interval', '5m').replace(
                  '$instance', 'x')}
             for panel in dashboard['panels']
             for number, target in enumerate(panel.get('targets', ()))]
    path = tmp_path / 'rules.json'
    path.write_text(json.dumps({'groups': [
        {'name': 'dashboard', 'rules': rules}]}))
    done = subprocess.run(
        [servers.program('promtool'), 'check', 'rules', str(path)],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alert_rules():
    tool = servers.program('promtool')
    for words in (['check', 'rules', str(RULES)],
                  ['test', 'rules',
                   str(pathlib.Path(__file__).parent / 'alerts.yml')]):
        done = subprocess.run([tool, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_and_says_what_to_do():
    import yaml

    rules = [rule for group in yaml.safe_load(RULES.read_text())['groups']
             for rule in group['rules']]
    tested = (pathlib.Path(__file__).parent / 'alerts.yml').read_text()
    for rule in rules:
        assert f'alertname: {rule["alert"]}' in tested, rule['alert']
        assert rule['annotations']['description'].endswith('.')
        assert rule['labels']['severity'] in ('warning', 'critical')


# -- what is away -----------------------------------------------------------

def configured(tmp_path, **groups):
    service = services.Service(tmp_path, options={
        'metrics': {'bind_port': servers.free_port(),
                    'refresh_timeout': 0.5}, **groups})
    return configuration.load(['--config-dir', str(service.conf)])


def collected(registry):
    import prometheus_client

    return scraping.Scrape(
        prometheus_client.generate_latest(registry).decode())


def test_a_database_that_refuses(tmp_path):
    conf = configured(tmp_path, database={
        'connection': 'postgresql+psycopg2://a:secret@127.0.0.1:'
                      f'{servers.free_port()}/x', 'max_retries': 0})
    found = collected(serving.registry(conf))
    assert found.total('database_up') == 0
    assert 'imports_waiting' not in found.text
    assert found.total('store_up', store='file') == 1


def test_a_database_that_says_nothing(tmp_path):
    """Its figures are left out; the answer is there all the same."""
    with socket.create_server(('127.0.0.1', 0)) as silent:
        conf = configured(tmp_path, database={
            'connection': 'postgresql+psycopg2://a:secret@127.0.0.1:'
                          f'{silent.getsockname()[1]}/x', 'max_retries': 0})
        registry, answers = serving.registry(conf), []
        thread = threading.Thread(
            target=lambda: answers.extend(
                collected(registry) for _ in range(2)), daemon=True)
        thread.start()
        thread.join(30)
        assert len(answers) == 2
        for found in answers:
            assert found.total('database_up') == 0
            assert found.total('staging_up') == 1


def test_a_staging_area_that_is_gone(tmp_path):
    conf = configured(tmp_path)
    registry = serving.registry(conf)
    assert collected(registry).total('staging_up') == 1
    conf.set_override('refresh_interval', 1, 'metrics')
    area = tmp_path / 'staging'
    found = gauges.Gauges(
        lambda: [gauges.Probe('it', lambda: list(area.iterdir()) and [],
                              up='staging_up')], interval=0, timeout=5)
    assert list(found.collect())[0].samples[0].value == 1
    area.rename(tmp_path / 'elsewhere')
    assert list(found.collect())[0].samples[0].value == 0


def test_what_is_asked_for_often_is_looked_up_seldom():
    looks = []
    probe = gauges.Probe('it', lambda: looks.append(1) or [],
                         up='database_up')
    found = gauges.Gauges(lambda: [probe], interval=1000, timeout=5)
    for _ in range(5):
        assert list(found.collect())[0].samples[0].value == 1
    assert len(looks) == 1


# -- the files that processes count in --------------------------------------

def test_a_damaged_file_is_left_out(tmp_path):
    conf = configured(tmp_path)
    recorder = series.Recorder(conf)
    for _ in range(3):
        recorder._add('leases_lost_total')
    where = slots.Slots(conf.state_path)
    pathlib.Path(where.path, 'counter_9.db').write_bytes(
        b'\xff' * 100)
    found = scraping.Scrape(''.join(
        f'{sample.name} {sample.value}\n' for family in
        serving.Counted(where).collect() for sample in family.samples
        if not sample.labels))
    assert found.total('leases_lost_total') == 3


def test_who_counts_alone_begins_at_zero(tmp_path):
    """Files of processes that are gone, of another release say, go."""
    where = slots.Slots(str(tmp_path / 'state'))
    (tmp_path / 'state' / slots.DIRECTORY).mkdir(parents=True, mode=0o700)
    (tmp_path / 'state').chmod(0o700)
    old = pathlib.Path(where.path, 'counter_7.db')
    old.write_bytes(bytes(100))
    assert where.take() == 0
    assert not old.exists()
    # Somebody counts by now: whoever comes keeps what is there.
    old.write_bytes(bytes(100))
    assert where.take() == 1
    assert old.exists()


def test_a_child_counts_for_itself(tmp_path):
    conf = configured(tmp_path)
    recorder = series.Recorder(conf)
    recorder._add('leases_lost_total')
    pid = os.fork()
    if not pid:
        recorder._add('leases_lost_total', 2)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    recorder._add('leases_lost_total')
    where = slots.Slots(conf.state_path)
    with where.reading() as files:
        assert len([each for each in files if 'counter' in each]) == 2
    totals = [sample.value for family in serving.Counted(where).collect()
              for sample in family.samples
              if sample.name == 'glance_import_leases_lost_total']
    assert totals == [4]


def test_no_place_to_count_in(tmp_path, monkeypatch, caplog):
    """Said once; nobody is worse off. Later there is one."""
    conf = configured(tmp_path)
    now = [1000.0]
    monkeypatch.setattr(series.time, 'monotonic', lambda: now[0])

    def full(*_given):
        raise OSError(28, 'No space left on device')

    recorder = series.Recorder(conf)
    with monkeypatch.context() as patch:
        patch.setattr(slots.os, 'posix_fallocate', full)
        for _ in range(3):
            recorder._add('leases_lost_total')
    assert caplog.text.count('nothing is counted: ') == 1
    assert 'No space left' in caplog.text
    now[0] += series.RETRY_SECONDS
    recorder._add('leases_lost_total')
    where = slots.Slots(conf.state_path)
    totals = [sample.value for family in serving.Counted(where).collect()
              for sample in family.samples
              if sample.name == 'glance_import_leases_lost_total']
    assert totals == [1]


def test_a_full_disk_ends_no_process(tmp_path):
    """What is written through the mapping has its room already."""
    recorder = series.Recorder(configured(tmp_path))
    recorder._add('leases_lost_total')
    for path in pathlib.Path(recorder._slots.path).glob('*.db'):
        found = path.stat()
        assert found.st_blocks * 512 >= found.st_size == slots.SIZE


def test_requests_are_counted_together(tmp_path):
    """Also those that nobody has counted when the process ends."""
    conf = configured(tmp_path)
    made = channel.make(conf)
    for number in range(2500):
        made.tell(events.RequestAnswered(
            'GET' if number % 2 else 'BREW', '/v2/images', 200, 0.003))
    made.close()
    found = {(sample.name, *sorted(sample.labels.items())): sample.value
             for family in serving.Counted(
                 slots.Slots(conf.state_path)).collect()
             for sample in family.samples}
    for method in ('GET', series.OTHER):
        labels = (('method', method), ('route', '/v2/images'))
        assert found['glance_import_http_requests_total', *labels,
                     ('status', '200')] == 1250
        assert found['glance_import_http_request_duration_seconds_count',
                     *labels] == 1250
        assert found['glance_import_http_request_duration_seconds_bucket',
                     ('le', '0.005'), *labels] == 1250


def test_labels_of_plugins_are_bounded(tmp_path):
    recorder = series.Recorder(configured(tmp_path))
    found = {recorder._few('plugin', f'p{number}') for number in range(1000)}
    assert series.OTHER in found
    assert len(found) == series._MAX_VALUES + 1


# -- commands, other servers, a conductor of its own ------------------------

def test_the_command(make_service):
    service = make_service()
    done = service.run('manage', 'metrics', 'serve')
    assert done.returncode == 1
    assert 'bind_port is 0' in done.stderr
    with socket.create_server(('127.0.0.1', 0)) as taken:
        service.configure(metrics={'bind_port': taken.getsockname()[1]})
        done = service.run('manage', 'metrics', 'serve')
        assert done.returncode == 1
        assert 'cannot listen on 127.0.0.1' in done.stderr, done


def test_a_conductor_of_its_own_serves_its_own(make_service):
    port = servers.free_port()
    service = make_service(options={'metrics': {'bind_port': port}})
    assert service.run('manage', 'db', 'sync').returncode == 0
    service.process = service.spawn('conductor')
    found = scraping.until(port, lambda each: each.total('conductors') == 1)
    assert found.total('database_up') == 1
    assert service.stop() == 0
    services.wait_for(lambda: not _listens(port))


def _listens(port):
    with socket.socket() as sock:
        return sock.connect_ex(('127.0.0.1', port)) == 0
