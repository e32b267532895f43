"""The address that metrics are served on: whether it can be had.

Touches that address, for a moment.
"""

from __future__ import annotations

import errno
import socket
import typing

from oslo_config import cfg

# What is wrong with the host; all else is the port's.
_OF_HOST = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class CannotListen(Exception):
    """The address cannot be had; one line."""


def refused(conf: cfg.ConfigOpts, failure: OSError) -> CannotListen:
    """What it means that a server could not be had there."""
    host, port = conf.metrics.bind_host, conf.metrics.bind_port
    option = ('bind_host' if isinstance(failure, socket.gaierror)
              or failure.errno in _OF_HOST else 'bind_port')
    return CannotListen(f'metrics: cannot listen on {host} port {port}: '
                        f'{failure.strerror or failure} ([metrics] {option})')


def check(old: cfg.ConfigOpts, new: cfg.ConfigOpts) -> None:
    """A server that is at ``old`` could be at ``new``.

    :raises CannotListen: it could not
    """
    (old_host, old_port), (host, port) = _place(old), _place(new)
    if (old_host, old_port) == (host, port):
        return
    # Its own port is taken, by itself.
    tried = 0 if port == old_port else port
    try:
        family, kind, proto, _name, address = socket.getaddrinfo(
            host, tried, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, proto) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except OSError as failure:
        raise refused(new, failure) from failure


def _place(conf: cfg.ConfigOpts) -> tuple[str, typing.Any]:
    return conf.metrics.bind_host, conf.metrics.bind_port
