"""web-download: good servers, bad servers, names that lie."""

import contextlib
import hashlib
import os
import socket
import threading
import time

import pytest

from tests import origins
from tests import service as services

DATA = os.urandom(3_000_017)


@pytest.fixture(scope='module')
def names():
    with origins.Names({}) as found:
        yield found


@pytest.fixture(scope='module')
def tls(tmp_path_factory):
    return origins.certificate(tmp_path_factory.mktemp('tls'),
                               'mirror.example', '127.0.0.1')


@pytest.fixture(scope='module')
def service(tmp_path_factory, names, tls):
    """Loopback is opened, as an operator opens his own mirrors."""
    running = services.Service(
        tmp_path_factory.mktemp('service'), options={
            'DEFAULT': {'image_size_cap': 8_000_000},
            'import_filtering_opts': {
                'allowed_addresses': '[127.0.0.1/32]',
                'allowed_ports': '[]', 'disallowed_ports': '[9]'},
            'import_downloads': {
                'dns_servers': f'[{names.address}]', 'retries': 3,
                'retry_interval': 0.05,
                'idle_timeout': 1, 'connect_timeout': 2,
                'ca_file': tls / 'cert.pem'}})
    running.environment.update(
        http_proxy='http://127.0.0.1:9', https_proxy='http://127.0.0.1:9',
        ALL_PROXY='http://127.0.0.1:9')
    running.start()
    yield running
    running.kill()


@pytest.fixture
def origin(request):
    with origins.Origin(origins.serve(DATA)) as found:
        yield found


def ask(service, image_id, uri, **more):
    return service.request('POST', f'/v2/images/{image_id}/import', {
        'method': {'name': 'web-download', 'uri': uri, **more}})


def fetch(service, uri, **more):
    """The image when its import has ended."""
    image_id = service.create()
    answer = ask(service, image_id, uri, **more)
    assert answer.status == 202, answer
    return service.wait_status(image_id, 'active', 'queued')


def check_active(service, image, data=DATA):
    assert image['status'] == 'active', image
    assert image['size'] == len(data)
    assert image['checksum'] == hashlib.md5(data).hexdigest()
    assert image['os_hash_value'] == hashlib.sha512(data).hexdigest()
    assert service.download(image['id']) == data
    services.wait_for(lambda: image['id'] not in service.staged())


def check_failed(service, image, *words):
    """Queued again, with the reason, in the task too, and nothing left."""
    assert image['status'] == 'queued', image
    reason = image['os_glance_import_error']
    for word in words:
        assert word in reason, reason
    assert 'internal error' not in reason
    task = service.tasks(image['id'])[0]
    assert (task['status'], task['message']) == ('failure', reason)
    assert 'os_glance_import_task' not in image
    services.wait_for(lambda: not [
        name for name in service.staged() if name.startswith(image['id'])])


# -- good servers

def test_an_image_is_fetched(service, origin):
    image = fetch(service, origin.url())
    check_active(service, image)
    (path, headers), = origin.requests
    assert path == '/image'
    assert headers['Host'] == f'127.0.0.1:{origin.port}'
    assert headers['Accept-Encoding'] == 'identity'
    assert not any('auth' in name.lower() for name in headers)


def test_a_name_is_looked_up_once_and_stays_in_host(service, origin, names):
    names.table['mirror.example'] = ['127.0.0.1']
    names.asked.clear()
    check_active(service, fetch(service, origin.url(host='mirror.example')))
    assert origin.requests[0][1]['Host'] == f'mirror.example:{origin.port}'
    assert names.asked == ['mirror.example']


def test_https_with_the_name_in_sni(service, names, tls):
    names.table['mirror.example'] = ['127.0.0.1']
    with origins.Origin(origins.serve(DATA), tls=tls) as origin:
        check_active(service, fetch(service, origin.url(
            host='mirror.example')))
        assert origin.names == ['mirror.example']
        check_active(service, fetch(service, origin.url()))


