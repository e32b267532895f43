"""What is odd about the partition table of a raw disk: only warnings.

A table names places of the disk itself, so none can hurt the host; UEFI 2.10
(5.2, 5.3) says what it should look like. Touches the reader it is given.
"""

from __future__ import annotations

import collections.abc
import struct

from glance_import.formats import reader

_SECTOR = 512
_TABLE, _SIGNATURE = 446, b'\x55\xaa'
_PROTECTIVE = 0xee
_GPT = b'EFI PART'
# Of an x86 kernel, behind its boot sector (Linux: x86/boot, 1.3).
_KERNEL = b'HdrS'
_VOLUMES = (b'NTFS    ', b'EXFAT   ', b'ReFS\0\0\0\0')


def warnings(file: reader.Reader) -> collections.abc.Iterator[str]:
    """Sentences without their end; none for what is as it should be."""
    head = file.up_to(0, _SECTOR)
    gpt = _gpt(file)
    if head[510:] != _SIGNATURE:
        if gpt is not None:
            yield ('it has a GPT, and no protective master boot record '
                   '(byte 510)')
    elif not is_volume(head) and file.up_to(_SECTOR + 2, 4) != _KERNEL:
        yield from _of_table(head, file.size, gpt is not None)
    if gpt is not None and gpt > file.size:
        yield (f'its GPT is of a disk of {gpt} bytes, and it has '
               f'{file.size}: partitions may be cut')


def is_volume(head: bytes) -> bool:
    """Whether it is the boot sector of a file system, which has no table.

    :param head: the first 512 bytes
    """
    if head[:1] not in (b'\xeb', b'\xe9'):
        return False
    if head[3:11] in _VOLUMES:
        return True
    size, cluster, _reserved, copies = struct.unpack_from('<HBHB', head, 11)
    return (size in (512, 1024, 2048, 4096) and cluster.bit_count() == 1
            and copies in (1, 2, 3, 4) and head[21] >= 0xf0)


def _of_table(head: bytes, size: int, gpt: bool
              ) -> collections.abc.Iterator[str]:
    kinds = []
    for number in range(4):
        at = _TABLE + 16 * number
        flag, kind, start, length = struct.unpack_from('<B3xB3xII', head, at)
        if kind:
            kinds.append(kind)
        if flag not in (0, 0x80):
            yield (f'entry {number + 1} of its partition table has the boot '
                   f'flag {flag:#04x} (byte {at})')
        end = (start + length) * _SECTOR
        if kind not in (0, _PROTECTIVE) and end > size:
            yield (f'partition {number + 1} ends at byte {end}, and the disk '
                   f'has {size} (byte {at + 8})')
        if kind == _PROTECTIVE and (head[at + 1:at + 4] != b'\0\2\0'
                                    or start != 1):
            yield ('its protective master boot record does not begin at the '
                   f'second sector (byte {at + 1})')
    if not kinds:
        yield f'its partition table is empty (byte {_TABLE})'
    elif _PROTECTIVE in kinds and len(kinds) > 1:
        yield f'its GPT has a hybrid master boot record (byte {_TABLE})'
    elif _PROTECTIVE in kinds and not gpt:
        yield 'its partition table names a GPT that is not there (byte 512)'


def _gpt(file: reader.Reader) -> int | None:
    """Bytes of the disk that a GPT is of; None when there is none."""
    for sector in (_SECTOR, 4096):
        header = file.up_to(sector, 40)
        if header[:8] == _GPT and len(header) == 40:
            (last,) = struct.unpack_from('<Q', header, 32)
            return int(last + 1) * sector
    return None
