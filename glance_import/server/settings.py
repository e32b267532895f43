"""Settings of a server: address, limits, time-outs.

Plain values, so that any configuration can be turned into them. Touches
nothing.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Times are in seconds; sizes in bytes."""

    #: A name or an address of either family, and a TCP port.
    bind_host: str = '127.0.0.1'
    bind_port: int = 8080
    #: Connections that the kernel holds until they are accepted.
    backlog: int = 4096
    #: Processes that share the listening socket.
    workers: int = 1
    #: A worker whose event loop stands still for longer is killed and
    #: replaced; 0: never.
    hang_timeout: float = 30
    #: What requests under way may still take after SIGTERM; 0: all they
    #: need.
    graceful_timeout: float = 60
    #: How long a client may send or take nothing; 0: as long as it likes.
    socket_timeout: float = 900
    #: How long the head of a request may take, from its first byte or, of
    #: the first one, from when the client has connected; 0: no limit.
    head_timeout: float = 30
    #: The longest line of a head.
    max_line: int = 16384
    #: Whether a connection may be used for more than one request.
    keepalive: bool = True
    #: Connections of a worker at once. When all are taken, the one that has
    #: sent no whole request for longest makes room.
    max_connections: int = 8192
    #: Those of one IPv4 address, or of one /64 of IPv6 addresses; 0: as many
    #: as there are.
    max_connections_per_address: int = 1024
    #: Networks for which ``max_connections_per_address`` does not hold.
    unbounded_addresses: collections.abc.Sequence[str] = ()
    #: Requests with a body that a worker receives at once.
    max_bodies: int = 1000
    #: Added to the environment of every request.
    environ: collections.abc.Mapping[str, typing.Any] = (
        dataclasses.field(default_factory=dict))
    #: Name of the logger that has a line for each request.
    access_log: str = 'access'
    #: The header of an answer whose value is in that line.
    request_id_header: str = 'X-Request-ID'
    #: A signal that has a worker write its stacks to its log, if there is
    #: one: sent to a worker that hangs, before it is killed.
    report_signal: int | None = None
