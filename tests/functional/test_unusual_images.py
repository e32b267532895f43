"""Images that are unusual and good, through the real service."""

import gzip
import hashlib
import os

import pytest

from tests.formats import corpus
from tests.formats import unusual
from tests import service as services

CASES = {case.name: case for case in unusual.TABLE}


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    running = services.Service(tmp_path_factory.mktemp('service'))
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope='module')
def unpacking(tmp_path_factory):
    running = services.Service(
        tmp_path_factory.mktemp('unpacking'), options={
            'image_import_opts': {
                'image_import_plugins': '[image_decompression, '
                'image_conversion]'},
            'image_conversion': {'output_format': 'raw'}})
    running.start()
    yield running
    running.kill()


def made(tmp_path, name):
    CASES[name].make(tmp_path / name)
    return (tmp_path / name).read_bytes()


def import_it(service, data, **attributes):
    image_id = service.create(**attributes)
    assert service.stage(image_id, data).status == 204
    assert service.start_import(image_id).status == 202
    services.wait_for(lambda: service.tasks(image_id)[0]['status'] in (
        'success', 'failure'))
    return service.show(image_id), service.tasks(image_id)[0]


def put(service, data, **attributes):
    image_id = service.create(**attributes)
    answer = service.request(
        'PUT', f'/v2/images/{image_id}/file', data,
        {'Content-Type': 'application/octet-stream'})
    return answer, service.show(image_id)


@pytest.mark.parametrize('kind, container', (
    ('aki', 'aki'), ('ari', 'ari'), ('aki', 'bare')))
def test_kernels_and_ramdisks(service, kind, container):
    """Ironic's and Amazon's: no disks, whatever byte 510 says."""
    data = unusual.kernel().ljust(64 << 10, b'\1')
    attributes = {'disk_format': kind, 'container_format': container}
    image, task = import_it(service, data, **attributes)
    assert image['status'] == 'active', image
    assert (image['size'], image['virtual_size']) == (len(data), None)
    assert task['message'] == '' and 'warnings' not in task['result']
    answer, image = put(service, data, **attributes)
    assert answer.status == 204 and image['virtual_size'] is None, answer


def test_a_kernel_that_is_another_format(service):
    data = corpus.qcow2_header(backing=corpus.BACKING).ljust(1 << 20, b'\0')
    answer, image = put(service, data, disk_format='aki',
                        container_format='aki')
    assert answer.status == 415 and 'its content is qcow2' in answer.message
    assert image['status'] == 'queued'


@pytest.mark.parametrize('declared, virtual', (
    ('raw', 'its file'), ('qcow2', corpus.SIZE)))
def test_the_size_of_a_raw_image_is_its_files(service, tmp_path, declared,
                                              virtual):
    corpus.converted('qcow2')(tmp_path / 'q')
    data = (tmp_path / 'q').read_bytes()
    answer, image = put(service, data, disk_format=declared)
    assert answer.status == 204, answer.message
    assert image['virtual_size'] == (
        len(data) if declared == 'raw' else virtual)
    # Nobody here reads what a ploop is.
    answer, image = put(service, bytes(4096), disk_format='ploop')
    assert (answer.status, image['virtual_size']) == (204, None)


def test_odd_partition_tables_are_told_in_the_task(service, tmp_path):
    data = made(tmp_path, 'mbr-flag-of-nothing')
    image, task = import_it(service, data)
    assert image['status'] == 'active', image
    assert 'os_glance_import_error' not in image
    said, = task['result']['warnings']
    assert 'boot flag 0x07 (byte 462)' in said
    assert task['message'] == said
    shown = service.run('manage', 'imports', 'show', image['id'])
    assert 'state: success' in shown.stdout
    assert f'warning: {said}' in shown.stdout


def test_reference_counts_that_lag_are_converted(unpacking, tmp_path):
    for name in ('qcow2-killed', 'qcow2-counts-behind',
                 'qcow2-extended-small'):
        data = made(tmp_path, name)
        image, task = import_it(unpacking, data, disk_format='qcow2')
        assert image['status'] == 'active', image
        assert image['disk_format'] == 'raw'
        assert ('out of date' in task['message']) == (name == 'qcow2-killed')
        corpus.run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw',
                   tmp_path / name, tmp_path / 'raw')
        assert image['os_hash_value'] == hashlib.sha512(
            (tmp_path / 'raw').read_bytes()).hexdigest()


def test_data_behind_a_gz(unpacking):
    disk = os.urandom(9000)
    image, task = import_it(unpacking, gzip.compress(disk) + b'signature')
    assert image['status'] == 'active', image
    assert unpacking.download(image['id']) == disk
    assert task['result']['warnings'] == [
        'image_decompression: 9 bytes follow the end of the gzip data, and '
        'were left out.']


@pytest.mark.parametrize('head, kind', (
    (b'LZIP\1', 'lzip'), (b'7z\xbc\xaf\x27\x1c', '7z'),
    (b'\2\x21\x4c\x18', 'lz4 (legacy frame)'),
    (b'\x5d\0\0\x80\0' + b'\xff' * 8 + b'\0', 'lzma')))
def test_what_is_not_unpacked_is_no_disk(unpacking, head, kind):
    data = head.ljust(4096, b'\0')
    image, _task = import_it(unpacking, data)
    assert image['status'] == 'uploading'
    assert f'it is {kind} data (byte 0)' in image['os_glance_import_error']


@pytest.mark.parametrize('name', (
    'qcow2-cut-in-its-last-cluster', 'qcow2-compressed-cut-by-little',
    'vmdk-cut-by-little', 'vhdx-cut-by-little'))
def test_what_is_cut_is_not_converted(unpacking, tmp_path, name):
    data = made(tmp_path, name)
    image, _task = import_it(unpacking, data,
                             disk_format=CASES[name].declared)
    assert image['status'] == 'uploading'
    assert 'it is truncated' in image['os_glance_import_error']


@pytest.mark.parametrize('attributes', (
    {'container_format': 'compressed'}, {'container_format': 'docker'},
    {'container_format': 'ova'}))
def test_archives_that_are_to_stay(unpacking, attributes):
    data = b'7z\xbc\xaf\x27\x1c'.ljust(4096, b'\0')
    image, _task = import_it(unpacking, data, **attributes)
    assert image['status'] == 'active', image
    assert unpacking.download(image['id']) == data


def test_a_ramdisk_stays_compressed(unpacking):
    data = gzip.compress(b'070701' * 99) + b'070701more'
    image, _task = import_it(unpacking, data, disk_format='ari',
                             container_format='ari')
    assert image['status'] == 'active', image
    assert unpacking.download(image['id']) == data
