"""The bundled get_flow plugins: decompression, conversion, injection."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import pathlib
import struct
import subprocess
import tarfile
import zipfile
import zlib

import lz4.frame
import pytest
import zstandard

from glance_import import conf as configuration
from glance_import import startup
from tests.formats import corpus
from tests import mounts
from tests import service as services

DATA = os.urandom(1_500_000) + bytes(1_500_000)
CASES = {case.name: case for case in corpus.TABLE}
QEMU = {'vhd': 'vpc'}


def options(plugins, **groups):
    return {'image_import_opts': {'image_import_plugins': plugins}, **groups}


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    running = services.Service(
        tmp_path_factory.mktemp('service'), options=options(
            '[image_decompression, image_conversion]',
            DEFAULT={'image_size_cap': 300 << 20}))
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp('images')


def import_it(service, data, *, token=None, **attributes):
    image_id = service.create(token=token, **attributes)
    assert service.stage(image_id, data, token=token).status == 204
    assert service.start_import(image_id, token=token).status == 202
    services.wait_for(lambda: service.tasks(image_id, token)[0][
        'status'] in ('success', 'failure'))
    return service.show(image_id, token)


def check_failed(service, image, data, *words):
    """The upload is as it was, ready to be imported again."""
    assert image['status'] == 'uploading', image
    for word in words:
        assert word in image['os_glance_import_error'], image
    assert image['size'] == len(data) and image['virtual_size'] is None
    assert (service.staging / image['id']).read_bytes() == data
    assert [name for name in service.staged()
            if name.startswith(image['id'])] == [image['id']]


# -- decompression

def zipped(*members, method=zipfile.ZIP_DEFLATED, mode=0o100644):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data, method)
    return buffer.getvalue()


def tarred(name, data):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def two_gzip_headers():
    return gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:])


GOOD = {
    'gzip': gzip.compress(DATA),
    'gzip of several': two_gzip_headers(),
    'gzip with padding': gzip.compress(DATA) + bytes(4096),
    'gzip and data': gzip.compress(DATA) + b'signature',
    'gzip of a tar': gzip.compress(tarred('folder/disk.raw', DATA)),
    'tar': tarred('disk.raw', DATA),
    'zstd with a frame in front': struct.pack('<II', 0x184d2a50, 4)
    + b'1234' + zstandard.compress(DATA),
    'bzip2': bz2.compress(DATA),
    'xz': lzma.compress(DATA),
    'xz of several': lzma.compress(DATA[:1000]) + lzma.compress(DATA[1000:]),
    'zstd': zstandard.compress(DATA),
    'zstd without a size': zstandard.ZstdCompressor(
        write_content_size=False, write_checksum=True).compress(DATA),
    'zstd of several': zstandard.compress(DATA[:1000]) + zstandard.compress(
        DATA[1000:]),
    'lz4': lz4.frame.compress(DATA),
    'zip': zipped(('disk.raw', DATA)),
    'zip stored': zipped(('disk.raw', DATA), method=zipfile.ZIP_STORED),
    'zip lzma': zipped(('disk.raw', DATA), method=zipfile.ZIP_LZMA),
    'zip with a path': zipped(('../../../tmp/evil', DATA)),
    'zip with an absolute path': zipped(('/etc/evil', DATA)),
    'not compressed': DATA,
    'empty': b'',
}


@pytest.mark.parametrize('data', GOOD.values(), ids=GOOD)
def test_decompression(service, data):
    image = import_it(service, data)
    assert image['status'] == 'active', image
    wanted = DATA if data else b''
    assert service.download(image['id']) == wanted
    assert image['size'] == image['virtual_size'] == len(wanted)
    assert image['checksum'] == hashlib.md5(wanted).hexdigest()
    services.wait_for(lambda: not [
        name for name in service.staged() if name.startswith(image['id'])])


BOMB = 200 << 20


def zeros(size=BOMB):
    return (bytes(1 << 20) for _ in range(size >> 20))


def bomb(compressor, flush):
    return b''.join(map(compressor, zeros())) + flush()


def gzip_bomb():
    deflate = zlib.compressobj(9, wbits=31)
    return bomb(deflate.compress, deflate.flush)


def bzip2_bomb():
    packer = bz2.BZ2Compressor()
    return bomb(packer.compress, packer.flush)


def xz_bomb():
    packer = lzma.LZMACompressor()
    return bomb(packer.compress, packer.flush)


def zstd_bomb():
    packer = zstandard.ZstdCompressor().compressobj()
    return bomb(packer.compress, packer.flush)


def zip_bomb():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive, \
            archive.open('zeros', 'w') as member:
        for block in zeros():
            member.write(block)
    return buffer.getvalue()


def lying_zip():
    """The directory says 10 bytes, and 200 MiB come out."""
    data = zip_bomb()
    return data.replace(struct.pack('<I', BOMB), struct.pack('<I', 10))


def too_large():
    """A good ratio, but more than image_size_cap."""
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    return b''.join(packer.compress(os.urandom(8192) * 128)
                    for _ in range(320)) + packer.flush()


def claims_too_much():
    packer = zstandard.ZstdCompressor().compressobj(size=BOMB * 2)
    return b''.join(map(packer.compress, zeros(BOMB * 2))) + packer.flush()


def encrypted_zip():
    data = bytearray(zipped(('disk', b'x' * 100)))
    for magic, at in ((b'PK\3\4', 6), (b'PK\1\2', 8)):
        data[data.index(magic) + at] |= 1
    return bytes(data)


def link(target):
    return zipped(('disk', target), mode=0o120777)


BAD = {
    'gzip bomb': (gzip_bomb, 'max_ratio'),
    'bzip2 bomb': (bzip2_bomb, 'max_ratio'),
    'xz bomb': (xz_bomb, 'max_ratio'),
    'zstd bomb': (zstd_bomb, 'max_ratio'),
    'zip bomb': (zip_bomb, 'max_ratio'),
    'zip that lies': (lying_zip, 'zip'),
    'over the cap': (too_large, 'larger than'),
    'says it is too large': (claims_too_much, 'larger than'),
    'gzip cut': (lambda: gzip.compress(DATA)[:-1000], 'cut'),
    'gzip cut in its end': (lambda: gzip.compress(DATA)[:-3], 'cut'),
    'bzip2 cut': (lambda: bz2.compress(DATA)[:-10], 'cut'),
    'xz cut': (lambda: lzma.compress(DATA)[:-5], 'cut'),
    'zstd cut': (lambda: zstandard.compress(DATA)[:-100], 'zstd'),
    'zstd cut between blocks': (lambda: zstandard.compress(
        DATA)[:131072 + 9 + 3], 'cut'),
    'lz4 cut': (lambda: lz4.frame.compress(DATA)[:-50], 'cut'),
    'zip cut': (lambda: zipped(('disk', DATA))[:-200], 'damaged'),
    'gzip damaged': (lambda: gzip.compress(DATA)[:500] + os.urandom(
        500) + gzip.compress(DATA)[1000:], 'damaged'),
    'gzip with a wrong sum': (lambda: gzip.compress(DATA)[:-8] + bytes(8),
                              'damaged'),
    'xz and rubbish': (lambda: lzma.compress(DATA) + b'rubbish' * 100,
                       'damaged'),
    'gzip in gzip': (lambda: gzip.compress(gzip.compress(DATA)),
                     'gzip data again'),
    'xz damaged': (lambda: lzma.compress(DATA)[:500] + bytes(
        500) + lzma.compress(DATA)[1000:], 'damaged'),
    'two members': (lambda: zipped(('a', DATA), ('b', b'')), '2 files'),
    'no member': (lambda: b'PK\3\4' + zipped()[:0] + bytes(30) + zipped(),
                  'zip'),
    'a directory': (lambda: zipped(('disk/', b'')), 'no files'),
    'a link': (lambda: link('/etc/passwd'), 'no regular file'),
    'a device': (lambda: zipped(('disk', b''), mode=0o60600),
                 'no regular file'),
    'encrypted': (encrypted_zip, 'encrypted'),
}


@pytest.mark.parametrize('make, word', BAD.values(), ids=BAD)
def test_archives_that_lie(service, make, word):
    data = make()
    image = import_it(service, data)
    check_failed(service, image, data, 'image_decompression', word)


def test_container_format_compressed_stays(service):
    data = gzip.compress(DATA)
    image = import_it(service, data, container_format='compressed')
    assert image['status'] == 'active'
    assert service.download(image['id']) == data


# -- conversion

@pytest.mark.parametrize('name', (
    'qcow2', 'qcow2-old', 'qcow2-zlib', 'qcow2-zstd', 'vmdk', 'vmdk-stream',
    'vdi', 'vhdx', 'vhd', 'vhd-fixed'))
def test_conversion_is_what_qemu_img_does(service, directory, name):
    case = CASES[name]
    path = directory / name
    case.make(path)
    image = import_it(service, path.read_bytes(), disk_format=case.declared)
    assert image['status'] == 'active', image
    assert (image['disk_format'], image['container_format']) == (
        'raw', 'bare')
    by_hand = directory / f'{name}.raw'
    subprocess.run(['qemu-img', 'convert', '-f', QEMU.get(
        case.declared, case.declared), '-O', 'raw', path, by_hand],
        check=True)
    data = by_hand.read_bytes()
    assert service.download(image['id']) == data
    assert image['size'] == image['virtual_size'] == len(data)
    assert image['os_hash_value'] == hashlib.sha512(data).hexdigest()
    services.wait_for(lambda: not [
        each for each in service.staged() if each.startswith(image['id'])])


def test_compressed_and_converted(service, directory):
    path = directory / 'both'
    CASES['qcow2'].make(path)
    image = import_it(service, lzma.compress(path.read_bytes()),
                      disk_format='qcow2')
    assert image['status'] == 'active', image
    assert (image['disk_format'], image['size']) == ('raw', corpus.SIZE)


@pytest.mark.parametrize('name', ('iso', 'iso-mbr', 'raw', 'raw-gpt'))
def test_what_stays_as_it_is(service, directory, name):
    path = directory / name
    CASES[name].make(path)
    data = path.read_bytes()
    image = import_it(service, data, disk_format=CASES[name].declared)
    assert image['status'] == 'active', image
    assert image['disk_format'] == CASES[name].declared
    assert service.download(image['id']) == data


@pytest.mark.parametrize('name', (
    'backing-qcow2', 'data-file-qcow2', 'flat-extent-vmdk', 'raw-as-qcow2',
    'qcow2-huge', 'vhd-differencing-vhd', 'qcow2-iso', 'iso-as-qcow2',
    'backing-raw', 'descriptor-vmdk'))
def test_images_that_lie_do_not_reach_qemu_img(service, directory, name):
    path = directory / name
    CASES[name].make(path)
    data = path.read_bytes()
    image = import_it(service, data, disk_format=CASES[name].declared)
    check_failed(service, image, data, 'image_conversion',
                 CASES[name].refusal)
    assert image['disk_format'] == CASES[name].declared


def test_damaged_inside(service, directory):
    """What only qemu-img finds: its words, and no path of ours."""
    path = directory / 'damaged'
    CASES['qcow2'].make(path)
    # A cluster that begins where none does.
    data = path.read_bytes()
    (first,) = struct.unpack_from('>Q', data, 40)
    second = struct.unpack_from('>Q', data, first)[0] & 0xffffffff
    place = next(at for at in range(second, second + 65536, 8)
                 if any(data[at:at + 8]))
    corpus.patch(path, place + 6, b'\2')
    data = path.read_bytes()
    image = import_it(service, data, disk_format='qcow2')
    check_failed(service, image, data, 'image_conversion')
    assert '/' not in image['os_glance_import_error'].partition(
        '(reference')[0], image
    assert image['disk_format'] == 'qcow2'


def test_a_format_that_cannot_be_converted(service):
    image = import_it(service, DATA, disk_format='ploop')
    check_failed(service, image, DATA, 'ploop')


@pytest.mark.parametrize('wanted', ('qcow2', 'vmdk'))
def test_other_formats_to_convert_to(make_service, directory, wanted):
    service = make_service(options=options(
        '[image_conversion]', image_conversion={'output_format': wanted},
    )).start()
    path = directory / f'to-{wanted}'
    CASES['vdi'].make(path)
    image = import_it(service, path.read_bytes(), disk_format='vdi')
    assert image['status'] == 'active', image
    assert (image['disk_format'], image['virtual_size']) == (
        wanted, corpus.SIZE)
    made = directory / f'made.{wanted}'
    made.write_bytes(service.download(image['id']))
    subprocess.run(['qemu-img', 'compare', '-f', wanted, '-F', 'vdi', made,
                    path], check=True, stdout=subprocess.DEVNULL)


def test_a_failure_after_the_conversion(make_service, directory, tmp_path):
    """The image is the qcow2 that it was, and imports as that again."""
    plugins = services.write_distribution(
        tmp_path / 'plugins', 'late', {'late_plugin': '''
import os
from taskflow import task


class Late(task.Task):
    def execute(self, file_path):
        if os.path.exists(os.environ['LATE_FAILS']):
            raise RuntimeError('too late')


def get_flow(**kwargs):
    return Late(name=f"late-{kwargs['task_id']}")
'''}, {'glance.image_import.plugins': {'late': 'late_plugin:get_flow'}})
    service = make_service(
        options=options('[image_conversion, late]'), path=[plugins])
    fails = tmp_path / 'fails'
    fails.touch()
    service.environment['LATE_FAILS'] = str(fails)
    service.start()
    path = directory / 'late'
    CASES['qcow2'].make(path)
    data = path.read_bytes()
    image = import_it(service, data, disk_format='qcow2',
                      container_format='bare')
    check_failed(service, image, data, 'too late')
    assert image['disk_format'] == 'qcow2'
    fails.unlink()
    assert service.start_import(image['id']).status == 202
    image = service.wait_status(image['id'], 'active')
    assert (image['disk_format'], image['size']) == ('raw', corpus.SIZE)


def test_no_room(make_service, directory, tmp_path):
    """The reason names the bytes needed and the bytes free."""
    service = make_service(options=options('[image_conversion]'))
    with mounts.memory(service.staging, '9M'):
        service.start()
        path = tmp_path / 'noise.qcow2'
        raw = tmp_path / 'noise.raw'
        raw.write_bytes(os.urandom(6 << 20))
        corpus.run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw,
                   path)
        data = path.read_bytes()
        image = import_it(service, data, disk_format='qcow2')
        check_failed(service, image, data, 'needs', 'are free', 'bytes')


def test_a_conversion_that_takes_too_long(make_service, directory):
    service = make_service(options=options(
        '[image_conversion]', image_conversion={'timeout': 0.01})).start()
    path = directory / 'long.qcow2'
    CASES['qcow2'].make(path)
    data = path.read_bytes()
    image = import_it(service, data, disk_format='qcow2')
    check_failed(service, image, data, 'time limit')


# -- injection

def test_injection(make_service):
    service = make_service(options=options(
        '[inject_image_metadata]',
        paste_deploy={'flavor': 'fakeauth'},
        inject_metadata_properties={
            'ignore_user_roles': 'admin,trusted',
            'inject': 'site:north,kind:a:b,os_glance_x:no,status:active'},
    ), token=services.MEMBER).start()
    image = import_it(service, DATA[:1000], kind='mine')
    assert image['status'] == 'active', image
    assert (image['site'], image['kind']) == ('north', 'a:b')
    assert 'os_glance_x' not in image
    for token in (services.ADMIN, 'tim:red:member,reader,Trusted'):
        image = import_it(service, DATA[:1000], token=token)
        assert image['status'] == 'active' and 'site' not in image


PAIRS = {
    'a:b': {'a': 'b'}, ' a : b , c : d:e ': {'a': 'b', 'c': 'd:e'},
    # Glance's older sample, of which oslo.config takes the outer quotes
    '"property1":"value1","property2":"value2"': {
        'property1': 'value1', 'property2': 'value2'},
    '"a":"b"': {'a': 'b'}, "'a':'b', 'c':'d'": {'a': 'b', 'c': 'd'},
    '"a": "b,c", d:e': {'a': 'b,c', 'd': 'e'}, '"a:b":"c:d"': {'a:b': 'c:d'},
    'a:"b",\'c\':d': {'a': 'b', 'c': 'd'}, "a:it's": {'a': "it's"},
    '"a:b,c:d"': {'a': 'b', 'c': 'd'}, 'a:': {'a': ''}, '"a":""': {'a': ''},
    '': {}, '""': {}}


@pytest.mark.parametrize('written', [
    *PAIRS, '{"a":"b"}', '{a:b}', '"a":"b",...', 'a:b,', ',a:b', 'a:b,a:c',
    '"a:b', 'a:"b', 'a', ':b', '"":"b"', 'a:"x" y', '"a":"b" "c":"d"',
    '"a" b:"c"'])
def test_how_pairs_are_written(tmp_path, written):
    """Understood, or an error that stops the start; never quotes as data."""
    (tmp_path / 'a.conf').write_text(
        f'[inject_metadata_properties]\ninject = {written}\n')
    conf = configuration.load(['--config-dir', str(tmp_path)])
    if written in PAIRS:
        assert conf.inject_metadata_properties.inject == PAIRS[written]
        startup.check_options(conf)
        return
    with pytest.raises(startup.StartupError, match='inject') as caught:
        startup.check_options(conf)
    assert '\n' not in str(caught.value)


# -- what stops the start

@pytest.mark.parametrize('plugins, word', (
    ('[image_conversion, image_decompression]', 'before'),
    ('[image_conversion, no_op, image_decompression]', 'before')))
def test_the_order_is_checked(make_service, plugins, word):
    service = make_service(options=options(plugins))
    done = service.run('api')
    assert done.returncode == 1 and word in done.stderr, done


def test_without_qemu_img(make_service, tmp_path):
    service = make_service(options=options('[image_conversion]'))
    (tmp_path / 'bin').mkdir()
    bwrap = pathlib.Path('/usr/bin/bwrap')
    if bwrap.exists():
        (tmp_path / 'bin' / 'bwrap').symlink_to(bwrap)
    service.environment['PATH'] = str(tmp_path / 'bin')
    done = service.run('api')
    assert done.returncode == 1 and 'qemu-utils' in done.stderr, done


@pytest.mark.skipif(not os.environ.get('LONG_TESTS'),
                    reason='the long form: LONG_TESTS=1')
def test_a_real_large_image(make_service, tmp_path):
    """A file system of what this machine has in /usr/share, byte for byte."""
    raw, packed, by_hand = (tmp_path / name for name in (
        'disk.raw', 'disk.qcow2', 'hand.raw'))
    corpus.run('mke2fs', '-q', '-F', '-t', 'ext4', '-d', '/usr/share', raw,
               '4G')
    corpus.run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, packed)
    raw.unlink()
    assert packed.stat().st_size > 300 << 20
    service = make_service(options=options('[image_conversion]')).start()
    image_id = service.create(disk_format='qcow2')
    with open(packed, 'rb') as file:
        assert service.stage(image_id, chunks=iter(
            lambda: file.read(1 << 20), b'')).status == 204
    assert service.start_import(image_id).status == 202
    services.wait_for(lambda: service.show(image_id)['status'] == 'active',
                      400)
    image = service.show(image_id)
    assert (image['disk_format'], image['size']) == ('raw', 4 << 30)
    corpus.run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', packed,
               by_hand)
    stored, = (service.images / name for name in service.stored())
    subprocess.run(['cmp', by_hand, stored], check=True)


def test_killed_while_it_converts(make_service, tmp_path):
    """It is done again, from the image as it was."""
    raw, packed = tmp_path / 'disk.raw', tmp_path / 'disk.qcow2'
    block = os.urandom(1 << 20)
    with open(raw, 'wb') as file:
        for number in range(256):
            file.write(number.to_bytes(8, 'big') + block[8:])
    corpus.run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, packed)
    service = make_service(options=options(
        '[image_decompression, image_conversion]')).start()
    image_id = service.create(disk_format='qcow2')
    assert service.stage(image_id, packed.read_bytes()).status == 204
    assert service.start_import(image_id).status == 202

    def converting():
        return [name for name in service.staged() if name.endswith('.new')]
    services.wait_for(converting)
    service.kill()
    service.start()
    image = service.wait_status(image_id, 'active', 'uploading', 'queued')
    assert (image['status'], image['disk_format']) == ('active', 'raw')
    subprocess.run(['cmp', raw, service.images / service.stored()[0]],
                   check=True)
    services.wait_for(lambda: not service.staged())
