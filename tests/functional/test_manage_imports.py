"""glance-import-manage imports: the queue seen and steered."""

import json
import re
import shutil

from tests import service as services

DATA = b'managed' * 100


def manage(service, *words, status=0):
    done = service.run('manage', 'imports', *words)
    assert done.returncode == status, done
    return done.stdout


def waiting(make_service):
    return make_service(options={
        'taskflow_executor': {'embedded_conductor': False}}).start()


def run_all(service):
    service.configure(taskflow_executor={'embedded_conductor': True})
    service.stop()
    service.start()


def test_list_and_show(make_service):
    service = waiting(make_service)
    assert manage(service, 'list') == '0 waiting; 0 running\n'
    image_id = service.ask(DATA)
    first, row = manage(service, 'list').splitlines()
    assert first.startswith('1 waiting, the oldest for ')
    assert image_id in row and 'glance-direct' in row
    found = json.loads(manage(service, 'list', '--json'))
    assert found['waiting'] == 1 and found['oldest'] >= 0
    entry, = found['imports']
    assert entry['state'] == 'waiting'
    assert manage(service, 'list', '--project', 'nobody').count('\n') == 1
    shown = manage(service, 'show', image_id)
    assert f'id: {entry["id"]}' in shown
    assert f'image_id: {image_id}' in manage(service, 'show', entry['id'])
    assert 'no import of that id' in manage(service, 'show', 'x', status=1)


def test_cancel_and_retry(make_service):
    service = waiting(make_service)
    image_id = service.ask(DATA)
    assert 'to be cancelled' in manage(service, 'cancel', image_id)
    run_all(service)
    image = service.wait_status(image_id, 'uploading')
    assert image['os_glance_import_error'] == 'the import was cancelled'
    assert 'was asked for' in manage(service, 'retry', image_id)
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == DATA
    assert 'neither' in manage(service, 'retry', image_id[::-1], status=1)
    assert 'is active' in manage(service, 'retry', image_id, status=1)
    shows_steps(service, image_id)


def shows_steps(service, good):
    """Of imports that have ended, as long as their tasks are kept."""
    bad = service.ask(b'QFI\xfb' + DATA)
    service.wait_status(bad, 'uploading')
    for image_id, state in ((good, 'SUCCESS'), (bad, 'FAILURE')):
        shown = json.loads(manage(service, 'show', '--format', 'json',
                                  image_id))
        states = {each['name']: each['state'] for each in shown['steps']}
        assert states['CheckContent'] == state
        assert set(states.values()) <= {'SUCCESS', state}
        assert all(each['seconds'] >= 0 for each in shown['steps'])
        assert re.search(rf'\n  {state}   CheckContent  \d+\.\d{{3}} s\n',
                         manage(service, 'show', image_id))
        # They are for operators.
        task = service.tasks(image_id)[0]
        assert task['result'] and 'steps' not in task['result']


def test_retry_what_is_held_back(make_service):
    service = waiting(make_service)
    image_id = service.ask(DATA)
    service.execute('UPDATE import_jobs SET not_before = 1e11, attempts = 9')
    assert 'held back' in manage(service, 'list')
    manage(service, 'retry', image_id)
    run_all(service)
    service.wait_status(image_id, 'active')


def test_release(make_service):
    service = waiting(make_service)
    image_id = service.ask(DATA)
    assert 'no conductor holds' in manage(
        service, 'release', image_id, status=1)
    service.execute("UPDATE import_jobs SET owner = 't', "
                    "conductor = 'other:7:x', claim_expires = 1e11")
    assert 'running' in manage(service, 'list').splitlines()[1]
    assert 'taken from other:7:x' in manage(service, 'release', image_id)
    run_all(service)
    service.wait_status(image_id, 'active')


def test_release_an_area(make_service):
    """The area's directory was lost with its node."""
    service = waiting(make_service)
    importing, staged = service.ask(DATA), service.create()
    service.stage(staged, DATA)
    area = (service.staging / '.area').read_text().strip() \
        if (service.staging / '.area').exists() else service.execute(
            'SELECT area FROM import_staging')[0][0]
    assert 'of this node' in manage(service, 'release', '--area', area,
                                    status=1)
    service.stop()
    shutil.rmtree(service.staging)
    run_all(service)
    assert service.show(importing)['status'] == 'importing'
    lines = manage(service, 'release', '--area', area).splitlines()
    assert len(lines) == 2, lines
    for image_id in (importing, staged):
        image = service.wait_status(image_id, 'queued')
        assert 'staging area' in image['os_glance_import_error']
        # And it is an image like any other.
        assert service.stage(image_id, DATA).status == 204
        assert service.start_import(image_id).status == 202
        service.wait_status(image_id, 'active')
    services.wait_for(lambda: service.execute(
        'SELECT count(*) FROM import_jobs') == [(0,)])
