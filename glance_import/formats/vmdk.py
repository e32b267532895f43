"""VMDK: header and descriptor of a sparse file, and descriptors alone.

As VMware's "Virtual Disk Format 5.0" and QEMU's block/vmdk.c have them. Names
of extents are looked at and never opened. Touches the reader it is given.
"""

from __future__ import annotations

import codecs
import re
import struct

from glance_import.formats import outside
from glance_import.formats import reader

UnsafeFormat = reader.UnsafeFormat
# Types whose data is in the file that has the descriptor.
WHOLE = frozenset({'monolithicsparse', 'streamoptimized'})
# Where the directory is, in a file that is written as a stream.
_AT_END = 2 ** 64 - 1
# Flags of the header: grains are compressed, and have a marker in front.
_COMPRESSED, _MARKERS = 1 << 16, 1 << 17
_PAIR = re.compile(rb'([a-z0-9_.]+)\s*=\s*(?:"([^"]*)"|(\S*))')
# Control characters other than a tab and the end of a line: a reader may
# take one of them for that too.
_ODD = re.compile(rb'[\x01-\x08\x0b-\x1f\x7f]')
# Where the descriptor of a sparse VMDK usually lies: bytes behind its header.
_DESCRIPTOR = 20 * 512
_EXTENT = re.compile(rb'(?:rw|rdonly|noaccess)\s+(\d{1,18})\s+(\S+)\s+'
                     rb'"([^"]+)"(?:\s+\d+)?')
# What programs take for the place of other data, not for a name: a protocol
# of QEMU's, or a drive.
_PROTOCOL = re.compile(
    r'(?:[a-z]|blkdebug|blklogwrites|blkverify|compress|copy-on-read|dmg|'
    r'fat|fd|file|ftps?|gluster\S*|host_\w+|https?|io_uring|iscsi|json|'
    r'nbd\S*|nfs|null-\w+|nvme\S*|preallocate|quorum|raw|rbd|replication|'
    r'sheepdog\S*|ssh|throttle|unix|virtio-\S+|vitastor|vxhs|vvfat'
    r'):', re.IGNORECASE)
# Encodings that programs write.
_ENCODING = re.compile(
    rb'^[ \t]*encoding[ \t]*=[ \t]*"?([a-z0-9_.:-]{1,32})', re.MULTILINE)
_ENCODINGS = re.compile(
    r'utf-?8|gb\w+|big5\w*|shift_?jis|sjis|euc[-_]\w+|us-ascii|iso-?8859-\d+'
    r'|(?:windows|cp|ms)-?\d+')
_ASCII = bytes(range(128))
_AS_ONE = ('Convert it to one sparse file: qemu-img convert -O vmdk, or '
           'ovftool')
_ELSEWHERE = ('Name the extent by its file name alone, or make the file anew '
              '(qemu-img convert -O vmdk)')


def check(file: reader.Reader) -> int:
    """The virtual size in bytes of a descriptor with one extent, this file.

    :raises reader.UnsafeFormat: it names a parent or other files, or can be
        read in more than one way
    """
    capacity, place, sectors = (*file.unpack('<Q', 12),
                                *file.unpack('<QQ', 28))
    if not capacity:
        # A reader takes what the descriptor says for the image then.
        raise UnsafeFormat('its header says no size', 'capacity, byte 12')
    if place != 1 or not 0 < sectors <= 2048:
        raise UnsafeFormat('its descriptor lies at an unusual place',
                           f'sector {place}, {sectors} sectors; byte 28')
    raw = file.at(place * 512, min(sectors * 512, reader.MOST))
    _check_words(file.up_to(512, _DESCRIPTOR) + b'\n' + raw)
    text = raw.partition(b'\0')[0].lower().replace(b'\r\n', b'\n')
    odd = _ODD.search(text)
    if odd:
        raise UnsafeFormat(
            'its descriptor has lines that others end elsewhere',
            f'descriptor, byte {512 + odd.start()}')
    if text.count(b'createtype') != 1:
        # Readers differ in which they take, and whether in a comment.
        raise UnsafeFormat(
            'its descriptor has more than one createType, or none',
            'descriptor, byte 512')
    _check_lines(text)
    _check_tables(file, capacity)
    return int(capacity) * 512


