"""Stores by glance_store's drivers, and their configuration.

Swift, RBD and Cinder are loaded and configured here, not run: there are no
such services. What carries a driver is tested with one that needs none, the
driver for files.
"""

import functools
import http.server
import os
import threading
import uuid

import pytest

import conformance
from conformance import add
from conformance import DATA
from conformance import describe
from glance_import import conf as configuration
from glance_import.stores import base
from glance_import.stores import configured as registry
from glance_import.stores import library
from glance_import.stores import rbd
from tests import servers


def configured(**sections):
    """Options as files give them; ``type`` is in enabled_backends."""
    conf = configuration.new()
    conf([], default_config_files=[])
    conf.set_override('enabled_backends', {
        name: options.pop('type') for name, options in sections.items()})
    conf.set_override('default_backend', next(iter(sections)),
                      'glance_store')
    registry.register(conf)
    for name, options in sections.items():
        for option, value in options.items():
            conf.set_override(option, value, name)
    return conf


def build(**sections):
    return registry.build(configured(**sections))


class TestDriver(conformance.Conformance):
    """glance_store's file driver, fed by the pass."""

    @pytest.fixture
    def store(self, tmp_path, monkeypatch):
        monkeypatch.setitem(library.DRIVERS, 'file',
                            'glance_store._drivers.filesystem')
        monkeypatch.setitem(library.SHOWN, 'file', {})
        conf = configuration.new()
        conf([], default_config_files=[])
        driver = library.driver_class('file')
        conf.register_opts((*driver.MULTI_BACKEND_OPTIONS,
                            *driver.OPTIONS), group='disk')
        conf.set_override('filesystem_store_datadir',
                          str(tmp_path / 'driver'), 'disk')
        return library.LibraryStore(conf, 'file', 'disk', group='disk')

    def test_same_attempt_again_is_the_same_object(self, store, image_id,
                                                   source):
        """A driver does not replace: that is an error, and harms nothing."""
        stored = add(store, image_id, str(source), describe(source), epoch=1)
        with pytest.raises(base.StoreUnwritable, match='exists'):
            add(store, image_id, str(source), describe(source), epoch=1)
        assert conformance.content(store, stored.uri) == DATA

    def test_next_attempt_leaves_what_is_different(self, store, image_id,
                                                   source):
        first = add(store, image_id, str(source), describe(source), epoch=1)
        second = add(store, image_id, str(source), describe(source), epoch=2)
        store.delete(second.uri)
        assert conformance.content(store, first.uri) == DATA

    def test_sweep_finds_earlier_attempts_only(self, store, image_id):
        """Drivers cannot list: the documentation says how to look."""
        assert store.sweep(image_id, below=3, keep=[]) == []

    @pytest.mark.parametrize('uri', ['', 'x', 'http://host/x', 's3://a/b/c'])
    def test_foreign_locations(self, store, uri):
        """A driver knows its own by the scheme."""
        for call in (store.open, store.size, store.exists, store.delete):
            with pytest.raises(base.BadLocation):
                call(uri)

    def test_accepts_its_own(self, store):
        assert store.accepts('file:///x')
        assert not store.accepts('http://host/x')

    def test_a_driver_that_fails(self, store, image_id, source, monkeypatch,
                                 tmp_path):
        def fail(name, image_file, size, algo, **kwargs):
            image_file.read(100)
            raise OSError('the disk is on fire')
        monkeypatch.setattr(store.driver, 'add', fail)
        with pytest.raises(base.StoreUnwritable, match='disk is on fire'):
            add(store, image_id, str(source), describe(source), epoch=1)

    def test_a_driver_that_lies(self, store, image_id, source, monkeypatch,
                                tmp_path):
        real = store.driver.add

        def lie(name, image_file, size, algo, **kwargs):
            uri, size, md5, digest, metadata = real(
                name, image_file, size, algo, **kwargs)
            return uri, size, md5, digest[::-1], metadata
        monkeypatch.setattr(store.driver, 'add', lie)
        with pytest.raises(base.StoreUnwritable, match='other bytes'):
            add(store, image_id, str(source), describe(source), epoch=1)
        assert os.listdir(tmp_path / 'driver') == []


