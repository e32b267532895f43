"""tus 1.0 on /stage: by hand, by an existing client, cut and killed."""

import base64
import contextlib
import datetime
import email.utils
import hashlib
import io
import os
import threading

import pytest
import tusclient.client
import tusclient.exceptions

from tests import service as services

DATA = os.urandom(3_000_000)
TUS = {'Tus-Resumable': '1.0.0'}
TYPE = 'application/offset+octet-stream'


def path(image_id):
    return f'/v2/images/{image_id}/stage'


def head(service, image_id):
    return service.request('HEAD', path(image_id), headers=TUS)


def patch(service, image_id, offset, data, length=len(DATA), **headers):
    headers = {'Content-Type': TYPE, 'Upload-Offset': str(offset), **TUS,
               **({} if length is None else {'Upload-Length': str(length)}),
               **{name.replace('_', '-'): value
                  for name, value in headers.items()}}
    return service.request('PATCH', path(image_id), data, headers)


def offset(answer):
    return int(answer.headers['upload-offset'])


def checksum(data, algorithm='sha1'):
    digest = hashlib.new(algorithm, data).digest()
    return f'{algorithm} {base64.b64encode(digest).decode()}'


def check_whole(service, image_id, data=DATA):
    """What was staged can be imported, and is what was sent."""
    assert offset(head(service, image_id)) == len(data)
    assert service.start_import(image_id).status == 202
    image = service.wait_status(image_id, 'active')
    assert image['size'] == len(data)
    assert image['checksum'] == hashlib.md5(data).hexdigest()
    assert image['os_hash_value'] == hashlib.sha512(data).hexdigest()
    assert service.download(image_id) == data
    services.wait_for(lambda: not [n for n in service.staged()
                                   if image_id in n])


def begun(service, image_id, sent, start=0, extra=''):
    """A PATCH of all the rest that has brought ``sent`` bytes so far."""
    sock = service.raw()
    sock.sendall((
        f'PATCH {path(image_id)} HTTP/1.1\r\nHost: localhost\r\n{extra}'
        f'Content-Type: {TYPE}\r\nUpload-Length: {len(DATA)}\r\n'
        f'Upload-Offset: {start}\r\nContent-Length: {len(DATA) - start}\r\n'
        '\r\n').encode() + DATA[start:start + sent])
    services.wait_for(lambda: service.execute(
        'SELECT 1 FROM import_staging WHERE image_id = ?', image_id))
    return sock


def test_in_parts(service):
    image_id = service.create()
    answer = head(service, image_id)
    assert (answer.status, offset(answer)) == (200, 0)
    assert answer.headers['tus-resumable'] == '1.0.0'
    assert answer.headers['cache-control'] == 'no-store'
    for start in range(0, len(DATA), 1_000_000):
        answer = patch(service, image_id, start, DATA[start:start + 1000000],
                       length=len(DATA) if start < 2_000_000 else None)
        assert answer.status == 204, answer
        assert offset(answer) == start + 1_000_000
        assert answer.headers['tus-resumable'] == '1.0.0'
        answer = head(service, image_id)
        assert offset(answer) == start + 1_000_000
        assert answer.headers['upload-length'] == str(len(DATA))
    assert service.show(image_id)['size'] == len(DATA)
    # As if the last answer had been lost.
    assert patch(service, image_id, len(DATA), b'').status == 204
    assert patch(service, image_id, len(DATA), b'x').status == 413
    assert patch(service, image_id, 0, DATA).status == 409
    check_whole(service, image_id)
    assert head(service, image_id).status == 409
    assert patch(service, image_id, len(DATA), b'').status == 409


