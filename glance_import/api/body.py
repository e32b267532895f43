"""The body of a request, as blocks, complete or not at all.

Reads ``wsgi.input`` itself: WebOb's ``body_file`` takes a chunked body for
an empty one under several servers. What each server does when a client goes
away in the middle:

* ours (``glance_import.server``) raises TimeoutError, ConnectionError or
  ValueError, each with a ``client_text`` that says what happened;
* gunicorn's input ends early when the length was announced (noticed here by
  counting) and raises when the body is chunked;
* uWSGI raises ``OSError`` in both cases; chunked bodies are read with its
  own call. It takes a chunk whose size is no number for the last one, and
  nothing here can tell: a client or proxy that garbles chunks is noticed by
  the other servers only. Chunks above ``--chunked-input-limit`` (1 MiB) are
  an error;
* any other server that does not promise ``wsgi.input_terminated`` may end a
  cut chunked body in silence, so a chunked body is refused there.

Touches only the WSGI environment.
"""

from __future__ import annotations

import collections.abc
import sys
import typing

BLOCK = 1 << 20
# Digits of a number of bytes: it fits 64 bits wherever it goes.
MAX_DIGITS = 18


class BodyError(Exception):
    """The body cannot be read to its end; the text is one line."""


class BodyTruncated(BodyError):
    """The client closed the connection before the body was complete."""


class BodyMalformed(BodyError):
    """The body breaks the rules of its transfer coding."""


class BodyTimeout(BodyError):
    """Nothing came for longer than the server waits."""


class LengthRequired(BodyError):
    """This server cannot tell a complete chunked body from a cut one."""


Block = bytes | bytearray | memoryview
Environ = dict[str, typing.Any]


def is_chunked(environ: Environ) -> bool:
    return 'chunked' in environ.get('HTTP_TRANSFER_ENCODING', '').lower()


def length(environ: Environ) -> int | None:
    """Announced length in bytes, None when the body is chunked.

    :raises BodyMalformed: the header is not a number
    """
    if is_chunked(environ):
        return None
    text = environ.get('CONTENT_LENGTH') or '0'
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise BodyMalformed('Content-Length is not a number of at most '
                            f'{MAX_DIGITS} digits')
    return int(text)


def blocks(environ: Environ, *, size_hint: int = BLOCK
           ) -> collections.abc.Iterator[Block]:
    """The body in blocks of at most about ``size_hint`` bytes.

    Ends only when the body is complete. Each block belongs to the caller.

    :raises BodyTruncated, BodyMalformed, BodyTimeout, LengthRequired: then
        the blocks so far are not the whole body
    """
    expected = length(environ)
    read = _reader(environ)
    got = 0
    while expected is None or got < expected:
        limit = size_hint if expected is None else min(
            size_hint, expected - got)
        block = _read(read, limit)
        if not block:
            break
        got += len(block)
        yield block
        # No buffer is kept alive while the client is waited for.
        del block
    if expected is not None and got != expected:
        raise BodyTruncated('the client closed the connection after '
                            f'{got} of {expected} bytes')


def _reader(environ: Environ) -> collections.abc.Callable[[int], Block]:
    source = environ['wsgi.input']
    if hasattr(source, 'read_block'):
        return source.read_block
    if not is_chunked(environ):
        return source.read
    uwsgi: typing.Any = sys.modules.get('uwsgi')
    if 'uwsgi.version' in environ and uwsgi is not None:
        # One chunk at a time, however many bytes are asked for.
        return lambda size: uwsgi.chunked_read()
    if environ.get('wsgi.input_terminated'):
        return source.read
    raise LengthRequired('this server cannot receive chunked data; send '
                         'Content-Length')


def _read(read: collections.abc.Callable[[int], Block], size: int) -> Block:
    try:
        return read(size)
    except TimeoutError as failure:
        raise BodyTimeout(_text(
            failure, 'the client sent nothing for too long')) from failure
    except OSError as failure:
        raise BodyTruncated(_text(
            failure, 'the client closed the connection before the end of the '
            'data')) from failure
    except Exception as failure:  # noqa: BLE001
        # Servers have error classes of their own for broken chunks.
        raise BodyMalformed(_text(
            failure, 'the chunked data is broken')) from failure


def _text(failure: Exception, default: str) -> str:
    return getattr(failure, 'client_text', default)
