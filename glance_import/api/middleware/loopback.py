"""Which addresses are this machine's own."""

from __future__ import annotations

import functools
import ipaddress


@functools.lru_cache(maxsize=1000)
def is_loopback(address: str) -> bool:
    """Whether an address, as text, is this machine."""
    try:
        parsed = ipaddress.ip_address(address.partition('%')[0])
    except ValueError:
        return False
    mapped = getattr(parsed, 'ipv4_mapped', None)
    return (mapped or parsed).is_loopback
