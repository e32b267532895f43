"""Refusals of ours, besides those of oslo.utils: one function a format.

Each reads the structures in which its format can name something outside of
the file, and returns the virtual size in bytes. A reference to the outside is
refused whatever it says, as is a structure that two programs could read
differently.
"""

from __future__ import annotations

import collections.abc
import re
import struct
import uuid

from glance_import.formats import reader

UnsafeFormat = reader.UnsafeFormat
_OUTSIDE = 'it refers to data outside of the file'


def qcow2(file: reader.Reader) -> int:
    """Backing file, external data file, encryption in a place of its own."""
    version, backing, name_size = file.unpack('>IQI', 4)
    (size,) = file.unpack('>Q', 24)
    if version not in (2, 3):
        raise UnsafeFormat(f'its version {version} of qcow is not supported')
    if backing or name_size:
        raise UnsafeFormat(f'{_OUTSIDE} (a backing file)')
    start = 72
    if version == 3:
        (features,) = file.unpack('>Q', 72)
        (start,) = file.unpack('>I', 100)
        if features & 4:
            raise UnsafeFormat(f'{_OUTSIDE} (a data file)')
        if start < 104 or start > 1 << 16:
            raise UnsafeFormat('its header has an impossible length')
    (bits,) = file.unpack('>I', 20)
    if not 9 <= bits <= 21:
        raise UnsafeFormat('its clusters have an impossible size')
    _qcow2_extensions(file, start, 1 << bits)
    order = file.unpack('>I', 96)[0] if version == 3 else 4
    _qcow2_end(file, 1 << bits, order)
    return size


def _qcow2_end(file: reader.Reader, cluster: int, order: int) -> None:
    """The last cluster in use begins inside of the file."""
    entries, table = file.unpack('>IQ', 36)
    if table + 8 * entries > file.size:
        raise UnsafeFormat(
            'it is truncated: its first table is not in the file')
    table, clusters = file.unpack('>QI', 48)
    if order > 6 or clusters * cluster > 8 << 20:
        raise UnsafeFormat('its reference counts have an impossible size')
    places: tuple[int, ...] = ()
    for part in range(0, clusters * cluster, reader.MOST):
        length = min(reader.MOST, clusters * cluster - part)
        data = file.at(table + part, length)
        places += struct.unpack(f'>{length // 8}Q', data)
    used = [number for number, place in enumerate(places) if place]
    if not used:
        raise UnsafeFormat('it counts no cluster as used')
    counts = b''.join(
        file.at(places[used[-1]] + part, min(cluster, reader.MOST))
        for part in range(0, cluster, reader.MOST)).rstrip(b'\0')
    # In bits, since counts may be smaller than a byte.
    last = (used[-1] * cluster * 8 + max(len(counts) - 1, 0) * 8) >> order
    if last * cluster >= file.size:
        raise UnsafeFormat(
            'it is truncated: its last cluster is not in the file')


def _qcow2_extensions(file: reader.Reader, at: int, end: int) -> None:
    for _ in range(64):
        if at + 8 > min(end, file.size):
            return
        kind, length = file.unpack('>II', at)
        if kind == 0:
            return
        if kind == 0x44415441:
            raise UnsafeFormat(f'{_OUTSIDE} (the name of a data file)')
        at += 8 + (length + 7 & ~7)
    raise UnsafeFormat('its header has too many extensions')


_PAIR = re.compile(r'([a-z0-9_.]+)\s*=\s*(?:"([^"]*)"|(\S*))')
# Control characters other than a tab and the end of a line: a reader may
# take one of them for that too.
_ODD = re.compile(r'[\x01-\x08\x0b-\x1f\x7f]')
# Where the descriptor of a sparse VMDK usually lies: bytes behind its header.
_DESCRIPTOR = 20 * 512
_EXTENT = re.compile(r'(?:rw|rdonly|noaccess)\s+(\d{1,18})\s+(\S+)\s+'
                     r'"([^"/\\:]+)"(?:\s+\d+)?')


