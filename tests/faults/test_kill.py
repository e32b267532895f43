"""kill -9 at random moments: nothing lost, doubled, truncated or leaked."""

import hashlib
import os
import random
import signal
import subprocess
import time

import pytest

from tests import service as services

# Slow enough that most kills fall into the middle of something.
SLOW = '''
import os
import time

from taskflow import task
from taskflow.patterns import linear_flow


class _Note(task.Task):
    """Counts how often an image was seen by this step, on disk."""

    def __init__(self, name, log, image_id):
        super().__init__(name=name)
        self.log, self.image_id = log, image_id

    def execute(self, file_path):
        fd = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, (self.image_id + '\\n').encode())
        os.close(fd)
        time.sleep(0.02)


def get_flow(task_id, image_id, **kwargs):
    return linear_flow.Flow('slow').add(
        _Note(f'slow-{task_id}', os.environ['SLOW_LOG'], image_id))
'''


@pytest.fixture
def service(make_service, tmp_path):
    plugins = services.write_distribution(
        tmp_path / 'plugins', 'slow', {'slow': SLOW},
        {'glance.image_import.plugins': {'slow': 'slow:get_flow'}})
    made = make_service(path=[plugins], options={
        'image_import_opts': {'image_import_plugins': '[slow]'},
        'taskflow_executor': {'claim_expiry': 2, 'max_attempts': 1000,
                              'poll_interval': 0.05}})
    made.environment['SLOW_LOG'] = str(tmp_path / 'seen')
    made.start()
    return made


def new_import(service, randomness):
    data = randomness.randbytes(randomness.choice((1, 1000, 300_000)))
    image_id = service.create()
    assert service.stage(image_id, data).status == 204
    assert service.start_import(image_id).status == 202
    return image_id, hashlib.sha512(data).hexdigest()


def running(service):
    """Imports that a conductor holds."""
    (number,), = service.execute(
        'SELECT count(*) FROM import_jobs WHERE owner IS NOT NULL')
    return number


def check_all(service, wanted):
    """Every image active and whole, each task done once, nothing over."""
    for image_id, digest in wanted.items():
        image = service.wait_status(image_id, 'active', 'uploading', 'queued')
        assert image['status'] == 'active', (image, service.tasks(image_id))
        data = service.download(image_id)
        assert hashlib.sha512(data).hexdigest() == digest
        assert image['os_hash_value'] == digest
        task, = service.tasks(image_id)
        assert task['status'] == 'success'
    services.wait_for(lambda: service.execute(
        'SELECT count(*) FROM import_jobs') == [(0,)])
    assert service.execute('SELECT count(*) FROM import_staging') == [(0,)]
    services.wait_for(lambda: not service.staged())
    locations = service.execute(
        'SELECT image_id, value FROM image_locations WHERE deleted = 0')
    assert sorted(image_id for image_id, _ in locations) == sorted(wanted)
    services.wait_for(lambda: sorted(service.stored()) == sorted(
        os.path.basename(uri) for _, uri in locations))


def test_the_conductor(service, kills):
    randomness = random.Random(7)
    wanted, hits = {}, 0
    for _ in range(kills):
        for _ in range(2):
            image_id, digest = new_import(service, randomness)
            wanted[image_id] = digest
        services.wait_for(lambda: running(service))
        time.sleep(randomness.uniform(0, 0.06))
        hits += running(service) > 0
        os.kill(service.conductor_pid(), signal.SIGKILL)
    print(f'{kills} kills, {hits} of them with an import running')
    check_all(service, wanted)
    assert hits > kills / 10


def test_everything(service, kills):
    """API and conductor together, as a power cut does it."""
    randomness = random.Random(11)
    wanted = {}
    for _ in range(max(3, kills // 5)):
        for _ in range(4):
            image_id, digest = new_import(service, randomness)
            wanted[image_id] = digest
        time.sleep(randomness.uniform(0, 0.2))
        service.kill()
        service.start()
    check_all(service, wanted)


def test_a_conductor_that_slept_changes_nothing(make_service, tmp_path):
    """SIGSTOP past the claim, takeover by another, SIGCONT."""
    plugins = services.write_distribution(
        tmp_path / 'plugins', 'slow', {'slow': SLOW.replace('0.02', '1.0')},
        {'glance.image_import.plugins': {'slow': 'slow:get_flow'}})
    service = make_service(path=[plugins], options={
        'image_import_opts': {'image_import_plugins': '[slow]'},
        'taskflow_executor': {
            'claim_expiry': 1, 'embedded_conductor': False,
            'poll_interval': 0.05, 'max_attempts': 9}})
    service.environment['SLOW_LOG'] = str(tmp_path / 'seen')
    service.start()
    data = os.urandom(100_000)
    with open(service.log, 'ab') as log:
        conductors = [subprocess.Popen(
            service.command('conductor'), env=service.environment,
            stdout=log, stderr=log) for _ in range(2)]
    try:
        image_id = service.create()
        service.stage(image_id, data)
        service.start_import(image_id)
        (owner,), = services.wait_for(lambda: service.execute(
            'SELECT conductor FROM import_jobs WHERE owner IS NOT NULL'))
        sleeper = next(each for each in conductors
                       if f':{each.pid}:' in owner)
        services.wait_for(lambda: (tmp_path / 'seen').exists())
        sleeper.send_signal(signal.SIGSTOP)
        image = service.wait_status(image_id, 'active')
        before = (service.execute('SELECT * FROM images'),
                  service.execute('SELECT * FROM tasks'),
                  service.execute('SELECT * FROM image_locations'))
        sleeper.send_signal(signal.SIGCONT)
        services.wait_for(lambda: 'no longer ours' in service.text())
        time.sleep(1.5)
        assert before == (service.execute('SELECT * FROM images'),
                          service.execute('SELECT * FROM tasks'),
                          service.execute('SELECT * FROM image_locations'))
        assert service.download(image_id) == data
        assert image['size'] == len(data)
        assert len(service.stored()) == 1
        assert not service.staged()
    finally:
        for each in conductors:
            each.send_signal(signal.SIGCONT)
            each.terminate()
        for each in conductors:
            each.wait(30)
