"""Imports into Ceph by real services, killed and stopped in the middle."""

import contextlib
import os
import time

import pytest

from glance_import import conf as configuration
from glance_import.domain import deletions
from glance_import import startup
from tests.ceph import ceph  # noqa: F401
from tests import service as services

MIB = 1 << 20
DATA = os.urandom(MIB) * 160
POOL = 'served'


@pytest.fixture
def service(make_service, ceph):  # noqa: F811
    ceph.empty(POOL)
    return make_service(options={
        'DEFAULT': {'enabled_backends': 'ceph:rbd',
                    'show_image_direct_url': True},
        'glance_store': {'default_backend': 'ceph'},
        'ceph': {'rbd_store_pool': POOL, 'rbd_store_user': 'glance',
                 'rbd_store_ceph_conf': ceph.conf},
        'taskflow_executor': {'claim_expiry': 2, 'step_retry_interval': 0.1},
    }).start()


@contextlib.contextmanager
def stuck(service, ceph):  # noqa: F811
    """An image in the middle of its import; the cluster stands still."""
    image_id = service.ask(DATA)
    deadline = time.monotonic() + 60
    while not ceph.images(POOL):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    with ceph.frozen():
        yield image_id


def done(service, ceph, image_id):  # noqa: F811
    """It is active, and the one thing that is in the pool."""
    image = service.wait_status(image_id, 'active')
    assert image['direct_url'] == f'rbd://{ceph.fsid}/{POOL}/{image_id}/snap'
    services.wait_for(lambda: ceph.images(POOL) == [image_id])
    assert service.download(image_id) == DATA
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204
    services.wait_for(lambda: ceph.images(POOL) == [])


def test_killed_in_the_middle(service, ceph):  # noqa: F811
    with stuck(service, ceph) as image_id:
        service.kill()
    begun, = ceph.images(POOL)
    assert begun.startswith(f'{image_id}.1.')
    # Else housekeeping finds it, some minutes later.
    ceph.wait_for_the_dead(POOL)
    service.start()
    done(service, ceph, image_id)


def test_stopped_while_the_cluster_stands_still(service, ceph):  # noqa: F811
    with stuck(service, ceph) as image_id:
        assert service.request('GET', '/v2/images').status == 200
        assert service.stop() == 0
    ceph.wait_for_the_dead(POOL)
    service.start()
    done(service, ceph, image_id)


def test_in_use(service, ceph):  # noqa: F811
    """What disks are clones of is 409 and stays, for whoever asks for it."""
    service.stop()
    service.configure(
        DEFAULT={'enabled_backends': 'ceph:rbd, fast:file',
                 'enabled_import_methods': '[glance-direct]',
                 'show_multiple_locations': True},
        fast={'filesystem_store_datadir': service.directory / 'fast'},
        os_glance_staging_store={
            'filesystem_store_datadir': service.directory / 'staging'})
    service.start()
    image_id = service.create()
    assert service.stage(image_id, DATA[:MIB]).status == 204
    assert service.request('POST', f'/v2/images/{image_id}/import', {
        'method': {'name': 'glance-direct'}, 'stores': ['ceph', 'fast']}
        ).status == 202
    image = service.wait_status(image_id, 'active')
    path = f'/v2/images/{image_id}'
    stay = [each for each in image['locations']
            if each['url'].startswith('file')]
    asked = {
        'image': lambda: service.request('DELETE', path),
        'copy': lambda: service.request('DELETE',
                                        f'/v2/stores/ceph/{image_id}'),
        'location': lambda: service.request(
            'PATCH', path, [{'op': 'replace', 'path': '/locations',
                             'value': stay}],
            {'Content-Type':
             'application/openstack-images-v2.1-json-patch'})}
    snapshot = f'{POOL}/{image_id}@snap'
    for clone in ([], ['--rbd-default-clone-format', '2']):
        ceph.rbd(*clone, 'clone', snapshot, 'vms/disk')
        for ask in asked.values():
            answer = ask()
            assert answer.status == 409, answer
            assert 'in use' in answer.message
        shown = service.show(image_id)
        assert (shown['status'], shown['stores']) == ('active', 'ceph,fast')
        assert service.download(image_id) == DATA[:MIB]
        ceph.rbd('rm', 'vms/disk')
    assert asked['copy']().status == 204
    assert ceph.images(POOL) == []
    assert asked['image']().status == 204


def test_deleted_while_the_cluster_stands_still(service, ceph):  # noqa: F811
    """The record goes, its data when the cluster is back."""
    image_id = service.ask(DATA[:MIB])
    service.wait_status(image_id, 'active')
    with ceph.frozen():
        assert service.request('DELETE', f'/v2/images/{image_id}'
                               ).status == 204
        assert service.request('GET', '/versions').status == 200
    services.wait_for(lambda: kept_house(service))
    assert ceph.images(POOL) == []


def kept_house(service):
    """Whether a round of housekeeping, later, has left nothing."""
    service.execute('UPDATE import_deletions SET next_at = 1')
    box = startup.open_all(
        configuration.load(['--config-dir', str(service.conf)]),
        accepting=False)
    deletions.retry(box)
    box.close()
    return service.execute('SELECT * FROM import_deletions') == []


@pytest.mark.skipif('LONG_TESTS' not in os.environ,
                    reason='LONG_TESTS; the short form is of the store alone')
def test_cancelled_while_the_cluster_stands_still(
        service, ceph):  # noqa: F811
    with stuck(service, ceph) as image_id:
        assert service.request(
            'DELETE', f'/v2/images/{image_id}/import').status == 202
        service.wait_status(image_id, 'uploading')
    services.wait_for(lambda: ceph.images(POOL) == [])
    assert service.start_import(image_id).status == 202
    done(service, ceph, image_id)


def test_gone_from_the_cluster(service, ceph):  # noqa: F811
    """The list is as before; who wants the data is told."""
    image_id = service.ask(DATA[:MIB])
    service.wait_status(image_id, 'active')
    ceph.empty(POOL)
    answer = service.request('GET', f'/v2/images/{image_id}/file')
    assert answer.status == 503
    assert 'Traceback' not in service.text()
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204
