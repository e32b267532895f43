"""Decompression of one image, inside a sandbox.

What it is compressed with is told by its first bytes. An archive may have
one regular member, whose name is not looked at; a tar inside of other
compressed data is unpacked too. ``ctx.options`` has ``max_ratio``: bytes out
for each byte in, once 64 MiB have come out, and ``nested``: whether what
comes out may be an archive or compressed, and stays so.
"""

import bz2
import lzma
import os
import struct
import tarfile
import zipfile
import zlib

from glance_import.plugin import contract
from glance_import.plugin.workers import archives
from glance_import.plugin.workers import kinds

BLOCK = 1 << 20
# Bytes given to a decoder at a time: what it leaves is copied for each of
# many short streams.
_PIECE = 64 << 10
_FREE = 64 << 20
# Tars inside of what is unpacked.
_DEEPEST = 4
BadData = archives.BadData


class Decompress(contract.ImagePlugin):
    """One object a run."""

    api = 1

    def inspect(self, data, ctx):
        """Bytes that will come out, where the data says; else 0."""
        kind = kinds.kind_of(data)
        try:
            size = _SIZES.get(kind, _unknown)(data)
        except BadData as failure:
            return self.reject(failure.at(data))
        return self.accept(properties={'required': str(size)})

    def transform(self, source, sink, ctx):
        """Write what comes out to the sink."""
        kind = kinds.kind_of(source)
        bound = int(ctx.options.max_ratio)
        try:
            blocks = _DECODERS[kind](source)
            if not ctx.options.nested:
                blocks = _disk(blocks, kind)
            for block in blocks:
                ctx.progress()
                if sink.written + len(block) > sink.limit:
                    raise BadData('what comes out is larger than '
                                  f'{sink.limit} bytes, the most that is '
                                  'accepted', 'make the disk smaller, or '
                                  'ask the operator')
                sink.write(block)
                # What is looked at twice counts once.
                read = min(source.bytes_read, source.size)
                if sink.written > max(_FREE, read * bound):
                    raise BadData(f'more than {bound} bytes come out for each '
                                  'byte of it (max_ratio)', 'upload the '
                                  'disk as it is')
            if not sink.written:
                raise BadData(f'nothing is in the {kind} data: what comes out '
                              'has 0 bytes', 'put the disk into it, or upload '
                              'it as it is')
        except BadData as failure:
            return self.reject(failure.at(source))
        except _BROKEN as failure:
            return self.reject(_broken(kind, failure).at(source))
        behind = getattr(source, 'behind', 0)
        if behind:
            return self.warn(
                f'{behind} bytes follow the end of the {kind} data, and were '
                'left out')
        return self.accept()


def _broken(kind, failure):
    """What a decoder means: it is damaged, or asks for too much memory."""
    if 'memory' in str(failure).lower():
        return BadData(f'the {kind} data needs more memory to unpack than is '
                       f'given to it ({failure})',
                       'compress it with a smaller window or dictionary')
    return BadData(f'the {kind} data is damaged ({failure})')


def _disk(blocks, kind, depth=0):
    """What comes out, which has to be a disk by now.

    A tar is unpacked; what is compressed twice is refused.

    :param depth: tars that were unpacked to come here
    """
    head = b''
    while len(head) < kinds.HEAD and (block := next(blocks, b'')):
        head += block
    inner = kinds.of_head(head[:kinds.HEAD])
    whole = _joined(head, blocks)
    if inner == 'tar':
        if depth == _DEEPEST:
            raise BadData(f'more than {_DEEPEST} tar archives are inside of '
                          'each other', 'unpack it, and upload the disk')
        return _disk(archives.untar(whole), 'tar', depth + 1)
    if inner:
        raise BadData(
            f'what comes out of the {kind} data is {inner} data again',
            'unpack it, and upload the disk')
    return whole


def _joined(head, blocks):
    if head:
        yield head
    yield from blocks


_BROKEN = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError,
           zipfile.BadZipFile, tarfile.TarError, struct.error)


# -- streams

# Bytes of the longest of what streams begin with.
_MAGIC = 6
_LZ4 = (b'\x04\x22\x4d\x18',
        *(bytes((0x50 | low,)) + b'\x2a\x4d\x18' for low in range(16)))


def _streams(source, make, name, magics, *, strict=True):
    """Streams one after the other; ``make`` gives a decompressor.

    A decompressor has ``decompress(data, most)``, ``eof``, ``unused_data``
    and ``needs_input``, as those of bz2 and lzma. Zeros behind the last
    stream are padding.

    :param magics: what a stream may begin with
    :param strict: refuse what follows and is none of it; else how much that
        is becomes ``source.behind``
    """
    decoder, fresh, data = make(), True, b''
    while True:
        if decoder.eof:
            data = decoder.unused_data or source.read(_PIECE)
            end = source.tell() - len(data)
            data = data.lstrip(b'\0')
            while not data and (more := source.read(_PIECE)):
                data = more.lstrip(b'\0')
            if not data:
                return
            if len(data) < _MAGIC:
                data += source.read(_PIECE)
            if not data.startswith(magics):
                source.behind = source.size - end
                if strict:
                    raise BadData(
                        f'the {name} data is damaged: {source.behind} bytes '
                        'that are none of it follow its end')
                return
            decoder, fresh = make(), True
        elif decoder.needs_input:
            data = source.read(_PIECE)
            if not data:
                raise BadData(
                    f'the {name} data is cut before its end'
                    if not fresh or source.size else 'it is empty')
        fresh = False
        block = decoder.decompress(data, BLOCK)
        data = b''
        if block:
            yield block


