"""Disks that fail on demand: see ``forgetful``."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from tests import servers
from tests import service as services


PROGRAM = pathlib.Path(__file__).with_name('forgetful.py')


class Disk:
    """A mounted forgetful file system.

    ``library``: by which libfuse. Both may be installed (Ceph brings the
    older one), and only the newer knows a rename that does not replace.
    """

    library = 'fuse3'

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
            [sys.executable, PROGRAM, self.mount, self.live,
             self.durable],
            env={**os.environ, 'FUSE_LIBRARY_NAME': self.library})
        services.wait_for(lambda: os.path.ismount(self.mount))

    def stop(self):
        if self.process is None:
            return
        subprocess.run(['fusermount3', '-u', '-z', self.mount], check=True)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            # A sandbox that outlived its service has the mount in its own
            # name space.
            self.process.kill()
            self.process.wait(20)
        self.process = None

    def arm(self, steps, group):
        (self.durable / 'arming').write_text(f'{steps} {group}')
        (self.durable / 'arming').rename(self.durable / 'armed')

    def refuse(self, *lines):
        (self.durable / 'refusing').write_text('\n'.join(lines))
        (self.durable / 'refusing').rename(self.durable / 'refused')

    def steps(self):
        path = self.durable / 'steps'
        return path.read_text().splitlines() if path.exists() else []

    def lose(self):
        """The power comes back: what was not synced is gone."""
        self.stop()
        self.number += 1
        self.live = self._new('live')
        from tests.datapath import forgetful
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


def service_on(disk, directory):
    directory.mkdir()
    service = services.Service(directory, options={
        'DEFAULT': {'node_staging_uri': f'file://{disk.mount}/staging'},
        'glance_store': {
            'filesystem_store_datadir': disk.mount / 'images'}})
    service.staging = pathlib.Path(disk.mount / 'staging')
    service.images = pathlib.Path(disk.mount / 'images')
    return service
