"""[image_format]: the formats an image may be declared to have."""

from oslo_config import cfg

GROUP = 'image_format'
OPTS = (
    cfg.ListOpt(
        'container_formats',
        default=['ami', 'ari', 'aki', 'bare', 'ovf', 'ova', 'docker',
                 'compressed'],
        help='Values that container_format may have.'),
    cfg.ListOpt(
        'disk_formats',
        default=['ami', 'ari', 'aki', 'vhd', 'vhdx', 'vmdk', 'raw', 'qcow2',
                 'vdi', 'iso', 'ploop'],
        help='Values that disk_format may have.'),
)