class _Gzip:
    """zlib's decompressor in the manner of those of bz2 and lzma."""

    def __init__(self):
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self):
        return self._zlib.eof

    @property
    def unused_data(self):
        return self._zlib.unused_data

    @property
    def needs_input(self):
        return not self._zlib.unconsumed_tail

    def decompress(self, data, most):
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, most)


def _gzip(source):
    return _streams(source, _Gzip, 'gzip', b'\x1f\x8b\x08', strict=False)


def _bzip2(source):
    return _streams(source, bz2.BZ2Decompressor, 'bzip2', b'BZh',
                    strict=False)


def _xz(source):
    def make():
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=256 << 20)
    return _streams(source, make, 'xz', b'\xfd7zXZ\0')


def _zstd(source):
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=128 << 20)
    with decoder.stream_reader(source, read_size=BLOCK,
                               read_across_frames=True) as stream:
        try:
            while block := stream.read(BLOCK):
                yield block
        except zstandard.ZstdError as failure:
            raise _broken('zstd', failure) from failure
    # The library takes a cut frame for the end of the data.
    _check_zstd_end(source, zstandard)


def _check_zstd_end(source, zstandard):
    """Walk over the frames by their block headers: no frame is cut."""
    at = 0
    while at < source.size:
        source.seek(at)
        head = source.read(18)
        (magic,) = struct.unpack('<I', head[:4].ljust(4, b'\0'))
        if magic & 0xfffffff0 == 0x184d2a50:
            at += 8 + struct.unpack('<I', head[4:8])[0]
            continue
        if magic != 0xfd2fb528:
            raise BadData('something that is no zstd data follows it at byte '
                          f'{at} of {source.size}')
        try:
            header = zstandard.frame_header_size(head)
            checksum = zstandard.get_frame_parameters(head).has_checksum
        except zstandard.ZstdError as failure:
            raise BadData('the zstd data is cut, or damaged, at byte '
                          f'{at} ({failure})') from failure
        at += header
        last = 0
        while not last:
            source.seek(at)
            word = source.read(3)
            if len(word) < 3:
                raise BadData('the zstd data is cut before its end')
            value = int.from_bytes(word, 'little')
            last, kind, size = value & 1, value >> 1 & 3, value >> 3
            at += 3 + (1 if kind == 1 else size)
        at += 4 if checksum else 0
    if at != source.size:
        raise BadData('the zstd data is cut before its end')


def _lz4(source):
    try:
        import lz4.frame
    except ImportError:
        raise BadData(
            'it is compressed with lz4, which this service cannot decompress '
            '(the package lz4 is not installed)', 'use gzip or zstd'
        ) from None
    try:
        yield from _streams(source, lz4.frame.LZ4FrameDecompressor, 'lz4',
                            _LZ4)
    except RuntimeError as failure:
        raise BadData(f'the lz4 data is damaged ({failure})') from failure


def _tar(source):
    return archives.untar(iter(lambda: source.read(BLOCK), b''))


_DECODERS = {'gzip': _gzip, 'bzip2': _bzip2, 'xz': _xz, 'zstd': _zstd,
             'zip': archives.unzip, 'lz4': _lz4, 'tar': _tar}


# -- how much it will be

def _unknown(_source):
    return 0


def _zip_size(source):
    try:
        return archives.zip_member(source)[1].file_size
    except _BROKEN as failure:
        raise BadData(f'the zip archive is damaged ({failure})') from failure


def _zstd_size(source):
    import zstandard

    head = source.read(64)
    skipped = not head.startswith(b'\x28\xb5\x2f\xfd')
    try:
        found = zstandard.get_frame_parameters(head).content_size
    except zstandard.ZstdError:
        return 0
    # The unknown is a number without end, and that of a frame which is
    # skipped is another.
    return found if found < 1 << 62 and not skipped else 0


def _xz_size(source):
    """From the index at the end of a single stream."""
    source.seek(max(source.size - 12, 0), os.SEEK_SET)
    footer = source.read(12)
    if len(footer) < 12 or footer[10:] != b'YZ':
        return 0
    length = (struct.unpack('<I', footer[4:8])[0] + 1) * 4
    if length > 1 << 20 or length + 12 > source.size:
        return 0
    source.seek(source.size - 12 - length)
    index = source.read(length)
    numbers: list[int] = []
    at = 1
    while at < len(index) - 4 and (not numbers
                                   or len(numbers) <= 2 * numbers[0]):
        value = shift = 0
        while at < len(index):
            byte = index[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if not byte & 0x80 or shift > 63:
                break
        numbers.append(value)
    return sum(numbers[2::2])


_SIZES = {'zip': _zip_size, 'zstd': _zstd_size, 'xz': _xz_size}
