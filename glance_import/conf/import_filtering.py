"""[import_filtering_opts] of glance-image-import.conf: what may be reached."""

from oslo_config import cfg
from oslo_config import types

GROUP = 'import_filtering_opts'
_TEXT = types.String(quotes=True)
_PORT = types.Integer(1, 65535)
_BOTH = ' What is in both lists is refused.'
OPTS = (
    cfg.ListOpt(
        'allowed_schemes', bounds=True, item_type=_TEXT,
        default=['http', 'https'],
        help='URL schemes that web-download may follow, in square brackets; '
             'http and https are all there is.' + _BOTH),
    cfg.ListOpt(
        'disallowed_schemes', bounds=True, item_type=_TEXT, default=[],
        help='URL schemes that it may not follow.'),
    cfg.ListOpt(
        'allowed_hosts', bounds=True, item_type=_TEXT, default=[],
        help='The only hosts that images may be downloaded from, as they '
             'are written in the URL. Empty: any. It opens no address: see '
             'allowed_addresses.' + _BOTH),
    cfg.ListOpt(
        'disallowed_hosts', bounds=True, item_type=_TEXT, default=[],
        help='Hosts that images may not be downloaded from.'),
    cfg.ListOpt(
        'allowed_ports', bounds=True, item_type=_PORT, default=[80, 443],
        help='The only TCP ports that downloads may go to; a URL without a '
             'port has that of its scheme.' + _BOTH),
    cfg.ListOpt(
        'disallowed_ports', bounds=True, item_type=_PORT, default=[],
        help='TCP ports that downloads may not go to.'),
    cfg.ListOpt(
        'allowed_addresses', bounds=True, item_type=_TEXT, default=[],
        help='Networks (CIDR) that downloads may go to although they are '
             'not of the Internet: those of your own mirrors, such as '
             '[10.20.30.0/28]. Without this only global unicast addresses '
             'are reached: no private, link-local or loopback ones, and no '
             'metadata service. Each address that a name has is judged, '
             'also after a redirect.'),
    cfg.ListOpt(
        'disallowed_addresses', bounds=True, item_type=_TEXT, default=[],
        help='Networks (CIDR) that downloads may not go to, whatever else '
             'is said: public addresses of your own cloud, for example.'),
)
