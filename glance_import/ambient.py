"""Capabilities that this process has, and what it starts has not.

A service manager gives a conductor CAP_LEASE and CAP_FOWNER as ambient ones,
which every program that it starts would have too: bubblewrap refuses to run
with them, and a plugin has no use for them. Touches the capabilities of the
calling thread; threads that are started later have the same.
"""

from __future__ import annotations

import ctypes

CAP_FOWNER, CAP_LEASE = 3, 28

_PR_CAP_AMBIENT = 47
_RAISE, _CLEAR_ALL = 2, 4

_libc = ctypes.CDLL(None, use_errno=True)


def keep() -> None:
    """Hand none on to programs; before other threads are started."""
    _libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)


def hand_on() -> None:
    """Before this process becomes another program that keeps them again.

    Those that it may not hand on it has not been given.
    """
    for capability in (CAP_FOWNER, CAP_LEASE):
        _libc.prctl(_PR_CAP_AMBIENT, _RAISE, capability, 0, 0)
