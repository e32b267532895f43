"""Compressed and archived disks: unpacked, or refused by name."""

import bz2
import gzip
import io
import lzma
import os
import random
import struct
import subprocess
import tarfile
import time
import zipfile
import zlib

import lz4.frame
import pytest
import zstandard

from glance_import.plugin import contract
from glance_import.plugin import data as plugin_data
from glance_import.plugin.workers import decompress
from glance_import.plugin.workers import kinds
from tests import servers

# Random, then zeros; no multiple of a block.
DISK = random.Random(1).randbytes(150_000) + bytes(250_123)
LIMIT = 64 << 20
MUTANTS = 20_000 if os.environ.get('LONG_TESTS') else 800
SKIPPED = struct.pack('<II', 0x184d2a50, 4) + b'1234'
SAME, OTHER = 'same', 'other'


def unpack(path, directory, nested=False):
    """The kind of a file, the verdict and reason, and what comes out."""
    with open(path, 'rb') as file, \
            open(directory / 'out', 'w+b') as out:
        kind = kinds.kind_of(file)
        if kind not in kinds.TAKEN:
            return kind, None, None, None
        size = os.fstat(file.fileno()).st_size
        context = contract.Context(
            {'max_ratio': 1000, 'nested': nested}, str(directory), 0,
            lambda text: None, lambda percent: None, lambda: False)
        plugin = decompress.Decompress()
        said = plugin.inspect(plugin_data.Data(file.fileno(), size), context)
        if said.kind == 'accept':
            said = plugin.transform(
                plugin_data.Data(file.fileno(), size),
                plugin_data.Sink(out.fileno(), LIMIT), context)
        out.seek(0)
        return kind, said.kind, said.reason, (
            SAME if out.read() == DISK else OTHER)


# -- made by the programs that people use

# A program, and what it is to write to $1 when "disk" is in the directory.
PROGRAMS = {
    'pzstd': ('pzstd', 'pzstd -q -p 2 disk -o $1'),
    'zstd': ('zstd', 'zstd -q --long=27 disk -o $1'),
    'lz4': ('lz4', 'lz4 -q --content-size disk $1'),
    'xz blocks': ('xz', 'xz -c --block-size=100000 disk > $1'),
    'xz bcj': ('xz', 'xz -c --x86 --lzma2 disk > $1'),
    'zip': ('zip', 'zip -q - disk > $1'),
    'zip pipe': ('zip', 'cat disk | zip -q $1.zip - && mv $1.zip $1'),
    'zip pipes': ('zip', 'cat disk | zip -q > $1'),
    'zip folder': ('zip', 'mkdir -p a/b && cp disk a/b && '
                   'zip -qr - a > $1'),
    'zip mac': ('zip', 'mkdir -p c __MACOSX/c && cp disk c && touch '
                'c/.DS_Store __MACOSX/c/._disk && '
                'zip -qr - c __MACOSX > $1'),
    'tar': ('tar', 'tar cf $1 disk'),
    'tar v7': ('tar', 'tar --format=v7 -cf $1 disk'),
    'tar.gz': ('tar', 'tar czf $1 disk'),
    'tar.xz folder': ('tar', 'mkdir -p d && cp disk d && tar cJf $1 d'),
    'tar.gz sparse': ('tar', 'tar --format=oldgnu -Sczf $1 disk'),
    'tar.gz pax': ('tar', 'tar --format=pax -Sczf $1 disk'),
    '7z zip': ('7z', '7z a -bd -tzip -si $1.z < disk && mv $1.z $1'),
}
BY_NAME = {
    'lzma': ('xz', 'xz -c --format=lzma disk > $1', 'lzma'),
    'lzma zeros': ('xz', 'head -c 99999 /dev/zero | xz --format=lzma > $1',
                   'lzma'),
    'lzip': ('lzip', 'lzip -c disk > $1', 'lzip'),
    'lz4 legacy': ('lz4', 'lz4 -q -l disk $1', 'lz4 (legacy frame)'),
    '7z': ('7z', '7z a -bd $1.7z disk && mv $1.7z $1', '7z'),
    'lzop': ('lzop', 'lzop -c disk > $1', 'lzop'),
    'compress': ('compress', 'compress -c disk > $1', 'compress'),
    'cpio': ('cpio', 'echo disk | cpio --quiet -o -H newc > $1', 'cpio'),
    'cpio binary': ('cpio', 'echo disk | cpio --quiet -o > $1', 'cpio'),
    'ar': ('ar', 'ar rc $1.a disk && mv $1.a $1', 'ar'),
    'wim': ('7z', '7z a -bd -twim $1.wim disk && mv $1.wim $1', 'wim'),
    'zip split': ('zip', 'zip -q -s 64k s.zip disk && mv s.z01 $1',
                  'zip (split)'),
}