def vmdk(file: reader.Reader) -> int:
    """A descriptor with one extent, which is this file; no parent."""
    capacity, place, sectors = (*file.unpack('<Q', 12),
                                *file.unpack('<QQ', 28))
    if not capacity:
        # A reader takes what the descriptor says for the image then.
        raise UnsafeFormat('its header says no size')
    if place != 1 or not 0 < sectors <= 2048:
        raise UnsafeFormat('its descriptor lies at an unusual place')
    raw = file.at(place * 512, min(sectors * 512, reader.MOST))
    _vmdk_words(file.up_to(512, _DESCRIPTOR) + b'\n' + raw)
    try:
        text = raw.partition(b'\0')[0].decode('ascii').lower()
        text = text.replace('\r\n', '\n')
    except UnicodeDecodeError:
        raise UnsafeFormat('its descriptor is not text') from None
    if _ODD.search(text):
        raise UnsafeFormat(
            'its descriptor has lines that others end elsewhere')
    if text.count('createtype') != 1:
        # Readers differ in which they take, and whether in a comment.
        raise UnsafeFormat(
            'its descriptor has more than one createType, or none')
    extents = 0
    for line in map(str.strip, text.split('\n')):
        pair = _PAIR.fullmatch(line)
        if not line or line.startswith(('#', 'ddb.')):
            continue
        if pair is not None:
            _vmdk_pair(pair[1], pair[2] if pair[2] is not None else pair[3])
            continue
        extent = _EXTENT.fullmatch(line)
        if extent is None:
            raise UnsafeFormat(
                'its descriptor has a line that is not understood')
        if extent[2] != 'sparse':
            raise UnsafeFormat(
                f'{_OUTSIDE} (an extent of the type {extent[2]})')
        extents += 1
    if extents != 1:
        raise UnsafeFormat(f'its descriptor names {extents} extents, not one')
    return capacity * 512


def _vmdk_words(data: bytes) -> None:
    """Nothing is named outside, wherever a reader may look for the name.

    Some take the first such word of the place where descriptors usually
    are, be it in a comment or behind the end of this one.
    """
    data = data.lower()
    for word in (b'parentfilenamehint', b'changetrackpath'):
        if word in data:
            raise UnsafeFormat(f'{_OUTSIDE} ({word.decode()})')


def _vmdk_pair(name: str, value: str) -> None:
    if name == 'parentcid' and value != 'ffffffff':
        raise UnsafeFormat(f'{_OUTSIDE} (a parent)')


def vmdk_type(file: reader.Reader) -> str:
    """The createType of an embedded descriptor, as it is written."""
    text = file.up_to(512, 1 << 16).decode('latin-1')
    found = re.search(r'createtype\s*=\s*"([^"\0]{0,40})"', text,
                      re.IGNORECASE)
    return found[1] if found else ''


_VHD_FOOTER = 512


def vhd(file: reader.Reader) -> int:
    """A fixed or dynamic disk; never one with a parent."""
    at_end = file.at(file.size - _VHD_FOOTER, _VHD_FOOTER)
    at_start = file.at(0, _VHD_FOOTER)
    kinds = {int.from_bytes(footer[60:64], 'big')
             for footer in (at_start, at_end) if footer[:8] == b'conectix'}
    if kinds == {2}:
        footer = at_end if at_end[:8] == b'conectix' else at_start
        return int.from_bytes(footer[48:56], 'big')
    if 4 in kinds:
        raise UnsafeFormat(f'{_OUTSIDE} (a parent disk)')
    if kinds == {3} and at_end[:8] != b'conectix':
        raise UnsafeFormat('it is truncated: its end is missing')
    if kinds != {3} or at_start[:8] != b'conectix':
        raise UnsafeFormat('its headers do not agree on what it is')
    header = file.at(int.from_bytes(at_start[16:24], 'big'), 1024)
    if header[:8] != b'cxsparse':
        raise UnsafeFormat('it has no header of a dynamic disk')
    if any(header[40:56]) or any(header[64:768]):
        raise UnsafeFormat(f'{_OUTSIDE} (a parent disk)')
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
            raise UnsafeFormat(f'{_OUTSIDE} (a parent disk)')
        if kind != 2:
            raise UnsafeFormat(
                'it ends as a VHD does, and does not begin as one')
        if int.from_bytes(footer[48:56], 'big') == file.size - _VHD_FOOTER:
            return True
    return False


def _guid(text: str) -> bytes:
    return uuid.UUID(text).bytes_le


_METADATA = _guid('8b7ca206-4790-4b9a-b8fe-575f050f886e')
_PARAMETERS = _guid('caa16737-fa36-4d43-b3b6-33f0aa44e76b')
_DISK_SIZE = _guid('2fa54224-cd1b-4876-b211-5dbed83bf4b8')
_PARENT = _guid('a8d35f2d-b30b-454d-abf7-d3d84834ab0c')


