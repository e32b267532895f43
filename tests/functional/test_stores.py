"""Several stores over real HTTP: two of files, two of S3, one read-only."""

import hashlib
import os

import pytest

from tests.formats import corpus
from tests import s3 as s3_servers
from tests.s3 import s3_server  # noqa: F401
from tests import service as services

# More than one part of S3, of the size that is set here.
DATA = os.urandom(1 << 20) * 6 + b'end'
SHA512 = hashlib.sha512(DATA).hexdigest()
ALL = ('fast', 'second', 'cheap', 'broken', 'web')


@pytest.fixture(scope='module')
def wire(s3_server):  # noqa: F811
    """Between the service and S3; may be taken down."""
    relay = s3_servers.Wire(s3_server.port, after=0, cuts=0)
    yield relay
    relay.close()


@pytest.fixture(scope='module')
def service(tmp_path_factory, s3_server, wire):  # noqa: F811
    top = tmp_path_factory.mktemp('stores')
    small = {'s3_store_large_object_size': 5,
             's3_store_large_object_chunk_size': 5}
    running = services.Service(top, token=services.ADMIN, options={
        'DEFAULT': {
            'enabled_backends': 'fast:file, second:file, cheap:s3, '
                                'broken:s3, web:http',
            'enabled_import_methods': '[glance-direct, copy-image]',
            'show_multiple_locations': True},
        'paste_deploy': {'flavor': 'fakeauth'},
        'glance_store': {'default_backend': 'fast'},
        'os_glance_staging_store': {
            'filesystem_store_datadir': top / 'staging'},
        'fast': {'filesystem_store_datadir': top / 'fast', 'weight': 10,
                 'store_description': 'local disks'},
        'second': {'filesystem_store_datadir': top / 'second'},
        'cheap': s3_server.options(wire.port, **small),
        'broken': s3_server.options(
            s3_store_bucket='nowhere', s3_store_create_bucket_on_put=False),
        'taskflow_executor': {'step_retries': 1,
                              'step_retry_interval': 0.1}})
    # Not read when there are several stores: it would be refused.
    running.configure(DEFAULT={'node_staging_uri': 'http://nowhere'})
    running.start()
    yield running
    running.kill()


@pytest.fixture(autouse=True)
def emptied(service, s3_server):  # noqa: F811
    yield
    for image in service.request('GET', '/v2/images?limit=1000'
                                 ).json['images']:
        assert service.request('DELETE', f'/v2/images/{image["id"]}'
                               ).status == 204
    # Nothing is left anywhere of what any of these tests stored.
    assert files(service, 'fast') == files(service, 'second') == []
    assert (s3_server.keys(), s3_server.uploads()) == ([], [])
    assert service.staged() == []


def files(service, name):
    return sorted(os.listdir(service.directory / name))


def staged(service, **attributes):
    image_id = service.create(**attributes)
    assert service.stage(image_id, DATA).status == 204
    return image_id


def ask(service, image_id, body=None, *, method='glance-direct', token=None,
        headers=None):
    return service.request(
        'POST', f'/v2/images/{image_id}/import',
        {'method': {'name': method}, **(body or {})}, headers, token=token)


def imported(service, **body):
    image_id = staged(service)
    answer = ask(service, image_id, body)
    assert answer.status == 202, answer
    return over(service, image_id)


def over(service, image_id):
    """The image when no import of it is under way."""
    def look():
        image = service.show(image_id)
        return None if 'os_glance_import_task' in image else image
    return services.wait_for(look)


def lists(image):
    return (image.get('stores', ''), image['os_glance_importing_to_stores'],
            image['os_glance_failed_import'])


# -- discovery

