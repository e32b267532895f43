"""What a request says of the data that is to be fetched.

Where it is, and which digest it has. Touches nothing but the quotas.
"""

from __future__ import annotations

import hashlib
import typing

from glance_import.domain import quotas
from glance_import.domain import source_urls
from glance_import import errors
from glance_import.uploads import integrity

if typing.TYPE_CHECKING:
    from glance_import import context
    from glance_import.db import images as db_images
    from glance_import import services

# What may stand in method.checksum.algo.
ALGORITHMS = ('md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512',
              'sha3_256', 'sha3_384', 'sha3_512', 'blake2b')


def check_web_download(services: services.Services,
                       _ctx: context.RequestContext,
                       image: db_images.Image,
                       asked: dict[str, typing.Any]) -> None:
    """What web-download needs, and what its URL shows by itself.

    :raises errors.Invalid: one of them is missing or wrong
    :raises errors.TooLarge: the project's quota lets nothing in
    """
    uri = asked.get('uri')
    if not isinstance(uri, str) or not uri:
        raise errors.Invalid(
            "web-download needs 'uri' in 'method', the URL of the data.")
    source_urls.check(services.conf, uri)
    expected_digest(asked)
    quotas.to_stage(services, image.id)


def digest_there(remote: dict[str, typing.Any]
                 ) -> tuple[integrity.ExpectedDigest, ...]:
    """What another image service says of its data; empty if nothing."""
    algorithm, value = remote.get('os_hash_algo'), remote.get('os_hash_value')
    if algorithm not in ALGORITHMS or not value:
        algorithm, value = 'md5', remote.get('checksum')
    try:
        digest = bytes.fromhex(value or '')
    except (TypeError, ValueError):
        return ()
    return (integrity.ExpectedDigest('The other region', algorithm, digest),) \
        if digest else ()


def expected_digest(asked: dict[str, typing.Any]
                    ) -> tuple[integrity.ExpectedDigest, ...]:
    """``method.checksum`` of a request; empty when there is none.

    :raises errors.Invalid: it is malformed, or of an unknown algorithm
    """
    given = asked.get('checksum')
    if given is None:
        return ()
    if not isinstance(given, dict) or not all(
            isinstance(given.get(name), str) for name in ('algo', 'value')):
        raise errors.Invalid(
            "'checksum' must be an object with 'algo' and 'value', both "
            'strings, such as {"algo": "sha256", "value": "..."}.')
    algorithm = given['algo'].lower().replace('-', '_')
    algorithm = {'sha_1': 'sha1', 'sha_256': 'sha256', 'sha_384': 'sha384',
                 'sha_512': 'sha512'}.get(algorithm, algorithm)
    if algorithm not in ALGORITHMS:
        raise errors.Invalid(
            f"Unknown checksum algorithm {given['algo']!r}; it is one of: "
            + ', '.join(ALGORITHMS))
    size = hashlib.new(algorithm, usedforsecurity=False).digest_size
    try:
        digest = bytes.fromhex(given['value'])
    except ValueError:
        digest = b''
    if len(digest) != size:
        raise errors.Invalid(
            f'The value of a {algorithm} checksum has {2 * size} hexadecimal '
            'digits.')
    return (integrity.ExpectedDigest(
        "The request's checksum", algorithm, digest),)