def vhdx(file: reader.Reader) -> int:
    """No parent, and no log that would change what was looked at."""
    for at in (64 << 10, 128 << 10):
        header = file.at(at, 80)
        if header[:4] == b'head' and any(header[48:64]):
            raise UnsafeFormat(
                'it was not closed: its log has yet to be replayed')
    found = {_vhdx_metadata(file, at) for at in (192 << 10, 256 << 10)
             if file.at(at, 4) == b'regi'}
    if len(found) != 1:
        raise UnsafeFormat('its two region tables do not agree')
    place = found.pop()
    signature, count = file.unpack('<8s2xH', place)
    if signature != b'metadata' or count > 2047:
        raise UnsafeFormat('it has no metadata where it says')
    size = None
    for number in range(count):
        item, offset, length = file.unpack('<16sII', place + 32
                                           + 32 * number)
        if item == _PARENT:
            raise UnsafeFormat(f'{_OUTSIDE} (a parent disk)')
        if item == _PARAMETERS and file.unpack(
                '<I', place + offset + 4)[0] & 2:
            raise UnsafeFormat(f'{_OUTSIDE} (a parent disk)')
        if item == _DISK_SIZE:
            if size is not None:
                raise UnsafeFormat('it says its size twice')
            (size,) = file.unpack('<Q', place + offset)
    if size is None:
        raise UnsafeFormat('it does not say its size')
    return size


def _vhdx_metadata(file: reader.Reader, table: int) -> int:
    """Where a region table says that the metadata is."""
    (count,) = file.unpack('<I', table + 8)
    if count > 2047:
        raise UnsafeFormat('its region table has an impossible length')
    places = []
    for number in range(count):
        region, place, length = file.unpack('<16sQI',
                                            table + 16 + 32 * number)
        if place + length > file.size:
            raise UnsafeFormat('it is truncated, or lies about its regions')
        if region == _METADATA:
            places.append(place)
    if len(places) != 1:
        raise UnsafeFormat('it does not say where its metadata is')
    return places[0]


def vdi(file: reader.Reader) -> int:
    """A dynamic or fixed disk; no parent."""
    (kind,) = file.unpack('<I', 0x4c)
    if kind not in (1, 2):
        raise UnsafeFormat(
            f'{_OUTSIDE} (a parent disk)' if kind in (3, 4)
            else f'its type {kind} is not known')
    if any(file.at(0x1a8, 32)):
        raise UnsafeFormat(f'{_OUTSIDE} (a parent disk)')
    size, block, extra = file.unpack('<QII', 0x170)
    (start,) = file.unpack('<I', 0x158)
    (used,) = file.unpack('<I', 0x184)
    if start + used * (block + extra) > file.size:
        raise UnsafeFormat(
            'it is truncated: its last block is not in the file')
    return size


def whole(file: reader.Reader) -> int:
    """What has no size of its own."""
    return file.size


CHECKS: dict[str, collections.abc.Callable[[reader.Reader], int]] = {
    'qcow2': qcow2, 'vmdk': vmdk, 'vhd': vhd, 'vhdx': vhdx, 'vdi': vdi,
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


_VERSION = re.compile(rb'version\s*=\s*\d', re.IGNORECASE)
# As willing as a scanf that skips any blanks between its words.
_TEXT_EXTENT = re.compile(
    rb'\b(?:rw|rdonly|noaccess)\s+[-+]?\d+\s*[a-z]{1,10}\s*"', re.IGNORECASE)


def text_descriptor(file: reader.Reader) -> None:
    """A file that says where the data is instead of having it.

    :raises UnsafeFormat: it is one, whatever comes behind the text
    """
    if _is_probed(file.up_to(0, 1 << 16)) or _is_descriptor(file):
        raise UnsafeFormat(f'{_OUTSIDE} (it is a text descriptor)')


def _is_probed(head: bytes) -> bool:
    """Whether it begins as a descriptor does: comments, then a version.

    A line ends at LF and nowhere else, whatever else a comment holds.
    """
    for line in head.split(b'\n'):
        line = line.strip()
        if line.startswith(b'#'):
            if b'disk descriptorfile' in line.lower():
                return True
        elif line:
            return _VERSION.match(line) is not None
    return False


def _is_descriptor(file: reader.Reader) -> bool:
    """Whether its text, up to the first NUL, could be read as a descriptor.

    Those who are told that it is a VMDK do not ask how it begins.
    """
    text = b''
    while len(text) < min(file.size, reader.MOST) and b'\0' not in text:
        text += file.up_to(len(text), 1 << 16)
    text = text.partition(b'\0')[0]
    return (b'createtype' in text.lower()
            and _TEXT_EXTENT.search(text) is not None)
