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