def test_http_is_read_only(tmp_path):
    (tmp_path / 'image').write_bytes(DATA)
    server = http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), functools.partial(
            http.server.SimpleHTTPRequestHandler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        conf = configured(
            disk={'type': 'file',
                  'filesystem_store_datadir': str(tmp_path / 'images')},
            web={'type': 'http'})
        with pytest.raises(base.BadLocation, match='not allowed'):
            registry.build(conf).by_id('web').open(
                f'http://127.0.0.1:{server.server_port}/image')
        for name, value in (('allowed_addresses', ['127.0.0.1/32']),
                            ('allowed_ports', [])):
            conf.set_override(name, value, 'import_filtering_opts')
        stores = registry.build(conf)
        web = stores.by_id('web')
        assert web.read_only
        uri = f'http://127.0.0.1:{server.server_port}/image'
        assert conformance.content(web, uri) == DATA
        assert conformance.content(web, uri, offset=11) == DATA[11:]
        assert web.size(uri) == len(DATA)
        with pytest.raises(base.ObjectGone):
            web.open(uri + '-not')
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(base.StoreUnwritable):
        web.open(uri)


def test_swift_is_loaded_and_configured():
    servers.need_module('swiftclient')
    store = build(swift={
        'type': 'swift', 'swift_store_auth_address': 'http://127.0.0.1:1/v3',
        'swift_store_user': 'service:glance', 'swift_store_key': 'secret',
        'swift_store_auth_version': '3',
        'swift_store_container': 'pictures'}).default
    assert not store.read_only
    assert store.properties() == {
        'container': 'pictures', 'large_object_size': 5120,
        'large_object_chunk_size': 200}
    assert store.accepts(
        'swift+http://service:glance:secret@127.0.0.1:1/v3/pictures/x')
    assert not store.accepts('s3://a/b/c')


def test_cinder_is_loaded_and_configured():
    servers.need_module('cinderclient')
    store = build(cinder={'type': 'cinder', 'cinder_use_multipath': True}
                  ).default
    assert not store.read_only
    assert store.properties() == {'volume_type': None, 'use_multipath': True}
    assert store.accepts(f'cinder://cinder/{uuid.uuid4()}')


def test_what_is_not_installed_is_named(monkeypatch):
    # What another test has loaded is kept.
    rbd.options.cache_clear()
    monkeypatch.setitem(__import__('sys').modules, 'rbd', None)
    with pytest.raises(registry.Misconfigured, match='python3-rbd'):
        configured(ceph={'type': 'rbd'})


@pytest.mark.parametrize('sections, option, word', [
    ({'os_glance_x': {'type': 'file'}}, 'enabled_backends', 'reserved'),
    ({'a': {'type': 'floppy'}}, 'enabled_backends', 'floppy'),
    ({'database': {'type': 'file'}}, 'enabled_backends', 'another section'),
    ({'a': {'type': 'file'}}, 'filesystem_store_datadir', 'not set'),
    ({'a': {'type': 'file', 'filesystem_store_datadir': 'x'}},
     'filesystem_store_datadir', 'absolute'),
    ({'a': {'type': 'http'}}, 'default_backend', 'read-only'),
    ({'a': {'type': 's3'}}, 'enabled_backends', 's3_store_host'),
])
def test_refused(sections, option, word):
    with pytest.raises(registry.Misconfigured, match=word) as caught:
        build(**sections)
    assert caught.value.option == option
    assert '\n' not in str(caught.value)


def test_one_directory_for_two(tmp_path):
    options = {'type': 'file', 'filesystem_store_datadir': str(tmp_path)}
    with pytest.raises(registry.Misconfigured, match='of a too'):
        build(a=dict(options), b=dict(options))


@pytest.mark.parametrize('default', [None, 'other'])
def test_default_must_be_there(default, tmp_path):
    conf = configuration.new()
    conf([], default_config_files=[])
    conf.set_override('enabled_backends', {'a': 'file'})
    conf.set_override('default_backend', default, 'glance_store')
    with pytest.raises(registry.Misconfigured) as caught:
        registry.register(conf)
    assert caught.value.option == 'default_backend'


def test_in_use(tmp_path, monkeypatch):
    """RBD and Cinder say so of volumes that machines were made of."""
    from glance_store import exceptions

    def refuse(location):
        raise exceptions.InUseByStore()
    store = build(cinder={'type': 'cinder'}).default
    monkeypatch.setattr(store.driver, 'delete', refuse)
    with pytest.raises(base.ObjectInUse, match='in use'):
        store.delete(f'cinder://cinder/{uuid.uuid4()}')
