"""Data that is only named is judged as an import would judge it."""

import http.server
import os
import threading

import pytest

from tests.formats import corpus
from tests import servers
from tests import service as services

V21 = 'application/openstack-images-v2.1-json-patch'
SERVICE = 'nova:red:service,member,reader'
CASES = {case.name: case for case in corpus.TABLE}
BAD = ('backing-etc-qcow2', 'backing-etc-raw', 'qcow2-131-bytes-raw',
       'descriptor-cr-raw', 'vmdk-late-parentFileNameHint-vmdk',
       'vhd-differencing-end-raw', 'raw-as-qcow2', 'qcow2-cut-at-its-end')
GOOD = ('raw', 'raw-empty', 'qcow2', 'vmdk-stream', 'vhd', 'vhd-fixed',
        'vhdx', 'vdi', 'iso', 'raw-one-byte')
LARGE = 200 << 20


class Handler(http.server.BaseHTTPRequestHandler):
    """Files of a directory, in ranges; counts the bytes that it sends."""

    protocol_version = 'HTTP/1.1'
    directory = None
    sent = 0
    gone = False

    def do_GET(self):
        path = self.directory / self.path.lstrip('/')
        if Handler.gone:
            self.send_error(503)
            return
        size = path.stat().st_size
        given = self.headers.get('Range')
        first = int(given.partition('=')[2].partition('-')[0]) if given else 0
        self.send_response(206 if given else 200)
        if given:
            self.send_header('Content-Range',
                             f'bytes {first}-{size - 1}/{size}')
        self.send_header('Content-Length', str(size - first))
        self.end_headers()
        with open(path, 'rb') as file:
            file.seek(first)
            try:
                while block := file.read(65536):
                    self.wfile.write(block)
                    Handler.sent += len(block)
            except OSError:
                self.close_connection = True

    def log_message(self, *words):
        """Quiet."""


@pytest.fixture(scope='module')
def web(tmp_path_factory):
    """The URL of a server, with every case's file."""
    servers.program('qemu-img')
    Handler.directory = tmp_path_factory.mktemp('web')
    for name in (*BAD, *GOOD):
        CASES[name].make(Handler.directory / name)
    # Its first table is at its end, behind what is read in any case.
    corpus.run('qemu-img', 'create', '-f', 'qcow2', '-o',
               'preallocation=full', Handler.directory / 'large', LARGE)
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


@pytest.fixture(scope='module')
def start(tmp_path_factory, web):
    """Start services that read from it."""
    made = []

    def one(defaults, formats=None):
        made.append(services.Service(
            tmp_path_factory.mktemp('named'), token=services.MEMBER,
            options={'paste_deploy': {'flavor': 'fakeauth'},
                     'DEFAULT': {'show_multiple_locations': True, **defaults},
                     'glance_store': {'stores': 'file,http'},
                     'image_format': formats or {},
                     'import_filtering_opts': {
                         'allowed_ports': f'[{web.rpartition(":")[2]}]',
                         'allowed_addresses': '[127.0.0.0/8]'}}).start())
        return made[-1]

    yield one
    for each in made:
        each.kill()


@pytest.fixture(scope='module', params=[True, False],
                ids=['hashed', 'believed'])
def service(request, start):
    return start({'do_secure_hash': request.param})


def post(service, image_id, url, token=None):
    answer = service.request('POST', f'/v2/images/{image_id}/locations',
                             {'url': url}, token=token)
    assert answer.status == 202, answer
    return services.wait_for(lambda: _ended(service, image_id))


def _ended(service, image_id):
    image = service.show(image_id)
    done = image['status'] == 'active' or 'os_glance_import_error' in image
    return image if done else None


def patch(service, image_id, url, *before, token=None):
    return service.request(
        'PATCH', f'/v2/images/{image_id}', [*before, {
            'op': 'add', 'path': '/locations/-',
            'value': {'url': url, 'metadata': {}}}], {'Content-Type': V21},
        token=token)


