"""So many bytes a second and no more. Touches the clock."""

from __future__ import annotations

import collections.abc
import threading
import time


class Rate:
    """At most so many bytes a second; None for as fast as it goes.

    Shared by threads, all of them together have that rate.
    """

    def __init__(self, bytes_per_second: float | None) -> None:
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def wait(self, length: int, check: collections.abc.Callable[
            [], object] = lambda: None) -> None:
        """Until that many bytes may be passed on.

        :param check: asked every second; may raise
        """
        if self._rate is None:
            return
        with self._lock:
            # What is about to be passed on is waited for, not what was.
            self._free_at = end = length / self._rate + max(
                self._free_at, time.monotonic())
        while (pause := end - time.monotonic()) > 0:
            time.sleep(min(pause, 1))
            check()


class Rates:
    """Those of stores, by id; a store without one is not held up."""

    def __init__(self, megabytes: collections.abc.Mapping[str, str]) -> None:
        """:param megabytes: a second, millions of bytes each

        :raises ValueError: one of them is no number above 0
        """
        self._rates = {}
        for store_id, text in megabytes.items():
            rate = float(text)
            if not 0 < rate < float('inf'):
                raise ValueError(f'{text!r} (of {store_id}) is not above 0')
            self._rates[store_id] = Rate(rate * 1e6)

    def ids(self) -> list[str]:
        return list(self._rates)

    def wait(self, store_id: str, length: int,
             check: collections.abc.Callable[[], object]) -> None:
        """Until that many bytes may go to the store; see ``Rate.wait``."""
        rate = self._rates.get(store_id)
        if rate is not None:
            rate.wait(length, check)