def test_a_certificate_of_another_name(service, names, tls):
    names.table['other.example'] = ['127.0.0.1']
    with origins.Origin(origins.serve(DATA), tls=tls) as origin:
        image = fetch(service, origin.url(host='other.example'))
        assert not origin.requests
    check_failed(service, image, 'certificate', 'other.example')


@pytest.mark.parametrize('size', (0, 1, 70_000))
def test_small_images(service, size):
    data = os.urandom(size)
    with origins.Origin(origins.serve(data)) as origin:
        check_active(service, fetch(service, origin.url()), data)


def test_chunked(service):
    def answer(handler):
        handler.begin(Transfer_Encoding='chunked')
        for at in range(0, len(DATA), 100_003):
            part = DATA[at:at + 100_003]
            handler.wfile.write(b'%x;ext=1\r\n%b\r\n' % (len(part), part))
        handler.wfile.write(b'0\r\nTrailer: x\r\n\r\n')
    with origins.Origin(answer) as origin:
        check_active(service, fetch(service, origin.url()))


@pytest.mark.parametrize('algorithm', ('sha256', 'SHA-512', 'md5', 'sha1'))
def test_a_digest_of_the_request(service, origin, algorithm):
    name = algorithm.lower().replace('-', '')
    good = hashlib.new(name, DATA).hexdigest()
    check_active(service, fetch(service, origin.url(), checksum={
        'algo': algorithm, 'value': good}))
    bad = hashlib.new(name, DATA[1:]).hexdigest()
    image = fetch(service, origin.url(),
                  checksum={'algo': algorithm, 'value': bad})
    check_failed(service, image, name, good, bad)


def test_redirects_are_followed(service, origin):
    def answer(handler):
        place = {'/a': '/b', '/b': origin.url()}[handler.path]
        handler.begin(302 if place == '/b' else 307, Location=place,
                      Content_Length=0)
    with origins.Origin(answer) as first:
        check_active(service, fetch(service, first.url('/a')))


LABELLED = [
    ('/disk.img.gz', {'Content_Encoding': 'x-gzip'}),
    ('/disk.img.GZ?signature=a.b', {'Content_Encoding': 'GZIP'}),
    ('/a/disk.tgz', {'Content_Encoding': 'gzip, identity'}),
    ('/disk%2Egz', {'Content_Encoding': ' gzip '}),
    ('/disk', {'Content_Encoding': 'gzip',
               'Content_Type': 'application/x-gzip'}),
    ('/disk', {'Content_Encoding': 'x-gzip',
               'Content_Type': 'Application/GZIP; charset=binary'}),
    ('/disk', {'Content_Encoding': 'Identity'}),
    ('/disk', {'Content_Encoding': ''})]
ENCODED = [
    (path, {'Content_Encoding': encoding}) for path, encoding in (
        ('/disk', 'gzip'), ('/disk.gz.img', 'x-gzip'),
        ('/disk?name=a.gz', 'gzip'), ('/disk.gz', 'br'),
        ('/disk.gz', 'gzip, br'), ('/disk.gz', 'gzip, gzip'),
        ('/disk.tgz', 'deflate'), ('/.gz/disk', 'gzip'),
        ('/disk#.gz', 'gzip'))]


def fetch_all(service, cases):
    """Side by side: (case, image, requests) of each when it has ended."""
    with contextlib.ExitStack() as stack:
        begun = []
        for path, headers in cases:
            origin = stack.enter_context(origins.Origin(origins.serve(
                DATA, **headers)))
            image_id = service.create()
            answer = ask(service, image_id, origin.url(path))
            assert answer.status == 202, answer
            begun.append(((path, headers), image_id, origin))
        for case, image_id, origin in begun:
            yield (case, service.wait_status(image_id, 'active', 'queued'),
                   origin.requests)


def test_files_that_are_labelled_by_what_they_are(service):
    """Not an encoding for their way here: the bytes are the file's."""
    for case, image, _requests in fetch_all(service, LABELLED):
        assert image['status'] == 'active', (case, image)
        check_active(service, image)


def test_encodings_that_were_not_asked_for(service):
    for (path, headers), image, requests in fetch_all(service, ENCODED):
        assert image['status'] == 'queued' and len(requests) == 1, path
        check_failed(service, image, 'not asked for',
                     f'encoded as {headers["Content_Encoding"]},')