def test_chunked_and_empty(service):
    image_id = service.create()
    headers = {'Content-Type': TYPE, 'Upload-Offset': '0', **TUS,
               'Upload-Length': '9', 'Transfer-Encoding': 'chunked'}
    answer = service.request('PATCH', path(image_id), headers=headers,
                             chunks=iter([b'abc', b'def']))
    assert (answer.status, offset(answer)) == (204, 6)
    headers['Upload-Offset'] = '6'
    answer = service.request('PATCH', path(image_id), headers=headers,
                             chunks=iter([b'ghi', b'j']))
    assert answer.status == 413
    assert offset(head(service, image_id)) == 6
    assert patch(service, image_id, 6, b'ghi', 9).status == 204
    check_whole(service, image_id, b'abcdefghi')
    image_id = service.create()
    answer = patch(service, image_id, 0, b'', 0)
    assert (answer.status, offset(answer)) == (204, 0)
    check_whole(service, image_id, b'')


def test_options(service):
    answer = service.request('OPTIONS', path(service.create()))
    assert answer.status == 204
    assert answer.headers['tus-version'] == '1.0.0'
    assert answer.headers['tus-extension'] == 'checksum,expiration,termination'
    assert 'sha1' in answer.headers['tus-checksum-algorithm'].split(',')
    assert int(answer.headers['tus-max-size']) > 0


@pytest.mark.parametrize('headers, status', [
    ({'Content_Type': 'application/octet-stream'}, 415),
    ({'Upload_Offset': '-1'}, 400), ({'Upload_Offset': 'x'}, 400),
    ({'Upload_Offset': ''}, 400), ({'Upload_Offset': '9' * 40}, 400),
    ({'Upload_Offset': '1'}, 409), ({'Upload_Length': '-5'}, 400),
    ({'Upload_Length': '2'}, 413),
    ({'Upload_Length': str(2 ** 62)}, 413),
    ({'Tus_Resumable': '0.2.1'}, 412),
    ({'Upload_Checksum': 'crc32 AAAA'}, 400),
    ({'Upload_Checksum': 'sha1'}, 400), ({'Upload_Checksum': 'sha1 ?'}, 400),
    ({'Upload_Checksum': 'sha1 AAAA'}, 400),
    ({'Upload_Checksum': checksum(b'other')}, 460),
    ({'Content_MD5': hashlib.md5(b'other').hexdigest()}, 460),
])
def test_a_first_part_that_is_wrong(service, headers, status):
    image_id = service.create()
    answer = patch(service, image_id, 0, b'data', 100, **headers)
    assert answer.status == status, answer
    assert answer.headers['tus-resumable'] == '1.0.0'
    assert offset(head(service, image_id)) == 0
    assert patch(service, image_id, 0, DATA[:100], 100).status == 204
    check_whole(service, image_id, DATA[:100])


def test_the_length_stays_what_it_was(service):
    image_id = service.create()
    assert patch(service, image_id, 0, b'data', 10).status == 204
    assert patch(service, image_id, 4, b'data', 11).status == 400
    for wrong in (0, 3, 5, 8):
        answer = patch(service, image_id, wrong, b'data', 10)
        assert (answer.status, offset(answer)) == (409, 4)
    assert patch(service, image_id, 4, b'datadata', 10).status == 413
    assert patch(service, image_id, 4, b'123456', None).status == 204
    check_whole(service, image_id, b'data123456')


def test_a_length_that_is_told_later(service):
    """As clients send a stream whose end they do not see yet."""
    image_id = service.create()
    answer = head(service, image_id)
    assert answer.headers['upload-defer-length'] == '1'
    assert 'upload-length' not in answer.headers
    assert patch(service, image_id, 0, b'', None).status == 204
    assert patch(service, image_id, 0, b'data', None).status == 204
    answer = patch(service, image_id, 4, b'more', None,
                   Upload_Checksum=checksum(b'other'))
    assert answer.status == 460
    answer = patch(service, image_id, 4, b'more', None,
                   Upload_Checksum=checksum(b'more'))
    assert (answer.status, offset(answer)) == (204, 8)
    answer = head(service, image_id)
    assert (offset(answer), answer.headers['upload-defer-length']) == (8, '1')
    answer = service.start_import(image_id)
    assert answer.status == 409 and '8 of an unknown number' in answer.message
    # It cannot end before where it stands.
    assert patch(service, image_id, 8, b'', 7).status == 413
    assert patch(service, image_id, 8, b'end', 11).status == 204
    answer = head(service, image_id)
    assert answer.headers['upload-length'] == '11'
    assert 'upload-defer-length' not in answer.headers
    check_whole(service, image_id, b'datamoreend')
    # Nor need any byte come with it.
    image_id = service.create()
    assert patch(service, image_id, 0, b'data', None).status == 204
    assert patch(service, image_id, 4, b'', 4).status == 204
    check_whole(service, image_id, b'data')


