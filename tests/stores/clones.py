"""A clone of a location as Nova's or Cinder's own image code makes it.

    clones.py nova|cinder CEPH.CONF LOCATION

Run by the Python of an environment that has them. Prints whether they find
that it can be cloned; the clone is named after who made it.
"""

import sys
import types

who, conf, location = sys.argv[1:]
RAW = {'id': 'x', 'disk_format': 'raw'}


def nova():
    from nova import conf as configuration
    from nova.storage import rbd_utils

    configuration.CONF([], default_config_files=[])
    driver = rbd_utils.RBDDriver('vms', 'nova', conf, 30)
    assert not driver.is_cloneable({'url': location},
                                   {**RAW, 'disk_format': 'qcow2'})
    found = driver.is_cloneable({'url': location}, RAW)
    driver.clone({'url': location}, 'nova')
    return found


def cinder():
    from cinder.volume import configuration
    from cinder.volume.drivers import rbd

    options = configuration.Configuration(rbd.RBD_OPTS, 'ceph')
    configuration.CONF.set_override('rbd_pool', 'vms', 'ceph')
    driver = rbd.RBDDriver(configuration=options)
    # What it sets up beside the other parts of its service.
    driver._active_config = {'name': 'ceph', 'conf': conf, 'user': 'nova',
                             'secret_uuid': None}
    found = driver._is_cloneable(location, RAW)
    _fsid, pool, image, snapshot = driver._parse_location(location)
    driver._setup_volume = lambda volume: {}
    driver._clone(types.SimpleNamespace(name='cinder', id='x'), pool,
                  image, snapshot)
    return found


print({'nova': nova, 'cinder': cinder}[who]())
