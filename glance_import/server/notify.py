"""What a service says to the service manager that started it.

The protocol of sd_notify(3): a datagram to the socket that ``NOTIFY_SOCKET``
names. Nothing is said where there is none. Touches that socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time

# A manager that is gone, or does not read, must not hold up who tells it.
_SECONDS = 1.0


def say(text: str) -> None:
    """Such as ``READY=1``; lost where nobody listens."""
    address = os.environ.get('NOTIFY_SOCKET')
    if not address:
        return
    if address.startswith('@'):
        address = '\0' + address[1:]
    with contextlib.suppress(OSError), socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(_SECONDS)
        sock.sendto(text.encode(), address)


class Watchdog:
    """Pings as often as the manager wants, when it is called often."""

    def __init__(self) -> None:
        self._pause = _watchdog_seconds() / 2
        self._last = 0.0

    def ping(self) -> None:
        """The work goes on."""
        now = time.monotonic()
        if self._pause and now - self._last >= self._pause:
            self._last = now
            say('WATCHDOG=1')


def _watchdog_seconds() -> float:
    """Of silence after which this process is to be killed; 0 for never."""
    if os.environ.get('WATCHDOG_PID', str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return int(os.environ.get('WATCHDOG_USEC', '0')) / 1e6
    except ValueError:
        return 0.0