def test_a_label_behind_a_redirect(service):
    """By the name that was asked for, too."""
    def answer(handler):
        if handler.path.startswith('/disk'):
            handler.begin(302, Location='/blobs/17', Content_Length=0)
        else:
            origins.serve(DATA, Content_Encoding='gzip')(handler)
    with origins.Origin(answer) as origin:
        check_active(service, fetch(service, origin.url('/disk.gz')))
        check_failed(service, fetch(service, origin.url('/disk.img')), 'gzip')


def test_a_label_and_a_cut(service):
    """It goes on with the bytes of the file as well."""
    with origins.Origin(cutting(DATA, 1_100_000, ETag='"x"',
                                Content_Encoding='gzip')) as origin:
        check_active(service, fetch(service, origin.url('/disk.gz')))
        assert len(origin.requests) == 3


@pytest.mark.parametrize('kind', ('NXDOMAIN', 'SERVFAIL', 'silence'))
def test_a_name_server_that_knows_no_aaaa(service, origin, names, kind):
    names.table['old.example'] = {'A': ['127.0.0.1'], 'AAAA': kind}
    check_active(service, fetch(service, origin.url(host='old.example')))


def test_early_hints_and_a_redirect_with_blanks(service):
    def answer(handler):
        handler.wfile.write(b'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n')
        if handler.path == '/image':
            handler.begin(302, Location='/my disk.img', Content_Length=0)
        else:
            origins.serve(DATA)(handler)
    with origins.Origin(answer) as origin:
        check_active(service, fetch(service, origin.url()))
        assert [path for path, _headers in origin.requests] == [
            '/image', '/my%20disk.img']


def test_too_many_headers_are_said_at_once(service):
    with origins.Origin(lambda handler: handler.begin(
            Content_Length=len(DATA),
            **{f'X_{i}': i for i in range(200)})) as origin:
        image = fetch(service, origin.url())
        assert len(origin.requests) == 1
    check_failed(service, image, 'got more than 100 headers')


def test_progress_is_shown(service):
    go_on = threading.Event()

    def answer(handler):
        handler.begin(Content_Length=len(DATA))
        handler.wfile.write(DATA[:1_500_000])
        at = 1_500_000
        while not go_on.wait(0.3):
            handler.wfile.write(DATA[at:at + 1])
            at += 1
        handler.wfile.write(DATA[at:])
    with origins.Origin(answer) as origin:
        image_id = service.create()
        assert ask(service, image_id, origin.url()).status == 202

        def shown():
            found = service.tasks(image_id)[0].get('progress', {})
            return found if (found.get('bytes_done') or 0) > 1_500_000 \
                else None
        progress = services.wait_for(shown, 20)
        assert progress['step'] == 'WebDownload'
        assert progress['bytes_total'] == len(DATA)
        go_on.set()
        check_active(service, service.wait_status(image_id, 'active'))


# -- servers that fail

def cutting(data, at, **headers):
    """Sends as much of it at a time, and then lets the connection go."""
    def answer(handler):
        start = handler.start
        if start:
            handler.begin(206, Content_Length=len(data) - start,
                          Content_Range=f'bytes {start}-{len(data) - 1}/'
                          f'{len(data)}', **headers)
        else:
            handler.begin(Content_Length=len(data), **headers)
        handler.wfile.write(data[start:start + at])
    return answer


@pytest.mark.parametrize('headers', (
    {'ETag': '"x"'}, {'Last_Modified': 'Thu, 01 Jan 2026 00:00:00 GMT'}),
    ids=('etag', 'date'))
def test_a_cut_download_goes_on(service, headers):
    with origins.Origin(cutting(DATA, 1_100_000, **headers)) as origin:
        digest = hashlib.sha256(DATA).hexdigest()
        check_active(service, fetch(service, origin.url(), checksum={
            'algo': 'sha256', 'value': digest}))
        asked = [request[1] for request in origin.requests]
    assert [each.get('Range') for each in asked] == [
        None, 'bytes=1100000-', 'bytes=2200000-']
    assert {each.get('If-Range') for each in asked[1:]} == set(
        headers.values())