@pytest.mark.parametrize('name', BAD)
def test_what_an_import_would_refuse(service, web, name):
    case = CASES[name]
    for token in (services.MEMBER, SERVICE):
        image_id = service.create(disk_format=case.declared)
        image = post(service, image_id, f'{web}/{name}', token)
        assert image['status'] == 'queued'
        assert case.refusal in image['os_glance_import_error']
        assert image['locations'] == []
        answer = patch(service, image_id, f'{web}/{name}')
        assert answer.status == 400 and case.refusal in answer.message
        assert service.show(image_id)['locations'] == []
    # It is as it was before, and takes other data.
    service.request('PATCH', f'/v2/images/{image_id}', [{
        'op': 'replace', 'path': '/disk_format', 'value': 'raw'}],
        {'Content-Type': V21})
    assert post(service, image_id, f'{web}/raw')['status'] == 'active'


@pytest.mark.parametrize('name', GOOD)
def test_what_an_import_would_take(service, web, name):
    case = CASES[name]
    first = service.create(disk_format=case.declared)
    image = post(service, first, f'{web}/{name}')
    second = service.create(disk_format=case.declared)
    answer = patch(service, second, f'{web}/{name}')
    assert answer.status == 200, answer
    size = (Handler.directory / name).stat().st_size
    for each in (image, answer.json):
        assert (each['status'], each['size'], each['virtual_size']) == (
            'active', size,
            size if case.virtual_size is None else case.virtual_size)


def test_formats_of_the_same_patch_count(service, web):
    made = service.create(disk_format='raw')
    answer = patch(service, made, f'{web}/raw', {
        'op': 'replace', 'path': '/disk_format', 'value': 'qcow2'})
    assert answer.status == 400 and 'not that of qcow2' in answer.message
    image = service.show(made)
    assert (image['disk_format'], image['locations']) == ('raw', [])


def test_little_is_read_for_the_judge_alone(start, web):
    service = start({'do_secure_hash': False})
    for ask in (post, patch):
        before = Handler.sent
        image_id = service.create(disk_format='qcow2')
        ask(service, image_id, f'{web}/large')
        image = service.show(image_id)
        assert (image['status'], image['virtual_size']) == ('active', LARGE)
        # What a socket holds is sent before the end is noticed, each time.
        assert Handler.sent - before < LARGE // 2
    assert [name for name in os.listdir(service.staging)
            if 'scratch' in name] == []


def test_a_server_that_is_away(service, web):
    image_id = service.create()
    Handler.gone = True
    try:
        answer = patch(service, image_id, f'{web}/raw')
        assert answer.status == 503, answer
    finally:
        Handler.gone = False
    assert service.show(image_id)['status'] == 'queued'


def test_services_may_be_believed(start, web):
    service = start({}, {'judge_data_named_by_services': False})
    url = f'{web}/raw-as-qcow2'
    for ask in (post, patch):
        image_id = service.create(disk_format='qcow2')
        ask(service, image_id, url)
        assert service.show(image_id)['status'] == 'queued'
        ask(service, image_id, url, token=SERVICE)
        assert service.wait_status(image_id, 'active')


def test_the_second_opinion_sees_the_sample(start, web, tmp_path):
    servers.program('bwrap')
    program = tmp_path / 'program'
    program.write_text(
        '#!/bin/sh\nfor LAST; do :; done\nN=\'\'\n'
        'if [ $(stat -c %s $LAST) = 8388608 ]; then\n'
        'N=\', "full-backing-filename": "/x"\'; fi\n'
        'echo "{\\"filename\\": \\"$LAST\\", \\"format\\": \\"raw\\"$N}"\n')
    program.chmod(0o755)
    service = start({}, {'second_opinion_program': program})
    image_id = service.create()
    assert 'opinion of qemu-img' in post(service, image_id, f'{web}/raw')[
        'os_glance_import_error']
    answer = patch(service, image_id, f'{web}/raw')
    assert answer.status == 400 and 'opinion of qemu-img' in answer.message