def _check_tables(file: reader.Reader, capacity: int) -> None:
    """What the grain directory names is in the file.

    But for what lies behind the end of the disk. Of a stream the directory
    may be named at its end, which is looked at by oslo.utils.
    """
    (grain,), (entries,) = file.unpack('<Q', 20), file.unpack('<I', 44)
    (directory,) = file.unpack('<Q', 56)
    if directory == _AT_END or not grain or not 0 < entries <= 512:
        return
    tables = -(-capacity // (grain * entries))
    if directory * 512 + 4 * tables > file.size:
        raise UnsafeFormat(
            'it is truncated: its grain directory is not in the file, or its '
            f'virtual size of {capacity * 512} bytes is wrong',
            f'gdOffset, byte 56; {4 * tables} bytes at {directory * 512} of '
            f'{file.size}')
    (ends_in,) = file.unpack('<I', directory * 512 + 4 * (tables - 1))
    for place in file.greatest('<I', directory * 512, tables,
                               file.most_tables // 4096):
        end = place * 512 + 4 * entries
        if end <= file.size:
            end = _end(file, struct.unpack(f'<{entries}I', file.at(
                place * 512, 4 * entries)), capacity, place == ends_in)
        if end > file.size:
            raise UnsafeFormat(
                'it is truncated: its last grain is not in the file, or not '
                'all of it', f'grain table at byte {place * 512}, end of a '
                f'grain at byte {end} of {file.size}')


def _end(file: reader.Reader, table: tuple[int, ...], capacity: int,
         is_last: bool) -> int:
    """Bytes that the file has at least, by what a grain table names.

    :param is_last: it names the grain that the disk ends in
    """
    (flags,), (grain,) = file.unpack('<I', 8), file.unpack('<Q', 20)
    last = max(table)
    # 1 stands for zeros.
    if last <= 1:
        return 0
    if flags & _COMPRESSED:
        # Where there is a marker it says how long the data behind it is.
        at, size = last * 512, 1
        if flags & _MARKERS:
            size += 12
            if at + size <= file.size:
                size = 12 + file.unpack('<QI', at)[1]
        return at + size
    if not is_last:
        return (last + grain) * 512
    number, rest = divmod(capacity - 1, grain)
    number %= len(table)
    others = max(table[:number] + table[number + 1:], default=0)
    return 512 * max(others + grain if others > 1 else 0,
                     table[number] + rest + 1 if table[number] > 1 else 0)


def _check_lines(text: bytes) -> None:
    encoding, extents = _encoding(text), 0
    for number, line in enumerate(text.split(b'\n'), 1):
        line, where = line.strip(), f'descriptor, line {number}'
        if not line or line.startswith((b'#', b'ddb.')):
            continue
        pair = _PAIR.fullmatch(line)
        if pair is not None:
            _check_pair(pair, where)
            continue
        extent = _EXTENT.fullmatch(line)
        if extent is None:
            raise UnsafeFormat(
                'its descriptor has a line that is not understood', where)
        if extent[2] != b'sparse':
            kind = extent[2][:40].decode('ascii', 'replace')
            raise outside.refusal(f'an extent of the type {kind}', where)
        _check_name(extent[3], encoding, where)
        extents += 1
    if extents != 1:
        raise UnsafeFormat(f'its descriptor names {extents} extents, not one',
                           'descriptor, byte 512', _AS_ONE)


def _check_pair(pair: re.Match[bytes], where: str) -> None:
    value = pair[2] if pair[2] is not None else pair[3]
    if pair[1] == b'parentcid' and value != b'ffffffff':
        raise outside.refusal('a parent', f'parentCID, {where}')


def _check_words(data: bytes) -> None:
    """Nothing is named outside, wherever a reader may look for the name.

    Some take the first such word of the place where descriptors usually
    are, be it in a comment or behind the end of this one.
    """
    data = data.lower()
    for word in (b'parentfilenamehint', b'changetrackpath'):
        if word in data:
            raise outside.refusal(word.decode(),
                                  f'byte {512 + data.index(word)}')


def _encoding(text: bytes) -> str:
    """That of the names; what is not known is read byte by byte.

    So is one in which ASCII is not ASCII (EBCDIC): no reader of a descriptor
    in which the quotes are those of ASCII goes by it.
    """
    found = _ENCODING.search(text)
    name = found[1].decode('ascii') if found else 'utf-8'
    if not _ENCODINGS.fullmatch(name):
        return 'latin-1'
    name = re.sub(r'^(?:windows|ms)-?|^cp-', 'cp', name)
    try:
        if _ASCII.decode(name) == _ASCII.decode('ascii'):
            return codecs.lookup(name).name
    except (LookupError, UnicodeDecodeError):
        pass
    return 'latin-1'


def _check_name(raw: bytes, encoding: str, where: str) -> None:
    """A plain name, which nobody takes for a place."""
    try:
        name = raw.decode(encoding)
    except UnicodeDecodeError:
        name = raw.decode('latin-1')
    # Some read it byte by byte whatever the encoding. A backslash alone may
    # be half of a letter then.
    bytewise = raw.decode('latin-1')
    if '\\' in name or any(
            '/' in each or each in ('.', '..') or _PROTOCOL.match(each)
            for each in (name, bytewise)):
        raise UnsafeFormat(
            'it names an extent in a way that is not understood as the name '
            'of this file', where, _ELSEWHERE)


def kind(file: reader.Reader) -> str:
    """The createType of an embedded descriptor, as it is written."""
    text = file.up_to(512, 1 << 16).decode('latin-1')
    found = re.search(r'createtype\s*=\s*"([^"\0]{0,40})"', text,
                      re.IGNORECASE)
    return found[1] if found else ''


# -- descriptors alone

_VERSION = re.compile(rb'version\s*=\s*\d', re.IGNORECASE)
# As willing as a scanf that skips any blanks between its words.
_TEXT_EXTENT = re.compile(
    rb'\b(?:rw|rdonly|noaccess)\s+[-+]?\d+\s*[a-z]{1,10}\s*"', re.IGNORECASE)
# What a descriptor has beside its version, in small letters.
_DESCRIBES = (b'createtype', b'parentfilenamehint', b'parentcid',
              b'changetrackpath')


def check_text(file: reader.Reader) -> None:
    """A file that says where the data is instead of having it.

    Text that only begins with a version, or mentions descriptors in a
    comment, is none: without a createType, a parent or an extent no program
    finds anything in it.

    :raises reader.UnsafeFormat: it is one, whatever comes behind the text
    """
    head = file.up_to(0, 1 << 16)
    begins = _begins(head)
    text = _text(file)
    found = text.lower() + b'\n' + (head.lower() if begins else b'')
    extent = _TEXT_EXTENT.search(found) is not None
    if begins and (extent or any(word in found for word in _DESCRIBES)) \
            or extent and b'createtype' in found:
        raise outside.refusal('it is a text descriptor', 'vmdk, byte 0')


def _begins(head: bytes) -> bool:
    """Whether it begins with a version, or says that it is a descriptor.

    Comments come first. A line ends at LF and nowhere else, whatever else a
    comment holds.
    """
    for line in head.split(b'\n'):
        line = line.strip()
        if line.startswith(b'#'):
            if b'disk descriptorfile' in line.lower():
                return True
        elif line:
            return _VERSION.match(line) is not None
    return False


def _text(file: reader.Reader) -> bytes:
    """Up to the first NUL: those who are told the format read that."""
    parts, at = [], 0
    while at < min(file.size, reader.MOST):
        part = file.up_to(at, 1 << 16)
        parts.append(part)
        if b'\0' in part:
            break
        at += len(part)
    return b''.join(parts).partition(b'\0')[0]
