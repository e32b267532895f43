"""The S3 store, against a real server over a wire that can be cut."""

import io
import os
import subprocess
import sys
import textwrap

import pytest

import conformance
from conformance import add
from conformance import DATA
from conformance import describe
from glance_import import conf as configuration
from glance_import.stores import base
from glance_import.stores import configured as registry
from tests import s3 as servers_s3

# Several parts of 5 MiB, the least that S3 takes.
LARGE = os.urandom(1 << 20) * 17


def make(server, port=None, **more):
    """The store as a configuration file gives it."""
    conf = configuration.new()
    options = server.options(port, s3_store_large_object_chunk_size=5,
                             s3_store_large_object_size=5, **more)
    conf([], default_config_files=[])
    conf.set_override('enabled_backends', {'cheap': 's3'})
    conf.set_override('default_backend', 'cheap', 'glance_store')
    registry.register(conf)
    for name, value in options.items():
        conf.set_override(name, value, 'cheap')
    return registry.build(conf).default


@pytest.fixture
def store(s3):
    return make(s3)


@pytest.fixture
def large(tmp_path):
    path = tmp_path / 'source'
    path.write_bytes(LARGE)
    return path


@pytest.fixture
def in_parts(monkeypatch):
    """Whatever is not empty goes in parts."""
    from glance_import.stores import s3

    monkeypatch.setattr(s3.S3Store, 'multipart', lambda self, size: size > 0)
    # The pieces of a pass do not fit it evenly.
    monkeypatch.setattr(s3.S3Store, 'part_size', lambda self, size: 700_001)


class TestS3Store(conformance.Conformance):

    @pytest.fixture
    def store(self, s3):
        yield make(s3)
        assert s3.uploads() == []


class TestS3StoreInParts(TestS3Store):
    """The same with objects that go in several parts."""

    @pytest.fixture
    def store(self, s3, in_parts):
        yield make(s3)
        assert s3.uploads() == []


@pytest.mark.skipif('LONG_TESTS' not in os.environ,
                    reason='LONG_TESTS; the short form goes in parts')
class TestS3StoreOnRgw(conformance.Conformance):
    """The same on what most clouds have."""

    @pytest.fixture
    def store(self, rgw):
        yield make(rgw)
        assert rgw.uploads() == []


class TestS3StoreOnRgwInParts(conformance.Conformance):

    @pytest.fixture
    def store(self, rgw, in_parts):
        yield make(rgw)
        assert rgw.uploads() == []

    def test_what_was_killed_is_found(self, rgw, store, image_id, large):
        rgw.client().create_multipart_upload(
            Bucket=servers_s3.BUCKET, Key=f'{image_id}.1')
        add(store, image_id, str(large), describe(large), epoch=2)
        assert store.sweep(image_id, below=2, keep=[]) == [
            store.uri(f'{image_id}.1')]
        assert rgw.keys() == [f'{image_id}.2']


def test_uri_and_metadata(s3, store, image_id, large):
    stored = add(store, image_id, str(large), describe(large), epoch=3)
    assert stored.uri == (f's3://127.0.0.1:{s3.port}/'
                          f'{servers_s3.BUCKET}/{image_id}.3')
    assert stored.metadata == {'store': 'cheap'}
    assert s3.keys() == [f'{image_id}.3']


def test_many_parts(s3, store, image_id, large):
    stored = add(store, image_id, str(large), describe(large), epoch=1)
    parts = s3.client().get_object_attributes(
        Bucket=servers_s3.BUCKET, Key=f'{image_id}.1',
        ObjectAttributes=['ETag'])['ETag']
    assert parts.endswith('-4')
    assert conformance.content(store, stored.uri) == LARGE


@pytest.mark.parametrize('cuts', [1, 3])
def test_a_cut_connection_is_mended(s3, image_id, large, cuts):
    wire = servers_s3.Wire(s3.port, after=2_000_000, cuts=cuts)
    try:
        store = make(s3, wire.port)
        stored = add(store, image_id, str(large), describe(large), epoch=1)
        assert wire.made == cuts
        assert conformance.content(store, stored.uri) == LARGE
    finally:
        wire.close()


def test_a_connection_cut_again_and_again(s3, image_id, large):
    wire = servers_s3.Wire(s3.port, after=2_000_000, cuts=10_000)
    try:
        with pytest.raises(base.StoreUnwritable, match='cheap'):
            add(make(s3, wire.port), image_id, str(large), describe(large),
                epoch=1)
        assert (s3.keys(), s3.uploads()) == ([], [])
    finally:
        wire.close()


def test_a_cut_download_is_an_error(s3, image_id, large):
    stored = add(make(s3), image_id, str(large), describe(large), epoch=1)
    client = s3.client()
    store = make(s3)
    with store.open(stored.uri, offset=5) as stream:
        assert stream.read(3) == LARGE[5:8]
        stream.raw._body = io.BytesIO(b'the last of it')
        with pytest.raises(base.StoreUnwritable, match='stopped sending'):
            stream.read()
    client.delete_object(Bucket=servers_s3.BUCKET, Key=f'{image_id}.1')
    with pytest.raises(base.ObjectGone):
        store.open(stored.uri)


