"""Compares the bytes that came with the digests they should have.

What is computed of the bytes anyway is used; anything else is computed
beside it. Touches nothing but memory.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import hashlib
import hmac
import typing

from glance_import import errors
from glance_import.staging import digests as running


class DigestMismatch(errors.Invalid):
    """The bytes that came are not those that the client meant."""

    code = 'refused.digest'


@dataclasses.dataclass(frozen=True)
class ExpectedDigest:
    """The digest that bytes are said to have, and by which header.

    ``algorithm`` is hashlib's name.
    """

    source: str
    algorithm: str
    digest: bytes


class Check:
    """The digests of one body, against those it is expected to have."""

    def __init__(self, expected: collections.abc.Iterable[ExpectedDigest],
                 computed: collections.abc.Collection[str] = ()) -> None:
        """:param computed: algorithms that the upload computes itself"""
        self._expected = tuple(expected)
        self._own: dict[str, typing.Any] = {}
        for each in self._expected:
            if each.algorithm not in computed:
                self._own.setdefault(each.algorithm, hashlib.new(
                    each.algorithm, usedforsecurity=False))

    @property
    def also(self) -> list[typing.Any]:
        """Digests to be given the bytes as they pass."""
        return list(self._own.values())

    def verify(self, of_upload: running.Digests | None = None) -> None:
        """To be called when all bytes have passed.

        :raises DigestMismatch: naming the header and the two digests
        """
        for each in self._expected:
            own = self._own.get(each.algorithm)
            found = own.digest() if own is not None else None
            if found is None and of_upload is not None:
                found = of_upload.of(each.algorithm)
            assert found is not None
            if not hmac.compare_digest(found, each.digest):
                raise DigestMismatch(
                    f'{each.source} says that the {each.algorithm} of the '
                    f'data is {each.digest.hex()}; of what came it is '
                    f'{found.hex()}. Nothing of it was kept.')


def computed_by(conf: typing.Any) -> tuple[str, ...]:
    """Algorithms that every upload computes of its bytes."""
    return (conf.hashing_algorithm,
            *(('md5',) if conf.legacy_checksum else ()))