def written_by(program, script, directory):
    servers.program(program)
    (directory / 'disk').write_bytes(DISK)
    subprocess.run(['/bin/sh', '-ec', script, 'sh', 'made'], check=True,
                   cwd=directory, stdout=subprocess.DEVNULL)
    return directory / 'made'


@pytest.mark.parametrize('program, script', PROGRAMS.values(), ids=PROGRAMS)
def test_unpacked(tmp_path, program, script):
    made = written_by(program, script, tmp_path)
    assert unpack(made, tmp_path)[1:] == ('accept', None, SAME)


@pytest.mark.parametrize('program, script, kind', BY_NAME.values(),
                         ids=BY_NAME)
def test_known_by_name(tmp_path, program, script, kind):
    made = written_by(program, script, tmp_path)
    assert unpack(made, tmp_path)[0] == kind
    # A tar of it, or a gz, is no way around.
    inside = tmp_path / 'inside'
    inside.write_bytes(gzip.compress(made.read_bytes()))
    _kind, verdict, reason, _out = unpack(inside, tmp_path)
    assert verdict == 'reject' and f'is {kind} data again' in reason


# -- made here

def zipped(*members, mode=0o100644, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data, method)
    return buffer.getvalue()


def tarred(*members, kind=tarfile.REGTYPE):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def labelled(kind, first, *members):
    """A tar whose first member is of a kind of GNU tar's."""
    return tarred(first, kind=kind)[:512 + (512 if first[1] else 0)] \
        + tarred(*members)


def nested(depth):
    """A disk in as many tars inside of each other."""
    data = DISK
    for number in range(depth):
        data = tarred((f'{number}.tar', data))
    return data


