"""Optical discs: the volume recognition sequence, of ISO 9660 and of UDF.

As ECMA-167 (2/8) has it: descriptors from byte 32768 on. Touches the reader
it is given.
"""

from __future__ import annotations

from glance_import.formats import reader

_START, _MOST = 32768, 64
_UDF = (b'NSR02', b'NSR03')
_OTHERS = (b'BEA01', b'BOOT2', b'CD001', b'CDW02', b'TEA01')


def is_disc(file: reader.Reader) -> bool:
    """Whether the sequence names ISO 9660 or UDF, whichever comes first."""
    # A descriptor has the size of a sector, or of 2048 bytes if that is less.
    return any(_names(file, step) for step in (2048, 4096))


def _names(file: reader.Reader, step: int) -> bool:
    for number in range(_MOST):
        name = file.up_to(_START + number * step, 6)[1:]
        if name in _UDF or name == b'CD001':
            return True
        if name not in _OTHERS:
            return False
    return False
