"""qcow2: its header, and whether what its tables name is in the file.

As docs/interop/qcow2.txt of QEMU describes it. Reference counts are not
looked at: they lag behind when a writer was killed, and nobody needs them to
read the image. Touches the reader it is given.
"""

from __future__ import annotations

import collections.abc
import struct
import typing

from glance_import.formats import outside
from glance_import.formats import reader

UnsafeFormat = reader.UnsafeFormat
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED = 1, 2, 4, 8, 16
_KNOWN = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED
# Bits of an entry that are a place in the file.
_PLACE = 0x00fffffffffffe00
_COMPRESSED, _ZEROS = 1 << 62, 1
# What QEMU takes: bytes of the first table, and of that of the counts.
_MOST_FIRST, _MOST_COUNTS = 32 << 20, 8 << 20
_NEWER = 'Make it anew with the features of QEMU 5.2 (qemu-img convert)'


class _Header(typing.NamedTuple):
    cluster: int
    size: int
    features: int

    @property
    def entries(self) -> int:
        """How many clusters a second table is for."""
        return self.cluster // (16 if self.features & _EXTENDED else 8)


def check(file: reader.Reader) -> int:
    """The virtual size in bytes.

    :raises reader.UnsafeFormat: it names a backing file or a data file, has
        features that nobody here knows, or is cut
    """
    version, backing, name_size = file.unpack('>IQI', 4)
    bits, size = file.unpack('>IQ', 20)
    if version not in (2, 3):
        raise UnsafeFormat(f'its version {version} of qcow is not supported',
                           'version, byte 4', _NEWER)
    if backing or name_size:
        raise outside.refusal('a backing file', 'backing_file, byte 8')
    if not 9 <= bits <= 21:
        raise UnsafeFormat('its clusters have an impossible size',
                           f'cluster_bits {bits}, byte 20')
    features = _features(file)
    header = _Header(1 << bits, size, features)
    start = 72
    if version == 3:
        (start,) = file.unpack('>I', 100)
        if start < 104 or start > 1 << 16:
            raise UnsafeFormat('its header has an impossible length',
                               f'header_length {start}, byte 100')
    _check_extensions(file, start, header.cluster)
    _check_counts(file, version, header.cluster)
    _check_tables(file, header)
    return size


def _features(file: reader.Reader) -> int:
    """The incompatible ones."""
    if file.unpack('>I', 4) != (3,):
        return 0
    (features,) = file.unpack('>Q', 72)
    if features & _DATA_FILE:
        raise outside.refusal('a data file', 'data_file, bit 2 of '
                              'incompatible_features, byte 72')
    if features & ~_KNOWN:
        raise UnsafeFormat('it has features that are not known here',
                           f'incompatible_features {features:#x}, byte 72',
                           _NEWER)
    return int(features)


def warnings(file: reader.Reader) -> collections.abc.Iterator[str]:
    """What is odd about an image that was taken."""
    features = _features(file)
    if features & _CORRUPT:
        yield ('it is marked as corrupt (incompatible_features, bit 1): '
               'qemu opens it read-only until it is repaired '
               '(qemu-img check -r all)')
    if features & _DIRTY:
        yield ('its reference counts may be out of date '
               '(incompatible_features, bit 0): qemu repairs them when it '
               'opens it for writing')


def _check_extensions(file: reader.Reader, at: int, end: int) -> None:
    for _ in range(64):
        if at + 8 > min(end, file.size):
            return
        kind, length = file.unpack('>II', at)
        if kind == 0:
            return
        if kind == 0x44415441:
            raise outside.refusal('the name of a data file',
                                  f'header extension at byte {at}')
        at += 8 + (length + 7 & ~7)
    raise UnsafeFormat('its header has too many extensions',
                       f'byte {at}')


def _check_counts(file: reader.Reader, version: int, cluster: int) -> None:
    """The counts are of a size that QEMU takes, whatever they say."""
    (clusters,) = file.unpack('>I', 56)
    order = file.unpack('>I', 96)[0] if version == 3 else 4
    if order > 6 or clusters * cluster > _MOST_COUNTS:
        raise UnsafeFormat('its reference counts have an impossible size',
                           'refcount_table_clusters, byte 56, and '
                           'refcount_order, byte 96')


# -- what the tables name