def test_by_post(service):
    """For networks that let no PATCH pass."""
    image_id = service.create()
    headers = {'Content-Type': TYPE, 'Upload-Offset': '0', **TUS,
               'Upload-Length': '4'}
    for method, status in (('PATCH', 204), ('HEAD', 200), ('POST', 405),
                           ('GET', 405), ('x', 405)):
        answer = service.request('POST', path(image_id), b'data' if
                                 method == 'PATCH' else None, {
                                     **headers,
                                     'X-HTTP-Method-Override': method})
        assert answer.status == status, answer
        assert status == 405 or offset(answer) == 4
    assert service.request('POST', path(image_id)).status == 405
    # Of this path alone.
    assert service.request('POST', f'/v2/images/{image_id}', headers={
        'X-HTTP-Method-Override': 'DELETE'}).status == 405
    check_whole(service, image_id, b'data')


def test_without_a_length_the_largest_size_holds(make_service):
    service = make_service(options={'DEFAULT': {
        'image_size_cap': 1_500_000}}).start()
    image_id = service.create()
    assert patch(service, image_id, 0, DATA[:1_000_000], None).status == 204
    rest = DATA[1_000_000:]
    assert patch(service, image_id, 1_000_000, rest, None).status == 413
    headers = {'Content-Type': TYPE, 'Upload-Offset': '1000000', **TUS,
               'Transfer-Encoding': 'chunked'}
    answer = service.request('PATCH', path(image_id), headers=headers,
                             chunks=iter([rest]))
    assert answer.status == 413 and '1500000' in answer.message
    assert offset(head(service, image_id)) == 1_000_000
    assert patch(service, image_id, 1_000_000, rest[:500_000], 1_500_000
                 ).status == 204
    check_whole(service, image_id, DATA[:1_500_000])


def test_incomplete_is_not_imported(service):
    image_id = service.create()
    patch(service, image_id, 0, DATA[:1_234_567])
    answer = service.start_import(image_id)
    assert answer.status == 409
    assert '1234567 of 3000000 bytes' in answer.message
    assert service.stage(image_id, DATA[:5]).status == 204
    check_whole(service, image_id, DATA[:5])


@pytest.mark.parametrize('algorithm', ['sha1', 'md5', 'sha256', 'sha512'])
def test_checksums(service, algorithm):
    image_id = service.create()
    first, rest = DATA[:1_000_000], DATA[1_000_000:]
    assert patch(service, image_id, 0, first, Upload_Checksum=checksum(
        first, algorithm)).status == 204
    answer = patch(service, image_id, 1_000_000, rest,
                   Upload_Checksum=checksum(first, algorithm))
    assert answer.status == 460
    assert offset(head(service, image_id)) == 1_000_000
    assert patch(service, image_id, 1_000_000, rest[:10]).status == 204
    assert patch(service, image_id, 1_000_010, rest[10:],
                 Upload_Checksum=checksum(rest[10:], algorithm)
                 ).status == 204
    check_whole(service, image_id)