def test_info(service):
    shown = service.request('GET', '/v2/info/stores',
                            token=services.MEMBER).json['stores']
    assert shown == [
        {'id': 'fast', 'description': 'local disks', 'default': 'true'},
        {'id': 'second'}, {'id': 'cheap'}, {'id': 'broken'},
        {'id': 'web', 'read-only': 'true'}]
    path = '/v2/info/stores/detail'
    assert service.request('GET', path, token=services.MEMBER).status == 403
    detail = {each['id']: each for each
              in service.request('GET', path).json['stores']}
    assert detail['fast'] == shown[0] | {
        'type': 'file', 'weight': 10, 'state': 'up', 'properties': {
            'data_dir': str(service.directory / 'fast'),
            'chunk_size': 1 << 20, 'thin_provisioning': True}}
    assert detail['cheap']['type'] == 's3'
    assert detail['cheap']['properties']['s3_store_thread_pools'] == 10
    assert detail['web']['properties'] == {}
    assert not [text for text in (str(detail), str(shown))
                if 'os_glance_' in text or 'secret' in text]


def test_headers_and_versions(service):
    answer = service.request('POST', '/v2/images', {'name': 'x'})
    assert answer.headers['openstack-image-store-ids'] == ','.join(ALL)
    listed = [each['id'] for each in service.request(
        'GET', '/versions').json['versions']]
    assert {'v2.8', 'v2.10', 'v2.11', 'v2.12', 'v2.13'} < set(listed)


# -- importing

def test_to_the_default_store(service):
    image = imported(service)
    assert image['status'] == 'active'
    assert lists(image) == ('fast', '', '')
    assert files(service, 'fast') == [image['id']]
    assert service.download(image['id']) == DATA


def test_to_three_stores(service, s3_server):  # noqa: F811
    image = imported(service, stores=['second', 'cheap', 'fast'])
    assert lists(image) == ('cheap,fast,second', '', '')
    assert image['os_hash_value'] == SHA512
    assert image['checksum'] == hashlib.md5(DATA).hexdigest()
    for name in ('fast', 'second'):
        path = service.directory / name / image['id']
        assert path.read_bytes() == DATA
    client = s3_server.client()
    key, = s3_server.keys()
    assert client.get_object(Bucket=s3_servers.BUCKET, Key=key
                             )['Body'].read() == DATA
    task, = service.tasks(image['id'])
    assert task['status'] == 'success'
    assert task['input']['backend'] == ['second', 'cheap', 'fast']


def test_by_header(service):
    image_id = staged(service)
    assert ask(service, image_id,
               headers={'X-Image-Meta-Store': 'second'}).status == 202
    assert lists(over(service, image_id)) == ('second', '', '')


def test_some_may_fail(service):
    image = imported(service, stores=['broken', 'fast', 'cheap'],
                     all_stores_must_succeed=False)
    assert image['status'] == 'active'
    assert lists(image) == ('cheap,fast', '', 'broken')
    assert 'bucket nowhere does not exist' in image['os_glance_import_error']
    task, = service.tasks(image['id'])
    assert (task['status'], task['message']) == (
        'success', image['os_glance_import_error'])
    assert service.download(image['id']) == DATA


def test_all_of_all_but_read_only(service):
    image = imported(service, all_stores=True, all_stores_must_succeed=False)
    assert lists(image) == ('cheap,fast,second', '', 'broken')


def test_none_may_fail(service, s3_server):  # noqa: F811
    image = imported(service, stores=['fast', 'second', 'cheap', 'broken'])
    assert image['status'] == 'uploading'
    assert lists(image) == ('', '', 'broken')
    assert 'bucket nowhere' in image['os_glance_import_error']
    assert files(service, 'fast') == files(service, 'second') == []
    assert (s3_server.keys(), s3_server.uploads()) == ([], [])
    # The bytes are still staged: again, elsewhere, without uploading.
    assert ask(service, image['id'], {'stores': ['second']}).status == 202
    image = over(service, image['id'])
    assert image['status'] == 'active'
    assert lists(image) == ('second', '', '')
    assert 'os_glance_import_error' not in image


def test_all_fail_though_they_may(service):
    image = imported(service, stores=['broken'],
                     all_stores_must_succeed=False)
    assert image['status'] == 'uploading'
    assert lists(image) == ('', '', 'broken')
    task, = service.tasks(image['id'])
    assert task['status'] == 'failure'


