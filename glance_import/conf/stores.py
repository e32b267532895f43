"""[glance_store]: where the bytes of active images are kept."""

from oslo_config import cfg

GROUP = 'glance_store'
OPTS = (
    cfg.ListOpt(
        'stores', default=['file'],
        help='Types of stores to use, one store of each, while '
             'enabled_backends is empty: file, s3, swift, rbd, cinder, http. '
             'Their options are in this section.'),
    cfg.StrOpt(
        'default_store', default='file',
        help='The store that new images go to, while enabled_backends is '
             'empty.'),
    cfg.StrOpt(
        'filesystem_store_datadir', default='/var/lib/glance/images',
        help='Directory of the file store, while enabled_backends is empty.'),
    cfg.StrOpt(
        'default_backend',
        help='Id of the store that new images go to, one of '
             'enabled_backends.'),
)
