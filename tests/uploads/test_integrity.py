"""Digests that bytes should have, beside those that they have."""

import hashlib

import pytest

from glance_import.staging import digests
from glance_import.uploads import integrity

DATA = b'the bytes'


def expected(algorithm, data=DATA):
    return integrity.ExpectedDigest('X-Digest', algorithm,
                                    hashlib.new(algorithm, data).digest())


def passed(check, data=DATA):
    """The digests of an upload, when all bytes have passed."""
    running = digests.Digests('sha512', legacy_checksum=True)
    for update in (*running.updates, *(each.update for each in check.also)):
        update(data)
    return running


@pytest.mark.parametrize('algorithms, beside', [
    ((), 0), (('sha512',), 0), (('md5', 'sha512'), 0), (('sha256',), 1),
    (('sha256', 'sha256'), 1), (('sha1', 'md5', 'blake2b'), 2)])
def test_what_the_upload_computes_is_used(algorithms, beside):
    check = integrity.Check(map(expected, algorithms), ('sha512', 'md5'))
    assert len(check.also) == beside
    check.verify(passed(check))


@pytest.mark.parametrize('algorithm', ['sha512', 'sha256'])
def test_each_must_hold(algorithm):
    check = integrity.Check([
        expected('md5'), expected(algorithm, b'other')], ('sha512', 'md5'))
    with pytest.raises(integrity.DigestMismatch) as caught:
        check.verify(passed(check))
    for word in ('X-Digest', algorithm, hashlib.new(algorithm, DATA)
                 .hexdigest(), 'Nothing of it was kept'):
        assert word in str(caught.value)


def test_of_a_part_all_are_computed_beside():
    check = integrity.Check([expected('md5')])
    passed(check)
    check.verify()