def test_a_store_that_is_down_is_tried_again(service, wire):
    wire.down = True
    image_id = staged(service)
    try:
        assert ask(service, image_id, {'stores': ['cheap']}).status == 202
        image = over(service, image_id)
    finally:
        wire.down = False
    assert image['status'] == 'uploading'
    assert lists(image) == ('', '', 'cheap')
    assert 'store cheap' in image['os_glance_import_error']
    assert 'trying again' in service.text()
    assert ask(service, image_id, {'stores': ['cheap']}).status == 202
    assert lists(over(service, image_id)) == ('cheap', '', '')


@pytest.mark.parametrize('body, headers, status, word', [
    ({'stores': []}, {}, 400, 'no store'),
    ({'stores': 'fast'}, {}, 400, 'list'),
    ({'stores': [1]}, {}, 400, 'list'),
    ({'all_stores': 'true'}, {}, 400, 'true or false'),
    ({'all_stores_must_succeed': 1}, {}, 400, 'true or false'),
    ({'all_stores': True, 'stores': ['fast']}, {}, 400, 'excludes'),
    ({'all_stores': True}, {'X-Image-Meta-Store': 'fast'}, 400, 'excludes'),
    ({'stores': ['fast']}, {'X-Image-Meta-Store': 'fast'}, 400, 'excludes'),
    ({'stores': ['nowhere']}, {}, 409, 'fast, second'),
    ({}, {'X-Image-Meta-Store': 'nowhere'}, 409, 'fast, second'),
    ({'stores': ['os_glance_staging_store']}, {}, 409, 'no store'),
    ({'stores': ['web']}, {}, 409, 'read-only'),
])
def test_refused_at_once(service, body, headers, status, word):
    image_id = staged(service)
    answer = ask(service, image_id, body, headers=headers)
    assert (answer.status, word in answer.message) == (status, True), answer
    assert service.show(image_id)['status'] == 'uploading'
    assert service.tasks(image_id) == []


# -- copying

def copied(service, image_id, **body):
    answer = ask(service, image_id, body, method='copy-image')
    assert answer.status == 202, answer
    return over(service, image_id)


def test_copy(service, s3_server):  # noqa: F811
    image = imported(service)
    image = copied(service, image['id'], stores=['cheap', 'second'])
    assert image['status'] == 'active'
    assert lists(image) == ('cheap,fast,second', '', '')
    assert (service.directory / 'second' / f'{image["id"]}.2'
            ).read_bytes() == DATA
    assert s3_server.keys() == [f'{image["id"]}.2']
    assert sorted((task['input']['import_req']['method']['name'],
                   task['status']) for task in service.tasks(image['id'])
                  ) == [('copy-image', 'success'),
                        ('glance-direct', 'success')]


def test_copy_from_s3(service):
    image = imported(service, stores=['cheap'])
    image = copied(service, image['id'], all_stores=True,
                   all_stores_must_succeed=False)
    assert lists(image) == ('cheap,fast,second', '', 'broken')
    assert (service.directory / 'fast' / f'{image["id"]}.2'
            ).read_bytes() == DATA


def test_copy_that_fails_changes_nothing(service):
    image = imported(service)
    image = copied(service, image['id'], stores=['second', 'broken'])
    assert image['status'] == 'active'
    assert lists(image) == ('fast', '', 'broken')
    assert 'bucket nowhere' in image['os_glance_import_error']
    assert files(service, 'second') == []
    assert service.download(image['id']) == DATA
    image = copied(service, image['id'], stores=['second'])
    assert lists(image) == ('fast,second', '', 'broken')


def test_rotten_data_is_not_copied(service):
    image = imported(service)
    path = service.directory / 'fast' / image['id']
    path.unlink()
    path.write_bytes(DATA[:-1] + b'!')
    image = copied(service, image['id'], stores=['second', 'cheap'])
    assert lists(image) == ('fast', '', 'second,cheap')
    assert 'checksums' in image['os_glance_import_error']
    assert files(service, 'second') == []


def test_copy_reads_where_it_can(service):
    image = imported(service, stores=['fast', 'cheap'])
    (service.directory / 'fast' / image['id']).unlink()
    image = copied(service, image['id'], stores=['second'])
    assert lists(image) == ('cheap,fast,second', '', '')
    assert service.download(image['id']) == DATA


