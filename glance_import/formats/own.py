"""Refusals of ours, besides those of oslo.utils: one function a format.

Each reads the structures in which its format can name something outside of
the file, and returns the virtual size in bytes. A reference to the outside is
refused whatever it says, as is a structure that two programs could read
differently. Small formats are judged here, larger ones in modules of their
own; all touch the reader they are given.
"""

from __future__ import annotations

import collections.abc

from glance_import.formats import optical
from glance_import.formats import outside
from glance_import.formats import partitions
from glance_import.formats import qcow2
from glance_import.formats import reader
from glance_import.formats import vhdx
from glance_import.formats import vmdk

UnsafeFormat = reader.UnsafeFormat
_VHD_FOOTER = 512


def vhd(file: reader.Reader) -> int:
    """A fixed or dynamic disk; never one with a parent."""
    at_end = file.at(file.size - _VHD_FOOTER, _VHD_FOOTER)
    at_start = file.at(0, _VHD_FOOTER)
    kinds = {int.from_bytes(footer[60:64], 'big')
             for footer in (at_start, at_end) if footer[:8] == b'conectix'}
    if 4 in kinds:
        raise outside.refusal('a parent disk', 'disk type 4 of its footer')
    if len(kinds) == 1 and at_end[:8] != b'conectix':
        raise UnsafeFormat('it is truncated: its end is missing',
                           f'footer, byte {file.size - _VHD_FOOTER}')
    if kinds == {2}:
        size = int.from_bytes(at_end[48:56], 'big')
        if size > file.size - _VHD_FOOTER:
            raise UnsafeFormat(
                f'it is truncated: it has {file.size - _VHD_FOOTER} of the '
                f'{size} bytes of its disk',
                f'footer, byte {file.size - _VHD_FOOTER + 48}')
        return size
    if kinds != {3} or at_start[:8] != b'conectix':
        raise UnsafeFormat('its headers do not agree on what it is',
                           f'disk types {sorted(kinds)}, bytes 60 and '
                           f'{file.size - _VHD_FOOTER + 60}')
    place = int.from_bytes(at_start[16:24], 'big')
    header = file.at(place, 1024)
    if header[:8] != b'cxsparse':
        raise UnsafeFormat('it has no header of a dynamic disk',
                           f'byte {place}')
    if any(header[40:56]) or any(header[64:768]):
        raise outside.refusal(
            'a parent disk', f'parent fields, bytes {place + 40} and '
            f'{place + 64}')
    return int.from_bytes(at_start[48:56], 'big')


def _vhd_ends(file: reader.Reader) -> list[bytes]:
    """What may be its footer: some count the last sector as a whole one."""
    places = {file.size - _VHD_FOOTER,
              (file.size - 1) // _VHD_FOOTER * _VHD_FOOTER}
    return [found for found in (
        file.up_to(place, _VHD_FOOTER) for place in places if place > 0)
        if found[:8] == b'conectix']


def ends_as_vhd(file: reader.Reader) -> bool:
    """Whether the file, which begins as raw, ends as a fixed VHD does.

    :raises UnsafeFormat: it ends as another VHD does
    """
    for footer in _vhd_ends(file):
        kind = int.from_bytes(footer[60:64], 'big')
        if kind == 4:
            raise outside.refusal('a parent disk',
                                  'vhd, disk type 4 of its footer')
        if kind != 2:
            raise UnsafeFormat(
                'it ends as a VHD does, and does not begin as one',
                f'vhd, footer in the last {_VHD_FOOTER} bytes')
        if int.from_bytes(footer[48:56], 'big') == file.size - _VHD_FOOTER:
            return True
    return False


def vdi(file: reader.Reader) -> int:
    """A dynamic or fixed disk; no parent."""
    (kind,) = file.unpack('<I', 0x4c)
    if kind in (3, 4):
        raise outside.refusal('a parent disk', f'type {kind}, byte 76')
    if kind not in (1, 2):
        raise UnsafeFormat(f'its type {kind} is not known', 'byte 76')
    if any(file.at(0x1a8, 32)):
        raise outside.refusal('a parent disk', 'link and parent, byte 424')
    size, block, extra = file.unpack('<QII', 0x170)
    (start,) = file.unpack('<I', 0x158)
    (used,) = file.unpack('<I', 0x184)
    end = start + used * (block + extra)
    if end > file.size:
        raise UnsafeFormat(
            'it is truncated: its last block is not in the file',
            f'{used} blocks end at byte {end} of {file.size}')
    return int(size)


def whole(file: reader.Reader) -> int:
    """What has no size of its own."""
    return file.size


CHECKS: dict[str, collections.abc.Callable[[reader.Reader], int]] = {
    'qcow2': qcow2.check, 'vmdk': vmdk.check, 'vhd': vhd,
    'vhdx': vhdx.check, 'vdi': vdi, 'iso': optical.check,
}


# What is odd about an image of a format that was taken: a sentence each.
WARNINGS: dict[str, collections.abc.Callable[
    [reader.Reader], collections.abc.Iterator[str]]] = {
    'qcow2': qcow2.warnings, 'raw': partitions.warnings,
    'iso': optical.warnings,
}


# What files of a format begin with, by the name of its inspector. A file is
# of that format or refused, however short it is.
_MAGICS = {
    'qcow2': (0, b'QFI\xfb'), 'qed': (0, b'QED\0'), 'vmdk': (0, b'KDMV'),
    'vhd': (0, b'conectix'), 'vhdx': (0, b'vhdxfile'),
    'luks': (0, b'LUKS\xba\xbe'), 'vdi': (0x40, b'\x7f\x10\xda\xbe'),
}


def begins_as(file: reader.Reader) -> set[str]:
    """The formats whose magic number the file has."""
    return {name for name, (place, magic) in _MAGICS.items()
            if file.up_to(place, len(magic)) == magic}
