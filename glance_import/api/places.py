"""Who may be connected: how many in all, how many from one address.

When all places are taken, whoever has kept one for longest without asking
for anything makes room, so that a new client is answered whatever the others
do. Runs on the hub; touches nothing.
"""

from __future__ import annotations

import collections
import collections.abc
import functools
import ipaddress
import itertools
import logging
import time
import typing

if typing.TYPE_CHECKING:
    from glance_import.api import connection

LOG = logging.getLogger(__name__)

# Seconds that a client may take nothing of its answer before it has to make
# room when there is none.
STALLED = 30.0
# Clients that are asked to make room for one that is new.
ASKED = 64
# Seconds between two lines of the log on clients that are turned away.
SAY_AGAIN = 10.0

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TurnedAway(Exception):
    """There is no place; status code and reason, and the text says why."""

    def __init__(self, code: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.reason = reason


class Places:
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
        self._all: set[connection.Connection] = set()
        self._of_client: collections.Counter[str] = collections.Counter()
        # In the order in which they began; values are monotonic seconds.
        self._waiting: dict[connection.Connection, float] = {}
        self._stalled: dict[connection.Connection, float] = {}
        self._said = -SAY_AGAIN

    def __iter__(self) -> collections.abc.Iterator[connection.Connection]:
        return iter(list(self._all))

    def enter(self, who: connection.Connection) -> None:
        """Take a place.

        :raises TurnedAway: there is none for this client
        """
        client = client_of(who.address[0])
        if (self._per_address and self._of_client[client] >= self._per_address
                and not self._is_unbounded(who)):
            raise self._turned_away(TurnedAway(
                429, 'Too Many Requests',
                'There are too many connections from this address.'), who)
        if len(self._all) >= self._total and not self.make_room():
            raise self._turned_away(TurnedAway(
                503, 'Service Unavailable',
                'There are too many connections.'), who)
        self._all.add(who)
        self._of_client[client] += 1
        self.waits(who)

    def leave(self, who: connection.Connection) -> None:
        if who not in self._all:
            return
        self._all.discard(who)
        self.busy(who)
        client = client_of(who.address[0])
        self._of_client[client] -= 1
        if not self._of_client[client]:
            del self._of_client[client]

    def waits(self, who: connection.Connection) -> None:
        """It has no request, or the rest of it does not matter any more."""
        self._waiting.setdefault(who, time.monotonic())

    def stalls(self, who: connection.Connection) -> None:
        """Its answer is not taken."""
        self._stalled.setdefault(who, time.monotonic())

    def busy(self, who: connection.Connection) -> None:
        """A request of its is being answered, and the answer taken."""
        self._waiting.pop(who, None)
        self._stalled.pop(who, None)

    def make_room(self) -> bool:
        """End the connection that was of no use for longest, if any was."""
        for who in list(itertools.islice(self._waiting, ASKED)):
            if who.give_way():
                self.busy(who)
                return True
        for who, since in list(self._stalled.items())[:1]:
            if time.monotonic() - since >= STALLED:
                self.busy(who)
                who.shut_down()
                return True
        return False

    def _is_unbounded(self, who: connection.Connection) -> bool:
        address = _address(who.address[0])
        return any(address in network for network in self._unbounded)

    def _turned_away(self, refusal: TurnedAway, who: connection.Connection
                     ) -> TurnedAway:
        now = time.monotonic()
        if now - self._said >= SAY_AGAIN:
            self._said = now
            LOG.warning('clients are turned away, such as %s: %s',
                        who.address[0], refusal)
        return refusal


def networks(texts: collections.abc.Iterable[str]) -> tuple[Network, ...]:
    """:raises ValueError: one of them is none"""
    return tuple(ipaddress.ip_network(text) for text in texts)


@functools.lru_cache(maxsize=10000)
def client_of(text: str) -> str:
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
