"""``wsgi.input`` behaves like any file, whatever way it is read."""

import io
import random

import pytest

from glance_import.server import body
from glance_import.server import errors


class Pieces:
    """The receiving side of a connection; what comes, comes in pieces."""

    def __init__(self, rng, wire):
        self._rng = rng
        self.left = memoryview(wire)

    def receive(self, view):
        size = min(len(view), len(self.left), self._rng.randrange(1, 9))
        view[:size], self.left = self.left[:size], self.left[size:]
        return size

    def wait(self):
        raise AssertionError('it never has to wait')

    def send_continue(self):
        raise AssertionError('nobody waits for it')


def chunked(rng, data):
    wire = b''
    while data:
        size = rng.randrange(1, 20)
        wire += b'%x\r\n%b\r\n' % (len(data[:size]), data[:size])
        data = data[size:]
    return wire + b'0\r\n\r\n'


WAYS = (lambda file, rng: file.read(rng.choice([-1, 0, 1, 3, 100])),
        lambda file, rng: file.read(),
        lambda file, rng: file.readline(rng.choice([-1, 0, 1, 3, 100])),
        lambda file, rng: file.readlines(),
        lambda file, rng: next(iter(file), None),
        lambda file, rng: (file.readinto(buffer := bytearray(5)), buffer))


@pytest.mark.parametrize('kind', ['length', 'chunked'])
def test_ways_to_read(kind):
    for seed in range(500):
        rng = random.Random(seed)
        data = b''.join(rng.choices([b'a', b'\n', b'bc'], k=60))
        ahead = bytearray()
        if kind == 'length':
            source = Pieces(rng, data + b'next')
            ours = body.LengthInput(source, ahead, False, len(data))
        else:
            source = Pieces(rng, chunked(rng, data) + b'next')
            ours = body.ChunkedInput(source, ahead, False)
        theirs = io.BytesIO(data)
        while theirs.tell() < len(data):
            way = rng.choice(WAYS)
            again = rng.getstate()
            expected = way(theirs, rng)
            rng.setstate(again)
            assert way(ours, rng) == expected
        assert ours.read() == ours.read_block() == b''
        assert bytes(ahead) + bytes(source.left) == b'next'


def test_it_ends_with_its_request():
    source = Pieces(random.Random(0), b'the next request')
    ours = body.LengthInput(source, bytearray(), False, 3)
    ours.end()
    with pytest.raises(ValueError, match='over'):
        ours.read()
    assert bytes(source.left) == b'the next request'


@pytest.mark.parametrize('kind, wire, error', [
    ('length', b'ab', ConnectionError), ('chunked', b'2\r\na',
                                         ConnectionError),
    ('chunked', b'x\r\n', ValueError)])
def test_errors_are_those_of_any_server(kind, wire, error):
    source = Pieces(random.Random(0), wire)
    ours = (body.LengthInput(source, bytearray(), False, 3)
            if kind == 'length' else
            body.ChunkedInput(source, bytearray(), False))
    for _ in range(2):
        with pytest.raises(error) as raised:
            ours.read()
        assert isinstance(raised.value, errors.BodyError)
        assert raised.value.client_text
