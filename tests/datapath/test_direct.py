"""PUT file: staged privately, published to the store, or nothing at all."""

import hashlib
import os

import pytest

from tests import service as services

DATA = os.urandom(1_500_000)


def put(service, image_id, data=DATA, **kwargs):
    return service.request(
        'PUT', f'/v2/images/{image_id}/file', data,
        {'Content-Type': 'application/octet-stream',
         **kwargs.pop('headers', {})}, **kwargs)


def check_nothing_is_kept(service, image_id):
    services.wait_for(lambda: service.show(image_id)['status'] == 'queued')
    assert service.staged() == []
    assert [n for n in service.stored() if image_id in n] == []


def check_usable(service, image_id):
    assert put(service, image_id).status == 204
    image = service.show(image_id)
    assert image['status'] == 'active'
    assert image['checksum'] == hashlib.md5(DATA).hexdigest()
    assert image['os_hash_value'] == hashlib.sha512(DATA).hexdigest()
    assert image['size'] == len(DATA)
    assert service.download(image_id) == DATA
    assert [n for n in service.staged() if image_id in n] == []


def cut(service, image_id, length=len(DATA), sent=DATA[:700_000]):
    """A connection that has sent a part of the data, still open."""
    sock = service.raw()
    sock.sendall(f'PUT /v2/images/{image_id}/file HTTP/1.1\r\n'
                 'Host: localhost\r\n'
                 'Content-Type: application/octet-stream\r\n'
                 f'Content-Length: {length}\r\n\r\n'.encode() + sent)
    services.wait_for(lambda: service.show(image_id)['status'] == 'saving')
    services.wait_for(lambda: any(image_id in n for n in service.staged()))
    return sock


@pytest.mark.parametrize('size', [0, 1, len(DATA)])
def test_active_at_once(service, size):
    image_id = service.create()
    assert put(service, image_id, DATA[:size]).status == 204
    assert service.show(image_id)['size'] == size
    assert service.download(image_id) == DATA[:size]
    assert service.stored().count(image_id) == 1


def test_without_import_too(make_service):
    service = make_service(options={'DEFAULT': {
        'enable_image_import': False}}).start()
    check_usable(service, service.create())


def test_codes(service):
    image_id = service.create(disk_format=None)
    assert put(service, image_id).status == 400
    image_id = service.create()
    assert put(service, image_id, headers={
        'Content-Type': 'text/plain'}).status == 415
    assert put(service, '6ab2c0f6-21b4-4d5c-8a7b-7b6e4a0c0f00').status == 404
    check_usable(service, image_id)
    assert put(service, image_id).status == 409
    staged = service.create()
    service.stage(staged, DATA)
    assert put(service, staged).status == 409
    service.start_import(staged)
    service.wait_status(staged, 'active')
    assert service.download(staged) == DATA


def test_cut_leaves_nothing(service):
    image_id = service.create()
    cut(service, image_id).close()
    check_nothing_is_kept(service, image_id)
    check_usable(service, image_id)


def test_two_at_once(service):
    image_id = service.create()
    with cut(service, image_id) as sock:
        assert put(service, image_id).status == 409
        assert service.stage(image_id, DATA).status == 409
        assert service.start_import(image_id).status == 409
        sock.sendall(DATA[700_000:])
        assert services.answer_of(sock)[0] == 204
    assert service.download(image_id) == DATA


def test_deleted_meanwhile(service):
    image_id = service.create()
    with cut(service, image_id) as sock:
        assert service.request(
            'DELETE', f'/v2/images/{image_id}').status == 204
        sock.sendall(DATA[700_000:])
        assert services.answer_of(sock)[0] == 410
    assert [n for n in service.staged() + service.stored()
            if image_id in n] == []


def test_deleted_while_the_staging_area_is_away(make_service):
    """What can be deleted is, and what cannot is told in the log."""
    service = make_service().start()
    image_id = service.create()
    assert put(service, image_id).status == 204
    away = service.staging.with_name('away')
    service.staging.rename(away)
    try:
        assert service.request(
            'DELETE', f'/v2/images/{image_id}').status == 204
        assert service.stored() == []
        services.wait_for(lambda: f'image {image_id} is deleted, but not '
                          'what is staged of it' in service.text())
    finally:
        away.rename(service.staging)


@pytest.mark.parametrize('path', ['file', 'stage'])
def test_killed_in_mid_upload(make_service, path):
    service = make_service().start()
    image_id = service.create()
    with cut(service, image_id):
        service.kill()
    service.start()
    assert service.show(image_id)['status'] == 'saving'
    if path == 'file':
        check_usable(service, image_id)
    else:
        assert service.stage(image_id, DATA).status == 204
        service.start_import(image_id)
        service.wait_status(image_id, 'active')
        assert service.download(image_id) == DATA
    assert len(service.stored()) == 1


def test_too_large(make_service):
    service = make_service(options={'DEFAULT': {
        'image_size_cap': 1_000_000}}).start()
    image_id = service.create()
    assert put(service, image_id).status == 413
    assert put(service, image_id, headers={
        'Transfer-Encoding': 'chunked'}, chunks=iter([DATA])).status == 413
    check_nothing_is_kept(service, image_id)
    assert put(service, image_id, DATA[:1000]).status == 204


@pytest.mark.parametrize('choice, status', [('refuse', 403), ('bypass', 204)])
def test_plugins_are_not_bypassed_unless_the_operator_says(
        make_service, choice, status):
    options = {'image_import_plugins': '[no_op]',
               'plugins_on_upload': choice}
    service = make_service(options={'image_import_opts': options}).start()
    image_id = service.create()
    answer = service.request(
        'PUT', f'/v2/images/{image_id}/file', b'unseen',
        {'Content-Type': 'application/octet-stream'})
    assert answer.status == status, answer
    if status == 403:
        assert f'/v2/images/{image_id}/stage' in answer.message
        assert service.show(image_id)['status'] == 'queued'
        assert not service.staged() and not service.stored()
    else:
        assert service.download(image_id) == b'unseen'
