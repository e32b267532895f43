"""The power goes off at every change to the disk, one after the other.

Staging area and store lie on a file system that forgets what was not synced;
the database does not forget, so it may only know what is true on the disk.
By default every few changes are tried; LONG_TESTS=1 tries each.
"""

import http.client
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.datapath import forgetful
from tests import servers
from tests import service as services

DATA = os.urandom(300_000)
STRIDE = 1 if os.environ.get('LONG_TESTS') else 5
CUT = (OSError, http.client.HTTPException)


class Disk:
    """A mounted forgetful file system."""

    def __init__(self, directory):
        self.directory = directory
        self.mount = directory / 'disk'
        self.mount.mkdir()
        self.number = 0
        self.process = None
        self.live = self._new('live')
        for name in ('staging', 'images'):
            (self.live / name).mkdir(mode=0o700)

    def _new(self, name):
        path = self.directory / f'{name}{self.number}'
        path.mkdir()
        return path

    def start(self):
        self.durable = self._new('durable')
        self.process = subprocess.Popen(
            [sys.executable, forgetful.__file__, self.mount, self.live,
             self.durable])
        services.wait_for(lambda: os.path.ismount(self.mount))

    def stop(self):
        if self.process is None:
            return
        subprocess.run(['fusermount3', '-u', '-z', self.mount], check=True)
        self.process.wait(20)
        self.process = None

    def arm(self, steps, group):
        (self.durable / 'arming').write_text(f'{steps} {group}')
        (self.durable / 'arming').rename(self.durable / 'armed')

    def steps(self):
        path = self.durable / 'steps'
        return path.read_text().splitlines() if path.exists() else []

    def lose(self):
        """The power comes back: what was not synced is gone."""
        self.stop()
        self.number += 1
        self.live = self._new('live')
        forgetful.remembered(self.durable, self.live)


@pytest.fixture
def disk(tmp_path):
    servers.program('fusermount3')
    if importlib.util.find_spec('mfusepy') is None:
        servers.missing('the Python module mfusepy is not installed')
    if not os.access('/dev/fuse', os.R_OK | os.W_OK):
        servers.missing('/dev/fuse cannot be used')
    made = Disk(tmp_path)
    yield made
    made.stop()


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


def service_on(disk, directory):
    directory.mkdir()
    service = services.Service(directory, options={
        'DEFAULT': {'node_staging_uri': f'file://{disk.mount}/staging'},
        'glance_store': {
            'filesystem_store_datadir': disk.mount / 'images'}})
    service.staging = pathlib.Path(disk.mount / 'staging')
    service.images = pathlib.Path(disk.mount / 'images')
    return service


def first_part(service, image_id, told):
    service.request(
        'PATCH', f'/v2/images/{image_id}/stage', DATA[:100_000],
        {'Content-Type': 'application/offset+octet-stream',
         'Upload-Offset': '0', 'Upload-Length': str(len(DATA))})
    told.add(100_000)


def stage_only(service, image_id, told):
    service.stage(image_id, DATA)
    told.add('staged')


def test_right_after_the_answer(disk, tmp_path):
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
def test_power_cut(disk, tmp_path, way):
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
