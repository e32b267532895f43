"""[import_downloads] of glance-image-import.conf: how bytes are fetched."""

from oslo_config import cfg
from oslo_config import types

GROUP = 'import_downloads'
OPTS = (
    cfg.FloatOpt(
        'connect_timeout', default=10.0, min=0.1,
        help='Seconds a server may take to accept a connection.'),
    cfg.FloatOpt(
        'idle_timeout', default=60.0, min=0.1,
        help='Seconds in which at least one byte has to come.'),
    cfg.IntOpt(
        'total_timeout', default=43200, min=1,
        help='Seconds that fetching one image may take, with all retries.'),
    cfg.IntOpt(
        'retries', default=8, min=0,
        help='How often a download that was cut, stalled or answered with a '
             'passing error is gone on with, one image in all. It goes on '
             'where it stopped when the server says that the data is still '
             'the same (ETag or Last-Modified), and else begins anew.'),
    cfg.FloatOpt(
        'retry_interval', default=1.0, min=0.01, max=30.0,
        help='Seconds before the first retry; each further one waits twice '
             'as long, up to 30.'),
    cfg.IntOpt(
        'max_redirects', default=5, min=0,
        help='How many redirects are followed; each is judged like a URL '
             'that was asked for.'),
    cfg.StrOpt(
        'ca_file',
        help='File of the certificate authorities that https servers are '
             'verified by. Unset: those of the system.'),
    cfg.StrOpt(
        'proxy', secret=True,
        help='HTTP proxy for downloads, http://[user:password@]host[:port]. '
             'Proxies named in the environment are not used. A proxy looks '
             'names up by itself, so it has to refuse inner addresses '
             'itself.'),
    cfg.ListOpt(
        'dns_servers', bounds=True, item_type=types.String(quotes=True),
        default=[],
        help='Name servers that are asked for the hosts of downloads, in '
             'square brackets, each an address or address:port. Servers '
             'that know nothing of your inner zones keep inner names out '
             'of reach. Empty: the resolver of the system.'),
)
