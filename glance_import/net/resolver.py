"""Names to addresses, once for each connection.

By the system's resolver, or by name servers that the operator names for
downloads alone. Touches the network.
"""

from __future__ import annotations

import collections.abc
import ipaddress
import socket
import threading

import dns.exception
import dns.resolver

from glance_import.net import addresses

Resolve = collections.abc.Callable[[str], list[addresses.Address]]
SECONDS = 10.0
# To wait for the other kind when one is there.
_MORE_SECONDS = 1.0


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

    return lambda host: _both(resolver, host + '.')


def _both(resolver: dns.resolver.Resolver, name: str
          ) -> list[addresses.Address]:
    """The addresses of both kinds, as far as the servers tell.

    Some servers answer questions for AAAA wrongly or not at all (RFC 4074):
    that hides nothing of what they say of A.

    :raises NameUnknown, NoAnswer: there are none
    """
    later = _Question(resolver, name, 'AAAA')
    threading.Thread(target=later.ask, daemon=True,
                     name='name-server').start()
    first = _Question(resolver, name, 'A')
    first.ask()
    later.answered.wait(_MORE_SECONDS if first.found else None)
    found = first.found + later.found
    # Of two that failed, what was said of A is the truth.
    failure = first.failure or later.failure
    if found or failure is None:
        return found
    # Named here: whoever loads eventlet's own copy puts it in the place of
    # the module that was there before, classes and all.
    if not isinstance(failure, (dns.resolver.NXDOMAIN,
                                dns.exception.SyntaxError)):
        raise NoAnswer(str(failure)) from failure
    if first.failure is None:
        # There is the name, since A was answered: without an address.
        return []
    raise NameUnknown(str(failure)) from failure


class _Question:
    """What the servers say of a name and one kind of record."""

    def __init__(self, resolver: dns.resolver.Resolver, name: str,
                 kind: str) -> None:
        self._asked = (name, kind)
        self._resolver = resolver
        self.found: list[addresses.Address] = []
        self.failure: Exception | None = None
        self.answered = threading.Event()

    def ask(self) -> None:
        """Ask, and set ``answered``."""
        try:
            answer = self._resolver.resolve(*self._asked, search=False)
            self.found = [ipaddress.ip_address(record.address)
                          for record in answer]
        except dns.resolver.NoAnswer:
            pass
        except (dns.exception.DNSException, OSError) as failure:
            self.failure = failure
        finally:
            self.answered.set()


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
