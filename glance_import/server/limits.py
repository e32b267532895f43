"""Limits on connections: in all, and from one address.

When all places are taken, whoever has kept one for longest without sending a
whole request makes room, so that a new client is answered whatever the others
do. Clients enter and leave on the event loop. Touches nothing.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import functools
import ipaddress
import itertools
import logging
import resource
import threading
import time
import typing

LOG = logging.getLogger(__name__)

# Seconds that a client may take nothing of its answer before it has to make
# room when there is none.
STALLED = 30.0
# Clients that are tried when one is to make room.
CANDIDATES = 64
# Seconds between two lines of the log on clients that are turned away.
LOG_INTERVAL = 10.0
# Descriptors that are not for connections, each of which may need another
# one for the file that it is sent.
SPARE_DESCRIPTORS = 200

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Refusal(typing.NamedTuple):
    """Why there is no place: a status code, its name, and a sentence."""

    code: int
    reason: str
    text: str


CROWDED = Refusal(429, 'Too Many Requests',
                  'There are too many connections from this address.')
FULL = Refusal(503, 'Service Unavailable', 'There are too many connections.')


class Client(typing.Protocol):
    """What is needed of a connection."""

    address: tuple

    def make_room(self) -> bool:
        """End it, unless more of a request has come; whether it ends."""

    def shut_down(self) -> None:
        """Whoever waits for it sees it gone."""


ClientT = typing.TypeVar('ClientT', bound=Client)


class ConnectionLimits(typing.Generic[ClientT]):
    """The connections of one process.

    :param total: connections at once
    :param per_address: connections of one IPv4 address, or of one /64 of
        IPv6 addresses; 0: as many as there are
    :param unbounded: networks for which ``per_address`` does not hold
    """

    def __init__(self, total: int, per_address: int,
                 unbounded: collections.abc.Iterable[str]) -> None:
        self._total = total
        self._per_address = per_address
        self._unbounded = networks(unbounded)
        self._all: set[ClientT] = set()
        self._of_network: collections.Counter[str] = collections.Counter()
        # Both in the order in which it began; values are monotonic seconds.
        self._waiting: dict[ClientT, float] = {}
        self._stalled: dict[ClientT, float] = {}
        self._lock = threading.Lock()
        self._logged = -LOG_INTERVAL

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> collections.abc.Iterator[ClientT]:
        return iter(list(self._all))

    def is_crowded(self, client: ClientT) -> bool:
        """Whether its network has as many connections as it may."""
        network = network_of(client.address[0])
        return (0 < self._per_address <= self._of_network[network]
                and not self._is_unbounded(client))

    def find_room(self) -> bool:
        """Whether there is a place; another client may be ended for it."""
        return len(self._all) < self._total or self.make_room()

    def enter(self, client: ClientT) -> None:
        """Take a place."""
        self._all.add(client)
        self._of_network[network_of(client.address[0])] += 1
        self.waits(client)

    def leave(self, client: ClientT) -> None:
        if client not in self._all:
            return
        self._all.discard(client)
        self.is_served(client)
        network = network_of(client.address[0])
        self._of_network[network] -= 1
        if not self._of_network[network]:
            del self._of_network[network]

    # The next three may be called from any thread.

    def waits(self, client: ClientT) -> None:
        """It has no request, or the rest of it does not matter any more."""
        with self._lock:
            self._waiting.setdefault(client, time.monotonic())

    def stalls(self, client: ClientT) -> None:
        """Its answer is not taken."""
        with self._lock:
            self._stalled.setdefault(client, time.monotonic())

    def is_served(self, client: ClientT) -> None:
        """A request of its is being answered, and the answer taken."""
        with self._lock:
            self._waiting.pop(client, None)
            self._stalled.pop(client, None)

    def make_room(self) -> bool:
        """End the connection that was of no use for longest, if any was."""
        with self._lock:
            waiting = list(itertools.islice(self._waiting, CANDIDATES))
            stalled = list(itertools.islice(self._stalled.items(), 1))
        for client in waiting:
            if client.make_room():
                self.is_served(client)
                return True
        for client, since in stalled:
            if time.monotonic() - since >= STALLED:
                self.is_served(client)
                client.shut_down()
                return True
        return False

    def _is_unbounded(self, client: ClientT) -> bool:
        address = _address(client.address[0])
        return any(address in network for network in self._unbounded)

    def log_refusal(self, refusal: Refusal, client: ClientT) -> None:
        """Say from time to time that clients are turned away."""
        now = time.monotonic()
        if now - self._logged >= LOG_INTERVAL:
            self._logged = now
            LOG.warning('clients are turned away, such as %s: %s',
                        client.address[0], refusal.text)


def networks(texts: collections.abc.Iterable[str]) -> tuple[Network, ...]:
    """:raises ValueError: one of them is none"""
    return tuple(ipaddress.ip_network(text) for text in texts)


@functools.lru_cache(maxsize=10000)
def network_of(text: str) -> str:
    """The network that counts as one client.

    Of IPv6 a /64: that is what one host is given to choose from.
    """
    address = _address(text)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    # Without the zone of a link-local one.
    address = ipaddress.ip_address(text.partition('%')[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def affordable(connections: int) -> int:
    """How many connections the limit on open files leaves room for.

    The limit is raised as far as it may be: the usual 1024 is too low.

    :param connections: how many there are to be
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = 4 * connections + SPARE_DESCRIPTORS
    if resource.RLIM_INFINITY not in (soft, hard):
        target = min(target, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            soft = target
    if soft == resource.RLIM_INFINITY:
        return connections
    possible = max(1, min(connections, (soft - SPARE_DESCRIPTORS) // 2))
    if possible < connections:
        LOG.warning('the limit of %d open files leaves room for %d '
                    'connections', soft, possible)
    return possible