def test_terminated(service):
    for data in (DATA[:1_000_000], DATA, None):
        image_id = service.create()
        if data is not None:
            assert patch(service, image_id, 0, data).status == 204
        answer = service.request('DELETE', path(image_id), headers=TUS)
        assert answer.status == 204
        assert answer.headers['tus-resumable'] == '1.0.0'
        image = service.show(image_id)
        assert (image['status'], image['size']) == ('queued', None)
        assert not [n for n in service.staged() if image_id in n]
        assert offset(head(service, image_id)) == 0
        assert patch(service, image_id, 0, DATA).status == 204
        check_whole(service, image_id)
        assert service.request('DELETE', path(image_id)).status == 409


def test_of_another_project(make_service):
    service = make_service(token=services.MEMBER, options={
        'paste_deploy': {'flavor': 'fakeauth'}}).start()
    image_id = service.create()
    patch(service, image_id, 0, DATA[:1000])
    for method in ('HEAD', 'PATCH', 'DELETE'):
        answer = service.request(method, path(image_id), b'' if
                                 method == 'PATCH' else None,
                                 {'Content-Type': TYPE, 'Upload-Offset': '0'}
                                 if method == 'PATCH' else {},
                                 token=services.OTHER)
        assert answer.status == 404
    assert offset(head(service, image_id)) == 1000


def test_two_at_once(service):
    image_id = service.create()
    with begun(service, image_id, 1_000_000) as sock:
        # One that is quick waits a moment for the other, then gives up.
        answer = patch(service, image_id, 1_000_000, DATA[1_000_000:])
        assert answer.status == 423, answer
        assert service.request('DELETE', path(image_id)).status == 423
        assert service.stage(image_id, DATA).status == 409
        assert service.start_import(image_id).status == 409
        sock.sendall(DATA[1_000_000:])
        assert services.answer_of(sock)[0] == 204
    check_whole(service, image_id)


