"""VHDX: its current header, its regions, its metadata.

As [MS-VHDX] describes it. Touches the reader it is given.
"""

from __future__ import annotations

import struct
import typing
import uuid

from glance_import.formats import outside
from glance_import.formats import reader

UnsafeFormat = reader.UnsafeFormat
_HEADERS, _REGIONS = (64 << 10, 128 << 10), (192 << 10, 256 << 10)
_HEADER = 4096
# States of a block: fully and partly there.
_PRESENT = (6, 7)
_CLOSE = ('Close it where it was written (detach it, or shut the guest down) '
          'or make it anew (qemu-img convert), and upload it again')


def _guid(text: str) -> bytes:
    return uuid.UUID(text).bytes_le


_BLOCKS = _guid('2dc27766-f623-4200-9d64-115e9bfd4a08')
_METADATA = _guid('8b7ca206-4790-4b9a-b8fe-575f050f886e')
_PARAMETERS = _guid('caa16737-fa36-4d43-b3b6-33f0aa44e76b')
_DISK_SIZE = _guid('2fa54224-cd1b-4876-b211-5dbed83bf4b8')
_SECTOR_SIZE = _guid('8141bf1d-a96f-4709-ba47-f233a8faab5f')
_PARENT = _guid('a8d35f2d-b30b-454d-abf7-d3d84834ab0c')


def _castagnoli() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _castagnoli()


def crc32c(data: bytes) -> int:
    """CRC-32C, as RFC 3720 (section 12.1) defines it."""
    value = 0xffffffff
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xff]
    return value ^ 0xffffffff


class _Disk(typing.NamedTuple):
    """Bytes: of the disk, of a block, of a sector."""

    size: int
    block: int
    sector: int

    def needed(self, entry: int) -> int:
        """Bytes of the block that an entry of the table is for."""
        # A block of bitmaps follows every so many; section 2.5.
        ratio = (self.sector << 23) // self.block
        begin = (entry - entry // (ratio + 1)) * self.block
        return max(0, min(self.block, self.size - begin))


def check(file: reader.Reader) -> int:
    """The virtual size in bytes.

    :raises reader.UnsafeFormat: it has a parent, or a log that would change
        what was looked at
    """
    _check_log(file)
    found = {_regions(file, at) for at in _REGIONS
             if file.at(at, 4) == b'regi'}
    if len(found) != 1:
        raise UnsafeFormat('its two region tables do not agree',
                           f'bytes {_REGIONS[0]} and {_REGIONS[1]}')
    place, blocks, length = found.pop()
    signature, count = file.unpack('<8s2xH', place)
    if signature != b'metadata' or count > 2047:
        raise UnsafeFormat('it has no metadata where it says',
                           f'byte {place}')
    size, block, sector = None, 0, 512
    table = file.at(place + 32, 32 * count)
    for number in range(count):
        item, offset = struct.unpack_from('<16sI', table, 32 * number)
        where = f'metadata item {number}, byte {place + 32 + 32 * number}'
        if item == _PARENT or item == _PARAMETERS and file.unpack(
                '<I', place + offset + 4)[0] & 2:
            raise outside.refusal('a parent disk', where)
        if item == _PARAMETERS:
            (block,) = file.unpack('<I', place + offset)
        if item == _SECTOR_SIZE:
            (sector,) = file.unpack('<I', place + offset)
        if item == _DISK_SIZE:
            if size is not None:
                raise UnsafeFormat('it says its size twice', where)
            (size,) = file.unpack('<Q', place + offset)
    if size is None:
        raise UnsafeFormat('it does not say its size',
                           f'metadata at byte {place}')
    if block.bit_count() != 1 or not 1 << 20 <= block <= 256 << 20 \
            or sector not in (512, 4096):
        raise UnsafeFormat('its blocks have an impossible size',
                           f'{block} bytes, in sectors of {sector}; '
                           f'metadata at byte {place}')
    _check_blocks(file, blocks, length, _Disk(size, block, sector))
    return int(size)


def _check_log(file: reader.Reader) -> None:
    """The current header names no log; section 2.2.2 says which that is."""
    current = -1
    logs: set[bytes] = set()
    for at in _HEADERS:
        header = file.at(at, _HEADER)
        signature, checksum, number = struct.unpack_from('<4sIQ', header)
        if signature != b'head' or checksum != crc32c(
                header[:4] + bytes(4) + header[8:]) or number < current:
            continue
        # Of two that are equally new, neither may name one.
        logs = {header[48:64], *(logs if number == current else ())}
        current = number
    if current < 0:
        raise UnsafeFormat('it has no header with a right checksum',
                           f'bytes {_HEADERS[0]} and {_HEADERS[1]}')
    if logs != {bytes(16)}:
        raise UnsafeFormat(
            'it was not closed: its log has yet to be replayed',
            'LogGuid of the current header', _CLOSE)


def _check_blocks(file: reader.Reader, place: int, length: int,
                  disk: _Disk) -> None:
    """Every block that the table of blocks names is in the file.

    But for what lies behind the end of the disk: a fixed one ends with it.
    """
    length = min(length, file.most_tables) // 8 * 8
    for part in range(0, length, reader.MOST):
        data = file.at(place + part, min(reader.MOST, length - part))
        if not data.strip(b'\0'):
            continue
        # The lowest bits say whether it is there at all.
        beyond = file.size - disk.block
        for number, entry in enumerate(
                struct.unpack(f'<{len(data) // 8}Q', data), part // 8):
            if entry <= beyond or entry & 7 not in _PRESENT:
                continue
            last = entry & ~0xfffff
            if last >= file.size or last + disk.needed(number) > file.size:
                raise UnsafeFormat(
                    'it is truncated: its last block is not in the file',
                    f'block allocation table at byte {place}, block at byte '
                    f'{last} of {file.size}')


def _regions(file: reader.Reader, table: int) -> tuple[int, int, int]:
    """Where a region table says that the metadata is, and the blocks' table.

    :returns: the place of the metadata, that of the table, and its length
    """
    (count,) = file.unpack('<I', table + 8)
    if count > 2047:
        raise UnsafeFormat('its region table has an impossible length',
                           f'{count} entries, byte {table + 8}')
    data = file.at(table + 16, 32 * count)
    places: list[int] = []
    blocks: list[tuple[int, int]] = []
    for number in range(count):
        region, place, length = struct.unpack_from('<16sQI', data,
                                                   32 * number)
        if place + length > file.size:
            raise UnsafeFormat(
                'it is truncated, or lies about its regions',
                f'region {number}, byte {table + 16 + 32 * number}: '
                f'{length} bytes at {place} of {file.size}')
        if region == _METADATA:
            places.append(place)
        if region == _BLOCKS:
            blocks.append((place, length))
    if len(places) != 1:
        raise UnsafeFormat('it does not say where its metadata is',
                           f'region table at byte {table}')
    if len(blocks) != 1:
        raise UnsafeFormat('it does not say where its blocks are',
                           f'region table at byte {table}')
    return (places[0], *blocks[0])
