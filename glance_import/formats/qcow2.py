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
    (bits,) = file.unpack('>I', 20)
    features = _features(file)
    header = _Header(1 << bits, file.unpack('>Q', 24)[0], features)
    # That which lies last names the last clusters, nearly always.
    for place in _second_tables(file, header)[:1]:
        last, _packed = _last_places(file.long(place, header.cluster), header)
        missing = last + header.cluster - file.size
        if missing > 0:
            yield (f'the last {missing} bytes of its last cluster (byte '
                   f'{last}) are not in the file, and are read as zeros')
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
    """Every cluster that is looked at begins inside of the file.

    Those tables first that lie last: they were written last, and name what a
    cut takes away.
    """
    places, left = _second_tables(file, header), file.most_tables
    for place in places:
        if left < header.cluster:
            return
        left -= header.cluster
        last = max(_last_places(file.long(place, header.cluster), header))
        if last >= file.size:
            raise UnsafeFormat(
                'it is truncated: its last cluster is not in the file',
                f'second-level table at byte {place}, cluster at byte '
                f'{last} of {file.size}')


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


def _last_places(table: bytes, header: _Header) -> tuple[int, int]:
    """Where the last clusters begin that a second-level table names.

    :returns: of those as they are, and of compressed ones; 0 for none
    """
    if not table.strip(b'\0'):
        return 0, 0
    entries = struct.unpack(f'>{len(table) // 8}Q', table)
    if header.features & _EXTENDED:
        # Each is followed by a map of the parts that are there.
        entries = tuple(
            entry for entry, parts in zip(entries[::2], entries[1::2],
                                          strict=True)
            if entry & _COMPRESSED or parts & 0xffffffff)
    # Of these fewer bits are the place, the more the larger a cluster is.
    mask = (1 << 62 - (header.cluster.bit_length() - 9)) - 1
    packed = max((entry & mask for entry in entries if entry & _COMPRESSED),
                 default=0)
    return max((entry & _PLACE for entry in entries
                if not entry & (_COMPRESSED | _ZEROS)), default=0), packed
