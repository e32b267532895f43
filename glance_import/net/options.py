"""The options of fetching, as the modules here have them.

[import_filtering_opts] says where requests may go, [import_downloads] how
they are made. Touches nothing.
"""

from __future__ import annotations

from oslo_config import cfg

from glance_import.net import addresses
from glance_import.net import client
from glance_import.net import resolver
from glance_import.net import urls


def url_filter(conf: cfg.ConfigOpts) -> urls.Filter:
    """[import_filtering_opts].

    :raises ValueError: a network is none
    """
    options = conf.import_filtering_opts

    def texts(name: str) -> frozenset[str]:
        return frozenset(map(urls.normal_host, options[name]))

    return urls.Filter(
        allowed_schemes=texts('allowed_schemes'),
        disallowed_schemes=texts('disallowed_schemes'),
        allowed_hosts=texts('allowed_hosts'),
        disallowed_hosts=texts('disallowed_hosts'),
        allowed_ports=frozenset(options.allowed_ports),
        disallowed_ports=frozenset(options.disallowed_ports),
        ranges=addresses.Rules(
            addresses.networks(options.allowed_addresses),
            addresses.networks(options.disallowed_addresses)))


def settings(conf: cfg.ConfigOpts) -> client.Settings:
    """[import_downloads], with the filter.

    :raises ValueError: a network or a name server is none
    """
    options = conf.import_downloads
    return client.Settings(
        filter=url_filter(conf),
        resolve=(resolver.by_servers(options.dns_servers)
                 if options.dns_servers else resolver.system),
        connect_timeout=options.connect_timeout,
        idle_timeout=options.idle_timeout,
        max_redirects=options.max_redirects,
        ca_file=options.ca_file or None, proxy=options.proxy or None)
