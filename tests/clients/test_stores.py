"""The walk of somebody with several stores, by the real commands."""

import os
import re

import pytest

from tests.s3 import s3_server  # noqa: F401
from tests import service as services

DATA = os.urandom(300_000)


@pytest.fixture
def cloud(authenticated, keystone, s3_server,  # noqa: F811
          tmp_path_factory):
    """A second image service of the same Keystone, with three stores."""
    top = tmp_path_factory.mktemp('stores')
    service = services.Service(top, options={
        'DEFAULT': {
            'enabled_backends': 'fast:file, second:file, cheap:s3',
            'enabled_import_methods': '[glance-direct, copy-image]'},
        'glance_store': {'default_backend': 'fast'},
        'os_glance_staging_store': {
            'filesystem_store_datadir': top / 'staging'},
        'fast': {'filesystem_store_datadir': top / 'fast'},
        'second': {'filesystem_store_datadir': top / 'second',
                   'store_description': 'the other disks'},
        'cheap': s3_server.options(),
        'paste_deploy': {'flavor': 'keystone'},
        'keystone_authtoken': keystone.middleware()})
    service.token = authenticated.tokens['root']
    service.start()
    yield service
    service.kill()


@pytest.fixture
def run(authenticated, cloud):
    def glance(*arguments, user='root', program='glance'):
        endpoint = ('--os-image-url', f'http://127.0.0.1:{cloud.port}')
        return authenticated.run(program, *endpoint, *arguments,
                                 user=user).stdout
    return glance


def test_walk(cloud, run, tmp_path):
    path = tmp_path / 'image.raw'
    path.write_bytes(DATA)
    out = run('stores-info')
    assert all(each in out for each in ('fast', 'second', 'cheap'))
    assert 'os_glance' not in out
    assert 'weight' in run('stores-info', '--detail')
    out = run('image-create', '--name', 'many', '--disk-format', 'raw',
              '--container-format', 'bare')
    image_id = re.search(r'^\| id +\| (\S+)', out, re.M).group(1)
    run('image-stage', '--file', str(path), image_id)
    run('image-import', '--import-method', 'glance-direct', '--stores',
        'second,cheap', image_id)
    image = cloud.wait_status(image_id, 'active')
    assert image['stores'] == 'cheap,second'
    run('image-import', '--import-method', 'copy-image', '--all-stores',
        'True', image_id)
    services.wait_for(lambda: cloud.show(image_id)['stores']
                      == 'cheap,fast,second')
    assert 'cheap,fast,second' in run('image-show', image_id)
    run('stores-delete', '--store', 'second', image_id)
    assert cloud.show(image_id)['stores'] == 'cheap,fast'
    saved = tmp_path / 'saved'
    run('image-download', '--file', str(saved), image_id)
    assert saved.read_bytes() == DATA
    out = run('image-tasks', image_id)
    assert out.count('success') == 2
    out = run('image-create-via-import', '--file', str(path), '--name',
              'all', '--disk-format', 'raw', '--container-format', 'bare',
              '--all-stores', 'True')
    second = re.search(r'^\| id +\| (\S+)', out, re.M).group(1)
    assert cloud.wait_status(second, 'active')['stores'] == (
        'cheap,fast,second')
    for each in (image_id, second):
        run('image-delete', each)
    assert os.listdir(cloud.directory / 'fast') == []