MADE = {
    'skippable, zstd': (SKIPPED * 3 + zstandard.compress(DISK), None),
    'zstd, skippable, zstd': (
        zstandard.compress(DISK[:9]) + SKIPPED
        + zstandard.compress(DISK[9:]), None),
    'skippable, lz4': (SKIPPED + lz4.frame.compress(DISK), None),
    'zip without attributes': (zipped(('disk', DISK), mode=0), None),
    'zip of a pipe': (zipped(('-', DISK), mode=0o10600), None),
    'zip with a directory': (zipped(('a/', b''), ('a/d', DISK)), None),
    'gz and data': (gzip.compress(DISK) + b'metadata', '8 bytes follow'),
    'gz, zeros, data': (gzip.compress(DISK) + bytes(512) + b'metadata',
                        '520 bytes follow'),
    'gz, gz, data': (gzip.compress(DISK[:9]) + gzip.compress(DISK[9:])
                     + b'metadata', '8 bytes follow'),
    'zip and data': (zipped(('a', DISK)) + b'123', '3 bytes follow'),
    'zip of Windows': (zipped(('a\\', b''), ('a\\d', DISK), mode=0), None),
    'tar with a label': (labelled(b'V', ('x', b''), ('disk', DISK)), None),
    'tar with a list': (labelled(b'D', ('x', b'Ydisk\0\0'), ('disk', DISK)),
                        None),
    'bz2 and data': (bz2.compress(DISK) + b'x', '1 bytes follow'),
    'tar of a tar': (nested(2), None), 'tars in a tar': (nested(5), None),
    'tars in a gz': (gzip.compress(nested(4)), None),
}
REFUSED = {
    'two in a zip': (zipped(('a', DISK), ('b', b'')), '2 files, not one (a'),
    'none in a zip': (zipped(('a/', b'')), 'holds no files'),
    'a link in a zip': (zipped(('a', b'x'), mode=0o120777), 'no regular'),
    'two in a tar': (tarred(('a', DISK), ('b', b'')), '2 files, not one (a'),
    'none in a tar': (tarred(('a', b''), kind=tarfile.DIRTYPE),
                      'holds no files'),
    'a link in a tar': (tarred(('a', b''), kind=tarfile.SYMTYPE),
                        'no regular'),
    'a device in a tar': (tarred(('a', b''), kind=tarfile.CHRTYPE),
                          'no regular'),
    'tar cut': (tarred(('a', DISK))[:200_000], 'damaged'),
    'tar.gz cut': (gzip.compress(tarred(('a', DISK)))[:-10], 'cut'),
    'tar and data': (tarred(('a', DISK)) + b'x' * 512, 'follows it at byte'),
    'tar.gz bomb beside': (gzip.compress(tarred(
        ('._a', bytes(65 << 20)), ('a', b''))), 'beside the disk'),
    'gz in gz': (gzip.compress(gzip.compress(DISK)), 'gzip data again'),
    'gz in zip': (zipped(('a', gzip.compress(DISK))), 'gzip data again'),
    'skipped zstd in gz': (gzip.compress(
        SKIPPED + zstandard.compress(DISK)), 'zstd data again'),
    'skipped zstd in zip': (zipped(('a', SKIPPED + zstandard.compress(DISK))),
                            'zstd data again'),
    'skipped zstd in tar': (tarred(('a', SKIPPED + zstandard.compress(DISK))),
                            'zstd data again'),
    'many tars': (nested(400), 'more than 4 tar archives'),
    'gz of many tars': (gzip.compress(nested(5)), 'more than 4 tar archives'),
    'gz in tar': (tarred(('a', gzip.compress(DISK))), 'gzip data again'),
    'skippable frames to nowhere': (struct.pack('<II', 0x184d2a5f, 9 ** 9),
                                    'cut'),
    'zstd and data': (zstandard.compress(DISK) + b'rubbish' * 9,
                      'zstd data'),
    'xz and data': (lzma.compress(DISK) + b'rubbish' * 9, 'damaged'),
    'xz and 3 bytes': (lzma.compress(DISK) + b'123', '3 bytes that are none'),
    'lz4 and 3 bytes': (lz4.frame.compress(DISK) + b'123',
                        '3 bytes that are none'),
    'gz of nothing': (gzip.compress(b''), 'nothing is in the gzip data'),
    'zip of nothing': (zipped(('a', b'')), 'nothing is in the zip data'),
    'tar.xz of nothing': (lzma.compress(tarred(('a', b''))),
                          'nothing is in the xz data'),
    'xz of much memory': (lzma.compress(DISK, filters=[
        {'id': lzma.FILTER_LZMA2, 'dict_size': 512 << 20}]), 'more memory'),
    'zstd of much memory': (
        b'\x28\xb5\x2f\xfd\0' + bytes((20 << 3,)) + b'\1\0\0',
        'more memory'),
    'zip version': (zipped(('a', DISK)).replace(
        b'PK\1\2\x14\3\x14', b'PK\1\2\x14\3\xff'), 'not supported'),
}
NO_ARCHIVES = {
    'zeros': bytes(4096), 'ones': b'\xff' * 4096, 'text': b'text\n' * 999,
    'random': DISK[:4096], 'boot sector': bytes(510) + b'\x55\xaa',
    'empty': b'', 'one byte': b'\x1f', 'x': b'x\x01' + DISK[:4096],
    'first letter of lzma': b']\0\0\0\0' + bytes(4096),
    'qcow2': b'QFI\xfb\0\0\0\3' + bytes(4096),
}


STUB = random.Random(2).randbytes(5000)
BOOT = bytes(510) + b'\x55\xaa' + bytes(100_000)
KOLY = b'koly\0\0\0\4\0\0\2\0'.ljust(216, b'\0')
PLIST = b'<?xml version="1.0"?><plist/>'


def koly(at, length):
    return (KOLY + struct.pack('>QQ', at, length)).ljust(512, b'\0')


