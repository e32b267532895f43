"""The power goes off at every change to the disk, one after the other.

Staging area and store lie on a file system that forgets what was not synced;
the database does not forget, so it may only know what is true on the disk.
By default every few changes are tried; LONG_TESTS=1 tries each.
"""

import http.client
import os
import shutil

import pytest

from tests.datapath.disks import disk  # noqa: F401
from tests.datapath.disks import service_on

DATA = os.urandom(300_000)
STRIDE = 1 if os.environ.get('LONG_TESTS') else 9
CUT = (OSError, http.client.HTTPException)


def by_import(service, image_id, told):
    if service.stage(image_id, DATA).status == 204:
        told.add('staged')
    service.start_import(image_id)
    if service.wait_status(image_id, 'active'):
        told.add('active')


def in_parts(service, image_id, told):
    for start in range(0, len(DATA), 100_000):
        answer = service.request(
            'PATCH', f'/v2/images/{image_id}/stage',
            DATA[start:start + 100_000],
            {'Content-Type': 'application/offset+octet-stream',
             'Upload-Offset': str(start), 'Upload-Length': str(len(DATA))})
        assert answer.status == 204
        told.add(start + 100_000)
    told.add('staged')
    service.start_import(image_id)
    service.wait_status(image_id, 'active')
    told.add('active')


def directly(service, image_id, told):
    answer = service.request(
        'PUT', f'/v2/images/{image_id}/file', DATA,
        {'Content-Type': 'application/octet-stream'})
    assert answer.status == 204, answer
    told.add('active')


WAYS = {'import': by_import, 'parts': in_parts, 'direct': directly}


def check(service, image_id, told):
    """What was acknowledged is there, and the image gets active."""
    image = service.wait_status(image_id, 'active', 'uploading', 'queued',
                                'saving')
    status = image['status']
    if 'active' in told:
        assert status == 'active'
    if 'staged' in told:
        assert status in ('active', 'uploading')
    if status == 'uploading':
        there = int(service.request(
            'HEAD', f'/v2/images/{image_id}/stage').headers['upload-offset'])
        acknowledged = max((n for n in told if isinstance(n, int)),
                           default=0)
        assert there >= (len(DATA) if 'staged' in told else acknowledged)
        if there < len(DATA):
            answer = service.request(
                'PATCH', f'/v2/images/{image_id}/stage', DATA[there:],
                {'Content-Type': 'application/offset+octet-stream',
                 'Upload-Offset': str(there)})
            assert answer.status == 204, answer
        assert service.start_import(image_id).status == 202
    elif status != 'active':
        assert service.request(
            'PUT', f'/v2/images/{image_id}/file', DATA,
            {'Content-Type': 'application/octet-stream'}).status == 204
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == DATA


def first_part(service, image_id, told):
    service.request(
        'PATCH', f'/v2/images/{image_id}/stage', DATA[:100_000],
        {'Content-Type': 'application/offset+octet-stream',
         'Upload-Offset': '0', 'Upload-Length': str(len(DATA))})
    told.add(100_000)


def stage_only(service, image_id, told):
    service.stage(image_id, DATA)
    told.add('staged')


def test_right_after_the_answer(disk,  # noqa: F811
                                tmp_path):
    """The power goes off as soon as the client has been told."""
    service = service_on(disk, tmp_path / 'service')
    images = {}
    try:
        for way in (first_part, stage_only, by_import, directly, None):
            disk.start()
            service.start()
            for image_id, told in images.items():
                check(service, image_id, told)
            if way is not None:
                image_id = service.create()
                way(service, image_id, images.setdefault(image_id, set()))
            service.kill()
            disk.lose()
    finally:
        service.kill()


@pytest.mark.parametrize('way', WAYS)
def test_power_cut(disk, tmp_path, way):  # noqa: F811
    service = service_on(disk, tmp_path / 'service')
    step, images = 1, {}
    try:
        while True:
            disk.start()
            service.start()
            for image_id, told in images.items():
                check(service, image_id, told)
            image_id, told = service.create(), set()
            disk.arm(step, service.process.pid)
            try:
                WAYS[way](service, image_id, told)
                break
            except CUT + (AssertionError,):
                # Only the power cut may have been the reason.
                assert len(disk.steps()) >= step, service.text()[-3000:]
            finally:
                service.kill()
            disk.lose()
            images = {image_id: told}
            step += STRIDE
        assert step > 6, 'hardly anything was tried'
    finally:
        service.kill()
        disk.stop()
        shutil.rmtree(tmp_path, ignore_errors=True)
