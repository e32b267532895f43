"""The one disk that an archive holds: a zip archive, or a tar.

What operating systems add by themselves is passed over, as are directories;
names are never paths to write to. Touches what it is given to read. Runs
inside a sandbox.
"""

import tarfile
import zipfile

from glance_import.plugin.workers import kinds

BLOCK = 1 << 20
# What an archive of one disk has at most, directories and all.
_MEMBERS = 1000
# Bytes of a header with long names.
_LONGEST = 1 << 20
# Bytes that are no disk.
_BESIDE = 64 << 20
_ADDED = ('.ds_store', 'thumbs.db', 'desktop.ini')
# GNU tar's: the name of the volume, the list of a directory.
_NO_FILES = (b'V', b'D')
_REGULAR, _PIPE, _KINDS = 0o100000, 0o010000, 0o170000


_ALONE = 'put the disk alone into it, as a file, or upload it as it is'


class BadData(Exception):
    """The data is not what can be decompressed; half a sentence why.

    :ivar advice: what to do, half a sentence
    """

    def __init__(self, reason, advice='compare its digest with that of the '
                 'original, and upload it again'):
        super().__init__(reason)
        self.advice = advice

    def at(self, source):
        """All of it. :param source: as far as it was read"""
        return (f'{self} (at byte {source.position} of {source.size}): '
                f'{self.advice}')


def _is_added(name):
    """Whether an operating system has put it beside what the user meant."""
    parts = name.replace('\\', '/').rstrip('/').split('/')
    return ('__MACOSX' in parts or parts[-1].startswith('._')
            or parts[-1].lower() in _ADDED)


def _refuse(kind, found):
    names = ', '.join(each[:60] for each in found[:3])
    return BadData(
        f'the {kind} archive holds {len(found) or "no"} files, not one'
        + (f' ({names})' if found else ''), _ALONE)


# -- zip

def zip_member(source):
    """The one disk of a zip archive, and the archive.

    :raises BadData: it has none, or several
    """
    try:
        archive = zipfile.ZipFile(source)
    except NotImplementedError as failure:
        raise _unsupported(failure) from failure
    members = [each for each in archive.infolist()
               if not (_is_directory(each) or _is_added(each.filename))]
    if len(members) != 1:
        raise _refuse('zip', [each.filename for each in members])
    member = members[0]
    # What came through a pipe is marked as one.
    mode = member.external_attr >> 16 & _KINDS
    if mode not in (0, _REGULAR, _PIPE):
        raise BadData(f'the member {member.filename[:60]!r} of the zip '
                      'archive is no regular file', _ALONE)
    if member.flag_bits & 1:
        raise BadData('the zip archive is encrypted', 'make it without a '
                      'password')
    return archive, member


def _is_directory(member):
    """By its name; .NET on Windows has the other slash."""
    return member.filename.endswith('/') or not member.file_size and (
        member.filename.endswith('\\') or bool(member.external_attr & 0x10))


def unzip(source):
    """The bytes of the one disk; what is behind becomes ``source.behind``."""
    archive, member = zip_member(source)
    end = kinds.zip_end(source)
    source.behind = end[1] if end else 0
    left = member.file_size
    try:
        with archive.open(member) as stream:
            while block := stream.read(BLOCK):
                left -= len(block)
                yield block
    except (NotImplementedError, RuntimeError) as failure:
        raise _unsupported(failure) from failure
    if left:
        raise BadData('the zip archive lies about the size of its member')


def _unsupported(failure):
    return BadData('the zip archive is compressed in a way that is not '
                   f'supported ({failure})', 'make it with deflate')


# -- tar

class _Forward:
    """Blocks as a file that is read from its beginning to its end."""

    def __init__(self, blocks):
        self._blocks = blocks
        self._data = b''
        self._at = 0
        self._passed = 0
        self.last = b''

    def tell(self):
        return self._at

    def seek(self, offset):
        if offset < self._at:
            raise tarfile.ReadError('it leads backwards')
        while self._at < offset and self._pass(offset - self._at):
            pass

    def only_zeros(self):
        """Whether nothing else comes any more; all of it is read."""
        zeros = True
        while part := self._pass(BLOCK):
            zeros = zeros and not part.strip(b'\0')
        return zeros

    def _pass(self, size):
        part = self._take(min(size, BLOCK))
        self._passed += len(part)
        if self._passed > _BESIDE:
            raise BadData(f'the tar archive has more than {_BESIDE >> 20} MiB '
                          'beside the disk', _ALONE)
        return part

    def read(self, size):
        """As many bytes as that, fewer only at the end."""
        if size > _LONGEST:
            raise tarfile.ReadError('it has a header with impossible values')
        parts = []
        while size > 0 and (part := self._take(size)):
            parts.append(part)
            size -= len(part)
        self.last = b''.join(parts)
        return self.last

    def _take(self, size):
        if not self._data:
            self._data = next(self._blocks, b'')
        part, self._data = self._data[:size], self._data[size:]
        self._at += len(part)
        return part


def untar(blocks):
    """The bytes of the one disk of a tar, from those of the tar.

    :raises BadData: it has none, or several, or is damaged
    """
    file = _Forward(blocks)
    found = []
    try:
        archive = tarfile.TarFile(fileobj=file,  # type: ignore[arg-type]
                                  errorlevel=2)
        for number, member in enumerate(archive):
            if number >= _MEMBERS:
                raise BadData(f'the tar archive has more than {_MEMBERS} '
                              'members', _ALONE)
            if member.isdir() or member.type in _NO_FILES \
                    or _is_added(member.name):
                continue
            found.append(member.name)
            if len(found) > 1:
                raise _refuse('tar', found)
            if not member.isreg():
                raise BadData(f'the member {member.name[:60]!r} of the tar '
                              'archive is no regular file', _ALONE)
            stream = archive.extractfile(member)
            assert stream is not None
            while block := stream.read(BLOCK):
                yield block
    except (tarfile.TarError, OverflowError) as failure:
        raise BadData(f'the tar archive is damaged ({failure})') from failure
    if file.last.strip(b'\0') or len(file.last) % 512 \
            or not file.only_zeros():
        raise BadData('the tar archive is damaged, or something that is no '
                      f'tar follows it at byte {file.tell()}')
    if not found:
        raise _refuse('tar', found)
