"""Optical discs: the volume recognition sequence, of ISO 9660 and of UDF.

As ECMA-167 (2/8) has it: descriptors from byte 32768 on; the size of a volume
as ECMA-119 (8.4.8) has it. Touches the reader it is given.
"""

from __future__ import annotations

import collections.abc

from glance_import.formats import reader

_START, _MOST = 32768, 64
_UDF = (b'NSR02', b'NSR03')
# What is often missing of a disc: the sectors that mkisofs fills up with, of
# which a copy may have fewer. Bytes.
_PADDING = 150 * 2048
_OTHERS = (b'BEA01', b'BOOT2', b'CD001', b'CDW02', b'TEA01')


def is_disc(file: reader.Reader) -> bool:
    """Whether the sequence names ISO 9660 or UDF, whichever comes first."""
    # A descriptor has the size of a sector, or of 2048 bytes if that is less.
    return any(_names(file, step) for step in (2048, 4096))


def is_udf(file: reader.Reader) -> bool:
    """Whether the sequence names UDF."""
    return any(_names(file, step, _UDF) for step in (2048, 4096))


def check(file: reader.Reader) -> int:
    """The size of the file in bytes.

    :raises reader.UnsafeFormat: more of the volume is missing than what it
        may have been filled up with
    """
    missing = _missing(file)
    if missing > _PADDING:
        raise reader.UnsafeFormat(
            f'it is truncated: the last {missing} bytes of its volume are '
            f'not in the file, which has {file.size}',
            f'volume space size, byte {_START + 80}')
    return file.size


def warnings(file: reader.Reader) -> collections.abc.Iterator[str]:
    """What is odd about a disc that was taken."""
    missing = _missing(file)
    if missing > 0:
        yield (f'the last {missing} bytes of its volume are not in the file '
               f'(volume space size, byte {_START + 80})')


def _missing(file: reader.Reader) -> int:
    """Bytes of an ISO 9660 volume that the file does not have."""
    volume = file.up_to(_START, 130)
    if len(volume) < 130 or volume[:6] != b'\1CD001':
        return 0
    blocks = int.from_bytes(volume[80:84], 'little')
    return blocks * int.from_bytes(volume[128:130], 'little') - file.size


def _names(file: reader.Reader, step: int,
           wanted: tuple[bytes, ...] = (*_UDF, b'CD001')) -> bool:
    for number in range(_MOST):
        name = file.up_to(_START + number * step, 6)[1:]
        if name in wanted:
            return True
        if name not in _OTHERS:
            return False
    return False