def test_many_at_once(service):
    """Of those that begin at one offset exactly one is let in."""
    image_id = service.create()
    for start in range(0, len(DATA), 1_000_000):
        answers = []
        part = DATA[start:start + 1_000_000]
        threads = [threading.Thread(target=lambda: answers.append(
            patch(service, image_id, start, part).status))
            for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers.count(204) == 1, answers
        assert set(answers) <= {204, 409, 423, 413}
    check_whole(service, image_id)


def test_cut_and_gone_on_at_once(service):
    image_id = service.create()
    sock = begun(service, image_id, 700_000)
    services.wait_for(lambda: offset(head(service, image_id)) >= 600_000)
    sock.close()
    services.wait_for(lambda: offset(head(service, image_id)) == 700_000)
    assert patch(service, image_id, 700_000, DATA[700_000:]).status == 204
    check_whole(service, image_id)


def test_cut_with_a_checksum_counts_for_nothing(service):
    image_id = service.create()
    assert patch(service, image_id, 0, DATA[:1000]).status == 204
    sock = begun(service, image_id, 700_000, 1000,
                 f'Upload-Checksum: {checksum(DATA[1000:])}\r\n')
    sock.close()
    assert offset(head(service, image_id)) == 1000
    assert patch(service, image_id, 1000, DATA[1000:]).status == 204
    check_whole(service, image_id)


def test_a_plain_upload_that_was_cut_goes_on(service):
    image_id = service.create()
    sock = service.raw()
    sock.sendall((f'PUT {path(image_id)} HTTP/1.1\r\nHost: localhost\r\n'
                  'Content-Type: application/octet-stream\r\n'
                  f'Content-Length: {len(DATA)}\r\n\r\n').encode()
                 + DATA[:500_000])
    services.wait_for(lambda: any(
        image_id in n for n in service.staged()))
    sock.close()
    services.wait_for(lambda: offset(head(service, image_id)) == 500_000)
    assert patch(service, image_id, 500_000, DATA[500_000:], None
                 ).status == 204
    check_whole(service, image_id)


@pytest.mark.parametrize('extra', [
    '', f'Upload-Checksum: {checksum(DATA[1_000_000:])}\r\n'],
    ids=['plain', 'checksum'])
def test_killed_in_mid_part(make_service, extra):
    service = make_service().start()
    image_id = service.create()
    assert patch(service, image_id, 0, DATA[:1_000_000]).status == 204
    with begun(service, image_id, 1_500_000, 1_000_000, extra):
        services.wait_for(lambda: os.path.getsize(
            service.staging / f'{image_id}.part') >= 2_000_000)
        service.kill()
    service.start()
    there = offset(head(service, image_id))
    assert there == 1_000_000 if extra else 2_000_000 <= there <= 2_500_000
    assert patch(service, image_id, there, DATA[there:]).status == 204
    check_whole(service, image_id)


@pytest.mark.parametrize('step', ['synced', 'published'])
def test_killed_after_the_last_byte(make_service, step):
    """All bytes were there, but it was not recorded that they are."""
    service = make_service().start()
    image_id = service.create()
    assert patch(service, image_id, 0, DATA[:-1]).status == 204
    service.kill()
    part = service.staging / f'{image_id}.part'
    with open(part, 'ab') as file:
        file.write(DATA[-1:])
    if step == 'published':
        part.rename(service.staging / image_id)
    service.start()
    check_whole(service, image_id)


def test_expired(make_service):
    service = make_service().start()
    image_id = service.create()
    before = datetime.datetime.now(datetime.timezone.utc)
    answer = patch(service, image_id, 0, DATA[:1000])
    when = email.utils.parsedate_to_datetime(answer.headers['upload-expires'])
    week = datetime.timedelta(days=7)
    assert abs(when - before - week) < datetime.timedelta(minutes=5)
    assert head(service, image_id).headers['upload-expires']
    old = '2020-01-01 00:00:00'
    service.execute('UPDATE import_staging SET updated_at = ?', old)
    answer = patch(service, image_id, 1000, DATA[1000:])
    assert (answer.status, offset(answer)) == (409, 0)
    assert service.show(image_id)['status'] == 'queued'
    assert service.staged() == []
    # And nobody comes back: the conductor sees to it.
    patch(service, image_id, 0, DATA[:1000])
    service.execute('UPDATE import_staging SET updated_at = ?', old)
    service.stop()
    service.start()
    services.wait_for(lambda: service.show(image_id)['status'] == 'queued')
    services.wait_for(lambda: service.staged() == [])


def test_import_off(make_service):
    service = make_service(options={'DEFAULT': {
        'enable_image_import': False}}).start()
    image_id = service.create()
    for method in ('HEAD', 'DELETE', 'PATCH', 'PUT', 'GET', 'POST'):
        assert service.request(method, path(image_id)).status == 404
    # The CORS filter answers this one when nobody else does.
    answer = service.request('OPTIONS', path(image_id))
    assert 'tus-version' not in answer.headers


class Breaks(io.BytesIO):
    """A file that cannot be read past a place."""

    def read(self, size=-1):
        if self.tell() >= 2_000_000:
            raise OSError('the disk is gone')
        return super().read(size)


def test_an_existing_client(make_service):
    service = make_service().start()
    image_id = service.create()
    url = f'http://127.0.0.1:{service.port}{path(image_id)}'
    client = tusclient.client.TusClient(
        url, headers={'Upload-Length': str(len(DATA))})

    def uploader(file, **kwargs):
        return client.uploader(
            file_stream=file, url=url, chunk_size=400_000, retries=20,
            retry_delay=0.3, upload_checksum=True, **kwargs)
    with contextlib.suppress(OSError):
        uploader(Breaks(DATA)).upload()
    assert offset(head(service, image_id)) == 2_000_000
    service.kill()
    threading.Timer(1, service.start).start()
    with pytest.raises(Exception):
        # Nobody there yet; it does not retry its first question.
        uploader(io.BytesIO(DATA)).upload()
    services.wait_for(lambda: service.process is not None)
    services.wait_for(lambda: _answers(service, image_id))
    uploader(io.BytesIO(DATA)).upload()
    check_whole(service, image_id)


def _answers(service, image_id):
    with contextlib.suppress(OSError):
        return head(service, image_id)
