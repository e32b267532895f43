"""A disk that is full, broken, or lacks what other disks have."""

import errno
import os

from tests.datapath.disks import disk  # noqa: F401
from tests.datapath.disks import service_on

DATA = os.urandom(3_000_000)


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
