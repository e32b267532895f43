"""A staging area that fills up: refused before it is full, and said."""

import os

import pytest

from tests import mounts
from tests import service as services

MIB = 1 << 20


@pytest.fixture
def service(tmp_path, make_service):
    """Staging on 160 MiB, of which a sixteenth stays free."""
    with mounts.memory(tmp_path / 'small', '160M') as place:
        made = make_service(options={'DEFAULT': {
            'node_staging_uri': f'file://{place}/staging',
            'staging_high_water': 50}})
        made.staging = place / 'staging'
        yield made.start()
        made.stop()


def blocks(count):
    return (b'x' * MIB for _ in range(count))


def test_refused_before_a_byte_is_sent(service):
    image_id = service.create()
    with service.raw() as sock:
        sock.sendall((
            f'PUT /v2/images/{image_id}/stage HTTP/1.1\r\nHost: 127.0.0.1\r\n'
            'Content-Type: application/octet-stream\r\n'
            f'Content-Length: {155 * MIB}\r\n\r\n').encode())
        status, body = services.answer_of(sock)
    assert status == 413
    assert b'bytes are free for uploads' in body
    assert service.show(image_id)['status'] == 'queued'
    # tus, with its length.
    answer = service.request(
        'PATCH', f'/v2/images/{image_id}/stage', b'abc', {
            'Content-Type': 'application/offset+octet-stream',
            'Tus-Resumable': '1.0.0', 'Upload-Offset': '0',
            'Upload-Length': str(155 * MIB)})
    assert answer.status == 413, answer
    assert service.show(image_id)['status'] == 'queued'


def test_of_unknown_length(service):
    """Cut before the disk is full, so that others can go on."""
    image_id = service.create()
    answer = service.stage(image_id, chunks=blocks(159))
    assert answer.status == 413, answer
    found = os.statvfs(service.staging)
    free = found.f_bavail * found.f_frsize
    assert free > 100 * MIB, 'what had come is gone'


def test_the_mark_is_said_once(service):
    image_id = service.create()
    assert service.stage(image_id, chunks=blocks(90)).status == 204
    for _ in range(3):
        service.stage(service.create(), b'x')
    assert service.text().count('% full') == 1
    service.request('DELETE', f'/v2/images/{image_id}')
    service.stage(service.create(), b'x')
    assert service.text().count('and has room again') == 1