def test_without_a_validator_it_begins_anew(service):
    def answer(handler):
        handler.begin(Content_Length=len(DATA))
        handler.wfile.write(DATA[:1_000_000] if len(origin.requests) == 1
                            else DATA)
    with origins.Origin(answer) as origin:
        check_active(service, fetch(service, origin.url()))
        assert [each[1].get('Range') for each in origin.requests] == [
            None, None]


def changed(status, second, **headers):
    """First half of something, then something else."""
    def make(seen):
        def answer(handler):
            seen.append(handler.headers.get('Range'))
            if len(seen) == 1:
                handler.begin(Content_Length=len(DATA), ETag='"old"')
                handler.wfile.write(DATA[:1_000_000])
            elif len(seen) == 2:
                found = dict(headers)
                if status == 206:
                    found.setdefault('Content_Range', 'bytes 1000000-'
                                     f'{len(second) - 1}/{len(second)}')
                    body = second[1_000_000:]
                else:
                    body = second if status == 200 else b''
                handler.begin(status, Content_Length=len(body), **found)
                handler.wfile.write(body)
            else:
                handler.begin(Content_Length=len(second), ETag='"new"')
                handler.wfile.write(second)
        return answer
    return make


OTHER = os.urandom(2_000_001)


@pytest.mark.parametrize('make', (
    changed(200, OTHER, ETag='"new"'),
    changed(206, OTHER, ETag='"new"'),
    changed(206, OTHER, ETag='W/"old"'),
    changed(206, OTHER),
    changed(206, OTHER, ETag='"old"', Content_Range='bytes 999999-3/4'),
    changed(206, OTHER, ETag='"old"'),
    changed(206, OTHER, ETag='"old"', Content_Range='nonsense'),
    changed(416, OTHER, ETag='"old"'),
), ids=('200', 'other etag', 'weak etag', 'no etag', 'other place',
        'other length', 'nonsense', '416'))
def test_other_content_is_never_mixed_in(service, make):
    seen: list = []
    with origins.Origin(make(seen)) as origin:
        check_active(service, fetch(service, origin.url()), OTHER)
    assert seen[1] == 'bytes=1000000-'


def stalling(handler):
    handler.begin(Content_Length=len(DATA))
    handler.wfile.write(DATA[:1000])
    time.sleep(5)


def silent(handler):
    time.sleep(5)


def dripping(handler, words):
    with contextlib.suppress(OSError):
        for _ in range(50):
            handler.wfile.write(words)
            time.sleep(0.1)


def always_about_to_begin(handler):
    dripping(handler, b'HTTP/1.1 100 Continue\r\n\r\n')


def never_at_the_end(handler):
    handler.begin(Transfer_Encoding='chunked')
    handler.wfile.write(b'5\r\nhello\r\n0\r\n')
    dripping(handler, b'X-Trailer: more\r\n')


def longer(handler):
    handler.begin(Content_Length=len(DATA) - 5)
    handler.wfile.write(DATA)


def endless(handler):
    handler.begin(Transfer_Encoding='chunked')
    while True:
        handler.wfile.write(b'100000\r\n' + bytes(1 << 20) + b'\r\n')


def too_long(handler):
    handler.begin(Content_Length=9_000_000)


def unframed(handler):
    handler.begin()
    handler.wfile.write(DATA)


def bad_chunks(handler):
    handler.begin(Transfer_Encoding='chunked')
    handler.wfile.write(b'-5\r\nhello\r\n0\r\n\r\n')


def no_last_chunk(handler):
    handler.begin(Transfer_Encoding='chunked')
    handler.wfile.write(b'5\r\nhello\r\n')


def encoded(handler):
    handler.begin(Content_Length=5, Content_Encoding='gzip')
    handler.wfile.write(b'hello')


def not_http(handler):
    handler.wfile.write(b'SSH-2.0-OpenSSH_9.2\r\n')


def circle(handler):
    handler.begin(302, Location=handler.path, Content_Length=0)