def test_copy_refused_at_once(service):
    image_id = staged(service)
    assert ask(service, image_id, method='copy-image').status == 409
    image = imported(service)
    for body, status in (({'stores': ['fast']}, 400), ({}, 400),
                         ({'stores': []}, 400)):
        assert ask(service, image['id'], body, method='copy-image'
                   ).status == status
    assert ask(service, image['id'], {'stores': ['second']},
               method='copy-image', token=services.OTHER).status == 404
    own = staged(service)
    assert ask(service, own, {'stores': ['second']}).status == 202
    over(service, own)
    # One may see it, but copying is for administrators.
    service.request('PATCH', f'/v2/images/{own}', [
        {'op': 'replace', 'path': '/visibility', 'value': 'public'}], {
        'Content-Type': 'application/openstack-images-v2.1-json-patch'})
    assert ask(service, own, {'stores': ['fast']}, method='copy-image',
               token=services.MEMBER).status == 403
    everywhere = copied(service, own, all_stores=True,
                        all_stores_must_succeed=False)
    assert lists(everywhere)[0] == 'cheap,fast,second'


# -- deleting, uploading, reading

def drop(service, store_id, image_id, **kwargs):
    return service.request('DELETE', f'/v2/stores/{store_id}/{image_id}',
                           **kwargs)


def test_delete_from_a_store(service, s3_server):  # noqa: F811
    image = imported(service, stores=['fast', 'cheap'])
    assert drop(service, 'cheap', image['id'],
                token=services.MEMBER).status in (403, 404)
    assert drop(service, 'second', image['id']).status == 404
    assert drop(service, 'nowhere', image['id']).status == 404
    assert drop(service, 'fast', image['id']).status == 204
    assert files(service, 'fast') == []
    assert service.show(image['id'])['stores'] == 'cheap'
    answer = drop(service, 'cheap', image['id'])
    assert (answer.status, 'only copy' in answer.message) == (403, True)
    assert service.download(image['id']) == DATA
    image = copied(service, image['id'], stores=['fast'])
    assert image['stores'] == 'cheap,fast'


def test_delete_from_a_store_that_is_down(service, wire):
    image = imported(service, stores=['fast', 'cheap'])
    wire.down = True
    try:
        assert drop(service, 'cheap', image['id']).status == 503
    finally:
        wire.down = False
    assert service.show(image['id'])['stores'] == 'cheap,fast'
    assert drop(service, 'cheap', image['id']).status == 204


@pytest.mark.parametrize('store', ['second', 'cheap'])
def test_upload(service, store):
    image_id = service.create()
    headers = {'Content-Type': 'application/octet-stream'}
    answer = service.request('PUT', f'/v2/images/{image_id}/file', DATA,
                             headers | {'X-Image-Meta-Store': 'nowhere'})
    assert (answer.status, 'fast, second' in answer.message) == (400, True)
    assert service.request('PUT', f'/v2/images/{image_id}/file', DATA,
                           headers | {'X-Image-Meta-Store': 'web'}
                           ).status == 410
    assert service.request('PUT', f'/v2/images/{image_id}/file', DATA,
                           headers | {'X-Image-Meta-Store': store}
                           ).status == 204
    assert service.show(image_id)['stores'] == store
    answer = service.request(
        'GET', f'/v2/images/{image_id}/file', headers={
            'Range': f'bytes={len(DATA) - 7}-{len(DATA) - 2}'})
    assert (answer.status, answer.body) == (206, DATA[-7:-1])
    assert service.download(image_id) == DATA


def test_reading_goes_on_to_the_next_store(service):
    image = imported(service, stores=['fast', 'cheap'])
    (service.directory / 'fast' / image['id']).unlink()
    assert service.download(image['id']) == DATA


def locate(service, image_id, url, token):
    return service.request('POST', f'/v2/images/{image_id}/locations',
                           {'url': url}, token=token)


