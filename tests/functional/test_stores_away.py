"""A store that does not answer, or refuses connections, over real HTTP.

The S3 server is stopped (SIGSTOP) and goes on, or is behind a wire that is
taken down: only those that need it wait, and what it should have deleted goes
later.
"""

from concurrent import futures
import json
import os
import signal
import threading
import time

import pytest

from glance_import import conf as configuration
from glance_import import housekeeping
from glance_import import startup
from glance_import.stores import base
from glance_import.stores import bulkhead
from tests import environments
from tests import s3 as s3_servers
from tests import servers
from tests import service as services

DATA = os.urandom(1 << 20) * 6 + b'end'
DOWNLOADS = 40


@pytest.fixture(scope='module')
def far(request):
    """A server of this module's own, since it is stopped now and then."""
    servers.need_module('boto3')
    server = s3_servers.Server(environments.make(
        'moto', request.config.cache.mkdir('environments')))
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.stop()


@pytest.fixture(scope='module')
def wire(far):
    relay = s3_servers.Wire(far.port, after=0, cuts=0)
    yield relay
    relay.close()


@pytest.fixture(scope='module')
def service(tmp_path_factory, wire, far):
    top = tmp_path_factory.mktemp('away')
    running = services.Service(top, options={
        'DEFAULT': {'enabled_backends': 'fast:file, far:s3',
                    'enabled_import_methods': '[glance-direct, copy-image]',
                    'store_timeout': 2},
        'glance_store': {'default_backend': 'fast'},
        'os_glance_staging_store': {
            'filesystem_store_datadir': top / 'staging'},
        'fast': {'filesystem_store_datadir': top / 'fast'},
        'far': far.options(wire.port),
        'taskflow_executor': {'step_retries': 8,
                              'step_retry_interval': 0.5}})
    running.configure(DEFAULT={'node_staging_uri': 'http://nowhere'})
    running.start()
    yield running
    running.kill()


def imported(service, *stores, data=DATA):
    image_id = service.create()
    assert service.stage(image_id, data).status == 204
    answer = service.request('POST', f'/v2/images/{image_id}/import', {
        'method': {'name': 'glance-direct'}, 'stores': list(stores)})
    assert answer.status == 202, answer
    service.wait_status(image_id, 'active')
    return image_id


def pending(service):
    return service.execute('SELECT kind, attempts, message '
                           'FROM import_deletions ORDER BY kind')


def keep_house(service):
    """A round of the conductor's housekeeping, later."""
    service.execute('UPDATE import_deletions SET next_at = 1')
    box = startup.open_all(
        configuration.load(['--config-dir', str(service.conf)]),
        accepting=False)
    housekeeping.clean(box)
    box.close()


def test_only_who_needs_it_waits(service, far):
    near, image_id = imported(service, 'fast'), imported(service, 'far')
    far.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    try:
        with futures.ThreadPoolExecutor(DOWNLOADS) as pool:
            waiting = [pool.submit(
                service.request, 'GET', f'/v2/images/{image_id}/file')
                for _ in range(DOWNLOADS)]
            answered = 0
            while not any(each.done() for each in waiting):
                assert service.request('GET', '/versions').status == 200
                assert service.show(image_id)['status'] == 'active'
                answered += 1
            assert service.download(near) == DATA
            answers = [each.result() for each in waiting]
    finally:
        far.process.send_signal(signal.SIGCONT)
    # All of them were behind it, and many others were not.
    assert time.monotonic() - begun > 2 and answered > 10
    assert {each.status for each in answers} == {503}
    services.wait_for(lambda: service.request(
        'GET', f'/v2/images/{image_id}/file').status == 200)
    assert service.download(image_id) == DATA
    log = service.text()
    assert 'Traceback' not in log
    assert 'store far has not answered for 2 s' in log


