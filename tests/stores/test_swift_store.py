"""The Swift store, on a Swift of its own."""

import os
import signal

import conformance
import pytest

from conformance import add
from conformance import content
from conformance import describe
from glance_import import conf as configuration
from glance_import.stores import base
from glance_import.stores import configured as registry
from glance_import.stores import library
from tests import service as services
from tests import swift as swift_servers
from tests.swift import swift  # noqa: F401
from tests.swift import swift_server  # noqa: F401

MIB = 1 << 20
# Segments of 1 MiB, of which the last is not a whole one.
LARGE = os.urandom(MIB) * 3 + b'end'


def make(server, **more):
    """The store as a configuration file gives it."""
    conf = configuration.new()
    conf([], default_config_files=[])
    conf.set_override('enabled_backends', {'far': 'swift'})
    conf.set_override('default_backend', 'far', 'glance_store')
    registry.register(conf)
    for name, value in server.options(
            swift_store_large_object_chunk_size=1, **more).items():
        conf.set_override(name, value, 'far')
    return registry.build(conf).default


@pytest.fixture
def store(swift):  # noqa: F811
    return make(swift)


@pytest.fixture
def segmented(swift):  # noqa: F811
    return make(swift, swift_store_large_object_size=1)


@pytest.fixture
def large(tmp_path):
    path = tmp_path / 'large'
    path.write_bytes(LARGE)
    return path


class TestSwiftStore(conformance.Conformance):

    @pytest.fixture
    def store(self, swift):  # noqa: F811
        return make(swift)


class TestSwiftStoreInSegments(conformance.Conformance):

    @pytest.fixture
    def store(self, swift, monkeypatch):  # noqa: F811
        store = make(swift, swift_store_large_object_size=1)
        # The pieces of a pass do not fit it evenly.
        monkeypatch.setattr(store.driver, 'large_object_size', 1)
        monkeypatch.setattr(store.driver, 'large_object_chunk_size', 700_001)
        return store


def test_segments_that_are_no_whole_ones(swift, segmented, image_id,  # noqa: F811,E501
                                         large):
    stored = add(segmented, image_id, str(large), describe(large), epoch=3)
    assert swift.names() == [f'{image_id}.3', *(
        f'{image_id}.3-{number:05d}' for number in range(1, 5))]
    assert content(segmented, stored.uri) == LARGE
    assert content(segmented, stored.uri, offset=len(LARGE) - 1) == b'd'
    segmented.delete(stored.uri)
    assert swift.names() == []


def test_glances_driver_reads_and_deletes_it(swift, segmented, image_id,  # noqa: F811,E501
                                             large):
    """And the other way round: objects are the same for both."""
    theirs = library.LibraryStore
    stored = add(segmented, image_id, str(large), describe(large), epoch=1)
    assert theirs.size(segmented, stored.uri) == len(LARGE)
    theirs.delete(segmented, stored.uri)
    assert swift.names() == []
    # It takes whole segments only.
    size = 2 * segmented.driver.large_object_chunk_size
    large.write_bytes(LARGE[:size])
    with open(large, 'rb') as source:
        uri, *_ = segmented.driver.add(image_id, source, size, 'sha512')
    assert uri == stored.uri.removesuffix('.1')
    assert content(segmented, uri) == LARGE[:size]
    segmented.delete(uri)
    assert swift.names() == []


def test_what_a_killed_attempt_left(swift, segmented, image_id, large):  # noqa: F811,E501
    """Its segments too; never what is another's, or in use."""
    client = swift.client()
    kept = add(segmented, image_id, str(large), describe(large), epoch=2)
    others = [image_id, f'{image_id}.x', f'{image_id}.1x',
              f'{image_id}-00001', 'f.1']
    for name in (*others, f'{image_id}.1-00001', f'{image_id}.11-00001'):
        client.put_object('images', name, b'left')
    found = {(each.epoch, each.uri) for each in segmented.strays()
             if each.image_id == image_id}
    assert found == {(number, segmented.uri(f'{image_id}.{number}'))
                     for number in (1, 2, 11)}
    assert segmented.sweep(image_id, 11, {kept.uri}) == [
        segmented.uri(f'{image_id}.1')]
    assert set(swift.names()) == {*others, f'{image_id}.11-00001', *(
        f'{image_id}.2-{number:05d}' for number in range(1, 5)),
        f'{image_id}.2'}
    # The same attempt again is not mixed with its former self.
    client.put_object('images', f'{image_id}.11-00099', b'longer')
    again = add(segmented, image_id, str(large), describe(large), epoch=11)
    assert content(segmented, again.uri) == LARGE


