"""Real images through the real service: what people upload.

Disk images that Debian packages ship, one made with qemu-img, and a root
filesystem of several hundred megabytes built on the spot.
"""

import hashlib
import http.client
import os
import pathlib
import shutil
import subprocess

import pytest

from tests import servers

# Path, and the disk_format that a user would name.
SHIPPED = {
    'grub rescue CD': ('/usr/lib/grub-rescue/grub-rescue-cdrom.iso', 'iso'),
    'grub rescue floppy': ('/usr/lib/grub-rescue/grub-rescue-floppy.img',
                           'raw'),
    'ipxe netboot CD': ('/usr/lib/ipxe/ipxe.iso', 'iso'),
}


def digest(path):
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha512').hexdigest()


def round_trip(service, path, disk_format):
    """Stage and import a file; its digest as it comes back."""
    image_id = service.create(name=os.path.basename(path),
                              disk_format=disk_format)
    connection = http.client.HTTPConnection('127.0.0.1', service.port)
    with open(path, 'rb') as file:
        connection.request(
            'PUT', f'/v2/images/{image_id}/stage', file,
            {'Content-Type': 'application/octet-stream',
             'Content-Length': str(os.path.getsize(path))})
        response = connection.getresponse()
        assert (response.status, response.read()) == (204, b'')
    assert service.start_import(image_id).status == 202
    image = service.wait_status(image_id, 'active', 'uploading', 'queued')
    assert image['status'] == 'active', image
    assert image['size'] == os.path.getsize(path)
    received = hashlib.sha512()
    connection.request('GET', f'/v2/images/{image_id}/file')
    response = connection.getresponse()
    assert response.status == 200
    while block := response.read(1 << 20):
        received.update(block)
    connection.close()
    assert received.hexdigest() == image['os_hash_value']
    service.request('DELETE', f'/v2/images/{image_id}')
    return received.hexdigest()


@pytest.mark.parametrize('path, disk_format', SHIPPED.values(), ids=SHIPPED)
def test_images_that_packages_ship(service, path, disk_format):
    if not os.path.exists(path):
        servers.missing(f'{path} is not installed (see bindep.txt)')
    assert round_trip(service, path, disk_format) == digest(path)


@pytest.fixture(scope='module')
def root_filesystem(tmp_path_factory):
    """A bootable system's root as an ext4 image, and where it lies."""
    for program in ('mmdebstrap', 'mke2fs', 'qemu-img'):
        servers.program(program, '/usr/sbin', '/sbin')
    if os.geteuid() != 0:
        pytest.skip('a root filesystem is built as root')
    directory = tmp_path_factory.mktemp('rootfs')
    tree, image = directory / 'tree', directory / 'root.img'
    subprocess.run(
        ['mmdebstrap', '--quiet', '--variant=minbase',
         '--include=gcc', _release(), str(tree)],
        check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        ['mke2fs', '-q', '-t', 'ext4', '-d', str(tree), str(image), '768M'],
        check=True, env={**os.environ, 'PATH': '/usr/sbin:/sbin:/usr/bin'})
    shutil.rmtree(tree)
    yield image
    shutil.rmtree(directory)


def _release():
    for line in pathlib.Path('/etc/os-release').read_text().splitlines():
        if line.startswith('VERSION_CODENAME='):
            return line.partition('=')[2].strip('"')
    return 'stable'


def test_a_root_filesystem(service, root_filesystem):
    assert round_trip(service, root_filesystem, 'raw') == digest(
        root_filesystem)


def test_the_same_as_qcow2(service, root_filesystem):
    image = root_filesystem.with_suffix('.qcow2')
    subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2',
                    root_filesystem, image], check=True)
    assert image.stat().st_size > 200 << 20
    assert round_trip(service, image, 'qcow2') == digest(image)
    # What came in is a disk that qemu-img finds whole.
    subprocess.run(['qemu-img', 'check', '-q', image], check=True)


def test_small_qcow2(service, tmp_path):
    servers.program('qemu-img')
    raw, image = tmp_path / 'raw', tmp_path / 'small.qcow2'
    raw.write_bytes(os.urandom(5 << 20) + bytes(10 << 20))
    subprocess.run(['qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2',
                    raw, image], check=True)
    assert round_trip(service, image, 'qcow2') == digest(image)