def _check_tables(file: reader.Reader, header: _Header) -> None:
    """Every cluster that is looked at is in the file.

    But for what lies behind the end of the disk. Those tables first that lie
    last: they were written last, and name what a cut takes away.
    """
    places, left = _second_tables(file, header), file.most_tables
    last = _last_table(file, header) if places else 0
    for place in places:
        if left < header.cluster:
            return
        left -= header.cluster
        end = _end(file.long(place, header.cluster), header, place == last)
        if end > file.size:
            raise UnsafeFormat(
                'it is truncated: its last cluster is not in the file, or '
                'not all of it', f'second-level table at byte {place}, end '
                f'of a cluster at byte {end} of {file.size}')


def _last_table(file: reader.Reader, header: _Header) -> int:
    """Where the second-level table lies that the end of the disk is in."""
    (first,) = file.unpack('>Q', 40)
    number = max(0, header.size - 1) // (header.cluster * header.entries)
    return int(file.unpack('>Q', first + 8 * number)[0]) & _PLACE


def _second_tables(file: reader.Reader, header: _Header) -> list[int]:
    """Places of the second-level tables, the last of the file first."""
    number, place = file.unpack('>IQ', 36)
    needed = -(-header.size // (header.cluster * header.entries))
    where = f'l1_size {number}, byte 36; l1_table_offset {place}, byte 40'
    if 8 * number > _MOST_FIRST or place % header.cluster:
        raise UnsafeFormat('its first table has an impossible size or place',
                           where)
    if number < needed:
        raise UnsafeFormat(
            f'its first table has {number} entries, too few for its virtual '
            f'size of {header.size} bytes', where)
    if place + 8 * number > file.size:
        raise UnsafeFormat(
            'it is truncated: its first table is not in the file', where)
    places = file.greatest('>Q', place, number,
                           max(1, file.most_tables // header.cluster), _PLACE)
    if places and places[0] + header.cluster > file.size:
        raise UnsafeFormat(
            'it is truncated: a second-level table is not in the file',
            f'table at byte {places[0]} of {file.size}')
    return places


def _end(table: bytes, header: _Header, is_last: bool) -> int:
    """Bytes that the file has at least, by what a second-level table names.

    :param is_last: it names the cluster that the disk ends in
    """
    if not table.strip(b'\0'):
        return 0
    entries = struct.unpack(f'>{len(table) // 8}Q', table)
    maps: tuple[int, ...] = ()
    if header.features & _EXTENDED:
        # Each is followed by a map of the parts that are there.
        entries, maps = entries[::2], entries[1::2]
    ends = [0]
    if is_last:
        number, offset = divmod(max(0, header.size - 1), header.cluster)
        number %= header.entries
        ends.append(_plain_end(entries[number], maps[number:number + 1],
                               header, offset + 1))
        if not entries[number] & _COMPRESSED:
            entries = entries[:number] + entries[number + 1:]
            maps = maps[:number] + maps[number + 1:]
    packed = [entry for entry in entries if entry & _COMPRESSED]
    if packed:
        # Of these fewer bits are the place, the more the larger a cluster
        # is; the others say how many more sectors it has. The last need not
        # be filled up.
        bits = 62 - (header.cluster.bit_length() - 9)
        place, more = (1 << bits) - 1, (1 << 62 - bits) - 1
        ends.append(1 + 512 * max(
            ((entry & place) >> 9) + (entry >> bits & more)
            for entry in packed))
    if maps:
        ends += [_plain_end(entry, (parts,), header, header.cluster)
                 for entry, parts in zip(entries, maps, strict=True)]
    else:
        last = max((entry & _PLACE for entry in entries
                    if not entry & (_COMPRESSED | _ZEROS)), default=0)
        ends.append(last + header.cluster if last else 0)
    return max(ends)


def _plain_end(entry: int, maps: tuple[int, ...], header: _Header,
               length: int) -> int:
    """Where what is there of a cluster ends; 0 when nothing is.

    :param maps: the map of its parts, in an extended table
    :param length: bytes of it that are wanted
    """
    place = entry & _PLACE
    if entry & (_COMPRESSED | _ZEROS) or not place:
        return 0
    for parts in maps:
        there = (parts & 0xffffffff).bit_length()
        if not there:
            return 0
        length = min(length, there * header.cluster // 32)
    return place + length
