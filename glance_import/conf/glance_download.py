"""[glance_download_properties] of glance-image-import.conf."""

from oslo_config import cfg
from oslo_config import types

GROUP = 'glance_download_properties'
OPTS = (
    cfg.ListOpt(
        'extra_properties', bounds=True, item_type=types.String(quotes=True),
        default=['hw_', 'trait:', 'os_distro', 'os_secure_boot', 'os_type'],
        help='Beginnings of the names of properties that glance-download '
             'copies from the image in the other region, in square '
             'brackets.'),
)
