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
# Bytes in which an archive begins behind the program that unpacks it.
_PROGRAM = 4 << 20
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
    (0, b'WLPWM\x00\x00\x00', 'wim'),
    (0, b'xar!\x00\x1c', 'xar'),
    (0, b'pbzx\x00\x00\x00\x00', 'pbzx'),
    (0, b'koly\x00\x00\x00\x04', 'dmg'),
    (0, b'\xed\xab\xee\xdb', 'rpm'),
    (0, b'EVF\t\r\n\xff\x00', 'ewf'), (0, b'LVF\t\r\n\xff\x00', 'ewf'),
    (0, b'EVF2\r\n\x81\x00', 'ewf'), (0, b'LEF2\r\n\x81\x00', 'ewf'),
    (0, b'MComprHD', 'chd'),
    (0, b'\x3a\xff\x26\xed\x01\x00', 'android sparse'),
    (0, b'VMA\x00\x00\x00\x00\x01', 'vma'),
    (0, b'IsZ!', 'isz'),
    (0, b'StuffIt (c)', 'stuffit'), (0, b'StuffIt!', 'stuffit'),
    (10, b'rLau', 'stuffit'),
    (0, b'!<arch>\n', 'ar'),
    (0, b'!<thin>\n', 'ar'),
    (0, b'070701', 'cpio'), (0, b'070702', 'cpio'), (0, b'070707', 'cpio'),
    (0, b'070727', 'cpio'),
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
_CLOOP = re.compile(rb'#!/bin/sh\n#V[0-9]\.[0-9]{1,2} Format\n')
_OCTAL = re.compile(rb'[ \0]*([0-7]{1,7})[ \0]*')


def kind_of(file):
    """The kind of a seekable file; None for what is no such thing.

    It is one of TAKEN, or a name for people. The position is the start
    afterwards.
    """
    file.seek(0)
    head = file.read(HEAD)
    kind = _of_end(file) or of_head(head)
    if kind is None:
        kind = _of_program(file, head)
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


def _of_end(file):
    """What is told by its last bytes, and may begin with anything."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 512, 0))
    end = file.read(512)
    zip_end = end[-22:]
    if (zip_end[:4] == b'PK\x05\x06' and zip_end[20:] == b'\0\0'
            and zip_end[4:6] not in (b'\0\0', b'\xff\xff')):
        return 'zip (split)'
    if end[:12] == b'koly\0\0\0\4\0\0\2\0' and _is_dmg(file, size, end):
        return 'dmg'
    return None


def _is_dmg(file, size, trailer):
    """Whether a trailer is that of all of the file, not of its last part.

    A file system may have a dmg as its last file; then the list of its parts
    is not where the trailer says.
    """
    at, length = struct.unpack_from('>QQ', trailer, 216)
    if not length:
        return True
    if at + length > size - 512:
        return False
    file.seek(at)
    return file.read(1) == b'<'


def zip_end(file):
    """(where the last record of a zip is, bytes behind it), or None."""
    size = file.seek(0, os.SEEK_END)
    begin = max(size - 22 - 0xffff, 0)
    file.seek(begin)
    tail = file.read(size - begin)
    at = tail.rfind(b'PK\x05\x06', 0, max(len(tail) - 18, 0))
    if at < 0:
        return None
    (comment,) = struct.unpack_from('<H', tail, at + 20)
    return begin + at, max(len(tail) - at - 22 - comment, 0)


def _of_program(file, head):
    """An archive behind something else, as a program that unpacks it.

    The zip has to end where the file does, with its directory and its first
    member where they are said to be. So has one that is the last file of a
    file system; that is told by what is in front, which is more than the
    archive, or begins as what a machine boots.
    """
    program = head[:2] in (b'MZ', b'#!') or head[:4] == b'\x7fELF'
    found = _zip_behind(file)
    if found is not None:
        front, most = found
        if program or front <= most and head[510:512] != b'\x55\xaa':
            return 'self-extracting zip'
    if program:
        file.seek(0)
        return _inside(file.read(_PROGRAM))
    return None


def _zip_behind(file):
    """(bytes in front of a zip, those of it or its first member), or None."""
    end = zip_end(file)
    if end is None or end[1]:
        return None
    stop = end[0]
    file.seek(stop)
    length, start = struct.unpack('<12xII2x', file.read(22))
    if 0xffffffff in (length, start) and stop >= 76:
        file.seek(stop - 76)
        wide = file.read(56)
        if wide[:4] != b'PK\x06\x06':
            return None
        stop -= 76
        length, start = struct.unpack_from('<QQ', wide, 40)
    before = stop - length - start
    if before < 0 or not length:
        return None
    file.seek(before + start)
    entry = file.read(46)
    if len(entry) < 46 or entry[:4] != b'PK\x01\x02':
        return None
    member, local = struct.unpack_from('<24xI14xI', entry)
    front = before + (0 if local == 0xffffffff else local)
    file.seek(front)
    if not front or file.read(4) != b'PK\x03\x04':
        return None
    return front, max(end[0] - front, member)


def _inside(program):
    """Another archive inside of a program that unpacks it."""
    at = -1
    while (at := program.find(b'7z\xbc\xaf\x27\x1c', at + 1)) >= 0:
        said, rest = program[at + 8:at + 12], program[at + 12:at + 32]
        if len(rest) == 20 and zlib.crc32(rest).to_bytes(4, 'little') == said:
            return 'self-extracting 7z'
    if re.search(rb'Rar!\x1a\x07(?:\x00..\x73|\x01\x00)', program, re.DOTALL):
        return 'self-extracting rar'
    return None


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
            (_LHA.match, 'lha'), (_CLOOP.match, 'cloop'),
            (_is_pack, 'pack'), (_is_freeze, 'freeze'), (_is_lzh, 'lzh'),
            (_is_compress, 'compress'),
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


def _has_two(head, *magics):
    """Whether it begins so, where two bytes are all that a format has.

    Never the first sector of what a machine boots.
    """
    return head[:2] in magics and head[510:512] != b'\x55\xaa'


def _is_pack(head):
    """With the levels of its tree, and as many bytes out as it says."""
    return (_has_two(head, b'\x1f\x1e') and len(head) > 7
            and 1 <= head[6] <= 24 and 0 < head[7])


def _is_freeze(head):
    return _has_two(head, b'\x1f\x9f', b'\x1f\x9e')


def _is_lzh(head):
    return _has_two(head, b'\x1f\xa0')


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