def nowhere(handler):
    handler.begin(302, Content_Length=0)


def status(code):
    return lambda handler: handler.begin(code, Content_Length=0)


BAD = {
    'stalls': (stalling, 'stopped sending'),
    'says nothing': (silent, 'does not answer'),
    'is always about to begin': (always_about_to_begin, 'timed out'),
    'never ends its trailer': (never_at_the_end, 'stopped sending'),
    'endless': (endless, 'larger than 8000000 bytes'),
    'over the cap': (too_long, 'larger than 8000000 bytes'),
    'no length at all': (unframed, 'checksum'),
    'chunks of negative length': (bad_chunks, 'as HTTP says'),
    'no last chunk': (no_last_chunk, 'cut'),
    'encoded': (encoded, 'gzip'),
    'two lengths': (lambda handler: handler.wfile.write(
        b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n'
        b'abc'), 'several lengths'),
    'another protocol': (not_http, 'does not answer'),
    'a circle': (circle, 'redirects'),
    'to nowhere': (nowhere, 'redirects to nowhere'),
    '404': (status(404), '404 Not Found'),
    '401': (status(401), '401 Unauthorized'),
    '503': (status(503), '503 Service Unavailable'),
    '204': (status(204), '204 No Content'),
}


@pytest.mark.parametrize('answer, words', BAD.values(), ids=BAD)
def test_bad_servers(service, answer, words):
    with origins.Origin(answer) as origin:
        image = fetch(service, origin.url())
    check_failed(service, image, words)


def test_what_is_behind_the_length_is_not_taken(service):
    with origins.Origin(longer) as origin:
        check_active(service, fetch(service, origin.url()), DATA[:-5])


def test_no_length_but_a_digest(service):
    digest = {'algo': 'sha256', 'value': hashlib.sha256(DATA).hexdigest()}
    for begin in (b'HTTP/1.1 200 OK\r\n', b'HTTP/1.0 200 OK\r\n'
                  b'Connection: close\r\nContent-Type: text/plain\r\n'):
        with origins.Origin(lambda handler: handler.wfile.write(
                begin + b'\r\n' + DATA)) as origin:
            check_active(service, fetch(service, origin.url(),
                                        checksum=digest))
            check_failed(service, fetch(service, origin.url()),
                         'how long', 'name a checksum in the request')


def test_nobody_listens(service):
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        image = fetch(service, f'http://127.0.0.1:{sock.getsockname()[1]}/')
    check_failed(service, image, 'cannot be reached')


def test_cancelled_while_it_runs(service):
    with origins.Origin(stalling) as origin:
        image_id = service.create()
        ask(service, image_id, origin.url())
        services.wait_for(lambda: origin.requests)
        assert service.request(
            'DELETE', f'/v2/images/{image_id}/import').status == 202
        image = service.wait_status(image_id, 'queued')
    check_failed(service, image, 'cancelled')


# -- URLs that lie

@pytest.mark.parametrize('uri', (
    'http://a.localhost:9/', 'http://10.0.0.1/', 'http://0x7f.1/',
    'http://169.254.169.254/latest/', 'file:///etc/passwd',
    'http://user@mirror.example/', 'http://mirror.example:9/', '', 7, None))
def test_what_the_url_shows_is_said_at_once(service, uri):
    image_id = service.create()
    answer = ask(service, image_id, uri)
    assert answer.status == 400, answer
    assert service.show(image_id)['status'] == 'queued'
    assert not service.tasks(image_id)


@pytest.mark.parametrize('checksum', (
    'x', {}, {'algo': 'sha256'}, {'algo': 'crc32', 'value': '00'},
    {'algo': 'sha256', 'value': 'ab'}, {'algo': 'sha256', 'value': 'z' * 64},
    {'algo': 5, 'value': 'x'}))
def test_malformed_digests(service, checksum):
    image_id = service.create()
    answer = ask(service, image_id, 'http://mirror.example/',
                 checksum=checksum)
    assert answer.status == 400 and 'checksum' in answer.message


