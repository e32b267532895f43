"""Swift behind the service, over real HTTP."""

import os
import signal

import pytest

from tests import service as services
from tests import swift as swift_servers
from tests.swift import swift_server  # noqa: F401

# Segments of a megabyte, the last of them not a whole one.
DATA = os.urandom(1 << 20) * 5 + b'end'


@pytest.fixture(scope='module')
def service(tmp_path_factory, swift_server):  # noqa: F811
    top = tmp_path_factory.mktemp('swift')
    running = services.Service(top, token=services.ADMIN, options={
        'DEFAULT': {'enabled_backends': 'fast:file, far:swift',
                    'enabled_import_methods': '[glance-direct, copy-image]',
                    'show_image_direct_url': True,
                    'show_multiple_locations': True},
        'paste_deploy': {'flavor': 'fakeauth'},
        'glance_store': {'default_backend': 'far'},
        'os_glance_staging_store': {
            'filesystem_store_datadir': top / 'staging'},
        'fast': {'filesystem_store_datadir': top / 'fast'},
        'far': swift_server.options(swift_store_large_object_size=1,
                                    swift_store_large_object_chunk_size=1),
        'taskflow_executor': {'step_retries': 8,
                              'step_retry_interval': 0.5}})
    running.configure(DEFAULT={'node_staging_uri': 'http://nowhere'})
    running.start()
    yield running
    running.kill()


def imported(service, *stores):
    image_id = service.create()
    assert service.stage(image_id, DATA).status == 204
    answer = service.request('POST', f'/v2/images/{image_id}/import', {
        'method': {'name': 'glance-direct'}, 'stores': list(stores)})
    assert answer.status == 202, answer
    service.wait_status(image_id, 'active')
    return image_id


def delete(service, image_id):
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204


def test_in_segments_and_by_ranges(service, swift_server):  # noqa: F811
    image_id = imported(service, 'far')
    assert service.download(image_id) == DATA
    answer = service.request('GET', f'/v2/images/{image_id}/file',
                             headers={'Range': f'bytes={len(DATA) - 1}-'})
    assert (answer.status, answer.body) == (206, b'd')
    assert f'{image_id}.1-00006' in swift_server.names()
    delete(service, image_id)
    assert swift_server.names() == []


def test_credentials_are_shown_nowhere(service, swift_server):  # noqa: F811
    image_id = imported(service, 'far', 'fast')
    (recorded,), = service.execute(
        "SELECT value FROM image_locations WHERE image_id = ? "
        "AND value LIKE 'swift%'", image_id)
    assert swift_servers.KEY in recorded
    shown = service.show(image_id)
    place = next(each['url'] for each in shown['locations']
                 if each['url'].startswith('swift'))
    assert place.endswith(f'/images/{image_id}.1')
    for path in ('', '/locations', '/tasks'):
        answer = service.request('GET', f'/v2/images/{image_id}{path}')
        assert answer.status == 200
        text = answer.body.decode()
        assert swift_servers.KEY not in text and 'tester' not in text
    # And given back as it was shown it is the one that it was.
    answer = service.request(
        'PATCH', f'/v2/images/{image_id}',
        [{'op': 'replace', 'path': '/locations',
          'value': [each for each in shown['locations']
                    if each['url'] == place]}],
        {'Content-Type': 'application/openstack-images-v2.1-json-patch'})
    assert answer.status == 200, answer
    assert [each['url'] for each in answer.json['locations']] == [place]
    assert service.download(image_id) == DATA
    assert os.listdir(service.directory / 'fast') == []
    delete(service, image_id)


@pytest.mark.parametrize('when', ('before', 'within'))
def test_killed_in_the_middle(service, swift_server, when):  # noqa: F811
    """The import goes on, and no segment of the first attempt is left."""
    image_id = service.create()
    assert service.stage(image_id, DATA).status == 204
    swift_server.proxy.send_signal(signal.SIGSTOP)
    try:
        assert service.request('POST', f'/v2/images/{image_id}/import', {
            'method': {'name': 'glance-direct'}}).status == 202
        service.wait_status(image_id, 'importing')
        if when == 'within':
            swift_server.proxy.send_signal(signal.SIGCONT)
            services.wait_for(lambda: f'{image_id}.1-00002'
                              in swift_server.names() or 'active'
                              == service.show(image_id)['status'])
        service.kill()
    finally:
        swift_server.proxy.send_signal(signal.SIGCONT)
    service.start()
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == DATA
    services.wait_for(lambda: len({
        name.partition('-0')[0] for name in swift_server.names()}) == 1)
    delete(service, image_id)
    assert swift_server.names() == []


def test_deleted_while_it_is_frozen(service, swift_server):  # noqa: F811
    image_id = imported(service, 'far')
    swift_server.proxy.send_signal(signal.SIGSTOP)
    try:
        delete(service, image_id)
        assert service.request('GET', '/versions').status == 200
    finally:
        swift_server.proxy.send_signal(signal.SIGCONT)
    services.wait_for(lambda: swift_server.names() == [])
