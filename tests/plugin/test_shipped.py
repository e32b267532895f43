"""The shipped plugins but ClamAV, by the harness that authors use."""

import hashlib

import pytest

from glance_import.plugin import harness
from glance_import.plugin.shipped import digest_list
from glance_import.plugin.shipped import format_report
from glance_import.plugin.shipped import property_policy

DATA = b'some data' * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize('options,code', [
    ({}, None),
    ({'denied': [SHA256.upper()]}, 'digest.denied'),
    ({'denied': ['00']}, None),
    ({'allowed': [SHA256]}, None),
    ({'allowed': ['00']}, 'digest.unknown'),
    ({'allowed': [SHA256], 'denied': [SHA256]}, 'digest.denied')])
def test_digest_list(options, code):
    plugin = harness.Harness(digest_list.DigestList, options)
    assert plugin.inspect(DATA).code == code
    assert plugin.bytes_read == len(DATA)


def test_digest_list_from_a_file_and_without_reading(tmp_path):
    path = tmp_path / 'denied'
    path.write_text(f'# bad ones\n\n{SHA256}  disk.raw\n')
    plugin = harness.Harness(digest_list.DigestList,
                             {'denied_file': str(path)})
    assert plugin.inspect(DATA).code == 'digest.denied'
    known = {'os_hash_algo': 'sha256', 'os_hash_value': SHA256}
    assert plugin.inspect(DATA, **known).code == 'digest.denied'
    assert plugin.bytes_read == 0
    path.unlink()
    with pytest.raises(FileNotFoundError):
        plugin.inspect(DATA)


@pytest.mark.parametrize('options,code', [
    ({}, None),
    ({'required': ['os_distro']}, None),
    ({'required': ['os_distro=debian|ubuntu']}, None),
    ({'required': ['os_distro=fedora']}, 'property.required'),
    ({'required': ['os_version']}, 'property.required'),
    ({'required': ['red:os_version']}, 'property.required'),
    ({'required': ['blue:os_version']}, None),
    ({'required': ['os_version'], 'exempt_projects': ['red']}, None),
    ({'forbidden': ['os_distro']}, 'property.forbidden'),
    ({'forbidden': ['os_distro=fedora']}, None)])
def test_property_policy(options, code):
    plugin = harness.Harness(property_policy.PropertyPolicy, options)
    verdict = plugin.precheck(owner='red',
                              properties={'os_distro': 'debian'})
    assert verdict.code == code


MBR = bytearray(1024)
MBR[446], MBR[450], MBR[510:512] = 0x80, 0x83, b'\x55\xaa'


@pytest.mark.parametrize('head,found', [
    (b'QFI\xfb', ('qcow2', 'unknown')), (b'', ('raw', 'none')),
    (bytes(512) + b'EFI PART', ('raw', 'gpt')),
    (bytes(MBR), ('raw', 'mbr')), (b'vhdxfile', ('vhdx', 'unknown')),
    (bytes(0x8001) + b'CD001', ('iso', 'none'))])
def test_format_report(head, found):
    plugin = harness.Harness(format_report.FormatReport,
                             {'prefix': 'report_'})
    assert plugin.inspect(head).properties == {
        'report_format': found[0], 'report_partition_table': found[1]}
    plugin = harness.Harness(format_report.FormatReport)
    assert plugin.inspect(head).properties == {}