def test_the_status_it_needs(service, origin):
    image_id = service.create()
    service.stage(image_id, b'data')
    answer = ask(service, image_id, origin.url())
    assert answer.status == 409 and 'glance-direct' in answer.message
    assert service.start_import(service.create()).status == 409


LYING = {
    'private': ['10.2.3.4'], 'metadata': ['169.254.169.254'],
    'one of two': ['93.184.216.34', '192.168.0.1'],
    'mapped': ['::ffff:10.0.0.1'], 'v6 loopback': ['::1'],
    'nat64': ['64:ff9b::a00:1'], 'this host': ['0.0.0.0'],
    'other loopback': ['127.0.0.2'],
}


@pytest.mark.parametrize('found', LYING.values(), ids=LYING)
def test_names_that_lie(service, names, found):
    names.table['liar.example'] = found
    image = fetch(service, 'http://liar.example/image')
    check_failed(service, image, 'liar.example', 'cannot be reached')
    assert not any(each in image['os_glance_import_error']
                   for each in found)


def test_a_name_that_changes_between_look_ups(service, names, origin):
    """Good, then bad: what was judged is what is connected to."""
    names.table['turns.example'] = ['127.0.0.1']
    names.asked.clear()
    check_active(service, fetch(service, origin.url(host='turns.example')))
    names.table['turns.example'] = ['10.9.9.9']
    check_failed(service, fetch(service, origin.url(host='turns.example')),
                 'private')
    assert names.asked == ['turns.example'] * 2
    assert len(origin.requests) == 1


def test_unknown_names(service, names):
    check_failed(service, fetch(service, 'http://nobody.example/'),
                 'nobody.example', 'not known')
    names.table['empty.example'] = []
    check_failed(service, fetch(service, 'http://empty.example/'),
                 'has no address')


@pytest.mark.parametrize('place, word', (
    ('http://10.0.0.1/', 'private'), ('http://0xa9fea9fe/', 'usual form'),
    ('file:///etc/passwd', 'scheme'), ('//169.254.169.254/', 'link-local'),
    ('http://inner.example/', 'private'), ('gopher://x/', 'scheme'),
    ('http://u:p@mirror.example/', 'password'),
    ('http://mirror.example:9/', 'port 9'), ('http://[::1]/', 'loopback')))
def test_redirects_that_lead_in(service, names, place, word):
    names.table['inner.example'] = ['172.20.0.1']
    with origins.Origin(lambda handler: handler.begin(
            302, Location=place, Content_Length=0)) as origin:
        image = fetch(service, origin.url())
    check_failed(service, image, word)


def test_killed_while_it_downloads(make_service, names):
    """It goes on where it was, and what is active is whole."""
    gates = [threading.Event() for _ in range(6)]

    def answer(handler):
        number = len(origin.requests)
        start = handler.start
        status, headers = (206, {
            'Content_Range': f'bytes {start}-{len(DATA) - 1}/{len(DATA)}'
        }) if start else (200, {})
        handler.begin(status, Content_Length=len(DATA) - start, ETag='"k"',
                      **headers)
        if number > 2:
            handler.wfile.write(DATA[start:])
            return
        handler.wfile.write(DATA[start:start + 1_200_000])
        gates[number].wait(30)

    service = make_service(options={
        'import_downloads': {'retry_interval': 0.05},
        'import_filtering_opts': {'allowed_addresses': '[127.0.0.1/32]',
                                  'allowed_ports': '[]'}}).start()
    with origins.Origin(answer) as origin:
        image_id = service.create()
        assert ask(service, image_id, origin.url()).status == 202
        part = service.staging / f'{image_id}.part'
        for number in (1, 2):
            services.wait_for(
                lambda: part.exists()
                and part.stat().st_size >= number * 1_048_576
                and len(origin.requests) == number)
            service.kill()
            gates[number].set()
            service.start()
        check_active(service, service.wait_status(
            image_id, 'active', 'queued'))
        ranges = [each[1].get('Range') for each in origin.requests]
    assert ranges[0] is None and len(ranges) == 3
    assert all(int(each[6:-1]) >= 1_048_576 for each in ranges[1:])
