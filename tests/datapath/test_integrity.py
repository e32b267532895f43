"""Digests sent by the client, and the options about digests."""

import base64
import hashlib
import os

import pytest

DATA = os.urandom(300_000)


def b64(algorithm, data=DATA):
    return base64.b64encode(hashlib.new(algorithm, data).digest()).decode()


GOOD = [
    {'Repr-Digest': f'sha-256=:{b64("sha256")}:'},
    {'Content-Digest': f'sha-512=:{b64("sha512")}:'},
    {'Repr-Digest': f'sha-256=:{b64("sha256")}:, sha-512=:{b64("sha512")}:;a'},
    # What is not known here is passed over if something is.
    {'Repr-Digest': f'unixsum=:AAA=:,sha=:{b64("sha1")}:'},
    {'Content-MD5': b64('md5')},
    {'Content-MD5': hashlib.md5(DATA).hexdigest()},
    {'x-openstack-image-size': str(len(DATA))},
]
WRONG = [
    {'Repr-Digest': f'sha-256=:{b64("sha256", b"x")}:'},
    {'Content-Digest': f'sha-512=:{b64("sha512", b"x")}:'},
    {'Repr-Digest': f'sha-256=:{b64("sha256")}:, md5=:{b64("md5", b"x")}:'},
    {'Content-MD5': b64('md5', b'x')},
    {'x-openstack-image-size': str(len(DATA) - 1)},
    {'x-openstack-image-size': str(len(DATA) + 1)},
]
MALFORMED = [
    {'Repr-Digest': 'sha-256'},
    {'Repr-Digest': 'sha-256=:AAAA:'},
    {'Repr-Digest': 'sha-256=:?:'},
    {'Repr-Digest': 'crc32c=:AAAA:'},
    {'Content-Digest': ''},
    {'Content-MD5': 'hello'},
    {'Content-MD5': ''},
    {'x-openstack-image-size': '-1'},
    {'x-openstack-image-size': '9' * 30},
]


@pytest.mark.parametrize('path', ['stage', 'file'])
@pytest.mark.parametrize('headers', GOOD)
@pytest.mark.parametrize('chunked', [False, True])
def test_right(service, path, headers, chunked):
    image_id = service.create()
    answer = put(service, image_id, path, headers, chunked)
    assert answer.status == 204, answer


def put(service, image_id, path, headers, chunked):
    headers = {'Content-Type': 'application/octet-stream', **headers}
    if chunked:
        headers['Transfer-Encoding'] = 'chunked'
    return service.request(
        'PUT', f'/v2/images/{image_id}/{path}', DATA, headers,
        chunks=iter([DATA[:1000], DATA[1000:]]) if chunked else None)


@pytest.mark.parametrize('path', ['stage', 'file'])
@pytest.mark.parametrize('headers', WRONG + MALFORMED)
@pytest.mark.parametrize('chunked', [False, True])
def test_wrong_and_nothing_is_kept(service, path, headers, chunked):
    image_id = service.create()
    answer = put(service, image_id, path, headers, chunked)
    assert answer.status == 400, answer
    assert next(iter(headers)) in answer.message
    image = service.show(image_id)
    assert (image['status'], image['size']) == ('queued', None)
    assert not [name for name in service.staged() + service.stored()
                if name.startswith(image_id)]
    assert put(service, image_id, path, {}, chunked).status == 204


def test_both_lengths_must_agree(service):
    image_id = service.create()
    answer = service.stage(image_id, DATA, headers={
        'x-openstack-image-size': '5'})
    assert answer.status == 400
    assert service.show(image_id)['status'] == 'queued'


@pytest.mark.parametrize('algorithm', ['sha256', 'sha384', 'blake2b',
                                       'sha3_256'])
def test_without_md5(make_service, algorithm):
    service = make_service(options={'DEFAULT': {
        'legacy_checksum': False, 'hashing_algorithm': algorithm}}).start()
    image_id, direct = service.create(), service.create()
    headers = {'Content-MD5': b64('md5')}
    assert service.stage(image_id, DATA, headers=headers).status == 204
    service.start_import(image_id)
    image = service.wait_status(image_id, 'active')
    assert image['checksum'] is None
    assert (image['os_hash_algo'], image['os_hash_value']) == (
        algorithm, hashlib.new(algorithm, DATA).hexdigest())
    assert put(service, direct, 'file', {}, False).status == 204
    image = service.show(direct)
    assert (image['status'], image['checksum']) == ('active', None)
    answer = service.request('GET', f'/v2/images/{direct}/file')
    assert answer.body == DATA and 'content-md5' not in answer.headers
    assert put(service, service.create(), 'file',
               {'Content-MD5': b64('md5', b'x')}, False).status == 400


QCOW2 = (b'QFI\xfb' + (3).to_bytes(4, 'big') + bytes(16)
         + (1 << 30).to_bytes(8, 'big')).ljust(200_000, b'\0')


@pytest.mark.parametrize('data, found', [
    (DATA, 'raw'), (QCOW2, 'qcow2'), (b'', 'raw'), (b'short', 'raw'),
    (bytes(0x8000) + b'\x01CD001' + bytes(100_000), 'iso'),
])
def test_the_format_is_recorded(service, data, found):
    image_id = service.create()
    assert service.stage(image_id, data).status == 204
    assert service.execute(
        'SELECT detected_format FROM import_staging WHERE image_id = ?',
        image_id) == [(found,)]
