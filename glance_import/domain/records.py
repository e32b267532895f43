"""JSON that clients send: how much, how deep, and of which characters.

What passes here can be kept in every database and written out again as JSON
for whoever asks later. Touches nothing.
"""

from __future__ import annotations

import collections.abc
import json
import math
import typing

from glance_import import errors

# Far above any record.
MAX_BYTES = 256 << 10
# Far above what any of the bodies of this API needs; below what the parser,
# the schemas and the databases' own JSON take.
MAX_DEPTH = 32


def read(blocks: collections.abc.Iterable[bytes | bytearray | memoryview]
         ) -> typing.Any:
    """The value that a body has.

    :raises errors.TooLarge: it is larger than any record
    :raises errors.Invalid: it is no JSON, or has something in it that cannot
        be kept
    """
    received = bytearray()
    for block in blocks:
        received += block
        if len(received) > MAX_BYTES:
            raise errors.TooLarge(
                f'The request body is larger than {MAX_BYTES} bytes, the '
                'most that a body of JSON may have.')
    if not received:
        raise errors.Invalid('The request needs a JSON body.')
    return parse(received)


def parse(received: bytes | bytearray, what: str = 'The request body'
          ) -> typing.Any:
    """The value that some bytes have, of any number.

    :param what: they are, for the sentence that refuses them
    :raises errors.Invalid: they are no JSON, or have something in them that
        cannot be kept
    """
    try:
        value = _parse(received, what)
        _check(value)
    except RecursionError:
        raise errors.Invalid(
            f'{what} is not one that means something: it nests lists and '
            f'objects more than {MAX_DEPTH} deep.') from None
    return value


def _parse(received: bytes | bytearray, what: str) -> typing.Any:
    try:
        text = received.decode('utf-8-sig')
    except UnicodeDecodeError as failure:
        raise errors.Invalid(
            f'{what} is not JSON: it is not UTF-8 (at byte '
            f'{failure.start}).') from None
    try:
        return json.loads(text, parse_constant=_no_constant,
                          parse_float=_number, parse_int=_integer)
    except ValueError as failure:
        raise errors.Invalid(f'{what} is not JSON: {failure}') from None


def _no_constant(name: str) -> typing.NoReturn:
    raise ValueError(f'{name} is not a JSON value')


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        # JSON has no way of writing it down again.
        raise ValueError(f'the number {text[:40]} is too large')
    return value


def _integer(text: str) -> int:
    if len(text) > 40:
        raise ValueError(f'the number {text[:40]}... is too large')
    return int(text)


def _check(value: typing.Any) -> None:
    """:raises RecursionError: it nests too deep
    :raises errors.Invalid: text in it is none
    """
    level, depth = [value], 0
    while level:
        inner: list[typing.Any] = []
        for each in level:
            if isinstance(each, str):
                check_text(each)
            elif isinstance(each, dict):
                inner += each.keys()
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        level, depth = inner, depth + 1
        if depth > MAX_DEPTH and level:
            raise RecursionError


def check_text(text: str) -> None:
    """NUL and half characters have no place in text that databases keep.

    :raises errors.Invalid: there is one
    """
    if '\0' in text:
        raise errors.Invalid('Text may not hold NUL characters.')
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise errors.Invalid(
                'Text may not hold lone surrogates.') from None
