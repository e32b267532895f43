"""What qemu-img writes is taken, and what is cut of it is refused.

A file that is taken has to be read by qemu-img as the disk that it was made
of, whatever was cut off.
"""

import itertools
import os
import random

import pytest

from glance_import.formats import inspection
from glance_import.plugin import qemu_info
from tests.formats import corpus

NAMES = {'vpc': 'vhd'}
# Not whole clusters, nor whole sectors, nor a single table.
SIZES = (512, 70_000, 700_000, (5 << 20) + 512, 9_999_360)
MADE = tuple((kind, *rest) for kind, *rest in (
    ('qcow2',), ('qcow2', '-c'), ('qcow2', 'compat=0.10'),
    ('qcow2', 'cluster_size=2M'), ('qcow2', 'cluster_size=512'),
    ('qcow2', 'cluster_size=2M', '-c'), ('qcow2', 'compression_type=zstd',
                                         '-c'),
    ('qcow2', 'extended_l2=on,cluster_size=128k'),
    ('qcow2', 'extended_l2=on,cluster_size=64k', '-c'),
    ('qcow2', 'preallocation=metadata'), ('qcow2', 'preallocation=falloc'),
    ('vmdk',), ('vmdk', 'subformat=streamOptimized'), ('vhdx',),
    ('vhdx', 'block_size=1M'), ('vhdx', 'subformat=fixed'),
    ('vdi',), ('vdi', 'static=on'), ('vpc', 'force_size=on'),
    ('vpc', 'subformat=fixed,force_size=on')))
CUTS = (1, 300, 511, 513, 1000, 20_000, 60_000, 65_535, 700_000, 1 << 20)


def disk(path, size):
    """Random data and text with holes, up to the last byte."""
    luck = random.Random(size)
    with open(path, 'wb') as file:
        for at in range(0, size, 300_000):
            file.seek(at)
            length = min(200_000, size - at)
            file.write(luck.randbytes(length) if at % 600_000 else
                       luck.randbytes(-(-length // 2)).hex()
                       .encode()[:length])
        file.truncate(size)


def make(raw, path, kind, *words):
    packed = tuple(word for word in words if word == '-c')
    options = tuple(word for word in words if word != '-c')
    corpus.run('qemu-img', 'convert', '-f', 'raw', '-O', kind, *packed,
               *(('-o', *options) if options else ()), raw, path)


def verdict(path, kind):
    return inspection.inspect_format(
        str(path), NAMES.get(kind, kind), inspection.Options())


@pytest.mark.parametrize('words', MADE, ids=' '.join)
def test_what_qemu_img_writes(tmp_path, words):
    for size in SIZES:
        disk(tmp_path / 'raw', size)
        make(tmp_path / 'raw', tmp_path / 'made', *words)
        found = verdict(tmp_path / 'made', words[0])
        assert size <= found.virtual_size < size + (1 << 20), size
        assert not found.warnings
    corpus.run('qemu-img', 'create', '-f', words[0], *(
        ('-o', words[1]) if len(words) > 1 and words[1] != '-c' else ()),
        tmp_path / 'empty', '1234567k')
    verdict(tmp_path / 'empty', words[0])


@pytest.mark.parametrize('words', MADE, ids=' '.join)
def test_what_is_taken_is_whole(tmp_path, words):
    disk(tmp_path / 'raw', SIZES[-2])
    make(tmp_path / 'raw', tmp_path / 'made', *words)
    whole, refused = (tmp_path / 'made').stat().st_size, 0
    for cut in sorted({*CUTS, whole * 9 // 10}):
        if cut >= whole:
            continue
        os.truncate(tmp_path / 'made', whole - cut)
        try:
            verdict(tmp_path / 'made', words[0])
        except inspection.FormatRefused as refusal:
            assert 'refused' in str(refusal)
            refused += 1
            continue
        if cut < 512:
            # Less than a sector: nothing says where compressed data ends.
            continue
        corpus.run('qemu-img', 'convert', '-f', words[0], '-O', 'raw',
                   tmp_path / 'made', tmp_path / 'read')
        assert same(tmp_path / 'raw', tmp_path / 'read'), cut
    assert refused


def same(one, other):
    """Whether they begin the same, as long as the first is."""
    with open(one, 'rb') as first, open(other, 'rb') as second:
        return all(
            piece == second.read(len(piece)) for piece in itertools.takewhile(
                bool, iter(lambda: first.read(1 << 20), b'')))


def test_what_a_driver_says_before_the_error():
    """qemu-img on a cut VHDX: it says no name, so nothing is outside."""
    said = ("qemu-img: VHDX BAT entry 3 end offset 38388735 points after end "
            "of file (34603008). Image has probably been truncated.\n"
            "qemu-img: Could not open '/x': Could not open '/x': Invalid "
            "argument\n")
    assert qemu_info.outside(1, b'', said.encode(), '/x') is None
    assert qemu_info.outside(1, b'', said.replace(
        'Invalid', "Could not open '/y': Invalid").encode(), '/x')
    with pytest.raises(qemu_info.Unreadable):
        qemu_info.outside(1, b'', said.splitlines()[0].encode(), '/x')
