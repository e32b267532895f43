"""The RBD store, on a real cluster."""

import conformance
import pytest

from glance_import import conf as configuration
from glance_import.stores import configured as registry


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
