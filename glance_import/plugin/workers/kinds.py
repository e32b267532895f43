"""What data is compressed or archived with, told by how it begins.

Kinds that ``decompress`` takes, and others that are known by name, so that
none of them is taken for a disk. Touches what it is given to read. Standard
library only: it is used inside a sandbox too.
"""

import os
import re
import struct
import zlib

# Bytes of the beginning that are needed.
HEAD = 512
# Frames of zstd and lz4 that hold no data; more of them at the beginning of
# a file than that are followed no further.
_SKIPPED = 64
_FRAMES = ((b'\x28\xb5\x2f\xfd', 'zstd'), (b'\x04\x22\x4d\x18', 'lz4'),
           (b'\x02\x21\x4c\x18', 'lz4 (legacy frame)'))
STREAMS = frozenset({'gzip', 'bzip2', 'xz', 'zstd', 'lz4'})
TAKEN = STREAMS | {'zip', 'tar'}
_MAGICS = tuple((0, *each) for each in _FRAMES) + (
    (0, b'\x1f\x8b\x08', 'gzip'),
    (0, b'\xfd7zXZ\x00', 'xz'),
    (0, b'PK\x03\x04', 'zip'),
    # Those that are known, and not taken.
    (0, b'PK\x05\x06', 'zip (empty)'),
    (0, b'PK\x06\x06', 'zip (empty)'),
    (0, b'PK\x07\x08', 'zip (split)'),
    (0, b'PK00PK', 'zip (split)'),
    (0, b'LZIP\x00', 'lzip'),
    (0, b'LZIP\x01', 'lzip'),
    (0, b'7z\xbc\xaf\x27\x1c', '7z'),
    (0, b'Rar!\x1a\x07', 'rar'),
    (0, b'RE~^', 'rar'),
    (0, b'\x89LZO\x00\r\n\x1a\n', 'lzop'),
    (0, b'LRZI', 'lrzip'),
    (0, b'RZIP', 'rzip'),
    (0, b'7kSt', 'zpaq'),
    (0, b'zPQ\x01', 'zpaq'), (0, b'zPQ\x02', 'zpaq'),
    (0, b'\xff\x06\x00\x00sNaPpY', 'snappy'),
    *((0, b'bvx' + each, 'lzfse') for each in (b'1', b'2', b'n', b'-')),
    (0, b'MSCF\x00\x00\x00\x00', 'cab'),
    (0, b'MSWIM\x00\x00\x00', 'wim'),
    (0, b'xar!\x00\x1c', 'xar'),
    (0, b'!<arch>\n', 'ar'),
    (0, b'!<thin>\n', 'ar'),
    (0, b'070701', 'cpio'), (0, b'070702', 'cpio'), (0, b'070707', 'cpio'),
    (0, b'CISO\x18\x00\x00\x00', 'ciso'),
    (0, b'CISO\x00\x00\x00\x00', 'ciso'),
    (0, b'ZISO', 'ziso'),
    (0, b'SZDD\x88\xf0\x27\x33', 'szdd'),
    (0, b'KWAJ\x88\xf0\x27\xd1', 'kwaj'),
    (0, b'partclone-image', 'partclone'),
    (0, b'\x00ntfsclone-image', 'ntfsclone'),
    (0, b'PaRtImAgE-VoLuMe', 'partimage'),
    (7, b'**ACE**', 'ace'),
    (20, b'\xdc\xa7\xc4\xfd', 'zoo'),
    *((0, bytes((first,)) + b'\xb5\x2f\xfd', 'zstd (before 0.8)')
      for first in range(0x22, 0x28)),
)
_LHA = re.compile(rb'..-(?:l[hz][0-9dsx]|pm[0-2s])-', re.DOTALL)
_BZIP2 = re.compile(rb'BZh[1-9](?:1AY&SY|\x17rE8P\x90)', re.DOTALL)
_OCTAL = re.compile(rb'[ \0]*([0-7]{1,7})[ \0]*')


