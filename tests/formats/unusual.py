"""Images that are unusual and good, of the kinds that were once refused.

TABLE is like that of the corpus, which has what is usual and what is bad; it
has few refusals, of what is nearly the same.
Made by the programs that people use where a header does not say it all.
"""

from __future__ import annotations

import collections.abc
import pathlib
import struct
import subprocess
import time
import uuid

from glance_import.formats import vhdx as vhdx_format
from tests.formats import corpus
from tests import servers

SIZE = corpus.SIZE
FLOPPY = 1_474_560
Make = collections.abc.Callable[[pathlib.Path], None]


# -- partition tables, and first sectors that only look like one

def entry(kind: int, start: int, length: int, *, flag: int = 0,
          chs: bytes = b'\0\2\0') -> bytes:
    return (bytes([flag]) + chs + bytes([kind]) + b'\xff\xff\xff'
            + struct.pack('<II', start, length))


def sector(code: bytes = b'', table: bytes = b'') -> bytes:
    return code.ljust(446, b'\0') + table.ljust(64, b'\0') + b'\x55\xaa'


def fat(copies: int, media: int) -> bytes:
    return b'\xeb\x3c\x90mkfs.fat' + struct.pack(
        '<HBHBHHBHHHII', 512, 4, 4, copies, 512, 2880, media, 9, 18, 2, 0, 0)


NTFS = sector(b'\xeb\x52\x90NTFS    ' + struct.pack('<HB', 512, 8),
              b'\r\nA disk read error occurred\0\r\nBOOTMGR is missing\0')
