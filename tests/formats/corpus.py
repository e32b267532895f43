"""Makes image files, good ones and bad ones, each with its verdict.

``python -m tests.formats.corpus DIRECTORY`` writes them all. The good ones
come from qemu-img, genisoimage and parted; the bad ones are small headers,
or good files changed in one place. TABLE says what is expected of each: the
format found and the virtual size, or a word of the refusal.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import pathlib
import struct
import subprocess
import sys
import uuid

from tests import servers

SIZE = 8 << 20
BACKING = '/etc/hostname'


def run(*command: object, directory: pathlib.Path | None = None) -> None:
    program = servers.program(str(command[0]), '/sbin', '/usr/sbin')
    subprocess.run([program, *map(str, command[1:])], check=True,
                   capture_output=True, timeout=300, cwd=directory)


# -- good files

def source(path: pathlib.Path) -> None:
    """A raw disk: a partition table, and data that compresses a little."""
    with open(path, 'wb') as file:
        file.truncate(SIZE)
    run('parted', '-s', path, 'mklabel', 'msdos', 'mkpart', 'primary',
        '1MiB', '6MiB')
    with open(path, 'r+b') as file:
        file.seek(2 << 20)
        for number in range(4096):
            file.write(struct.pack('>QQ', number, number * 2654435761) * 16)


def converted(kind: str, *options: str
              ) -> collections.abc.Callable[[pathlib.Path], None]:
    def make(path: pathlib.Path) -> None:
        raw = path.with_name('source.raw')
        if not raw.exists():
            source(raw)
        run('qemu-img', 'convert', '-f', 'raw', '-O', kind,
            *(('-o', ','.join(options)) if options else ()), raw, path)
    return make


def compressed(path: pathlib.Path) -> None:
    raw = path.with_name('source.raw')
    if not raw.exists():
        source(raw)
    run('qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, path)


def gpt(path: pathlib.Path) -> None:
    with open(path, 'wb') as file:
        file.truncate(SIZE)
    run('parted', '-s', path, 'mklabel', 'gpt', 'mkpart', 'one', 'ext4',
        '1MiB', '4MiB', 'mkpart', 'two', '4MiB', '6MiB')


def iso(path: pathlib.Path, *more: str) -> None:
    tree = path.with_name(path.name + '.d')
    tree.mkdir(exist_ok=True)
    (tree / 'readme').write_text('an image\n' * 1000)
    (tree / 'boot.img').write_bytes(bytes(512 * 2880))
    run('genisoimage', '-quiet', '-J', '-R', *more, '-o', path, tree)


def bootable_iso(path: pathlib.Path) -> None:
    iso(path, '-b', 'boot.img', '-c', 'boot.cat')


def iso_with_mbr(path: pathlib.Path) -> None:
    """As isohybrid makes them: a partition table in the system area."""
    iso(path)
    entry = struct.pack('<B3BB3BII', 0x80, 0, 1, 0, 0x17, 0, 1, 0, 0,
                        path.stat().st_size // 512)
    patch(path, 446, entry + bytes(48) + b'\x55\xaa')


def empty(path: pathlib.Path) -> None:
    path.write_bytes(b'')


def zeros(path: pathlib.Path) -> None:
    with open(path, 'wb') as file:
        file.truncate(SIZE)


def text(path: pathlib.Path) -> None:
    path.write_text('#!/bin/sh\necho version=1\n' * 5000)


def luks(path: pathlib.Path) -> None:
    path.write_bytes(b'LUKS\xba\xbe\0\1' + bytes(SIZE - 8))


# -- bad files

def patch(path: pathlib.Path, offset: int, data: bytes) -> None:
    with open(path, 'r+b') as file:
        file.seek(offset)
        file.write(data)


def patched(make: collections.abc.Callable[[pathlib.Path], None],
            *changes: tuple[int, bytes]
            ) -> collections.abc.Callable[[pathlib.Path], None]:
    """A good file, changed at places; a negative one is from its end."""
    def bad(path: pathlib.Path) -> None:
        make(path)
        size = path.stat().st_size
        for offset, data in changes:
            patch(path, offset if offset >= 0 else size + offset, data)
    return bad


def cut(make: collections.abc.Callable[[pathlib.Path], None], size: int
        ) -> collections.abc.Callable[[pathlib.Path], None]:
    """The first ``size`` bytes of a file; all but the last if negative."""
    def bad(path: pathlib.Path) -> None:
        make(path)
        with open(path, 'r+b') as file:
            file.truncate(
                size if size >= 0 else path.stat().st_size + size)
    return bad


def written(data: bytes, size: int = 0
            ) -> collections.abc.Callable[[pathlib.Path], None]:
    return lambda path: void(path.write_bytes(data.ljust(size, b'\0')))


def void(_value: object) -> None:
    pass


def qcow2_header(*, backing: str = '', features: int = 0, size: int = SIZE,
                 extensions: bytes = b'', version: int = 3,
                 bits: int = 16) -> bytes:
    at = 104 + len(extensions) + 8
    header = struct.pack(
        '>4sIQIIQIIQQIIQQQQII', b'QFI\xfb', version, at if backing else 0,
        len(backing), bits, size, 0, 1, 3 << 16, 1 << 16, 1, 0, 0, features,
        0, 0, 4, 104)
    return header + extensions + bytes(8) + backing.encode()


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack('>II', kind, len(data)) + data.ljust(
        len(data) + 7 & ~7, b'\0')


def with_backing(path: pathlib.Path) -> None:
    base = path.with_name('base.raw')
    zeros(base)
    run('qemu-img', 'create', '-f', 'qcow2', '-b', base, '-F', 'raw', path)


def with_data_file(path: pathlib.Path) -> None:
    data = path.with_name('data.raw')
    run('qemu-img', 'create', '-f', 'qcow2', '-o',
        f'data_file={data},data_file_raw=on', path, SIZE)


def qed_backing(path: pathlib.Path) -> None:
    run('qemu-img', 'create', '-f', 'qed', path, SIZE)


DESCRIPTOR = '''# Disk DescriptorFile
version=1
CID=12345678
parentCID={parent}
createType="{kind}"
# Extent description
{extents}
# The Disk Data Base
#DDB
ddb.virtualHWVersion = "4"
{more}'''


def descriptor(kind: str = 'monolithicFlat', parent: str = 'ffffffff',
               extents: str = f'RW 16384 FLAT "{BACKING}" 0',
               more: str = '') -> bytes:
    return DESCRIPTOR.format(kind=kind, parent=parent, extents=extents,
                             more=more).encode()


def vmdk(text: bytes, *, place: int = 1, sectors: int = 20,
         footer: bytes = b'', capacity: int = 16384) -> bytes:
    header = struct.pack('<4sIIQQQQIQQ', b'KDMV', 1, 3, capacity, 128, place,
                         sectors, 512, 21, 26 if not footer else 2**64 - 1)
    return header.ljust(512 * max(place, 1), b'\0') + text.ljust(
        512 * sectors, b'\0') + bytes(64 << 10) + footer


GOOD_EXTENT = 'RW 16384 SPARSE "disk.vmdk"'


STREAM = descriptor('streamOptimized', extents=GOOD_EXTENT)


def qcow1(backing: str = BACKING) -> bytes:
    """qcow version 1, as short as it can be."""
    return struct.pack('>4sIQII QBBHIQ', b'QFI\xfb', 1, 48 + 8,
                       len(backing), 0, SIZE, 12, 9, 0, 0, 48) \
        + bytes(8) + backing.encode()


def vmdk_with(word: str, *, sectors: int = 20, gap: int = 0,
              front: str = '# ') -> bytes:
    """A good sparse VMDK, but for a name that no reader should meet.

    :param gap: bytes between the end of the descriptor and the name
    """
    line = f'\n{front}{word}="{BACKING}"\n'.encode()
    text = descriptor('monolithicSparse', extents=GOOD_EXTENT)
    if not gap:
        return vmdk(text + line, sectors=sectors)
    whole = bytearray(vmdk(text, sectors=sectors))
    at = 512 * (1 + sectors) + gap
    whole[at:at + len(line)] = line
    return bytes(whole)


def odd_vmdk(version: int) -> bytes:
    """A header whose version nobody has, with another file as its extent."""
    whole = bytearray(vmdk(descriptor('monolithicFlat'), capacity=0))
    whole[4:8] = version.to_bytes(4, 'little')
    return bytes(whole)


# What files of each format begin with, and where.
MAGICS = {'qcow': (0, b'QFI\xfb'), 'qed': (0, b'QED\0'),
          'vmdk': (0, b'KDMV'), 'cowd': (0, b'COWD'),
          'vhd': (0, b'conectix'), 'vhdx': (0, b'vhdxfile'),
          'luks': (0, b'LUKS\xba\xbe'),
          'vdi': (0x40, b'\x7f\x10\xda\xbe')}


def begun(magic: str, more: int) -> bytes:
    """Only what a file of a format begins with, and ``more`` bytes."""
    place, value = MAGICS[magic]
    return bytes(place) + value + bytes(more)


# What some end a line with, and a reader of descriptors does not.
NO_ENDS = {'cr': b'\r', 'vt': b'\v', 'ff': b'\f', 'nul': b'\0',
           'fs': b'\x1c', 'nel': b'\xc2\x85', 'ls': b'\xe2\x80\xa8'}


def commented(end: bytes) -> bytes:
    """A descriptor behind a comment that holds such a character."""
    return (b'#' + end + b'no such line\n' + descriptor().partition(
        b'\n')[2])


def footer(version: bytes = b'\1', gd: int = 26) -> bytes:
    """What ends a stream whose header says that it does."""
    header = struct.pack('<4s4sIQQQQIQQ', b'KDMV', version.ljust(4, b'\0'),
                         3, 16384, 128, 1, 20, 512, 21, gd)
    return (struct.pack('<QII', 1, 0, 3).ljust(512, b'\0')
            + header.ljust(512, b'\0') + bytes(512))


def vhd_footer(kind: int, size: int, data: int = 2**64 - 1) -> bytes:
    return struct.pack('>8sIIQI4sI4sQQIII', b'conectix', 2, 0x10000, data, 0,
                       b'qem2', 0x50003, b'Wi2k', size, size, 0, kind,
                       0).ljust(512, b'\0')


def differencing_vhd(parent: bytes = b'') -> bytes:
    header = b'cxsparse'.ljust(40, b'\0') + uuid.uuid4().bytes
    header = header.ljust(64, b'\0') + BACKING.encode('utf-16-be')
    return (vhd_footer(4, SIZE, 512) + header.ljust(1024, b'\0')
            + bytes(4096) + vhd_footer(4, SIZE, 512))


def both(first: bytes, second: bytes, place: int, size: int = 1 << 20
         ) -> collections.abc.Callable[[pathlib.Path], None]:
    """Two headers in one file."""
    def make(path: pathlib.Path) -> None:
        data = bytearray(size)
        data[:len(first)] = first
        data[place:place + len(second)] = second
        path.write_bytes(data)
    return make


@dataclasses.dataclass(frozen=True)
class Case:
    """``declared`` is the disk_format; either ``format`` or ``refusal``.

    ``warning`` is a word of the only warning.
    """

    name: str
    make: collections.abc.Callable[[pathlib.Path], None]
    declared: str
    format: str = ''
    virtual_size: int | None = SIZE
    refusal: str = ''
    warning: str = ''


def good(name: str, make: collections.abc.Callable[[pathlib.Path], None],
         declared: str, found: str = '', size: int | None = SIZE) -> Case:
    return Case(name, make, declared, found or declared, size)


def bad(name: str, make: collections.abc.Callable[[pathlib.Path], None],
        declared: str, refusal: str) -> Case:
    return Case(name, make, declared, refusal=refusal)


OUTSIDE = 'outside of the file'
ISO_MAGIC = b'\1CD001\1\0'
TABLE = (
    good('raw', source, 'raw'),
    good('raw-gpt', gpt, 'raw'),
    good('raw-zeros', zeros, 'raw'),
    good('raw-empty', empty, 'raw', size=0),
    good('raw-text', text, 'raw', size=None),
    good('raw-luks', luks, 'raw'),
    good('raw-luks-2', written(b'LUKS\xba\xbe\0\2', SIZE), 'raw'),
    good('raw-vhd-footer-inside', written(bytes(512) + vhd_footer(2, SIZE)
                                          + bytes(SIZE - 1024)), 'raw'),
    good('raw-magic-later', written(b'\0QFI\xfb', SIZE), 'raw'),
    good('raw-one-byte', written(b'x'), 'raw', size=1),
    good('ami', zeros, 'ami', 'raw'),
    good('ploop', zeros, 'ploop', 'raw'),
    good('qcow2', converted('qcow2'), 'qcow2'),
    good('qcow2-old', converted('qcow2', 'compat=0.10'), 'qcow2'),
    good('qcow2-zlib', compressed, 'qcow2'),
    good('qcow2-zstd', converted('qcow2', 'compression_type=zstd'), 'qcow2'),
    good('qcow2-small-clusters', converted('qcow2', 'cluster_size=512'),
         'qcow2'),
    good('qcow2-lazy', converted('qcow2', 'lazy_refcounts=on'), 'qcow2'),
    good('qcow2-as-raw', converted('qcow2'), 'raw', 'qcow2', size=None),
    good('qcow2-extended-l2', converted(
        'qcow2', 'extended_l2=on', 'cluster_size=128k'), 'qcow2'),
    good('vmdk', converted('vmdk'), 'vmdk'),
    good('vmdk-stream', converted('vmdk', 'subformat=streamOptimized'),
         'vmdk'),
    good('vmdk-crlf', written(vmdk(STREAM.replace(b'\n', b'\r\n'))),
         'vmdk'),
    good('vmdk-footer-good', written(vmdk(STREAM, footer=footer())),
         'vmdk'),
    good('vdi', converted('vdi'), 'vdi'),
    good('vdi-static', converted('vdi', 'static=on'), 'vdi'),
    good('vhdx', converted('vhdx'), 'vhdx'),
    good('vhdx-fixed', converted('vhdx', 'subformat=fixed'), 'vhdx'),
    good('vhd', converted('vpc', 'force_size=on'), 'vhd'),
    good('vhd-fixed', converted('vpc', 'subformat=fixed', 'force_size=on'),
         'vhd'),
    good('iso', iso, 'iso', size=None),
    good('iso-bootable', bootable_iso, 'iso', size=None),
    good('iso-mbr', iso_with_mbr, 'iso', size=None),

    # what it is not
    bad('raw-as-qcow2', source, 'qcow2', 'content is not that of qcow2'),
    bad('zeros-as-vmdk', zeros, 'vmdk', 'not that of vmdk'),
    bad('empty-as-qcow2', empty, 'qcow2', 'not that of qcow2'),
    bad('qcow2-as-vmdk', converted('qcow2'), 'vmdk', 'content is qcow2'),
    bad('qcow2-as-iso', converted('qcow2'), 'iso', 'content is qcow2'),
    bad('qcow2-as-ami', converted('qcow2'), 'ami', 'content is qcow2'),
    bad('vmdk-as-qcow2', converted('vmdk'), 'qcow2', 'content is vmdk'),
    bad('iso-as-qcow2', iso, 'qcow2', 'content is iso'),
    bad('vhd-as-vhdx', converted('vpc'), 'vhdx', 'content is vhd'),
    bad('text-as-vmdk', text, 'vmdk', 'not that of vmdk'),

    # what is outside, by each way, under its own name and as raw
    *(bad(f'{name}-{declared}', make, declared, word)
      for name, make, own, word in (
        ('backing', with_backing, 'qcow2', 'backing'),
        ('backing-etc', written(qcow2_header(backing=BACKING), 1 << 20),
         'qcow2', 'backing'),
        ('backing-json', written(qcow2_header(
            backing='json:{"driver":"file","filename":"/etc/hostname"}'),
            1 << 20), 'qcow2', 'backing'),
        ('backing-nbd', written(qcow2_header(
            backing='nbd://127.0.0.1:9/x'), 1 << 20), 'qcow2', 'backing'),
        ('backing-v2', written(qcow2_header(backing=BACKING, version=2),
                               1 << 20), 'qcow2', 'backing'),
        ('data-file', with_data_file, 'qcow2', 'data'),
        ('data-file-bit', written(qcow2_header(features=4), 1 << 20),
         'qcow2', 'data_file'),
        ('data-file-name', written(qcow2_header(extensions=extension(
            0x44415441, BACKING.encode())), 1 << 20), 'qcow2', 'data file'),
        ('unknown-feature', written(qcow2_header(features=1 << 40),
                                    1 << 20), 'qcow2', 'feature'),
        ('qcow1', written(b'QFI\xfb\0\0\0\1' + bytes(64), 4096), 'qcow2',
         'qcow2'),
        ('qed', qed_backing, 'raw', 'not allowed'),
        ('descriptor', written(descriptor()), 'vmdk', 'text descriptor'),
        ('descriptor-padded', written(descriptor(), 1 << 20), 'vmdk',
         OUTSIDE),
        ('descriptor-bare', written(descriptor().partition(b'\n')[2]),
         'vmdk', OUTSIDE),
        ('descriptor-shouting', written(b'\n# x\n' + descriptor().upper()),
         'vmdk', OUTSIDE),
        ('descriptor-sparse', written(descriptor(
            'twoGbMaxExtentSparse', extents=GOOD_EXTENT)), 'vmdk', OUTSIDE),
        ('descriptor-monolithic', written(descriptor(
            'monolithicSparse', extents=GOOD_EXTENT), 1 << 20), 'vmdk',
         OUTSIDE),
        *((f'descriptor-{name}', written(commented(end)), 'vmdk', OUTSIDE)
          for name, end in NO_ENDS.items()),
        ('descriptor-unversioned', written(descriptor().replace(
            b'version=1\n', b'')), 'vmdk', OUTSIDE),
        ('descriptor-spread', written(
            b'createType="vmfs"\nRW\n 8\tVMFS\n\n"' + BACKING.encode()
            + b'"\n'), 'vmdk', OUTSIDE),
        ('descriptor-far', written(
            b'# x\n' * 100_000 + b'createType="vmfs"\nRW 8 VMFS "x"'),
         'vmdk', OUTSIDE),
        ('qcow2-131-bytes', written(qcow2_header(backing=BACKING), 131),
         'qcow2', 'qcow2'),
        ('qcow1-67-bytes', written(qcow1(), 67), 'qcow2', 'qcow2'),
        ('qcow1-backing', written(qcow1(), 4096), 'qcow2', 'version'),
        *((f'{magic}-and-{more}', written(begun(magic, more)), 'qcow2',
           'refused')
          for magic in MAGICS for more in (0, 1, 60, 200, 400)),
        *((f'vmdk-version-{version}', written(odd_vmdk(version)), 'vmdk',
           'vmdk') for version in (0, 4, 99, 2**32 - 1)),
        *((f'vmdk-{where}-{word}', written(vmdk_with(
            word, **more)), 'vmdk', word.lower())
          for word in ('parentFileNameHint', 'PARENTFILENAMEHINT',
                       'changeTrackPath')
          for where, more in (
              ('comment', {}), ('ddb', {'front': 'ddb.x.'}),
              ('nul', {'front': '\0'}), ('late', {'sectors': 1, 'gap': 9}),
              ('sector-20', {'sectors': 2, 'gap': 17 * 512}))
          if word[1] == 'a' or where == 'comment'),
        ('vmdk-odd-end', written(vmdk(descriptor(
            'monolithicSparse', extents=GOOD_EXTENT,
            more='# x\rparentCID=01234567'))), 'vmdk', 'others end'),
        ('vhd-differencing-end', written(
            bytes(4096) + vhd_footer(4, SIZE, 512)), 'vhd', OUTSIDE),
        ('vhd-differencing-odd-end', written(
            bytes(4096) + vhd_footer(4, SIZE, 512)[:511]), 'vhd', OUTSIDE),
        ('vhd-dynamic-end', written(
            bytes(4096) + vhd_footer(3, SIZE, 512)), 'vhd', 'ends as'),
        ('flat-extent', written(vmdk(descriptor())), 'vmdk', 'vmdk'),
        ('flat-in-sparse', written(vmdk(descriptor('monolithicSparse'))),
         'vmdk', 'extent'),
        ('flat-without-slash', written(vmdk(descriptor(
            'monolithicSparse', extents='RW 16384 FLAT "passwd" 0'))),
         'vmdk', OUTSIDE),
        ('two-extents', written(vmdk(descriptor(
            'monolithicSparse', extents=f'{GOOD_EXTENT}\n{GOOD_EXTENT}'))),
         'vmdk', '2 extents'),
        ('no-extent', written(vmdk(descriptor(
            'monolithicSparse', extents=''))), 'vmdk', 'extents'),
        ('vmdk-parent', written(vmdk(descriptor(
            'monolithicSparse', parent='01234567', extents=GOOD_EXTENT))),
         'vmdk', 'parent'),
        ('vmdk-parent-hint', written(vmdk(descriptor(
            'monolithicSparse', extents=GOOD_EXTENT,
            more=f'parentFileNameHint="{BACKING}"'))), 'vmdk',
         'parentfilenamehint'),
        ('vmdk-odd-line', written(vmdk(descriptor(
            'monolithicSparse', extents=GOOD_EXTENT, more='!include x'))),
         'vmdk', 'vmdk'),
        ('vmdk-without-size', written(vmdk(STREAM, capacity=0)), 'vmdk',
         'no size'),
        ('vmdk-two-types', written(vmdk(descriptor(
            'streamOptimized', extents=GOOD_EXTENT,
            more='# createType="monolithicFlat"'))), 'vmdk', 'createType'),
        ('vmdk-extent-elsewhere', written(vmdk(descriptor(
            'streamOptimized',
            extents='RW 16384 SPARSE "nbd:127.0.0.1:9"'))), 'vmdk',
         'not understood'),
        ('vmdk-no-descriptor', written(vmdk(b'')), 'vmdk', 'vmdk'),
        ('vhd-differencing', written(differencing_vhd()), 'vhd', 'parent'),
        ('vhd-parent-name', patched(
            converted('vpc'), (512 + 64, BACKING.encode('utf-16-be'))),
         'vhd', 'parent'),
        ('vhd-parent-id', patched(
            converted('vpc'), (512 + 40, uuid.uuid4().bytes)), 'vhd',
         'parent'),
        ('vhd-two-minds', patched(
            converted('vpc'), (-512, vhd_footer(4, SIZE))), 'vhd', 'parent'),
        ('vdi-differencing', patched(
            converted('vdi'), (0x4c, b'\4\0\0\0')), 'vdi', 'parent'),
        ('vdi-undo', patched(
            converted('vdi'), (0x4c, b'\3\0\0\0')), 'vdi', 'parent'),
        ('vdi-parent', patched(
            converted('vdi'), (0x1b8, uuid.uuid4().bytes)), 'vdi', 'parent'),
        ('vdi-link', patched(
            converted('vdi'), (0x1a8, uuid.uuid4().bytes)), 'vdi', 'parent'),
      ) for declared in dict.fromkeys((own, 'raw'))),

    # headers that lie about places and sizes
    bad('qcow2-huge', patched(
        converted('qcow2'), (24, struct.pack('>Q', 1 << 60))), 'qcow2',
        'virtual size'),
    bad('qcow2-clusters', written(qcow2_header(bits=60), 1 << 20), 'qcow2',
        'clusters'),
    bad('qcow2-extensions', written(qcow2_header(
        extensions=extension(0x1234, b'') * 100), 1 << 20), 'qcow2',
        'extensions'),
    bad('qcow2-header-length', patched(
        converted('qcow2'), (100, b'\xff\xff\xff\xff')), 'qcow2', 'length'),
    bad('qcow2-cut', cut(converted('qcow2'), 300), 'qcow2', 'qcow2'),
    bad('qcow2-cut-at-its-end', cut(converted('qcow2'), 600_000), 'qcow2',
        'truncated'),
    bad('qcow2-cut-in-tables', cut(converted('qcow2'), 200_000), 'qcow2',
        'truncated'),
    bad('qcow2-refcounts', patched(
        converted('qcow2'), (56, b'\xff' * 4)), 'qcow2', 'impossible'),
    bad('vdi-cut-at-its-end', cut(converted('vdi'), 1_500_000), 'vdi',
        'truncated'),
    bad('vhd-cut-at-its-end', cut(converted('vpc'), 1_500_000), 'vhd',
        'truncated'),
    bad('vdi-huge', patched(
        converted('vdi'), (0x170, b'\xff' * 8)), 'vdi', 'virtual size'),
    bad('vdi-cut', cut(converted('vdi'), 400), 'vdi', 'vdi'),
    bad('vmdk-huge', patched(
        converted('vmdk'), (12, b'\xff' * 8)), 'vmdk', 'virtual size'),
    bad('vmdk-cut', cut(converted('vmdk'), 600), 'vmdk', 'vmdk'),
    bad('vmdk-elsewhere', written(vmdk(descriptor(
        'monolithicSparse', extents=GOOD_EXTENT), place=9)), 'vmdk', 'vmdk'),
    bad('vmdk-type', written(vmdk(descriptor(
        'vmfsSparse', extents=GOOD_EXTENT))), 'vmdk', 'vmdk'),
    bad('vmdk-footer', written(vmdk(
        STREAM, footer=footer(b'\x63'))), 'vmdk', 'ooter'),
    bad('vmdk-second-footer', written(vmdk(
        STREAM, footer=footer(gd=2**64 - 1))), 'vmdk', 'ooter'),
    bad('vmdk-no-footer', cut(written(vmdk(
        STREAM, footer=footer())), 50_000), 'vmdk', 'ooter'),
    bad('cowd', written(b'COWD' + bytes(2044)), 'raw', 'version 3'),
    bad('vhd-huge', patched(
        converted('vpc'), (48, b'\x7f' + b'\xff' * 7)), 'vhd',
        'virtual size'),
    bad('vhd-header-away', patched(
        converted('vpc'), (16, b'\x7f' + b'\xff' * 7)), 'vhd',
        'lies about places'),
    bad('vhd-fixed-without-end', written(
        vhd_footer(2, 1 << 30), 1 << 20), 'vhd', 'its end is missing'),
    bad('vhd-fixed-larger-than-it-is', written(
        vhd_footer(2, 1 << 30) + bytes(1 << 20) + vhd_footer(2, 1 << 30)),
        'vhd', 'truncated'),
    bad('vhd-cut', cut(converted('vpc'), 700), 'vhd', 'truncated'),
    bad('vhdx-cut', cut(converted('vhdx'), 300_000), 'vhdx', 'vhdx'),
    bad('vhdx-no-header', patched(
        converted('vhdx'), ((64 << 10) + 8, b'?'), ((128 << 10) + 8, b'?')),
        'vhdx', 'checksum'),
    bad('vhdx-tables', patched(
        converted('vhdx'), ((192 << 10) + 16 + 32 + 16, bytes(8))), 'vhdx',
        'vhdx'),

    # several at once
    bad('qcow2-iso', both(qcow2_header(), ISO_MAGIC, 32 << 10), 'iso',
        'several'),
    bad('iso-qcow2', both(qcow2_header(), ISO_MAGIC, 32 << 10), 'qcow2',
        'several'),
    bad('vmdk-iso', both(vmdk(descriptor(
        'monolithicSparse', extents=GOOD_EXTENT), sectors=8)[:8192],
        ISO_MAGIC, 32 << 10), 'iso', 'several'),
    bad('vdi-iso', patched(converted('vdi'), (32 << 10, ISO_MAGIC)), 'iso',
        'several'),
    *(bad(f'{name}-udf', patched(make, (32 << 10, b''.join(
        (b'\0' + word + b'\1').ljust(2048, b'\0')
        for word in (b'BEA01', b'NSR02', b'TEA01')))), name, 'several')
      for name, make in (
          ('qcow2', converted('qcow2')), ('vdi', converted('vdi')),
          ('vhdx', converted('vhdx')),
          ('vmdk', converted('vmdk')))),
    bad('qcow2-mbr', patched(converted('qcow2'), (510, b'\x55\xaa')),
        'qcow2', 'several'),
    bad('descriptor-iso', both(descriptor(), ISO_MAGIC, 32 << 10), 'iso',
        'descriptor'),
    *(bad(f'descriptor-{name}-iso', both(
        commented(end), ISO_MAGIC, 32 << 10), 'iso', 'descriptor')
      for name, end in NO_ENDS.items()),
)


def main(directory: pathlib.Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for case in TABLE:
        case.make(directory / case.name)
        print(f'{case.name}: {case.declared}: '
              f'{case.format or "refused: " + case.refusal}')


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]))
