"""Which addresses, and which clients, are this machine's own."""

from __future__ import annotations

import functools
import ipaddress
import typing

# By which a proxy names the client it speaks for.
_FORWARDING = frozenset({'HTTP_X_FORWARDED_FOR', 'HTTP_X_REAL_IP',
                         'HTTP_FORWARDED'})


@functools.lru_cache(maxsize=1000)
def is_loopback(address: str) -> bool:
    """Whether an address, as text, is this machine."""
    try:
        parsed = ipaddress.ip_address(address.partition('%')[0])
    except ValueError:
        return False
    mapped = getattr(parsed, 'ipv4_mapped', None)
    return (mapped or parsed).is_loopback


def is_from_here(environ: dict[str, typing.Any]) -> bool:
    """Whether the client, and everybody it speaks for, is on this machine.
    """
    if not environ.keys() & _FORWARDING:
        return is_loopback(environ.get('REMOTE_ADDR', ''))
    addresses = [environ.get('REMOTE_ADDR', '')]
    for name in ('HTTP_X_FORWARDED_FOR', 'HTTP_X_REAL_IP'):
        addresses += [part.strip() for part in
                      environ.get(name, '').split(',') if part.strip()]
    return 'HTTP_FORWARDED' not in environ and all(
        is_loopback(address) for address in addresses)