def test_frozen_in_the_middle_of_downloads(service, far):
    """Who has his first bytes is cut, or goes on; others are not held up."""
    image_id = imported(service, 'far')
    connections = [service.raw() for _ in range(DOWNLOADS)]
    for each in connections:
        each.sendall(f'GET /v2/images/{image_id}/file HTTP/1.1\r\n'
                     'Host: localhost\r\nConnection: close\r\n\r\n'.encode())
    for each in connections:
        assert each.recv(100).startswith(b'HTTP/1.1 200 OK')
    far.process.send_signal(signal.SIGSTOP)
    with futures.ThreadPoolExecutor(DOWNLOADS) as pool:
        try:
            got = [pool.submit(_drain, each) for each in connections]
            for _ in range(20):
                assert service.request('GET', '/versions').status == 200
        finally:
            far.process.send_signal(signal.SIGCONT)
    # Whole, since it went on in time; the head is not counted.
    assert {each.result() > len(DATA) - 100 for each in got} == {True}


def test_gone_in_the_middle_of_a_download(service, wire):
    # More than what sockets hold on the way.
    data = DATA * 10
    image_id = imported(service, 'far', data=data)
    connection = service.raw()
    connection.sendall(f'GET /v2/images/{image_id}/file HTTP/1.1\r\n'
                       'Host: localhost\r\nConnection: close\r\n\r\n'.encode())
    assert connection.recv(100).startswith(b'HTTP/1.1 200 OK')
    wire.down = True
    try:
        assert _drain(connection) < len(data) - 100
    finally:
        wire.down = False
    log = service.text()
    assert f'a download of image {image_id} is cut: store far' in log
    assert 'Traceback' not in log


def _drain(connection):
    """Bytes until the other side has no more, or is cut."""
    count = 0
    with connection:
        while block := connection.recv(1 << 20):
            count += len(block)
    return count


def test_what_it_cannot_delete_goes_later(service, far):
    image_id = imported(service, 'far')
    far.process.send_signal(signal.SIGSTOP)
    try:
        assert service.request('DELETE', f'/v2/images/{image_id}'
                               ).status == 204
        assert service.request('GET', f'/v2/images/{image_id}').status == 404
        shown = service.run('manage', 'stores', 'pending', '--format',
                            'value').stdout
        assert shown.split('\t')[1:4] == ['data', image_id, 'far']
        # Its store may be one that never comes back.
        service.execute(
            'INSERT INTO import_deletions (id, kind, image_id, payload, '
            'attempts, created_at) VALUES (?, ?, ?, ?, 1, 1)', 'old', 'data',
            image_id, '{"url": "rbd://a/b/c/d", "metadata": {}}')
        for status, said in ((0, 'not deleted any more'), (1, 'pending')):
            done = service.run('manage', 'stores', 'forget', 'old')
            assert done.returncode == status and said in done.stdout
    finally:
        far.process.send_signal(signal.SIGCONT)
    services.wait_for(lambda: image_id not in ' '.join(far.keys()))
    services.wait_for(lambda: pending(service) == [])


def test_refused_and_deleted_later(service, far, wire):
    image_id = imported(service, 'far')
    wire.down = True
    try:
        assert service.request('DELETE', f'/v2/images/{image_id}'
                               ).status == 204
        (kind, attempts, message), = pending(service)
        assert (kind, attempts, 'far' in message) == ('data', 1, True)
    finally:
        wire.down = False
    assert [each for each in far.keys() if each.startswith(image_id)]
    keep_house(service)
    assert pending(service) == []
    assert not [each for each in far.keys() if each.startswith(image_id)]


def test_not_deleted_under_an_import(service, far):
    """A copy may have just stored what an earlier one had by that name."""
    image_id = imported(service, 'far', 'fast')
    (url,), = service.execute(
        'SELECT value FROM image_locations WHERE image_id = ? AND value '
        "NOT LIKE 'file%'", image_id)
    service.execute("UPDATE image_locations SET deleted = 1, status = "
                    "'deleted' WHERE value = ?", url)
    service.execute(
        'INSERT INTO import_deletions (id, kind, image_id, payload, attempts,'
        " created_at, next_at) VALUES ('id', 'data', ?, ?, 1, 1, 1)",
        image_id, json.dumps({'url': url, 'metadata': {}, 'store': 'far'}))
    service.execute(
        'INSERT INTO import_jobs (id, image_id, method, created_at, owner, '
        'claim_expires) VALUES (?, ?, ?, 1, ?, 1e12)', 'x', image_id,
        'copy-image', 'somebody')
    keep_house(service)
    assert 'import of the image' in pending(service)[0][2]
    assert [each for each in far.keys() if each.startswith(image_id)]
    service.execute("DELETE FROM import_jobs WHERE id = 'x'")
    keep_house(service)
    assert pending(service) == []
    assert not [each for each in far.keys() if each.startswith(image_id)]


