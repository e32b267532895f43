"""The RBD store, on a real cluster."""

from concurrent import futures
import contextlib
import json
import os
import pathlib
import re
import subprocess
import threading
import time
import uuid

import conformance
from conformance import add
from conformance import ALGO
from conformance import DATA
from conformance import describe
import pytest

from glance_import import conf as configuration
from glance_import.stores import base
from glance_import.stores import ceph as ceph_client
from glance_import.stores import configured as registry
from glance_import.stores import multi_store
from glance_import.stores import rbd as rbd_store
from glance_import.stores import rbd_data
from glance_import.stores import rbd_snapshots
from tests import ceph as ceph_server
from tests import environments
from tests import service

MIB = 1 << 20
LONG = 10 if os.environ.get('LONG_TESTS') else 0


def make(ceph, pool='images', **more):
    """The store as a configuration file gives it."""
    conf = configuration.new()
    conf([], default_config_files=[])
    conf.set_override('enabled_backends', {'ceph': 'rbd'})
    conf.set_override('default_backend', 'ceph', 'glance_store')
    registry.register(conf)
    for name, value in {'rbd_store_pool': pool, 'rbd_store_user': 'glance',
                        'rbd_store_ceph_conf': ceph.conf, **more}.items():
        conf.set_override(name, value, 'ceph')
    return registry.build(conf).default


@pytest.fixture
def store(ceph):
    ceph.empty('vms', 'images')
    return make(ceph)


class TestRbdStore(conformance.Conformance):
    pass


def names(ceph, pool='images'):
    return ceph.images(pool)


def is_protected(ceph, name):
    found, = json.loads(ceph.rbd('snap', 'ls', '--format', 'json',
                                 f'images/{name}'))
    return (found['name'], found['protected']) == ('snap', 'true')


@pytest.fixture
def stored(store, image_id, source):
    return add(store, image_id, str(source), describe(source), epoch=3)


# -- options

def test_options(ceph):
    assert make(ceph).properties() == {
        'pool': 'images', 'chunk_size': 8, 'thin_provisioning': True}
    store = make(ceph, rbd_store_chunk_size=4, rbd_thin_provisioning=False)
    assert (store.order, store.thin) == (22, False)


def test_what_all_stores_share(ceph):
    conf = configuration.new()
    conf([], default_config_files=[])
    conf.set_override('enabled_backends', {'a': 'rbd', 'b': 'rbd'})
    conf.set_override('default_backend', 'a', 'glance_store')
    registry.register(conf)
    conf.set_override('rbd_store_pool', 'own', 'b')
    registry.build(conf)
    conf.set_override('rbd_store_pool', 'shared', 'backend_defaults')
    stores = registry.build(conf)
    assert [each.pool_name for each in stores.all()] == ['shared', 'own']


def test_the_only_store(ceph, image_id, source):
    conf = configuration.new()
    conf([], default_config_files=[])
    conf.set_override('stores', ['rbd'], 'glance_store')
    conf.set_override('default_store', 'rbd', 'glance_store')
    registry.register(conf)
    conf.set_override('rbd_store_user', 'glance', 'glance_store')
    conf.set_override('rbd_store_ceph_conf', ceph.conf, 'glance_store')
    store = registry.build(conf).default
    stored = add(store, image_id, str(source), describe(source), epoch=1)
    assert conformance.content(store, stored.uri) == DATA


# -- names, and what is whose

def test_named_by_the_image_and_readable_at_the_end(
        ceph, store, image_id, source, monkeypatch):
    seen = []
    real = rbd_snapshots.make

    def make_snapshot(image):
        seen.append(names(ceph))
        with pytest.raises(base.ObjectGone):
            store.open(store.uri(image_id))
        real(image)
    monkeypatch.setattr(rbd_snapshots, 'make', make_snapshot)
    stored = add(store, image_id, str(source), describe(source), epoch=3)
    assert seen == [[image_id]] == [names(ceph)]
    assert stored.uri == f'rbd://{ceph.fsid}/images/{image_id}/snap'
    assert stored.metadata == {'store': 'ceph'}
    assert is_protected(ceph, image_id)
    info = json.loads(ceph.rbd('info', '--format', 'json',
                               f'images/{image_id}'))
    assert (info['size'], info['object_size']) == (len(DATA), 8 << 20)
    assert sorted(info['features']) == [
        'deep-flatten', 'exclusive-lock', 'fast-diff', 'layering',
        'object-map']