def test_the_data_of_another_image_cannot_be_named(
        service, s3_server):  # noqa: F811
    image = imported(service, stores=['cheap'])
    (url,), = service.execute(
        'SELECT value FROM image_locations WHERE image_id = ?', image['id'])
    other = service.create(services.OTHER)
    key = s3_server.keys()[0]
    # Not only what a location names: any object of an image's name.
    for named in (url, url.replace(key, f'{image["id"]}.9')):
        answer = locate(service, other, named, services.OTHER)
        assert answer.status == 403 and 'another image' in answer.message
    answer = service.request(
        'PATCH', f'/v2/images/{other}', [
            {'op': 'add', 'path': '/locations/-',
             'value': {'url': url, 'metadata': {}}}],
        {'Content-Type': 'application/openstack-images-v2.1-json-patch'},
        token=services.ADMIN)
    assert answer.status == 403 and 'another image' in answer.message
    assert service.show(other)['status'] == 'queued'
    # What is nobody's may be, once.
    s3_server.client().put_object(Bucket=s3_servers.BUCKET, Key='mine',
                                  Body=DATA)
    mine = url.replace(key, 'mine')
    assert locate(service, other, mine, services.OTHER).status == 202
    service.wait_status(other, 'active')
    third = service.create()
    assert locate(service, third, mine, services.ADMIN).status == 403
    assert service.download(other) == service.download(image['id']) == DATA


def test_named_data_is_judged(service, s3_server):  # noqa: F811
    image_id = service.create()
    client = s3_server.client()
    for key, body in (('probe', DATA), ('lies', corpus.qcow2_header(
            backing=corpus.BACKING).ljust(1 << 20, b'\0'))):
        client.put_object(Bucket=s3_servers.BUCKET, Key=key, Body=body)
    image = imported(service, stores=['cheap'])
    url, = service.execute('SELECT value FROM image_locations '
                           'WHERE image_id = ?', image['id'])[0]
    base = url.rpartition('/')[0]
    assert locate(service, image_id, f'{base}/lies', services.ADMIN
                  ).status == 202
    services.wait_for(lambda: 'backing file' in service.show(image_id).get(
        'os_glance_import_error', ''))
    assert service.show(image_id)['status'] == 'queued'
    assert locate(service, image_id, f'{base}/probe', services.ADMIN
                  ).status == 202
    service.wait_status(image_id, 'active')
    client.delete_object(Bucket=s3_servers.BUCKET, Key='lies')


def test_a_store_nobody_knows(service):
    """Its images are listed and deleted like any other."""
    image = imported(service, stores=['fast'])
    service.execute(
        'INSERT INTO image_locations (image_id, value, meta_data, status, '
        'created_at, updated_at, deleted) SELECT image_id, ?, ?, status, '
        'created_at, updated_at, deleted FROM image_locations '
        'WHERE image_id = ?', 'rbd://a/b/c/d', '{"store": "ceph"}',
        image['id'])
    shown, = service.request('GET', '/v2/images').json['images']
    assert shown['stores'] == 'ceph,fast'
    assert service.download(image['id']) == DATA
    image = copied(service, image['id'], stores=['second'])
    assert image['stores'] == 'ceph,fast,second'
    assert drop(service, 'ceph', image['id']).status == 503
    assert service.request('DELETE', f'/v2/images/{image["id"]}'
                           ).status == 204
    assert files(service, 'fast') == files(service, 'second') == []


# -- in the middle

@pytest.fixture
def in_the_middle(service, s3_server, wire):  # noqa: F811
    """An image whose parts are on their way to S3, and its file copied."""
    wire.slow = 0.15
    image_id = staged(service)
    answer = ask(service, image_id, {'stores': ['second', 'cheap']})
    assert answer.status == 202
    services.wait_for(s3_server.uploads)
    yield image_id
    wire.slow = 0.0


def test_killed_in_the_middle(service, s3_server, wire,  # noqa: F811
                              in_the_middle):
    service.kill()
    assert s3_server.keys() == []
    assert s3_server.uploads() == [f'{in_the_middle}.1']
    wire.slow = 0.0
    service.start()
    image = over(service, in_the_middle)
    assert lists(image) == ('cheap,second', '', '')
    services.wait_for(lambda: not s3_server.uploads())
    assert s3_server.keys() == [f'{in_the_middle}.2']
    assert service.download(in_the_middle) == DATA
    services.wait_for(lambda: len(files(service, 'second')) == 1)


