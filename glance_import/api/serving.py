"""The settings of our own server, from the options of the service.

Touches the options in [DEFAULT] alone.
"""

from __future__ import annotations

from oslo_config import cfg

from glance_import.server import settings
from glance_import import signals


def server_settings(conf: cfg.ConfigOpts) -> settings.Settings:
    """What ``glance_import.server`` is to know; the rest is not its business.
    """
    return settings.Settings(
        bind_host=conf.bind_host,
        bind_port=conf.bind_port,
        backlog=conf.backlog,
        workers=conf.workers,
        hang_timeout=conf.worker_hang_timeout,
        graceful_timeout=conf.graceful_shutdown_timeout,
        socket_timeout=conf.client_socket_timeout,
        head_timeout=conf.client_header_timeout,
        max_line=conf.max_header_line,
        keepalive=conf.http_keepalive,
        max_connections=conf.max_connections,
        max_connections_per_address=conf.max_connections_per_address,
        unbounded_addresses=tuple(conf.unbounded_addresses),
        max_bodies=conf.max_request_bodies,
        # Handlers send files in parts where it is set (image_data).
        environ={'glance_import.server': 'eventlet'},
        access_log='glance_import.access',
        request_id_header='X-OpenStack-Request-ID',
        report_signal=signals.REPORT[0])
