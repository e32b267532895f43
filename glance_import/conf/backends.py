"""[DEFAULT]: several stores, by name."""

from oslo_config import cfg

GROUP = None
OPTS = (
    cfg.DictOpt(
        'enabled_backends', default={},
        help='Stores by id and type, such as fast:file, cheap:s3. Types are '
             'file, s3, swift, rbd, cinder and http (read-only). Each store '
             'has its options in a section of its id. Turns several stores '
             'on, even with one: then [glance_store] default_backend says '
             'which one is the default, node_staging_uri and the other '
             'options of [glance_store] are not read, and staged data lies '
             'in [os_glance_staging_store] filesystem_store_datadir. Ids '
             'that begin with os_glance_ are reserved.'),
)
