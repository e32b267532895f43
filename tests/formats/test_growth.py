"""What a verdict costs grows no faster than what it is about."""

import os
import struct
import time

import pytest

from glance_import.formats import inspection
from tests.formats import corpus


def tables(count):
    """A qcow2 of which every cluster of data is a second-level table."""
    cluster, first = 1 << 16, 1 << 20
    data = bytearray(corpus.qcow2_header(size=count << 29))
    data[36:48] = struct.pack('>IQ', count, 1 << 16)
    data += bytes((1 << 16) - len(data)) + struct.pack(
        f'>{count}Q', *(1 << 63 | first + cluster * number
                        for number in range(count)))
    data += bytes(first - len(data))
    return data + struct.pack('>Q', 1 << 63 | first) * (8192 * count)


def one_table(count):
    """The same, with one table that all entries name."""
    data = bytearray(tables(1))
    data[24:32] = struct.pack('>Q', count << 29)
    data[36:40] = struct.pack('>I', count)
    data[1 << 16:(1 << 16) + 8 * count] = struct.pack(
        '>Q', 1 << 63 | 1 << 20) * count
    return data


def descriptor(line, count):
    text = corpus.descriptor('monolithicSparse', extents=corpus.GOOD_EXTENT)
    return corpus.vmdk(text + line * count, sectors=1 + (
        len(text) + len(line) * count) // 512)


GROWING = {
    'qcow2 tables': (tables, 8), 'qcow2 entries': (one_table, 20_000),
    **{f'vmdk lines of {line!r}': (
        lambda count, line=line: descriptor(line, count), 9000)
       for line in (b'#\n', b'ddb.x = "y"\n', b'a = b\n', b'a           \n',
                    b'rw 1111111111 sparse "\n')},
    **{f'text of {line!r}': (lambda count, line=line: line * count, 9000)
       for line in (b'#\n', b'\n', b'# version=1\n', b'rw 1 1 1\n', b'rw ',
                    b'rw\t1', b'1' * 9, b'version=1 createtype ')},
}


@pytest.mark.parametrize('make, count', GROWING.values(), ids=GROWING)
def test_the_cost_grows_as_the_data_does(tmp_path, make, count):
    spent = []
    for times in (1, 4):
        path = tmp_path / f'{times}'
        path.write_bytes(make(count * times))
        begun = time.process_time()
        for _ in range(3):
            for declared in ('raw', 'qcow2', 'vmdk'):
                try:
                    inspection.inspect_format(str(path), declared,
                                              inspection.Options())
                except inspection.FormatRefused as refusal:
                    assert str(refusal).startswith('The image is refused: ')
        spent.append(time.process_time() - begun)
        os.unlink(path)
    assert spent[1] <= 8 * spent[0] + 0.05