def test_cancelled_in_the_middle(service, s3_server,  # noqa: F811
                                 in_the_middle):
    assert service.request(
        'DELETE', f'/v2/images/{in_the_middle}/import').status == 202
    image = over(service, in_the_middle)
    assert image['status'] == 'uploading'
    assert lists(image) == ('', '', 'second,cheap')
    services.wait_for(lambda: not s3_server.uploads())
    assert files(service, 'second') == s3_server.keys() == []


def test_deleted_in_the_middle(service, s3_server, wire,  # noqa: F811
                               in_the_middle):
    assert service.request(
        'DELETE', f'/v2/images/{in_the_middle}').status == 204
    wire.slow = 0.0
    services.wait_for(lambda: not (
        s3_server.uploads() or s3_server.keys() or files(service, 'second')))


def test_copy_killed_in_the_middle(service, s3_server, wire):  # noqa: F811
    image = imported(service)
    wire.slow = 0.15
    try:
        assert ask(service, image['id'], {'stores': ['cheap', 'second']},
                   method='copy-image').status == 202
        services.wait_for(s3_server.uploads)
        shown = service.show(image['id'])
        assert (shown['status'], lists(shown)) == (
            'active', ('fast', 'cheap,second', ''))
        assert ask(service, image['id'], {'stores': ['second']},
                   method='copy-image').status == 409
        service.kill()
    finally:
        wire.slow = 0.0
    service.start()
    image = over(service, image['id'])
    assert lists(image) == ('cheap,fast,second', '', '')
    services.wait_for(lambda: not s3_server.uploads())
    assert s3_server.keys() == [f'{image["id"]}.3']
    assert files(service, 'second') == [f'{image["id"]}.3']


def test_copy_cancelled_in_the_middle(service, s3_server,  # noqa: F811
                                      wire):
    image = imported(service)
    wire.slow = 0.15
    try:
        ask(service, image['id'], {'stores': ['cheap']}, method='copy-image')
        services.wait_for(s3_server.uploads)
        assert service.request(
            'DELETE', f'/v2/images/{image["id"]}/import').status == 202
        shown = over(service, image['id'])
    finally:
        wire.slow = 0.0
    assert (shown['status'], lists(shown)) == (
        'active', ('fast', '', 'cheap'))
    assert shown['os_glance_import_error'] == 'the import was cancelled'
    services.wait_for(lambda: not s3_server.uploads())
    assert s3_server.keys() == []


# -- glance-import-manage stores

def manage(service, *words):
    done = service.run('manage', 'stores', *words, '--format', 'value')
    return done.returncode, [line.split('\t')
                             for line in done.stdout.splitlines()]


def test_which_answer(service, wire):
    code, rows = manage(service, 'list')
    states = {row[0]: row[5] for row in rows}
    assert code == 1 and states == {
        'fast': 'up', 'second': 'up', 'cheap': 'up', 'broken': 'away',
        'web': 'unknown'}
    shown = {each['id']: each for each in service.request(
        'GET', '/v2/info/stores/detail').json['stores']}
    assert {name: each['state'] for name, each in shown.items()} == states
    assert 'nowhere' in shown['broken']['reason']
    # The conductor has looked at its start.
    services.wait_for(lambda: 'store broken fails' in service.text())


