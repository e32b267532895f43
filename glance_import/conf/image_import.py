"""[image_import_opts] of glance-image-import.conf: what an import does."""

from oslo_config import cfg
from oslo_config import types

GROUP = 'image_import_opts'
OPTS = (
    cfg.ListOpt(
        'image_import_plugins', bounds=True, default=[],
        item_type=types.String(quotes=True),
        help='Plugins that every imported image goes through, in this '
             'order, in square brackets: [no_op, fred_mertz]. Each is an '
             'entry point of the namespace glance.image_import.plugins. A '
             'name that is unknown, cannot be loaded or is listed twice '
             'stops the service.'),
)