def test_containers_by_id(swift, large, image_id):  # noqa: F811
    store = make(swift, swift_store_multiple_containers_seed=2)
    stored = add(store, image_id, str(large), describe(large), epoch=1)
    assert f'/images_{image_id[:2]}/' in stored.uri
    assert [each.uri for each in store.strays()] == [stored.uri]
    assert store.sweep(image_id, 2, ()) == [stored.uri]


def test_sentences(swift, store, large, image_id):  # noqa: F811
    def failure(store):
        with pytest.raises(base.StoreError) as caught:
            add(store, image_id, str(large), describe(large), epoch=1)
        return caught.value

    refused = failure(make(swift, swift_store_key='wrong'))
    assert 'credentials' in str(refused) and 'wrong' not in str(refused)
    assert not isinstance(refused, base.StoreUnavailable)
    absent = failure(make(swift, swift_store_container='none',
                          swift_store_create_container_on_put=False))
    assert 'does not exist' in str(absent)
    client = swift.client()
    client.post_container('images', {'X-Container-Meta-Quota-Bytes': '10'})
    try:
        full = failure(store)
        assert isinstance(full, base.StoreFull), full
        assert 'no room in store far' in str(full)
    finally:
        client.post_container('images', {'X-Container-Meta-Quota-Bytes': ''})
    # A free port: nobody listens.
    away = make(swift, swift_store_auth_address='http://127.0.0.1:9/v3')
    assert isinstance(failure(away), base.StoreUnavailable)
    with pytest.raises(base.StoreError, match='multi_tenant'):
        make(swift, swift_store_multi_tenant=True)
    assert store.check()
    with pytest.raises(base.StoreUnavailable):
        away.check()


def test_a_proxy_that_dies_in_the_middle(swift_server, store, image_id,  # noqa: F811,E501
                                         large, monkeypatch):
    """Frozen, it is waited for so long; it is no other object then."""
    from glance_import.stores import swift as module

    stored = add(store, image_id, str(large), describe(large), epoch=1)
    monkeypatch.setattr(module, 'TIMEOUT', 1)
    store = make(swift_server)
    swift_server.proxy.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(base.StoreUnavailable, match='not answer'):
            store.size(stored.uri)
    finally:
        swift_server.proxy.send_signal(signal.SIGCONT)
    assert store.size(stored.uri) == len(LARGE)


# -- behind the service, over real HTTP

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


@pytest.fixture
def emptied(service, swift_server):  # noqa: F811
    """The service, on a Swift that has nothing of other tests."""
    swift_server.clear()
    yield service
    for image in service.request('GET', '/v2/images').json['images']:
        delete(service, image['id'])
    swift_server.clear()


def imported(service, *stores):
    image_id = service.create()
    assert service.stage(image_id, LARGE).status == 204
    answer = service.request('POST', f'/v2/images/{image_id}/import', {
        'method': {'name': 'glance-direct'}, 'stores': list(stores)})
    assert answer.status == 202, answer
    service.wait_status(image_id, 'active')
    return image_id


def delete(service, image_id):
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204


def test_in_segments_and_by_ranges(emptied, swift_server):  # noqa: F811
    service = emptied
    image_id = imported(service, 'far')
    assert service.download(image_id) == LARGE
    answer = service.request('GET', f'/v2/images/{image_id}/file',
                             headers={'Range': f'bytes={len(LARGE) - 1}-'})
    assert (answer.status, answer.body) == (206, b'd')
    assert f'{image_id}.1-00004' in swift_server.names()
    delete(service, image_id)
    assert swift_server.names() == []


def test_credentials_are_shown_nowhere(emptied, swift_server):  # noqa: F811
    service = emptied
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
        answer = service.request('GET', f'/v2/images/{image_id}{path}',
                                 token='nova:services:admin,service')
        assert answer.status == 200, answer
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
    assert service.download(image_id) == LARGE
    assert os.listdir(service.directory / 'fast') == []
    delete(service, image_id)


@pytest.mark.parametrize('when', ('before', 'within'))
def test_killed_in_the_middle(emptied, swift_server, when):  # noqa: F811
    """The import goes on, and no segment of the first attempt is left."""
    service = emptied
    image_id = service.create()
    assert service.stage(image_id, LARGE).status == 204
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
    assert service.download(image_id) == LARGE
    services.wait_for(lambda: len({
        name.partition('-0')[0] for name in swift_server.names()}) == 1)
    delete(service, image_id)
    assert swift_server.names() == []


def test_deleted_while_it_is_frozen(emptied, swift_server):  # noqa: F811
    service = emptied
    image_id = imported(service, 'far')
    swift_server.proxy.send_signal(signal.SIGSTOP)
    try:
        delete(service, image_id)
        assert service.request('GET', '/versions').status == 200
    finally:
        swift_server.proxy.send_signal(signal.SIGCONT)
    services.wait_for(lambda: swift_server.names() == [])