def kind_of(file):
    """The kind of a seekable file; None for what is no such thing.

    It is one of TAKEN, or a name for people. The position is the start
    afterwards.
    """
    file.seek(0)
    head = file.read(HEAD)
    if _ends_split_zip(file):
        return 'zip (split)'
    kind = of_head(head)
    at = 0
    for _ in range(_SKIPPED if _is_skippable(head) else 0):
        at += 8 + struct.unpack_from('<I', head, 4)[0]
        file.seek(at)
        head = file.read(8)
        if not _is_skippable(head):
            kind = next((name for magic, name in _FRAMES
                         if head.startswith(magic)), kind)
            break
    file.seek(0)
    return kind


def _ends_split_zip(file):
    """The last part of a zip in parts, which may begin with anything."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 22, 0))
    end = file.read(22)
    file.seek(0)
    return (end[:4] == b'PK\x05\x06' and end[20:] == b'\0\0'
            and end[4:6] not in (b'\0\0', b'\xff\xff'))


def _is_skippable(head):
    return (len(head) >= 8 and head[1:4] == b'\x2a\x4d\x18'
            and head[0] & 0xf0 == 0x50)


def of_head(head):
    """The kind of data that begins so; None for what is no such thing.

    A frame that is skipped is one of zstd, as far as this can tell.

    :param head: HEAD bytes, fewer where there are no more
    """
    if _is_skippable(head):
        return 'zstd'
    for place, magic, kind in _MAGICS:
        if head[place:place + len(magic)] == magic:
            return kind
    for found, kind in (
            (_is_tar, 'tar'), (_BZIP2.match, 'bzip2'), (_is_lzma, 'lzma'),
            (_LHA.match, 'lha'), (_is_compress, 'compress'),
            (_is_arj, 'arj'), (_is_zlib, 'zlib'), (_is_cpio, 'cpio')):
        if found(head):
            return kind
    return None


def _is_tar(head):
    """By its checksum, which tars without a magic number have too."""
    said = _OCTAL.fullmatch(head[148:156])
    if len(head) < 512 or not head[0] or said is None:
        return False
    field = head[148:156]
    return int(said[1], 8) in (
        sum(head) - sum(field) + 256,
        # As some old programs counted.
        sum(each - 256 if each > 127 else each for each in head)
        - sum(field) + 256)


def _is_lzma(head):
    """Headers that xz takes for it, too; the format has no magic number."""
    if len(head) < 14 or head[0] >= 225 or head[13]:
        return False
    dictionary, size = struct.unpack_from('<IQ', head, 1)
    lowest = dictionary & -dictionary
    return (dictionary >= 4096
            and dictionary in (lowest, lowest * 3, 0xffffffff)
            and (size == 2 ** 64 - 1 or size < 2 ** 40))


def _is_compress(head):
    return (head[:2] == b'\x1f\x9d' and len(head) > 3
            and not head[2] & 0x60 and 9 <= head[2] & 0x1f <= 16)


def _is_arj(head):
    return (head[:2] == b'\x60\xea' and len(head) > 10 and head[10] == 2
            and 30 <= int.from_bytes(head[2:4], 'little') <= 2600)


def _is_cpio(head):
    """In binary, either way round, with a name that ends where it says."""
    order = {b'\xc7\x71': '<', b'\x71\xc7': '>'}.get(head[:2])
    if order is None or len(head) < 32:
        return False
    mode, length = struct.unpack_from(f'{order}6xH12xH', head)
    return (mode >> 12 in (1, 2, 4, 6, 8, 10, 12) and 1 < length <= 400
            and head[26:26 + length].find(b'\0') == length - 1)


def _is_zlib(head):
    if head[:1] != b'\x78' or len(head) < 8 or int.from_bytes(
            head[:2], 'big') % 31 or head[1] & 0x20:
        return False
    try:
        return bool(zlib.decompressobj().decompress(head, 1 << 16))
    except zlib.error:
        return False
