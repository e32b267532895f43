"""Header fields by which a client tells digests of what it sends.

Repr-Digest and Content-Digest (RFC 9530), Content-MD5 (RFC 1864) and
Upload-Checksum (tus). Touches nothing.
"""

from __future__ import annotations

import base64
import binascii
import collections.abc
import hashlib
import re
import typing

from glance_import import errors
from glance_import.uploads import integrity

# Names of RFC 9530's registry -> hashlib's.
RFC9530 = {'sha-256': 'sha256', 'sha-512': 'sha512', 'md5': 'md5',
           'sha': 'sha1'}
# tus's names are free; these are offered.
TUS = ('sha1', 'md5', 'sha256', 'sha384', 'sha512', 'blake2b')
_KEY = re.compile(r'[a-z*][a-z0-9_.*-]*')

Headers = collections.abc.Mapping[str, str]


def expected(headers: Headers) -> tuple[integrity.ExpectedDigest, ...]:
    """The digests that the headers of a request say its body has.

    Of several algorithms in a field those that are not known are passed
    over; a field with none that is known cannot be kept and is refused.

    :raises errors.Invalid: a field is malformed or has no known algorithm
    """
    found: list[integrity.ExpectedDigest] = []
    for name in ('Repr-Digest', 'Content-Digest'):
        if headers.get(name) is not None:
            found += _fields(name, headers[name])
    if headers.get('Content-MD5') is not None:
        found.append(_md5(headers['Content-MD5']))
    return tuple(found)


def upload_checksum(headers: Headers) -> integrity.ExpectedDigest | None:
    """tus's checksum of a part.

    :raises errors.Invalid: malformed, or an algorithm that is not offered
    """
    given = headers.get('Upload-Checksum')
    if given is None:
        return None
    algorithm, _, text = given.strip().partition(' ')
    if algorithm not in TUS:
        raise errors.Invalid(
            f'Upload-Checksum: the algorithm {algorithm!r} is not one of '
            + ', '.join(TUS) + '.')
    return _expected('Upload-Checksum', algorithm, _decoded(
        'Upload-Checksum', text.strip()))


def _fields(name: str, value: str
            ) -> collections.abc.Iterable[integrity.ExpectedDigest]:
    found = {}
    for member in value.split(','):
        key, text = _member(name, member.strip(' \t'))
        algorithm = RFC9530.get(key)
        if algorithm is not None:
            # Of several the last one counts (RFC 8941).
            found[algorithm] = _expected(name, algorithm, _decoded(name, text))
    if not found:
        raise errors.Invalid(
            f'{name} has no algorithm that is known here: '
            + ', '.join(RFC9530) + '.')
    return found.values()


def _member(name: str, member: str) -> tuple[str, str]:
    """A member of a dictionary of byte sequences (RFC 8941).

    Parameters are allowed and mean nothing here.
    """
    key, begins, rest = member.partition('=:')
    text, ends, parameters = rest.partition(':')
    if not (begins and ends and _KEY.fullmatch(key)) or '"' in parameters \
            or parameters[:1] not in ('', ';'):
        raise errors.Invalid(
            f'{name} is not of the form algorithm=:base64:.')
    return key, text


def _md5(value: str) -> integrity.ExpectedDigest:
    value = value.strip()
    # In hex as this very API sends it, or base64 as the standard says.
    if re.fullmatch('[0-9a-fA-F]{32}', value):
        digest = bytes.fromhex(value)
    else:
        digest = _decoded('Content-MD5', value)
    return _expected('Content-MD5', 'md5', digest)


def _decoded(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise errors.Invalid(f'{name}: the digest is not base64.') from None


def _expected(name: str, algorithm: str, digest: bytes
              ) -> integrity.ExpectedDigest:
    try:
        size = _new(algorithm).digest_size
    except ValueError:
        raise errors.Invalid(
            f'{name}: {algorithm} cannot be computed on this host.'
        ) from None
    if len(digest) != size:
        raise errors.Invalid(
            f'{name}: a digest by {algorithm} has {size} bytes, not '
            f'{len(digest)}.')
    return integrity.ExpectedDigest(name, algorithm, digest)


def _new(algorithm: str) -> typing.Any:
    return hashlib.new(algorithm, usedforsecurity=False)