def adjusted(stub, *members):
    """A zip behind something, whose offsets are those of the file."""
    buffer = io.BytesIO(stub)
    with zipfile.ZipFile(buffer, 'a', zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def wide(data):
    """A zip as one whose directory is beyond 4 GiB."""
    count, length, start = struct.unpack('<10xHII2x', data[-22:])
    place = len(data) - 22
    return (data[:-22] + struct.pack(
        '<IQHHIIQQQQ', 0x06064b50, 44, 45, 45, 0, 0, count, count, length,
        start) + struct.pack('<IIQI', 0x07064b50, 0, place, 1)
        + struct.pack('<IHHHHIIH', 0x06054b50, 0, 0, 0xffff, 0xffff,
                      0xffffffff, 0xffffffff, 0))


def seven_z():
    rest = struct.pack('<QQI', 5, 6, 7)
    return (b'7z\xbc\xaf\x27\x1c\0\4'
            + struct.pack('<I', zlib.crc32(rest)) + rest + bytes(99))


NAMED = {
    **{f'{kind} {number}': (head + bytes(4096), kind)
       for number, (head, kind) in enumerate((
           (b'\xed\xab\xee\xdb\3\0', 'rpm'),
           (b'EVF\t\r\n\xff\0\1\1\0\0\0', 'ewf'),
           (b'EVF2\r\n\x81\0', 'ewf'), (b'WLPWM\0\0\0', 'wim'),
           (b'MComprHD\0\0\0\x7c', 'chd'),
           (struct.pack('<IHH', 0xed26ff3a, 1, 0), 'android sparse'),
           (b'#!/bin/sh\n#V2.0 Format\nmodprobe cloop', 'cloop'),
           (b'VMA\0\0\0\0\1', 'vma'), (b'pbzx\0\0\0\0\1', 'pbzx'),
           (b'StuffIt (c)1997-', 'stuffit'), (b'IsZ!\x40', 'isz'),
           (b'SIT!\0\1\0\0\1\0rLau', 'stuffit'), (b'070727', 'cpio'),
           (b'\x1f\x1e\0\0\1\0\2\1', 'pack'), (b'\x1f\x9f\1', 'freeze'),
           (b'\x1f\xa0\1', 'lzh')))},
    'dmg of bzip2': (bz2.compress(DISK) + PLIST + koly(0, 0), 'dmg'),
    'dmg with a list': (DISK + PLIST + koly(len(DISK), len(PLIST)), 'dmg'),
    'zip behind MZ': (b'MZ' + STUB + zipped(('disk', DISK)),
                      'self-extracting zip'),
    'zip behind a script': (adjusted(b'#!/bin/sh\n' + STUB, ('disk', DISK)),
                            'self-extracting zip'),
    'zip behind ELF, small': (b'\x7fELF' + DISK + zipped(('a', b'x')),
                              'self-extracting zip'),
    'zip behind anything': (STUB + zipped(('disk', DISK)),
                            'self-extracting zip'),
    'zip behind anything, adjusted': (adjusted(STUB, ('disk', bytes(9999))),
                                      'self-extracting zip'),
    'wide zip behind anything': (STUB + wide(zipped(('disk', DISK))),
                                 'self-extracting zip'),
    '7z behind MZ': (b'MZ' + STUB + seven_z(), 'self-extracting 7z'),
    'rar behind MZ': (b'MZ' + STUB + b'Rar!\x1a\7\1\0' + bytes(99),
                      'self-extracting rar'),
    # Disks that have such a thing as their last file, and others.
    'disk with a jar at its end': (DISK + zipped(('META-INF/', b''),
                                                 ('a', b'x' * 999)), None),
    'boot disk with a zip': (BOOT + zipped(('disk', DISK)), None),
    'disk with a dmg at its end': (
        DISK + DISK[:4096] + PLIST + koly(4096, len(PLIST)), None),
    'zip whose offsets are wrong': (
        STUB + zipped(('disk', DISK))[:-6] + b'\0\0\0\7\0\0', None),
    'zip and data behind anything': (
        STUB + zipped(('disk', DISK)) + bytes(99), None),
    'a script': (b'#!/bin/sh\n' + STUB, None),
    '7z that is none': (b'MZ' + STUB + seven_z()[:9] + bytes(99), None),
    'boot sector like freeze': (b'\x1f\x9f' + BOOT[2:], None),
    'pack with no levels': (b'\x1f\x1e' + bytes(600), None),
}


@pytest.mark.parametrize('data, kind', NAMED.values(), ids=NAMED)
def test_refused_by_name(tmp_path, data, kind):
    (tmp_path / 'made').write_bytes(data)
    with open(tmp_path / 'made', 'rb') as file:
        assert kinds.kind_of(file) == kind
        assert not file.tell()
    assert kind not in kinds.TAKEN


@pytest.mark.parametrize('data, warning', MADE.values(), ids=MADE)
def test_made_and_unpacked(tmp_path, data, warning):
    (tmp_path / 'made').write_bytes(data)
    _kind, verdict, reason, out = unpack(tmp_path / 'made', tmp_path)
    assert (verdict, out) == ('warn' if warning else 'accept', SAME), reason
    assert (warning or '') in (reason or '')


@pytest.mark.parametrize('data, word', REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, data, word):
    (tmp_path / 'made').write_bytes(data)
    _kind, verdict, reason, _out = unpack(tmp_path / 'made', tmp_path)
    assert verdict == 'reject' and word in reason
    assert f' of {len(data)}): ' in reason


@pytest.mark.parametrize('data', NO_ARCHIVES.values(), ids=NO_ARCHIVES)
def test_what_is_none(tmp_path, data):
    (tmp_path / 'made').write_bytes(data)
    assert unpack(tmp_path / 'made', tmp_path)[0] is None


def test_zlib_is_known(tmp_path):
    for level in (0, 1, 6, 9):
        (tmp_path / 'made').write_bytes(zlib.compress(DISK, level))
        assert unpack(tmp_path / 'made', tmp_path)[0] == 'zlib'


def test_an_archive_may_stay_one(tmp_path):
    """Where the image is an archive, what comes out of a gz is not read."""
    (tmp_path / 'made').write_bytes(gzip.compress(tarred(('a', DISK))))
    assert unpack(tmp_path / 'made', tmp_path, nested=True)[1] == 'accept'
    assert (tmp_path / 'out').read_bytes() == tarred(('a', DISK))


# -- bad input

SEEDS = {
    'gzip': gzip.compress(DISK), 'bzip2': bz2.compress(DISK[:30_000]),
    'xz': lzma.compress(DISK), 'zstd': SKIPPED + zstandard.compress(DISK),
    'lz4': lz4.frame.compress(DISK),
    'zip': zipped(('a/', b''), ('a/disk', DISK)),
    'tar': tarred(('a' * 150, DISK)),
    'tar.gz': gzip.compress(tarred(('a', DISK))),
}
VALUES = (b'\xff' * 4, bytes(4), b'\xff' * 8, b'\0\0\0\1', b'77777777777',
          b'\x80' + b'\xff' * 11, b'PK\5\6', b'\x50\x2a\x4d\x18')


def mutated(chance, data):
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.choice((
            chance.randrange(min(len(data), 600)),
            max(len(data) - chance.randrange(1, 600), 0),
            chance.randrange(len(data))))
        value = chance.choice((chance.randbytes(chance.choice((1, 2, 8))),
                               *VALUES))
        data[at:at + len(value)] = value
    if chance.random() < 0.2:
        del data[chance.randrange(len(data)):]
    return data


def test_damage_is_a_verdict_never_an_exception(tmp_path):
    chance, counts = random.Random(13), {}
    names = list(SEEDS)
    for number in range(MUTANTS):
        name = names[number % len(names)]
        (tmp_path / 'made').write_bytes(mutated(chance, SEEDS[name]))
        kind, verdict, _reason, _out = unpack(tmp_path / 'made', tmp_path)
        counts[verdict] = counts.get(verdict, 0) + 1
    print(counts)
    assert counts['reject'] > MUTANTS // 3


def many(of, each, count):
    """As many small things of a kind in a file as that."""
    return {
        'gzip': lambda: gzip.compress(each) * count,
        'zstd': lambda: (SKIPPED + zstandard.compress(each)) * count,
        'lz4': lambda: lz4.frame.compress(each) * count,
        'xz': lambda: lzma.compress(each) * count,
        'zip': lambda: zipped(*((f'{number}/', b'')
                                for number in range(count))),
        'tar': lambda: tarred(*(('a', b''),) * count,
                              kind=tarfile.DIRTYPE),
        'frames': lambda: SKIPPED * count,
    }[of]()


@pytest.mark.parametrize('kind, count', (
    ('gzip', 8000), ('zstd', 4000), ('lz4', 4000), ('xz', 1500),
    ('zip', 2000), ('tar', 1000), ('frames', 20_000)))
def test_the_cost_grows_as_the_data_does(tmp_path, kind, count):
    spent = []
    for times in (1, 4):
        (tmp_path / 'made').write_bytes(many(kind, b'x', count * times))
        begun = time.process_time()
        unpack(tmp_path / 'made', tmp_path)
        spent.append(time.process_time() - begun)
    assert spent[1] <= 8 * spent[0] + 0.05
