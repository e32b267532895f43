"""Headers that were changed at random: a verdict, and nothing else."""

import datetime
import os
import sys
import threading

import hypothesis
from hypothesis import strategies
import pytest

from glance_import.formats import inspection
from tests.formats import corpus
from tests.formats import unusual

EXAMPLES = 20_000 if os.environ.get('LONG_TESTS') else 400
# Where formats keep what they say of themselves, in bytes from the start.
PLACES = (0, 64, 104, 512, 1024, 32 << 10, 64 << 10, 128 << 10, 192 << 10,
          256 << 10, 2 << 20)
NAMES = ('qcow2', 'vmdk', 'vmdk-stream', 'vdi', 'vhdx', 'vhd', 'iso-mbr',
         'raw-gpt', 'backing-qcow2', 'flat-in-sparse-vmdk', 'data-file-qcow2',
         'descriptor-vmdk', 'vmdk-footer-good', 'qcow2-extended-l2',
         'vmdk-named-0', 'vhdx-late', 'mbr-hybrid', 'ntfs', 'kernel-aki',
         'udf-bridge', 'toml')
VALUES = strategies.one_of(
    strategies.binary(min_size=1, max_size=40),
    strategies.sampled_from([
        b'\xff' * 4, b'\xff' * 8, bytes(8), b'\0\0\0\1', b'\1\0\0\0',
        b'\x7f' + b'\xff' * 7, b'QFI\xfb', b'KDMV', b'conectix', b'\1CD001',
        b'vhdxfile', b'regi', b'metadata', b'cxsparse', b'LUKS\xba\xbe',
        b'# Disk DescriptorFile\nversion=1\n', b'\x55\xaa']))
CHANGES = strategies.lists(strategies.tuples(
    strategies.sampled_from(PLACES), strategies.integers(-8, 600), VALUES),
    min_size=1, max_size=4)

_opened: list = []
_watched = threading.local()


def _audit(event, arguments):
    if event == 'open' and getattr(_watched, 'on', False):
        _opened.append(arguments[0])


sys.addaudithook(_audit)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """The beginnings and ends of files of every format."""
    directory = tmp_path_factory.mktemp('mutations')
    found = {}
    for case in corpus.TABLE + unusual.TABLE:
        if case.name in NAMES:
            case.make(directory / case.name)
            found[case.name] = (directory / case.name).read_bytes()[:3 << 20]
    assert len(found) == len(NAMES)
    found['target'] = directory / 'target'
    return found


@hypothesis.settings(
    max_examples=EXAMPLES, database=None,
    deadline=datetime.timedelta(seconds=10),
    suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(
    name=strategies.sampled_from(NAMES), changes=CHANGES,
    size=strategies.one_of(strategies.none(), strategies.integers(0, 5000)),
    declared=strategies.sampled_from(
        ('raw', 'qcow2', 'vmdk', 'vdi', 'vhd', 'vhdx', 'iso', 'ploop',
         'aki')))
def test_a_verdict_or_a_refusal(files, name, changes, size, declared):
    data = bytearray(files[name])
    for place, offset, value in changes:
        at = max(place + offset, 0)
        if at + len(value) <= len(data):
            data[at:at + len(value)] = value
    path = files['target']
    path.write_bytes(data[:size])
    _opened.clear()
    _watched.on = True
    try:
        verdict = inspection.inspect_format(str(path), declared,
                                            inspection.Options())
    except inspection.FormatRefused as refusal:
        assert str(refusal).startswith('The image is refused: ')
    else:
        assert 0 <= verdict.virtual_size <= inspection.Options.max_virtual_size
        assert declared in ('raw', 'ploop', 'aki', verdict.format)
    finally:
        _watched.on = False
    assert _opened == [str(path)]
