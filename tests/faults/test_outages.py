"""What imports live through: servers, disks and clocks that fail in mid-run.

After each, every image is in a right state and every reason can be read. The
long form (LONG_TESTS=1) lets the outages last as long as they may.
"""

import errno
import glob
import hashlib
import os
import random
import subprocess
import sys
import time

import psutil
import pytest

from tests.datapath.disks import disk  # noqa: F401
from tests.faults import conftest
from tests.faults import deployment
from tests import servers
from tests import service as services

FAKETIME = '/usr/lib/*/faketime/libfaketime.so.1'


def some(*values):
    """All but the last in the short form, which CI has time for."""
    return values if conftest.LONG else values[:-1]


def ask_some(made, number=6):
    randomness = random.Random(5)
    return [made.ask(deployment.some_bytes(randomness))
            for _ in range(number)]


def all_active(made):
    found = made.check()
    found.pop('steps begun again')
    assert not any(found.values()), found
    for image_id in made.asked:
        task, = made.api.tasks(image_id)
        assert task['status'] == 'success'


def server_of(request, name):
    return request.getfixturevalue(name)


@pytest.mark.parametrize('database', some('postgresql', 'mariadb'))
def test_database_that_goes(deploy, request, database):
    """Restarted at once, then away for a while, with imports under way."""
    made = deploy(database, slow=0.3, step_retry_interval=0.2)
    server = server_of(request, database)
    ask_some(made)
    services.wait_for(made.running)
    # MariaDB, killed, would lose what it committed: it does not sync here.
    stop = server.kill if database == 'postgresql' else server.stop
    stop()
    server.start()
    ask_some(made)
    services.wait_for(made.running)
    stop()
    image_id = next(iter(made.asked))
    assert made.api.request('GET', f'/v2/images/{image_id}').status == 503
    time.sleep(60 if conftest.LONG else 4)
    server.start()
    services.wait_for(lambda: made.api.request(
        'GET', f'/v2/images/{image_id}').status == 200)
    all_active(made)
    assert 'unexpected error' not in made.text(), made.text()[-5000:]


@pytest.mark.parametrize('board', some('redis', 'etcd', 'zookeeper'))
def test_board_that_goes(deploy, request, board):
    """Away for a while, then back without all it knew."""
    made = deploy('postgresql', board, slow=0.5)
    server = server_of(request, board)
    ask_some(made)
    services.wait_for(made.running)
    server.kill()
    image_id = made.api.create()
    assert made.api.stage(image_id, b'later').status == 204
    assert made.api.start_import(image_id).status == 503
    time.sleep(10 if conftest.LONG else 2)
    server.empty()
    server.start()
    services.wait_for(
        lambda: made.api.start_import(image_id).status in (202, 409))
    made.api.wait_status(image_id, 'active')
    made.asked[image_id] = hashlib.sha512(b'later').hexdigest()
    all_active(made)
    assert made.text().count(f'the job board {board}') >= 2


def test_disks_that_fail(disk, tmp_path, make_service):  # noqa: F811
    """The store: full and freed, read-only, and away for a moment."""
    disk.start()
    service = make_service(options={
        'glance_store': {'filesystem_store_datadir': disk.mount / 'images'},
        'taskflow_executor': {'step_retry_interval': 0.1,
                              'step_retries': 8}})
    service.images = disk.mount / 'images'
    service.start()
    data = os.urandom(3_000_000)
    for refused, reason in (
            (f'write {errno.ENOSPC}', 'no room in store file'),
            (f'write {errno.EDQUOT}', 'no room in store file'),
            (f'rename {errno.EROFS}', 'Read-only file system')):
        image_id = service.create()
        assert service.stage(image_id, data).status == 204
        disk.refuse(refused)
        assert service.start_import(image_id).status == 202
        image = service.wait_status(image_id, 'uploading')
        assert reason in image['os_glance_import_error'], image
        disk.refuse('')
        # The same staged bytes again, now that there is room.
        assert service.start_import(image_id).status == 202
        service.wait_status(image_id, 'active')
        assert service.download(image_id) == data
    # A fault that passes is waited for.
    image_id = service.create()
    service.stage(image_id, data)
    disk.refuse(f'fsync {errno.EIO}')
    assert service.start_import(image_id).status == 202
    task = services.wait_for(lambda: next(
        (task for task in service.tasks(image_id)
         if task.get('progress', {}).get('retries')), None))
    assert 'trying again' in task['progress']['trouble']
    disk.refuse('')
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == data
    assert 'Traceback' not in service.text()
    service.kill()


@pytest.mark.parametrize('seconds', some(3600, -3600))
def test_clock_that_jumps(deploy, tmp_path, seconds):
    """An hour, in every process of both nodes, in mid-import."""
    library, = glob.glob(FAKETIME) or [None]
    if library is None:
        servers.missing('the library libfaketime is not installed')
    clock = tmp_path / 'clock'
    clock.write_text('+0')
    made = deploy(slow=0.5, environment={
        'LD_PRELOAD': library, 'FAKETIME_TIMESTAMP_FILE': str(clock),
        'FAKETIME_NO_CACHE': '1', 'FAKETIME_DONT_FAKE_MONOTONIC': '1'})
    ask_some(made)
    services.wait_for(made.running)
    clock.write_text(f'{seconds:+d}')
    told = subprocess.run(
        [sys.executable, '-c', 'import time; print(time.time())'],
        env=made.api.environment, check=True,
        capture_output=True, text=True).stdout
    assert abs(float(told) - time.time() - seconds) < 60, 'no jump'
    ask_some(made)
    all_active(made)


def test_many_at_once(deploy):
    """A thousand (in the short form sixty) by two conductors."""
    number = 1000 if conftest.LONG else 60
    made = deploy('postgresql', slow=0, claim_expiry=30)
    data = {}
    for i in range(number):
        image_id = made.api.create()
        data[image_id] = b'%d' % i
        assert made.api.stage(image_id, data[image_id]).status == 204
    begun = time.monotonic()
    for image_id in data:
        assert made.api.start_import(image_id).status == 202
        made.asked[image_id] = hashlib.sha512(data[image_id]).hexdigest()
    posted = time.monotonic() - begun
    processes = {'api': made.api.process.pid,
                 'conductor one': made.api.conductor_pid(),
                 'conductor two': made.conductor.pid}
    peak = dict.fromkeys(processes, 0)

    def left():
        for name, pid in processes.items():
            peak[name] = max(peak[name],
                             psutil.Process(pid).memory_info().rss)
        return made.execute('SELECT count(*) FROM import_jobs')[0][0]
    services.wait_for(lambda: left() == 0, 600)
    seconds = time.monotonic() - begun
    print(f'{number} imports: posted in {posted:.1f} s, done in '
          f'{seconds:.1f} s; most memory:', ', '.join(
              f'{name} {size / 2 ** 20:.0f} MiB'
              for name, size in peak.items()))
    all_active(made)
    assert max(peak.values()) < 400 * 2 ** 20
