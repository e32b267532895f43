"""Reading bodies from the inputs of servers that are not ours."""

import io

import pytest

from glance_import.api import body

CHUNKED = {'HTTP_TRANSFER_ENCODING': 'chunked'}


def read(environ, data, **kwargs):
    environ = environ | {'wsgi.input': io.BytesIO(data)}
    return b''.join(body.blocks(environ, **kwargs))


def test_length():
    assert read({'CONTENT_LENGTH': '5'}, b'12345678', size_hint=2) == b'12345'


@pytest.mark.parametrize('environ', [{}, {'CONTENT_LENGTH': ''},
                                     {'CONTENT_LENGTH': '0'}])
def test_no_body(environ):
    assert read(environ, b'not ours') == b''


def test_short():
    with pytest.raises(body.BodyTruncated, match='3 of 5 bytes'):
        read({'CONTENT_LENGTH': '5'}, b'123')


@pytest.mark.parametrize('text', ['-1', '+1', 'x', '1_0', '\u0663'])
def test_length_that_is_no_number(text):
    with pytest.raises(body.BodyMalformed):
        read({'CONTENT_LENGTH': text}, b'123')


def test_chunked_needs_a_server_that_knows_the_end():
    with pytest.raises(body.LengthRequired):
        read(CHUNKED, b'123')
    known = CHUNKED | {'wsgi.input_terminated': True}
    assert read(known, b'123', size_hint=2) == b'123'


@pytest.mark.parametrize('raised, expected', [
    (TimeoutError(), body.BodyTimeout), (OSError(), body.BodyTruncated),
    (ValueError(), body.BodyMalformed)])
def test_errors_of_other_servers(raised, expected):
    class Input:
        def read(self, size):
            raise raised
    with pytest.raises(expected):
        list(body.blocks({'CONTENT_LENGTH': '5', 'wsgi.input': Input()}))
