"""glance-import-manage conductors, staging, and the formats of answers."""

import json
import os

import pytest

from tests import service as services

DATA = b'drained' * 100
WEEK = 7 * 86400


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    running = services.Service(tmp_path_factory.mktemp('service'), options={
        'taskflow_executor': {'poll_interval': 0.2}}).start()
    yield running
    running.kill()


def manage(service, *words, status=0):
    done = service.run('manage', *words)
    assert done.returncode == status, done
    return done.stdout


def rows(service, *words, **how):
    return json.loads(manage(service, *words, '--format', 'json', **how))


def conductor(service):
    return services.wait_for(lambda: rows(service, 'conductors', 'list'))[0]


def test_a_drained_conductor_takes_nothing(service):
    name = conductor(service)['name']
    assert 'takes no more imports' in manage(
        service, 'conductors', 'drain', name, '--wait')
    assert 'draining' in manage(service, 'conductors', 'list')
    services.wait_for(lambda: 'it is drained' in service.text())
    image_id = service.ask(DATA)
    assert 'no conductor lives that could run 1' in manage(
        service, 'imports', 'list')
    # A PUT of data would wait for nobody.
    assert rows(service, 'imports', 'list')['imports'][0]['unattended']
    # It is there, and it ends what is cancelled.
    assert service.request('GET', '/healthcheck/ready').status == 200
    other = service.ask(DATA)
    manage(service, 'imports', 'cancel', other)
    service.wait_status(other, 'uploading')
    assert rows(service, 'conductors', 'resume', name.split(':')[0])[0]['done']
    service.wait_status(image_id, 'active')
    assert not conductor(service)['draining']
    assert 'no conductor, and no node' in manage(
        service, 'conductors', 'drain', 'nobody', status=1)


def test_what_has_ended(service):
    good = service.ask(DATA)
    service.wait_status(good, 'active')
    bad = service.ask(DATA, disk_format='qcow2')
    service.wait_status(bad, 'uploading')
    found, = (each for each in rows(service, 'imports', 'failed')
              if each['image'] == bad)
    assert found['code'] == 'refused.format'
    assert found['reason'] and found['status'] == 'failure'
    ended = rows(service, 'imports', 'failed', '--all')
    assert {good, bad} <= {each['image'] for each in ended}
    assert rows(service, 'imports', 'failed', '--project', 'nobody') == []


def test_formats(service):
    image_id = service.ask(DATA, disk_format='qcow2')
    service.wait_status(image_id, 'uploading')
    table = manage(service, 'imports', 'failed').splitlines()
    assert table[0].split()[:3] == ['id', 'image', 'project']
    assert any(image_id in line for line in table[1:])
    for line in manage(service, 'imports', 'failed', '-f',
                       'value').splitlines():
        assert len(line.split('\t')) == 7
    done = rows(service, 'imports', 'cancel', image_id, 'x', status=1)
    assert [(each['of'], each['done']) for each in done] == [
        (image_id, False), ('x', False)]
    for words in (('db', 'check'), ('db', 'version'), ('imports', 'list'),
                  ('imports', 'stranded'), ('conductors', 'list'),
                  ('staging', 'list'), ('plugins', 'list')):
        rows(service, *words)
        for kind in ('value', 'table'):
            manage(service, *words, '--format', kind)
    assert rows(service, 'db', 'check')[0]['state'] == 'head'


def test_the_version(service):
    for name in ('manage', 'api', 'conductor'):
        done = service.run(name, '--version')
        assert done.returncode == 0 and done.stdout.strip(), done


def test_the_staging_area(service):
    image_id = service.create()
    service.stage(image_id, DATA)
    failed = service.ask(DATA, disk_format='qcow2')
    service.wait_status(failed, 'uploading')
    found = {each['image']: each for each in rows(service, 'staging', 'list')}
    assert found[image_id]['bytes'] == len(DATA)
    assert found[image_id]['record'] == 'complete'
    assert found[failed]['record'] == 'returned'
    assert rows(service, 'staging', 'clean') == []
    # A week later those of the failed import go, and no others.
    service.execute('UPDATE import_staging SET updated_at = '
                    f"datetime('now', '-{WEEK + 60} seconds')")
    removed = [each['image'] for each in rows(service, 'staging', 'clean')]
    assert failed in removed and image_id not in removed
    image = service.show(failed)
    assert image['status'] == 'queued'
    assert not os.path.exists(service.staging / failed)
    assert service.show(image_id)['status'] == 'uploading'
    service.start_import(image_id)
    service.wait_status(image_id, 'active')
    # And it can be staged anew.
    service.stage(failed, DATA)
    assert service.show(failed)['status'] == 'uploading'


def test_a_database_that_is_away(service, tmp_path):
    other = services.Service(tmp_path, options={'database': {
        'connection': 'mysql+pymysql://u:secret@127.0.0.1:9/none',
        'max_retries': 0}})
    other.configure()
    for hours in ('nan', '1e400', '999999999999', '-3'):
        done = service.run('manage', 'imports', 'failed', '--hours', hours)
        assert done.returncode == 2 and 'number of hours' in done.stderr
    for words in (('imports', 'list'), ('db', 'check'), ('db', 'purge')):
        done = other.run('manage', *words)
        assert done.returncode == 1
        line, = done.stderr.strip().splitlines()
        assert '127.0.0.1' in line and 'secret' not in line


def test_a_database_that_is_not_synced(tmp_path):
    """Looking makes nothing, and says what to do."""
    other = services.Service(tmp_path / 'other')
    other.configure()
    for words in (('imports', 'list'), ('conductors', 'list'),
                  ('staging', 'clean'), ('db', 'purge'),
                  ('db', 'backup', str(tmp_path / 'copy')),
                  ('plugins', 'audit', 'x')):
        done = other.run('manage', *words)
        assert done.returncode == 1, words
        line, = done.stderr.strip().splitlines()
        assert 'db sync' in line, line
    assert not other.state.exists() and not other.staging.exists()
    assert not (tmp_path / 'copy').exists()