GPT = b'EFI PART' + struct.pack('<IIIIQQ', 0x10000, 92, 0, 0, 1,
                                SIZE // 512 - 1)
WHOLE = SIZE // 512 - 1


def kernel() -> bytes:
    """The first sectors of an x86 kernel: boot code, 55 AA, then HdrS."""
    data = bytearray(b'MZ' + bytes(range(1, 255)) * 5)[:1024]
    data[0x1f1] = 4
    data[0x1fe:0x206] = b'\x55\xaa\xeb\x6aHdrS'
    return bytes(data)


# -- ISO

def iso9660(blocks: int) -> bytes:
    volume = bytearray(4096)
    volume[:7] = b'\1CD001\1'
    volume[80:88] = struct.pack('<I', blocks) + struct.pack('>I', blocks)
    volume[128:132] = struct.pack('<H', 2048) + struct.pack('>H', 2048)
    volume[2048:2055] = b'\xffCD001\1'
    return bytes(volume)


def disc(*names: bytes, step: int = 2048, first: bytes = b'') -> Make:
    """A volume recognition sequence of these names."""
    data = first.ljust(32768, b'\0') + b''.join(
        (b'\0' + name + b'\1').ljust(step, b'\0') for name in names)
    return corpus.written(data, 1 << 20)


def xorriso(*words: str) -> Make:
    def make(path: pathlib.Path) -> None:
        tree = path.with_name(path.name + '.d')
        tree.mkdir()
        (tree / 'efi.img').write_bytes(sector(fat(2, 0xf8)).ljust(
            1 << 20, b'\0'))
        (tree / 'isolinux.bin').write_bytes(bytes(4096))
        corpus.run('xorriso', '-as', 'mkisofs', '-quiet', *words, '-o', path,
                   tree)
    return make


BOOT = ('-b', 'isolinux.bin', '-c', 'boot.cat', '-no-emul-boot',
        '-boot-load-size', '4')
EFI = ('-eltorito-alt-boot', '-e', 'efi.img', '-no-emul-boot')


# -- qcow2

def counts_behind(path: pathlib.Path) -> None:
    """No count of a reference is right: all are of clusters beyond it."""
    corpus.converted('qcow2')(path)
    data = path.read_bytes()
    (table,) = struct.unpack_from('>Q', data, 48)
    (block,) = struct.unpack_from('>Q', data, table)
    clusters = len(data) >> 16
    corpus.patch(path, block, bytes(2 * clusters) + b'\0\1' * 8)


def killed(path: pathlib.Path) -> None:
    """A writer with lazy_refcounts that was killed."""
    corpus.run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o',
               'lazy_refcounts=on', path, SIZE)
    with subprocess.Popen(
            [servers.program('qemu-io'), '-f', 'qcow2', path],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as writer:
        assert writer.stdin is not None
        writer.stdin.write(b'write -P 5 0 1M\nflush\n')
        writer.stdin.flush()
        end = time.monotonic() + 30
        while not written_last(path):
            assert time.monotonic() < end
            time.sleep(0.01)
        writer.kill()


def written_last(path: pathlib.Path) -> bool:
    """Whether the tables name data, which they do when it is flushed."""
    data = path.read_bytes()
    (first,) = struct.unpack_from('>Q', data, 40)
    (table,) = struct.unpack_from('>Q', data, first)
    place = table & 0xffffffff
    return place > 0 and any(data[place:place + 8])


# -- VMDK

def named(name: bytes, encoding: bytes = b'UTF-8') -> Make:
    text = corpus.descriptor('monolithicSparse', extents='RW 16384 SPARSE "*"'
                             ).replace(b'*', name)
    return corpus.written(corpus.vmdk(
        text.replace(b'CID=', b'encoding="' + encoding + b'"\nCID=', 1)))


# -- VHDX and VHD

def vhdx(size: str, *options: str) -> Make:
    return lambda path: corpus.run(
        'qemu-img', 'create', '-q', '-f', 'vhdx', '-o', ','.join(options),
        path, size)


def with_log(*, newer: bool) -> Make:
    """A header names a log: the current one, or the other."""
    def make(path: pathlib.Path) -> None:
        corpus.converted('vhdx')(path)
        data = path.read_bytes()
        places = sorted((64 << 10, 128 << 10), key=lambda at: int.from_bytes(
            data[at + 8:at + 16], 'little'))
        header = bytearray(data[places[newer]:][:4096])
        header[48:64] = uuid.uuid4().bytes
        header[4:8] = bytes(4)
        header[4:8] = vhdx_format.crc32c(header).to_bytes(4, 'little')
        corpus.patch(path, places[newer], bytes(header))
    return make


def made_by(creator: bytes) -> Make:
    """A fixed VHD; the footer has who made it in byte 28."""
    footer = bytearray(corpus.vhd_footer(2, SIZE))
    footer[28:32] = creator
    return corpus.written(bytes(SIZE) + bytes(footer))


CREATORS = (b'vpc ', b'vs  ', b'qemu', b'qem2', b'win ', b'd2v ', b'tap\0',
            b'vbox', b'CTXS')
GIB, TIB = 1 << 30, 1 << 40


def raw(name: str, head: bytes, warning: str = '', *, size: int = SIZE,
        declared: str = 'raw') -> corpus.Case:
    return corpus.Case(name, corpus.written(head, size), declared, 'raw',
                       size, warning=warning)


TABLE = (
    raw('ntfs', NTFS),
    raw('floppy', sector(fat(2, 0xf0)), size=FLOPPY),
    raw('fat-one-copy', sector(fat(1, 0xf8))),
    raw('label-empty', sector(b'\xfa\xb8'), 'empty'),
    raw('mbr-hybrid', sector(b'', entry(0xee, 1, 2047) + entry(
        0xef, 2048, 8000)) + GPT, 'hybrid'),
    raw('gpt-older-libparted', sector(b'', entry(
        0xee, 1, WHOLE, chs=b'\0\1\0')) + GPT, 'second sector'),
    raw('gpt-extra', sector(b'', entry(0xee, 1, WHOLE) + entry(
        0x83, 1, 9)) + GPT, 'hybrid'),
    raw('gpt-unprotected', bytes(512) + GPT, 'no protective'),
    raw('gpt-cut', sector(b'', entry(0xee, 1, WHOLE)) + GPT, 'cut',
        size=SIZE // 2),
    raw('mbr-flag-of-nothing', sector(b'', entry(
        0x83, 1, 9) + bytes([7]) + bytes(15)), 'flag 0x07'),
    raw('mbr-type-0', sector(b'', entry(0, 1, 9)), 'empty'),
    raw('mbr-partition-cut', sector(b'', entry(0x83, 1, 1 << 20)),
        'ends at byte'),
    raw('kernel-aki', kernel(), declared='aki', size=64 << 10),
    raw('kernel-ari', kernel(), declared='ari', size=64 << 10),
    raw('kernel-ami', kernel(), declared='ami', size=64 << 10),
    raw('fat-three-copies', sector(fat(3, 0xf8))),
    raw('ntfs-ami', NTFS, declared='ami'),
    *(raw(name, text, size=len(text)) for name, text in (
        ('toml', b'# settings\nversion = 1\n[network]\ndhcp = true\n'),
        ('ini', b'version=2\nname=x\n'),
        ('script', b'#!/bin/sh\n# Write what begins "# Disk DescriptorFile"'
         b'.\necho version=1\n'),
        ('yaml', b'# cloud-config\nversion: 1\nethernets: {}\n'),
        ('probed', b'version=1\nnothing of a descriptor\n'))),
    *(corpus.good(name, make, 'iso', size=None) for name, make in (
        ('udf', disc(b'BEA01', b'NSR02', b'TEA01')),
        ('udf-3', disc(b'BEA01', b'NSR03', b'TEA01')),
        ('udf-4k', disc(b'BEA01', b'NSR03', b'TEA01', step=4096)),
        ('udf-mbr', disc(b'BEA01', b'NSR02', b'TEA01', first=sector(
            b'', entry(0xee, 1, 9)))),
        ('udf-bridge', disc(b'BEA01', b'CD001', b'NSR02', b'TEA01')),
        ('iso-type-0', corpus.written(sector(b'', entry(
            0, 0, 4096, flag=0x80)).ljust(32768, b'\0') + iso9660(512),
            1 << 20)),
        ('iso-isohybrid', xorriso(
            *BOOT, *EFI, '-isohybrid-gpt-basdat',
            '-isohybrid-apm-hfsplus', '-partition_offset', '16')),
        ('iso-protective', xorriso('--protective-msdos-label')))),
    corpus.bad('iso-cut', corpus.cut(corpus.iso, 40_000), 'iso',
               'of its volume'),
    corpus.bad('iso-cut-at-its-end', corpus.cut(corpus.iso, -400_000), 'iso',
               'of its volume'),
    corpus.Case('iso-less-padding', corpus.written(
        bytes(32768) + iso9660(512), (1 << 20) - 4096), 'iso', 'iso',
        1 << 20, warning='last 4096 bytes'),
    corpus.good('udf-as-raw', disc(b'BEA01', b'NSR02', b'TEA01'), 'raw',
                size=None),
    corpus.good('iso-as-raw', corpus.iso, 'raw', 'iso', size=None),
    corpus.good('vhdx-late', vhdx('200G', 'block_size=1M'), 'vhdx',
                size=200 * GIB),
    corpus.good('vhdx-large', vhdx('8T', 'subformat=dynamic'), 'vhdx',
                size=8 * TIB),
    corpus.good('vhdx-log', vhdx('1G', 'log_size=2M'), 'vhdx', size=GIB),
    corpus.good('vhdx-log-in-the-older-header', with_log(newer=False),
                'vhdx'),
    corpus.bad('vhdx-log-in-the-current-header', with_log(newer=True),
               'vhdx', 'log'),
    corpus.bad('vhdx-cut-in-its-blocks', corpus.cut(
        corpus.converted('vhdx', 'block_size=1M'), -(2 << 20)), 'vhdx',
        'last block'),
    corpus.bad('vhdx-cut-in-its-last-block', corpus.cut(
        corpus.converted('vhdx', 'block_size=8M'), -(7 << 20)), 'vhdx',
        'last block'),
    corpus.bad('vhdx-cut-by-little', corpus.cut(
        corpus.converted('vhdx', 'block_size=1M'), -1), 'vhdx',
        'last block'),
    corpus.bad('vmdk-cut-in-its-grains', corpus.cut(
        corpus.converted('vmdk'), -(1 << 17)), 'vmdk', 'last grain'),
    corpus.bad('vmdk-cut-by-little', corpus.cut(
        corpus.converted('vmdk'), -1), 'vmdk', 'last grain'),
    corpus.bad('vmdk-stream-cut', corpus.cut(corpus.converted(
        'vmdk', 'subformat=streamOptimized'), -65_000), 'vmdk',
        'last grain'),
    corpus.bad('qcow2-cut-in-its-clusters', corpus.cut(
        corpus.converted('qcow2', 'extended_l2=on'), -(1 << 17)), 'qcow2',
        'last cluster'),
    corpus.bad('qcow2-compressed-cut', corpus.cut(
        corpus.compressed, -(1 << 14)), 'qcow2', 'last cluster'),
    corpus.good('qcow2-counts-behind', counts_behind, 'qcow2'),
    corpus.Case('qcow2-killed', killed, 'qcow2', 'qcow2',
                warning='out of date'),
    corpus.Case('qcow2-corrupt-bit', corpus.patched(
        corpus.converted('qcow2'), (79, b'\2')), 'qcow2', 'qcow2',
        warning='corrupt'),
    corpus.bad('qcow2-cut-by-little', corpus.cut(
        corpus.converted('qcow2'), -1), 'qcow2', 'last cluster'),
    corpus.bad('qcow2-cut-in-its-last-cluster', corpus.cut(
        corpus.converted('qcow2', 'cluster_size=2M'), -600), 'qcow2',
        'last cluster'),
    corpus.bad('qcow2-compressed-cut-by-little', corpus.cut(
        corpus.compressed, -1000), 'qcow2', 'last cluster'),
    corpus.good('qcow2-extended-small', corpus.converted(
        'qcow2', 'extended_l2=on', 'cluster_size=16k'), 'qcow2'),
    corpus.good('qcow2-no-counts', corpus.written(
        corpus.qcow2_header(), 1 << 20), 'qcow2'),
    *(corpus.good(f'vmdk-named-{number}', named(*name), 'vmdk')
      for number, name in enumerate((
          ('Größe.vmdk'.encode(),), ('Größe.vmdk'.encode('cp1252'),
                                     b'windows-1252'),
          ('乗亂.vmdk'.encode('gbk'), b'GBK'), (b'Disk: one of two.vmdk',),
          ('表.vmdk'.encode('cp932'), b'windows-932'),
          ('Größe.vmdk'.encode('cp1252'),), (b'a b  c.vmdk', b'x-unknown')))),
    *(corpus.bad(f'vmdk-named-elsewhere-{number}', named(*name), 'vmdk',
                 'names an extent')
      for number, name in enumerate((
          (b'/etc/shells', b'cp037'), (b'../../etc/shells', b'windows-500'),
          (b'nbd:127.0.0.1:9', b'cp037'), (b'/etc/shells', b'cp1140'),
          (b'fat:/etc', b'cp1026'), ('乗/a'.encode('gbk'), b'GBK'),
          (b'c:\\a', b'cp273'), (b'/etc/shells', b'cp864')))),
    *(corpus.good(f'vhd-{creator.strip().decode().strip(chr(0))}',
                  made_by(creator), 'vhd') for creator in CREATORS),
)
