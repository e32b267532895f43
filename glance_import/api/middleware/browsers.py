"""Keeps web pages out of a service that asks nobody for a password.

A page in a browser on this machine reaches what listens on loopback. By a
name of its own that it lets stand for 127.0.0.1 (DNS rebinding) it even reads
the answers; the browser tells that name as ``Host``. By a form or a script it
sends requests across sites; the browser tells where from as ``Origin``
(RFC 6454, and the Fetch standard).
"""

from __future__ import annotations

import ipaddress
import typing
from urllib import parse

from oslo_config import cfg
from oslo_middleware import cors

from glance_import.api.middleware import loopback

_DEFAULT_PORTS = (':80', ':443')


class Guard:
    """Judges the names that a request gives for both ends."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        # The library reads its groups of options itself.
        self._origins = frozenset(cors.CORS(None, conf).allowed_origins)
        self._names = {conf.bind_host.lower()}
        self._names.add(_host_of(conf.public_endpoint or ''))
        self._names.discard('')
        self._any_address = conf.paste_deploy.allow_remote_noauth

    def refusal(self, environ: dict[str, typing.Any]) -> str | None:
        """Why the request is not answered; None when it is.

        What says neither is no browser's.
        """
        host = environ.get('HTTP_HOST')
        if host is not None and not self._is_ours(_name(host)):
            return ('This service runs without Keystone, so it answers only '
                    f"to names of its own; {host[:100]!r} is none. Ask for "
                    'localhost, or see public_endpoint.')
        origin = environ.get('HTTP_ORIGIN')
        if origin is not None and not self._is_named(origin, host or ''):
            return ('This service runs without Keystone, so it takes no '
                    f'requests of web pages from {origin[:100]!r}; see '
                    '[cors] allowed_origin.')
        return None

    def _is_ours(self, name: str) -> bool:
        if name in self._names or name == 'localhost' \
                or name.endswith('.localhost') \
                or '%' not in name and loopback.is_loopback(name):
            return True
        # Nobody lets an address stand for another one.
        return self._any_address and _is_address(name)

    def _is_named(self, origin: str, host: str) -> bool:
        if origin in self._origins or '*' in self._origins:
            return True
        _scheme, separator, place = origin.partition('://')
        return bool(separator) and _whole(place) == _whole(host)


def _host_of(url: str) -> str:
    try:
        return (parse.urlsplit(url).hostname or '').lower()
    except ValueError:
        return ''


def _name(host: str) -> str:
    """A Host without its port, as it is compared."""
    host = host.strip().lower()
    if host.startswith('['):
        return host[1:].partition(']')[0]
    return host.partition(':')[0].removesuffix('.')


def _whole(place: str) -> str:
    place = place.strip().lower()
    for port in _DEFAULT_PORTS:
        place = place.removesuffix(port)
    return place


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