def test_server_down(s3, image_id, large):
    wire = servers_s3.Wire(s3.port, after=0, cuts=0)
    try:
        store = make(s3, wire.port)
        stored = add(store, image_id, str(large), describe(large), epoch=1)
        wire.down = True
        wire.close()
        store = make(s3, wire.port)
        for call in (store.open, store.size, store.delete):
            with pytest.raises(base.StoreUnwritable, match='store cheap'):
                call(stored.uri)
        with pytest.raises(base.StoreUnwritable, match='store cheap'):
            add(store, image_id, str(large), describe(large), epoch=2)
    finally:
        wire.close()


def test_no_bucket(s3, image_id, large):
    store = make(s3, s3_store_create_bucket_on_put=False)
    with pytest.raises(base.StoreUnwritable, match='bucket images'):
        add(store, image_id, str(large), describe(large), epoch=1)


def test_another_bucket_is_not_ours(store):
    for uri in ('s3://127.0.0.1:1/images/x', 's3://host/other/x',
                's3+https://host/images/x', 's3://'):
        assert not store.accepts(uri)


KILLED = textwrap.dedent('''
    import os, signal, sys
    sys.path[:0] = sys.argv[1].split(':')
    port, image_id, source, step = sys.argv[2:]
    import conformance
    import test_s3_store
    from tests import s3

    class Known:
        options = s3.Server.options
    known = Known()
    known.port = int(port)
    store = test_s3_store.make(known)
    real = getattr(store.client, step)
    def deadly(**kwargs):
        real(**kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(store.client, step, deadly)
    conformance.add(store, image_id, source,
                    conformance.describe(source), epoch=1)
''')


@pytest.mark.parametrize('step', [
    'create_multipart_upload', 'upload_part', 'complete_multipart_upload'])
def test_killed_at_a_step_and_tried_again(s3, store, image_id, large, step):
    paths = [os.path.dirname(__file__), os.getcwd(), *sys.path]
    done = subprocess.run(
        [sys.executable, '-c', KILLED, ':'.join(paths), str(s3.port),
         image_id, str(large), step], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    visible = step == 'complete_multipart_upload'
    assert s3.keys() == ([f'{image_id}.1'] if visible else [])
    stored = add(store, image_id, str(large), describe(large), epoch=2)
    # The uri of what an earlier attempt recorded is kept.
    kept = store.sweep(image_id, below=2, keep=[store.uri(f'{image_id}.1')])
    assert (kept == []) == visible
    assert s3.uploads() == []
    store.sweep(image_id, below=2, keep=[])
    assert s3.keys() == [f'{image_id}.2']
    assert conformance.content(store, stored.uri) == LARGE


def test_sweep_touches_earlier_names_only(s3, store, image_id, large):
    for epoch in (1, 2, 3):
        add(store, image_id, str(large), describe(large), epoch=epoch)
    store.sweep(image_id, below=3, keep=[store.uri(f'{image_id}.1')])
    assert s3.keys() == [f'{image_id}.1', f'{image_id}.3']


@pytest.mark.parametrize('code', ['QuotaExceeded', '507'])
@pytest.mark.parametrize('call', ['upload_part', 'put_object'])
def test_no_room(s3, store, image_id, source, large, call, code, monkeypatch):
    """What servers say that have a quota (moto has none)."""
    from botocore import exceptions

    def refuse(**kwargs):
        raise exceptions.ClientError(
            {'Error': {'Code': code, 'Message': 'no more'},
             'ResponseMetadata': {'HTTPStatusCode': 507}}, call)
    monkeypatch.setattr(store.client, call, refuse)
    path = large if call == 'upload_part' else source
    if call == 'put_object':
        path.write_bytes(DATA)
    with pytest.raises(base.StoreFull, match='no more'):
        add(store, image_id, str(path), describe(path), epoch=1)
    assert (s3.keys(), s3.uploads()) == ([], [])


def test_one_store_only(s3, image_id, large):
    """Without enabled_backends, options are in [glance_store]."""
    conf = configuration.new()
    conf([], default_config_files=[])
    conf.set_override('stores', ['s3'], 'glance_store')
    conf.set_override('default_store', 's3', 'glance_store')
    registry.register(conf)
    for name, value in s3.options().items():
        conf.set_override(name, value, 'glance_store')
    stores = registry.build(conf)
    assert (stores.many, stores.ids) == (False, ['s3'])
    stored = add(stores.default, image_id, str(large), describe(large),
                 epoch=1)
    assert conformance.content(stores.default, stored.uri) == LARGE
    assert stores.default.properties()['s3_store_thread_pools'] == 10


def test_what_nobody_recorded_is_found(s3, store, image_id, large):
    add(store, image_id, str(large), describe(large), epoch=4)
    s3.client().create_multipart_upload(
        Bucket=servers_s3.BUCKET, Key=f'{image_id}.7')
    s3.client().put_object(Bucket=servers_s3.BUCKET, Key='else.1', Body=b'')
    assert sorted((each.image_id, each.epoch, each.uri)
                  for each in store.strays()) == [
        (image_id, epoch, store.uri(f'{image_id}.{epoch}'))
        for epoch in (4, 7)]
