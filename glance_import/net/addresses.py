"""Which addresses may be reached: global unicast ones, and what is opened.

One table of networks that are not the Internet's, after the registries of
IANA for special-purpose addresses. Addresses that carry another one inside
(IPv4-mapped, NAT64) are judged by that. Touches nothing.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What each network is, for the one who reads why. The first that fits counts.
_SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), kind) for network, kind in (
        ('0.0.0.0/8', 'an address of this host'),
        ('10.0.0.0/8', 'a private address'),
        ('100.64.0.0/10', 'a shared address of providers'),
        ('127.0.0.0/8', 'a loopback address'),
        # The metadata services of most clouds among them.
        ('169.254.0.0/16', 'a link-local address'),
        ('172.16.0.0/12', 'a private address'),
        ('192.0.0.0/24', 'a reserved address'),
        ('192.0.2.0/24', 'an address for documentation'),
        ('192.88.99.0/24', 'a reserved address'),
        ('192.168.0.0/16', 'a private address'),
        ('198.18.0.0/15', 'an address for benchmarks'),
        ('198.51.100.0/24', 'an address for documentation'),
        ('203.0.113.0/24', 'an address for documentation'),
        ('224.0.0.0/4', 'a multicast address'),
        ('240.0.0.0/4', 'a reserved address'),
        # A global address on paper; hosts of one cloud reach their own
        # platform's service there.
        ('168.63.129.16/32', 'an address of a metadata service'),
        ('::/128', 'an address of this host'),
        ('::1/128', 'a loopback address'),
        ('fe80::/10', 'a link-local address'),
        ('fec0::/10', 'a private address'),
        ('fc00::/7', 'a private address'),
        ('ff00::/8', 'a multicast address'),
        ('2001::/23', 'a reserved address'),
        ('2001:db8::/32', 'an address for documentation'),
        ('2002::/16', 'an address that hides another one'),
        ('3fff::/20', 'an address for documentation'),
    ))
_GLOBAL_6 = ipaddress.IPv6Network('2000::/3')
_NAT64 = ipaddress.IPv6Network('64:ff9b::/96')


@dataclasses.dataclass(frozen=True)
class Rules:
    """What the operator opened, and closed besides; closed wins."""

    opened: tuple[Network, ...] = ()
    closed: tuple[Network, ...] = ()

    def check(self, address: Address) -> str | None:
        """Why the address may not be reached; None when it may."""
        address = plain(address)
        if _within(address, self.closed):
            return 'an address that the operator has closed'
        if _within(address, self.opened):
            return None
        return special(address)


def networks(texts: collections.abc.Iterable[str]) -> tuple[Network, ...]:
    """Networks as an operator writes them.

    :raises ValueError: one of them is none, or has bits of a host set
    """
    return tuple(ipaddress.ip_network(text.strip()) for text in texts)


def plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 address only carries, else itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xffffffff)
    return address


def special(address: Address) -> str | None:
    """What the address is, if it is not one of the Internet's."""
    for network, kind in _SPECIAL:
        if address.version == network.version and address in network:
            return kind
    if address.version == 6 and address not in _GLOBAL_6:
        return 'a reserved address'
    return None


def _within(address: Address,
            found: collections.abc.Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network
               for network in found)
