"""[glance_store]: where the bytes of active images are kept."""

from oslo_config import cfg

GROUP = 'glance_store'
OPTS = (
    cfg.ListOpt(
        'stores', default=['file'],
        help='Kinds of stores to use. Only file is built so far.'),
    cfg.StrOpt(
        'default_store', default='file',
        help='The store that new images go to.'),
    cfg.StrOpt(
        'filesystem_store_datadir', default='/var/lib/glance/images',
        help='Directory of the file store.'),
)
