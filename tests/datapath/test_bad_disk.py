"""A disk that is full, broken, or lacks what other disks have."""

import ctypes.util
import errno
import os

import pytest

from tests.datapath.disks import disk  # noqa: F401
from tests.datapath.disks import service_on
from tests import servers

DATA = os.urandom(3_000_000)
LONG = bool(os.environ.get('LONG_TESTS'))


def patch(service, image_id, start, stop):
    return service.request(
        'PATCH', f'/v2/images/{image_id}/stage', DATA[start:stop],
        {'Content-Type': 'application/offset+octet-stream',
         'Upload-Offset': str(start), 'Upload-Length': str(len(DATA))})


def put(service, image_id):
    return service.request(
        'PUT', f'/v2/images/{image_id}/file', DATA,
        {'Content-Type': 'application/octet-stream'})


def check_refused(service, disk, refused, status):  # noqa: F811
    image_id, parts = service.create(), service.create()
    assert patch(service, parts, 0, 1_000_000).status == 204
    disk.refuse(refused)
    for answer in (service.stage(image_id, DATA), put(service, image_id)):
        assert answer.status == status, answer
        assert 'Traceback' not in answer.message
        assert service.show(image_id)['status'] == 'queued'
        assert not [n for n in service.staged() + service.stored()
                    if image_id in n]
    assert patch(service, parts, 1_000_000, 3_000_000).status == status
    disk.refuse('')
    head = service.request('HEAD', f'/v2/images/{parts}/stage')
    there = int(head.headers['upload-offset'])
    assert 1_000_000 <= there < 3_000_000
    assert patch(service, parts, there, 3_000_000).status == 204
    assert put(service, image_id).status == 204
    service.start_import(parts)
    service.wait_status(parts, 'active')
    assert service.download(parts) == DATA == service.download(image_id)


def test_bad_disks(disk, tmp_path):  # noqa: F811
    service = service_on(disk, tmp_path / 'service')
    disk.start()
    service.start()
    try:
        check_refused(service, disk, f'write {errno.ENOSPC}', 413)
        check_refused(service, disk, f'write {errno.EIO}', 503)
        check_refused(service, disk, f'fsync {errno.EIO}', 503)
        check_refused(service, disk, f'fsync {errno.EDQUOT}', 413)
        # A file system without hard links: copied instead.
        disk.refuse(f'link {errno.EPERM}')
        image_id, direct = service.create(), service.create()
        assert service.stage(image_id, DATA).status == 204
        service.start_import(image_id)
        service.wait_status(image_id, 'active')
        assert put(service, direct).status == 204
        assert service.download(direct) == DATA == service.download(image_id)
    finally:
        service.kill()


def begin_again(disk, service, *, power_is_lost=False):  # noqa: F811
    """The service, without links on its disk."""
    service.kill()
    if power_is_lost:
        disk.lose()
    else:
        disk.stop()
        disk.number += 1
    disk.start()
    disk.refuse(f'link {errno.EPERM}')
    service.start()


def publish(disk, service, steps=1_000_000):  # noqa: F811
    """Begin an import, of which the disk does so many steps; its image."""
    image_id = service.create()
    assert service.stage(image_id, DATA).status == 204
    disk.arm(steps, service.process.pid)
    assert service.start_import(image_id).status == 202
    return image_id


def check_killed(disk, service, rename, made,  # noqa: F811
                 power_is_lost):
    """Killed before the step that publishes, then tried again."""
    begin_again(disk, service)
    before = service.stored()
    image_id = publish(disk, service, rename + 1)
    service.process.wait(30)
    made_then, last = disk.steps()[-2:]
    assert last == f'rename /images/{image_id}'
    assert (made_then == f'create /images/{image_id}') == made
    left = disk.live / 'images' / image_id
    assert left.exists() == made
    assert not made or left.stat().st_size == 0
    begin_again(disk, service, power_is_lost=power_is_lost)
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == DATA
    # One object more, whatever its name.
    assert len(service.stored()) == len(before) + 1


@pytest.mark.parametrize('library', ['fuse', 'fuse3'])
def test_publication_by_either_library(disk, tmp_path,  # noqa: F811
                                       library):
    """No links; by the older, no rename that never replaces either.

    There the usual name is made first and empty. Whoever is killed then
    leaves it, and the next attempt is none the worse.
    """
    if not ctypes.util.find_library(library):
        servers.missing(f'lib{library} is not installed')
    disk.library = library
    service = service_on(disk, tmp_path / 'service')
    try:
        begin_again(disk, service)
        image_id = publish(disk, service)
        service.wait_status(image_id, 'active')
        assert service.download(image_id) == DATA
        steps = disk.steps()
        rename = steps.index(f'rename /images/{image_id}')
        made = f'create /images/{image_id}' in steps
        assert made == (library == 'fuse')
        if LONG or made:
            check_killed(disk, service, rename, made, False)
        if LONG:
            check_killed(disk, service, rename, made, True)
    finally:
        service.kill()