def test_what_others_named_is_neither_replaced_nor_swept(
        ceph, store, image_id, source):
    """Glance's own images, and snapshots that Nova makes of disks."""
    ceph.rbd('create', '--size', '1M', f'images/{image_id}')
    stored = add(store, image_id, str(source), describe(source), epoch=3)
    assert names(ceph) == [image_id, f'{image_id}.3']
    assert store.sweep(image_id, below=9, keep=[]) == [stored.uri]
    assert names(ceph) == [image_id]
    assert list(store.strays()) == []


def test_a_clone_inherits_the_mark_and_is_not_ours(
        ceph, store, image_id, stored):
    other = str(uuid.uuid4())
    ceph.rbd('clone', f'images/{image_id}@snap', f'images/{other}')
    assert store.sweep(other, below=9, keep=[]) == []
    assert [each.image_id for each in store.strays()] == [image_id]


def test_a_stale_attempt_does_not_replace(ceph, store, image_id, source):
    """It was asleep while another took over, and now goes on."""
    expected = describe(source)
    digests = base.Digests(expected.size, expected.checksum, ALGO,
                           expected.hash_value)
    stale = store.attempt(image_id, 1)
    stale.begin(len(DATA), ALGO)
    stale.write(memoryview(DATA))
    newer = add(store, image_id, str(source), expected, epoch=2)
    # It is at work yet, so it is not swept.
    assert store.sweep(image_id, below=2, keep=[newer.uri]) == []
    assert stale.commit(digests).uri == store.uri(f'{image_id}.1')
    assert newer.uri == store.uri(image_id)
    assert sorted((each.epoch, each.uri) for each in store.strays()) == [
        (1, store.uri(f'{image_id}.1')), (2, newer.uri)]
    assert store.sweep(image_id, below=2, keep=[newer.uri]) == [
        store.uri(f'{image_id}.1')]
    assert conformance.content(store, newer.uri) == DATA


def test_a_stale_attempt_undoes_nothing_of_another(
        ceph, store, image_id, source):
    """It fell asleep with the image's name, which another has now."""
    expected = describe(source)
    stale = add(store, image_id, str(source), expected, epoch=1)
    assert store.sweep(image_id, below=2, keep=[]) == [stale.uri]
    newer = add(store, image_id, str(source), expected, epoch=2)
    assert newer.uri == stale.uri
    with pytest.raises(base.ObjectGone):
        base.undo(store, stale.uri, 1)
    assert conformance.content(store, newer.uri) == DATA
    base.undo(store, newer.uri, 2)
    assert names(ceph) == []


def test_another_pool_or_cluster_is_not_ours(ceph, store):
    for uri in (f'rbd://{ceph.fsid}/vms/x/snap', f'rbd://{ceph.fsid}/images',
                f'rbd://{uuid.uuid4()}/images/x/snap', 'rbd://',
                f'rbd://{ceph.fsid}/images//snap'):
        assert not store.accepts(uri)
    assert store.accepts('rbd://x')


def test_images_of_glance_are_read(ceph, store, image_id, source):
    """Also those of the oldest form, without a snapshot."""
    ceph.rbd('import', str(source), f'images/{image_id}')
    uri = f'rbd://{image_id}'
    assert conformance.content(store, uri) == DATA
    store.delete(uri)
    assert not store.exists(uri)


# -- sparse

def test_zeros_take_no_room(ceph, store, image_id, tmp_path):
    """Holes, and blocks of zeros that are none."""
    path = tmp_path / 'sparse'
    with open(path, 'wb') as file:
        file.write(DATA[:MIB])
        file.seek(40 * MIB)
        file.write(DATA[:MIB] + bytes(15 * MIB) + DATA[:100])
        file.truncate(80 * MIB + 5)
    stored = add(store, image_id, str(path), describe(path), epoch=1)
    assert 2 * MIB < ceph.used(image_id) <= 2 * MIB + (64 << 10)
    assert conformance.content(store, stored.uri) == path.read_bytes()


def test_thick_where_it_is_asked_for(ceph, image_id, tmp_path):
    ceph.empty('images')
    path = tmp_path / 'sparse'
    path.write_bytes(bytes(9 * MIB))
    os.truncate(path, 20 * MIB)
    thick = make(ceph, rbd_thin_provisioning=False)
    add(thick, image_id, str(path), describe(path), epoch=1)
    assert ceph.used(image_id) == 20 * MIB


