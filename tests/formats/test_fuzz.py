"""Mutants of the corpus, asked of our judge and of qemu-img.

Nothing may pass in which qemu-img sees data outside of the file, whether it
is told the format or looks for it. ``LONG_TESTS=1`` asks of 50,000 mutants,
and ``FUZZ_SEED`` of others than the usual ones. Each mutant is made in place
and undone, so that the files may be large.
"""

import collections
import dataclasses
import os
import random
import subprocess

import pytest

from glance_import.formats import inspection
from glance_import.plugin import qemu_info
from glance_import.plugin import second_opinion
from tests.formats import corpus
from tests.formats import unusual
from tests import servers

TABLE = corpus.TABLE + unusual.TABLE
MUTANTS = 50_000 if os.environ.get('LONG_TESTS') else 600
SEED = int(os.environ.get('FUZZ_SEED', '13'))
MOST = 3 << 20
# Where formats keep what they say of themselves, in bytes from the start.
PLACES = (0, 4, 8, 16, 20, 32, 48, 56, 64, 72, 100, 104, 112, 128, 368, 424,
          512, 520, 576, 1024, 1536, 2048, 4096, 10240, 10752, 32768, 65536,
          131072, 196608, 262144, 2 << 20)
NAME = corpus.BACKING.encode()
TEXT = corpus.descriptor()
TOKENS = (
    *(value for _place, value in corpus.MAGICS.values()),
    b'KDMV\1\0\0\0', b'KDMV\2\0\0\0', b'KDMV\3\0\0\0', b'KDMV\4\0\0\0',
    b'QFI\xfb\0\0\0\1', b'QFI\xfb\0\0\0\2', b'QFI\xfb\0\0\0\3', b'cxsparse',
    b'regi', b'metadata', b'head', b'\1CD001\1\0', b'\x55\xaa', TEXT,
    corpus.commented(b'\r'), corpus.commented(b'\0'), corpus.commented(b'\f'),
    corpus.qcow1(), corpus.qcow2_header(backing=corpus.BACKING),
    corpus.qcow2_header(features=4),
    corpus.extension(0x44415441, NAME), corpus.extension(0xe2792aca, b'raw'),
    corpus.vhd_footer(4, corpus.SIZE, 512),
    corpus.vhd_footer(2, corpus.SIZE), corpus.vhd_footer(3, corpus.SIZE, 512),
    b'\nparentFileNameHint="' + NAME + b'"\n',
    b'\n# parentFileNameHint="' + NAME + b'"\n',
    b'\nddb.x="parentFileNameHint="' + NAME + b'"\n',
    b'\nparentCID=01234567\n', b'createType="monolithicFlat"\n',
    b'\nRW 8 FLAT "' + NAME + b'" 0\n', b'version=1\n', b'version=2\r\n',
    b'#', b'\n', b'\r', b'\0', b' ', b'\t', b'\r\n', b'"', b'=', NAME,
    b'\xff' * 4, b'\xff' * 8, bytes(4), bytes(8), bytes(64), b'\0\0\0\1',
    b'\1\0\0\0', b'\0\0\0\2', b'\2\0\0\0', b'\4\0\0\0', b'\0\0\0\4',
    b'\0\0\0\0\0\0\2\0', b'\0\2\0\0\0\0\0\0', b'\0\0\0\0\0\1\0\0')
LINES = (
    b'# Disk DescriptorFile', b'#', b'# x', b'', b' ', b'version=1',
    b'version=2', b'version = 3', b'VERSION=1', b'CID=12345678',
    b'parentCID=ffffffff', b'parentCID=01234567',
    b'createType="monolithicFlat"', b'createType="monolithicSparse"',
    b'createType="streamOptimized"', b'createType="twoGbMaxExtentSparse"',
    b'createType="vmfs"', b'# createType="vmfs"', b'encoding="UTF-8"',
    b'RW 16384 SPARSE "disk.vmdk"', b'RW 8 FLAT "' + NAME + b'" 0',
    b'RW', b'8', b'FLAT', b'"' + NAME + b'" 0', b'RW 8 VMFS "' + NAME + b'"',
    b'RW 8 SESPARSE "x"', b'RDONLY 8 ZERO', b'ddb.adapterType = "ide"',
    b'parentFileNameHint="' + NAME + b'"', b'ddb.uuid = "1"')
ENDS = (b'\n', b'\n', b'\n', b'\n', b'\n', b'\r\n', b'\r', b'\0', b'\v',
        b'\f', b'\x1c', b'\x85', b'\t', b' ')
DECLARED = ('raw', 'qcow2', 'vmdk', 'vdi', 'vhd', 'vhdx', 'iso', 'ploop',
            'ami', None)