def test_an_import_while_it_is_away(service, wire):
    """A fault that passes costs a few attempts, not the import."""
    image_id = service.create()
    assert service.stage(image_id, DATA).status == 204
    wire.down = True
    try:
        assert service.request('POST', f'/v2/images/{image_id}/import', {
            'method': {'name': 'glance-direct'}, 'stores': ['far']}
            ).status == 202
        services.wait_for(lambda: 'trying again' in service.text())
    finally:
        wire.down = False
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == DATA


def test_delayed_delete(service, far):
    service.stop()
    service.configure(DEFAULT={'delayed_delete': True, 'scrub_time': 3600})
    service.start()
    try:
        image_id = imported(service, 'far', 'fast')
        assert service.request('DELETE', f'/v2/images/{image_id}'
                               ).status == 204
        assert service.request('GET', f'/v2/images/{image_id}').status == 404
        status = 'SELECT status FROM images WHERE id = ?'
        assert service.execute(status, image_id) == [('pending_delete',)]
        assert [each for each in far.keys() if each.startswith(image_id)]
        assert len(pending(service)) == 2
        keep_house(service)
        assert service.execute(status, image_id) == [('deleted',)]
        assert not [each for each in far.keys()
                    if each.startswith(image_id)]
        assert not [each for each in os.listdir(service.directory / 'fast')
                    if each.startswith(image_id)]
        # As a Glance leaves it, which has written nothing down.
        image_id = imported(service, 'far')
        assert service.request('DELETE', f'/v2/images/{image_id}'
                               ).status == 204
        service.execute('DELETE FROM import_deletions')
        service.execute('UPDATE images SET deleted_at = ? WHERE id = ?',
                        '2001-01-01 00:00:00', image_id)
        keep_house(service)
        keep_house(service)
        assert service.execute(status, image_id) == [('deleted',)]
        assert not [each for each in far.keys()
                    if each.startswith(image_id)]
    finally:
        service.stop()
        service.configure(DEFAULT={'delayed_delete': False})
        service.start()


def test_threads_of_one_store():
    """What has not begun in time never does, and nobody else waits."""
    threads = bulkhead.Bulkhead('store', 0.05, most=1)
    gate, begun = threading.Event(), []
    for _ in range(2):
        with pytest.raises(base.StoreSilent, match='0 s'):
            threads.call(lambda: begun.append(gate.wait(60)))
    assert begun == []
    gate.set()
    assert threads.call(lambda: 7, 60) == 7
    assert begun == [True]
    with pytest.raises(ZeroDivisionError):
        threads.call(lambda: 1 / 0, 60)
    # What fails when nobody waits for it costs no thread.
    threads.start(lambda: 1 / 0)
    assert threads.call(lambda: 7, 60) == 7


def test_a_stop_waits_for_the_grace_time_only(service, far):
    """What a store does not answer is left behind, and done again."""
    service.stop()
    service.configure(DEFAULT={'graceful_shutdown_timeout': 2})
    service.start()
    image_id = service.create()
    assert service.stage(image_id, DATA).status == 204
    far.process.send_signal(signal.SIGSTOP)
    try:
        assert service.request('POST', f'/v2/images/{image_id}/import', {
            'method': {'name': 'glance-direct'}, 'stores': ['far']}
            ).status == 202
        service.wait_status(image_id, 'importing')
        services.wait_for(lambda: [
            each for each in service.execute(
                'SELECT 1 FROM import_jobs WHERE owner IS NOT NULL')])
        begun = time.monotonic()
        service.stop()
        # Its library would have waited for a minute, five times.
        assert time.monotonic() - begun < 55
    finally:
        far.process.send_signal(signal.SIGCONT)
    service.start()
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == DATA
