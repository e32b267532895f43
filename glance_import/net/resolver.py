"""Names to addresses, once for each connection.

By the system's resolver, or by name servers that the operator names for
downloads alone. Touches the network.
"""

from __future__ import annotations

import collections.abc
import ipaddress
import socket

import dns.exception
import dns.resolver

from glance_import.net import addresses

Resolve = collections.abc.Callable[[str], list[addresses.Address]]
SECONDS = 10.0


class NameUnknown(Exception):
    """There is no such name, or it has no address."""


class NoAnswer(Exception):
    """Nobody could be asked; worth trying again."""


def system(host: str) -> list[addresses.Address]:
    """What this machine's resolver says.

    :raises NameUnknown, NoAnswer:
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as failure:
        if failure.errno == socket.EAI_AGAIN:
            raise NoAnswer(str(failure)) from failure
        raise NameUnknown(str(failure)) from failure
    except UnicodeError as failure:
        raise NameUnknown(str(failure)) from failure
    # An address with a zone cannot be judged, so it is none.
    texts = dict.fromkeys(str(each[4][0]) for each in found)
    return [ipaddress.ip_address(text) for text in texts
            if '%' not in text]


def by_servers(servers: collections.abc.Sequence[str]) -> Resolve:
    """A resolver that asks these servers: addresses, with :port if not 53."""
    asked = []
    for server in servers:
        address, port = split_server(server)
        asked.append(dns.nameserver.Do53Nameserver(address, port))
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = asked
    resolver.lifetime = SECONDS

    def resolve(host: str) -> list[addresses.Address]:
        found: list[addresses.Address] = []
        try:
            for kind in ('A', 'AAAA'):
                try:
                    answer = resolver.resolve(host + '.', kind, search=False)
                except dns.resolver.NoAnswer:
                    continue
                found += [ipaddress.ip_address(record.address)
                          for record in answer]
        except (dns.resolver.NXDOMAIN, dns.exception.SyntaxError) as failure:
            raise NameUnknown(str(failure)) from failure
        except dns.exception.DNSException as failure:
            raise NoAnswer(str(failure)) from failure
        return found

    return resolve


def split_server(text: str) -> tuple[str, int]:
    """(address, port) of a name server.

    :raises ValueError: it is none
    """
    host, colon, port = text.strip().rpartition(':')
    if colon and (host.startswith('[') and host.endswith(']')
                  or host and ':' not in host):
        text, number = host.strip('[]'), int(port)
    else:
        text, number = text.strip().strip('[]'), 53
    if not 0 < number < 65536:
        raise ValueError(f'{number} is no port')
    return str(ipaddress.ip_address(text)), number