@dataclasses.dataclass(frozen=True)
class Mutant:
    """``changes`` are (offset, bytes) of a file of the corpus."""

    name: str
    changes: tuple[tuple[int, bytes], ...]
    size: int
    declared: str | None


class File:
    """A file of the corpus that becomes one mutant after the other."""

    def __init__(self, path):
        self._was = path.read_bytes()[:MOST]
        # No page is written to the disk meanwhile.
        self.path = path
        self._size = 0
        self._fd = os.open(path, os.O_RDWR)
        os.ftruncate(self._fd, len(self._was))

    def __len__(self):
        return len(self._was)

    def become(self, mutant):
        """:returns: what undoes it"""
        for offset, data in mutant.changes:
            os.pwrite(self._fd, data, offset)
        os.ftruncate(self._fd, mutant.size)

    def undo(self, mutant):
        os.ftruncate(self._fd, min(mutant.size, len(self._was)))
        os.ftruncate(self._fd, len(self._was))
        if mutant.size < len(self._was):
            os.pwrite(self._fd, self._was[mutant.size:], mutant.size)
        for offset, data in mutant.changes:
            os.pwrite(self._fd, self._was[offset:offset + len(data)], offset)

    def close(self):
        os.close(self._fd)


def text(chance):
    """Lines as descriptors have them, in any order and with any end."""
    return b''.join(chance.choice(LINES) + chance.choice(ENDS)
                    for _ in range(chance.randrange(1, 12)))


def mutate(chance, name, length, own):
    """A mutant of a file of that many bytes.

    :param own: the disk_format that the file has in the corpus
    """
    changes = []
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        place = chance.choice(PLACES)
        if chance.random() < 0.3:
            place = chance.randrange(min(length, 12_000) + 1)
        elif chance.random() < 0.15:
            place = max(length - chance.choice((512, 511, 1024, 1536, 8)), 0)
        elif chance.random() < 0.2:
            place += chance.randrange(-8, 64)
        data = chance.choice(TOKENS)
        if chance.random() < 0.3:
            data = chance.randbytes(chance.choice((1, 1, 2, 4, 8, 40)))
        elif chance.random() < 0.15:
            data = text(chance)
        changes.append((max(place, 0), data))
    size = length
    if chance.random() < 0.25:
        size = chance.choice((
            chance.randrange(600), chance.randrange(length + 1),
            length // 512 * 512, length + chance.randrange(1024)))
    changes = [(at, data) for at, data in changes if at + len(data) <= MOST]
    declared = chance.choice((
        'raw', 'raw', None, own, own, chance.choice(DECLARED)))
    return Mutant(name, tuple(changes), size, declared)


def ask(path, names):
    """What qemu-img sees outside of a file, by each name; None if silent."""
    running = [(name, subprocess.Popen(
        ['qemu-img', 'info', '-U', '--output=json',
         *(('-f', name) if name else ()), path],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)) for name in names]
    for name, process in running:
        out, err = process.communicate(timeout=60)
        try:
            seen = qemu_info.outside(process.returncode, out, err, path)
        except qemu_info.Unreadable:
            yield name, None
        else:
            yield name, seen or ''


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    servers.program('qemu-img')
    directory = tmp_path_factory.mktemp('fuzz')
    found = {}
    for case in TABLE:
        case.make(directory / case.name)
        found[case.name] = File(directory / case.name)
    yield found
    for each in found.values():
        each.close()


def test_nothing_passes_that_qemu_sees_outside_of(files):
    chance, counts, bad = random.Random(SEED), collections.Counter(), []
    names = list(files)
    own = {case.name: case.declared for case in TABLE}
    good = [case.name for case in TABLE if case.format]
    for _ in range(MUTANTS):
        name = chance.choice(good if chance.random() < 0.6 else names)
        mutant = mutate(chance, name, len(files[name]), own[name])
        file = files[name]
        file.become(mutant)
        try:
            try:
                verdict = inspection.inspect_format(str(file.path),
                                                    mutant.declared,
                                                    inspection.Options())
            except inspection.FormatRefused:
                counts['refused'] += 1
                continue
            asked = {None, *(second_opinion.QEMU.get(each)
                             for each in (mutant.declared, verdict.format))}
            for format_, seen in ask(str(file.path), asked):
                counts['silent' if seen is None else 'asked'] += 1
                if seen:
                    bad.append((mutant, format_, seen))
            counts['passed'] += 1
        finally:
            file.undo(mutant)
    print(f'{MUTANTS} mutants, seed {SEED}: {dict(counts)}')
    assert bad == []
    # It would be no test if hardly any passed, or none was refused.
    assert counts['passed'] > MUTANTS // 20 < counts['refused']
