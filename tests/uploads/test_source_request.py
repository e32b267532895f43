"""What requests say of data that is to be fetched."""

import hashlib

import pytest

from glance_import import errors
from glance_import.uploads import source_request

SHA256 = hashlib.sha256(b'x').hexdigest()


@pytest.mark.parametrize('name', ['sha256', 'SHA256', 'sha-256', 'SHA_256'])
def test_spellings_of_an_algorithm(name):
    found, = source_request.expected_digest(
        {'checksum': {'algo': name, 'value': SHA256.upper()}})
    assert (found.algorithm, found.digest.hex()) == ('sha256', SHA256)


def test_no_checksum():
    assert source_request.expected_digest({}) == ()


@pytest.mark.parametrize('given', [
    'sha256', [], {}, {'algo': 'sha256'}, {'algo': 'sha256', 'value': 1},
    {'algo': 'crc32', 'value': '00000000'},
    {'algo': 'sha256', 'value': SHA256[:-2]},
    {'algo': 'sha256', 'value': 'x' * 64}, {'algo': 'sha256', 'value': ''}])
def test_wrong_checksums(given):
    with pytest.raises(errors.Invalid):
        source_request.expected_digest({'checksum': given})


@pytest.mark.parametrize('remote, algorithm', [
    ({'os_hash_algo': 'sha256', 'os_hash_value': SHA256, 'checksum': 'ab'},
     'sha256'),
    ({'os_hash_algo': 'unknown', 'os_hash_value': SHA256, 'checksum': 'ab'},
     'md5'),
    ({'os_hash_algo': 'sha256', 'checksum': 'ab'}, 'md5'),
    ({'checksum': 'no hex'}, None), ({'checksum': 5}, None), ({}, None)])
def test_the_digest_of_another_service(remote, algorithm):
    found = source_request.digest_there(remote)
    assert [each.algorithm for each in found] == (
        [algorithm] if algorithm else [])