def test_check(service, wire, s3_server):  # noqa: F811
    good = imported(service, stores=['fast', 'cheap'])
    flipped = imported(service, stores=['fast', 'cheap'])
    short = imported(service, stores=['fast', 'cheap'])
    lost = imported(service, stores=['fast', 'cheap'])
    away = imported(service, stores=['cheap'])
    assert manage(service, 'check', '--digests') == (0, [])

    def path(image):
        name, = (each for each in files(service, 'fast')
                 if each.startswith(image['id']))
        return service.directory / 'fast' / name
    path(flipped).chmod(0o600)
    path(flipped).write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:])
    os.truncate(path(short), 10)
    path(lost).unlink()
    # An attempt that nobody remembers.
    (service.directory / 'fast' / f'{good["id"]}.77').write_bytes(b'left')
    os.utime(service.directory / 'fast' / f'{good["id"]}.77', (1, 1))
    code, rows = manage(service, 'check')
    assert code == 1 and sorted(row[:3] for row in rows) == sorted(
        [image['id'], 'fast', 'wrong'] for image in (short, lost))
    wire.down = True
    try:
        code, rows = manage(service, 'check', '--anew')
    finally:
        wire.down = False
    assert [away['id'], 'cheap', 'unknown'] in [row[:3] for row in rows]
    code, rows = manage(service, 'check', '--digests', '--unnamed',
                        '--rate', '500', '--deactivate')
    assert code == 1
    found = {(row[0], row[2]) for row in rows}
    assert {(each['id'], 'wrong, deactivated')
            for each in (flipped, short, lost)} <= found
    assert (good['id'], 'unnamed') in found and len(found) == 4
    shown = service.show(flipped['id'])
    assert shown['status'] == 'deactivated'
    assert shown['os_glance_import_error_code'] == 'data.changed'
    assert service.show(good['id'])['status'] == 'active'
    (service.directory / 'fast' / f'{good["id"]}.77').unlink()


def test_check_of_what_no_store_here_takes(service):
    """Nothing is known of it; a wrong configuration deactivates nothing."""
    image = imported(service, stores=['cheap'])
    change = 'UPDATE image_locations SET value = ? WHERE image_id = ?'
    (url,), = service.execute('SELECT value FROM image_locations WHERE '
                              'image_id = ?', image['id'])
    service.execute(change, 'rbd://a/b/c/d', image['id'])
    code, rows = manage(service, 'check', '--anew', '--deactivate')
    assert (code, [row[:3] for row in rows]) == (
        1, [[image['id'], 'cheap', 'unknown']])
    assert service.show(image['id'])['status'] == 'active'
    service.execute(change, url, image['id'])


def test_deleted_while_its_store_refused(service, wire):
    """What the store then did not delete is deleted with the image."""
    image = imported(service, stores=['fast', 'cheap'])
    service.execute(
        'CREATE TRIGGER gone AFTER INSERT ON import_deletions BEGIN '
        "UPDATE images SET deleted = 1, status = 'deleted' WHERE id = "
        'NEW.image_id; END')
    wire.down = True
    try:
        assert drop(service, 'cheap', image['id']).status == 503
    finally:
        wire.down = False
        service.execute('DROP TRIGGER gone')
    left = service.execute('SELECT kind FROM import_deletions WHERE '
                           'image_id = ?', image['id'])
    assert left == [('data',)]
    # For whoever cleans up.
    service.execute('DELETE FROM import_deletions')
    for table in ('images', 'image_locations'):
        service.execute(f"UPDATE {table} SET deleted = 0, status = 'active' "
                        f"WHERE {'image_' * (table != 'images')}id = ?",
                        image['id'])


def test_move(service):
    first = imported(service, stores=['fast'])
    second = imported(service, stores=['fast', 'cheap'])
    code, rows = manage(service, 'move', '--all', '--from', 'fast', '--to',
                        'cheap')
    assert code == 0, rows
    assert files(service, 'fast') == []
    for image in (first, second):
        assert service.show(image['id'])['stores'] == 'cheap'
        assert service.download(image['id']) == DATA
    # Asked again it has nothing to do; what cannot be is said.
    assert manage(service, 'move', first['id'], '--from', 'fast', '--to',
                  'cheap')[0] == 0
    for words, said in ((('nowhere', '--to', 'cheap'), 'no store nowhere'),
                        (('fast', '--to', 'second'), 'neither in fast'),
                        (('cheap', '--to', 'cheap'), 'are one')):
        done = service.run('manage', 'stores', 'move', first['id'],
                           '--from', *words)
        assert done.returncode and said in done.stdout + done.stderr
    done = service.run('manage', 'stores', 'move', first['id'], '--from',
                       'cheap', '--to', 'broken')
    assert done.returncode == 1 and 'was not copied to broken' in done.stdout
    assert service.show(first['id'])['stores'] == 'cheap'