@pytest.mark.parametrize('size', [1, 8 * MIB, 8 * MIB + 1, 17 * MIB - 1])
def test_sizes(store, image_id, tmp_path, size):
    path = tmp_path / 'data'
    path.write_bytes((DATA * 6)[:size])
    stored = add(store, image_id, str(path), describe(path), epoch=1)
    assert conformance.content(store, stored.uri) == path.read_bytes()
    for offset in (0, 1, size // 2, size - 1, size):
        with store.open(stored.uri, offset=offset) as file:
            assert file.read(3) == path.read_bytes()[offset:offset + 3]


@pytest.mark.parametrize('told', [len(DATA) - 1, len(DATA) + 1])
def test_more_or_fewer_bytes_than_were_told(ceph, store, image_id, told):
    source = base.Source(told, lambda: iter([memoryview(DATA)]))
    with pytest.raises(base.ObjectChanged):
        multi_store.add([store], source, multi_store.Order(image_id, 1))
    assert names(ceph) == []


def test_zeros_within_a_request():
    grain = rbd_data.GRAIN
    data = bytes(grain) + DATA[:2 * grain] + bytes(grain + 1)
    assert rbd_data.runs(data) == [(grain, 3 * grain)]
    assert rbd_data.runs(data[:-1] + b'!') == [
        (grain, 3 * grain), (4 * grain, len(data))]
    assert rbd_data.runs(bytes(5)) == []


def test_killed_while_it_was_made(ceph, store, image_id):
    """It has a name, and no image behind it."""
    import rbd

    name = f'{image_id}.1.0123abcd'
    with store.cluster.pool() as pool:
        rbd.RBD().create(pool, name, MIB, old_format=False)
        with rbd.Image(pool, name) as image:
            header = f'rbd_header.{image.id()}'
        pool.remove_object(header)
    assert names(ceph) == [name]
    assert [each.epoch for each in store.strays()
            if each.image_id == image_id] == [1]
    assert store.sweep(image_id, 2, ()) == [store.uri(name)]
    assert names(ceph) == []


# -- in use

@pytest.mark.parametrize('version', ['1', '2'])
def test_in_use_by_a_clone(ceph, store, image_id, stored, version):
    """A disk of a machine, as Nova and Cinder make it."""
    ceph.rbd('clone', '--rbd-default-clone-format', version,
             f'images/{image_id}@snap', 'vms/disk', user='nova')
    assert 'clones' in store.in_use(stored.uri)
    for _ in range(2):
        with pytest.raises(base.ObjectInUse, match='clone'):
            store.delete(stored.uri)
    assert conformance.content(store, stored.uri) == DATA
    assert is_protected(ceph, image_id)
    ceph.rbd('trash', 'mv', 'vms/disk')
    with pytest.raises(base.ObjectInUse, match='clone'):
        store.delete(stored.uri)
    entry, = json.loads(ceph.rbd('trash', 'ls', 'vms', '--format', 'json'))
    ceph.rbd('trash', 'rm', f'vms/{entry["id"]}')
    assert store.in_use(stored.uri) is None
    store.delete(stored.uri)
    assert names(ceph) == []


def test_in_use_by_another_snapshot(ceph, store, image_id, stored):
    ceph.rbd('snap', 'create', f'images/{image_id}@backup')
    with pytest.raises(base.ObjectInUse, match='other snapshots'):
        store.delete(stored.uri)
    assert conformance.content(store, stored.uri) == DATA


def test_cloned_while_it_is_being_deleted(ceph, store, image_id, stored,
                                          monkeypatch):
    """Of the second format, which the library does not keep apart."""
    real = rbd_snapshots.drop

    def drop(image):
        ceph.rbd('clone', '--rbd-default-clone-format', '2',
                 f'images/{image_id}@snap', 'vms/disk', user='nova')
        return real(image)
    monkeypatch.setattr(rbd_snapshots, 'drop', drop)
    with pytest.raises(base.ObjectInUse):
        store.delete(stored.uri)
    assert conformance.content(store, stored.uri) == DATA


def test_a_deletion_that_was_interrupted_is_gone_on_with(
        ceph, store, image_id, stored):
    ceph.rbd('snap', 'unprotect', f'images/{image_id}@snap')
    store.delete(stored.uri)
    assert names(ceph) == []


# -- full, away, frozen

def test_over_quota(ceph, image_id, tmp_path):
    ceph.empty('small')
    store = make(ceph, pool='small')
    path = tmp_path / 'large'
    path.write_bytes(os.urandom(MIB) * 64)
    ceph.command('osd pool set-quota', pool='small', field='max_bytes',
                 val=str(16 * MIB))
    try:
        for _ in range(2):
            with pytest.raises(base.StoreFull, match='no room in store ceph'):
                while True:
                    add(store, str(uuid.uuid4()), str(path), describe(path),
                        epoch=1)
                    ceph.wait_for_full('small')
        assert [name for name in names(ceph, 'small') if '.' in name] == []
    finally:
        ceph.command('osd pool set-quota', pool='small', field='max_bytes',
                     val='0')


def test_frozen_for_a_while_in_the_middle(ceph, store, image_id, tmp_path):
    path = tmp_path / 'large'
    path.write_bytes(os.urandom(MIB) * 64)
    begun = threading.Event()
    with futures.ThreadPoolExecutor(1) as pool:
        adding = pool.submit(add, store, image_id, str(path), describe(path),
                             epoch=1, progress=lambda *_: begun.set())
        begun.wait(30)
        with ceph.frozen():
            time.sleep(LONG or 2)
            assert not adding.done()
        stored = adding.result()
    assert conformance.content(store, stored.uri) == path.read_bytes()


def test_given_up_while_it_is_frozen(ceph, store, image_id, tmp_path,
                                     monkeypatch):
    """In seconds; what is left goes as soon as the cluster is back."""
    monkeypatch.setattr(rbd_store, 'ABORT_SECONDS', 1)
    path = tmp_path / 'large'
    path.write_bytes(os.urandom(MIB) * 256)
    stop, begun = threading.Event(), threading.Event()
    with futures.ThreadPoolExecutor(1) as pool:
        adding = pool.submit(add, store, image_id, str(path), describe(path),
                             epoch=1, progress=lambda *_: begun.set(),
                             cancelled=stop.is_set)
        begun.wait(30)
        with ceph.frozen():
            stop.set()
            with pytest.raises(base.Cancelled):
                adding.result(10)
    service.wait_for(lambda: names(ceph) == [])


def test_frozen(ceph, store, stored, monkeypatch):
    """Nothing waits without end, and nothing is said to be gone."""
    monkeypatch.setattr(ceph_client, 'OPERATION_SECONDS', 1)
    monkeypatch.setattr(rbd_store, 'CHECK_SECONDS', 1)
    impatient = make(ceph)
    with ceph.alone():
        assert impatient.check()
        _freeze(ceph, impatient, stored)
    assert conformance.content(impatient, stored.uri) == DATA


def _freeze(ceph, impatient, stored):
    with impatient.open(stored.uri) as reading:
        reading.read(10)
        with ceph.frozen():
            for _ in range(2):
                with pytest.raises(base.StoreUnavailable):
                    impatient.check()
            with pytest.raises(base.StoreUnavailable):
                reading.read()
            for call in (impatient.open, impatient.size, impatient.delete):
                with pytest.raises(base.StoreUnavailable, match='not answer'):
                    call(stored.uri)
    assert service.wait_for(lambda: _answers(impatient))


def _answers(store):
    with contextlib.suppress(base.StoreUnavailable):
        return store.check()
    return False


def test_away_when_it_is_made(ceph, store, stored, image_id, source,
                              tmp_path):
    """Nothing is asked before it is used, and then every time."""
    conf = tmp_path / 'ceph.conf'
    text = pathlib.Path(ceph.conf).read_text()
    conf.write_text(re.sub('mon_host = .*', 'mon_host = v2:127.0.0.1:1',
                           text))
    store = make(ceph, rbd_store_ceph_conf=str(conf), rados_connect_timeout=1)
    assert store.accepts(stored.uri)
    for call in (store.open, store.delete):
        with pytest.raises(base.StoreUnavailable, match='store ceph'):
            call(stored.uri)
    with pytest.raises(base.StoreUnavailable, match='connected'):
        add(store, image_id, str(source), describe(source), epoch=4)
    conf.write_text(text)
    assert conformance.content(store, stored.uri) == DATA


def test_no_such_pool_or_user(ceph, image_id, source):
    for options in ({'pool': 'nowhere'}, {'rbd_store_user': 'nobody'}):
        store = make(ceph, **options)
        with pytest.raises(base.StoreUnwritable, match='store ceph') as found:
            add(store, image_id, str(source), describe(source), epoch=1)
        assert not isinstance(found.value, base.StoreUnavailable)


@pytest.mark.skipif(not LONG, reason='LONG_TESTS; the short form uses rbd')
@pytest.mark.parametrize('who', ['nova', 'cinder'])
def test_cloned_by_nova_and_cinder(ceph, store, stored, request, who):
    compute = environments.make(
        'compute', request.config.cache.mkdir('environments'))
    packages, = compute.directory.glob('lib/python*/site-packages')
    ceph_server.link_modules(packages)
    done = subprocess.run(
        [compute.python, pathlib.Path(__file__).with_name('clones.py'), who,
         ceph.conf, stored.uri], capture_output=True, text=True)
    assert done.stdout == 'True\n', done.stderr
    assert ceph.images('vms') == [who]
    with pytest.raises(base.ObjectInUse):
        store.delete(stored.uri)
    ceph.rbd('rm', f'vms/{who}')
    store.delete(stored.uri)
