"""The channel of a process: hands each event to all who listen to its kind.

Made by ``make`` from the options: the log listens always, metrics and
notifications when they are on. What a listener does wrong is logged, and
never a concern of who tells. Touches what the listeners touch.
"""

from __future__ import annotations

import collections.abc
import typing

from oslo_config import cfg
from oslo_log import log

from glance_import.observe import journal
from glance_import.observe import notifications
from glance_import.observe import series

LOG = log.getLogger(__name__)
Listener = collections.abc.Callable[[typing.Any], None]
Listeners = collections.abc.Mapping[type, Listener]


class Channel:
    """Safe to use from many threads; it may be carried over a fork."""

    def __init__(self, *listeners: Listeners, with_records: bool = False,
                 close: collections.abc.Sequence[
                     collections.abc.Callable[[], None]] = ()) -> None:
        self._listeners: dict[type, list[Listener]] = {}
        for each in listeners:
            for kind, listener in each.items():
                self._listeners.setdefault(kind, []).append(listener)
        #: Whether somebody reads the records of images, members and tasks.
        self.with_records = with_records
        self._close = close

    def tell(self, event: typing.Any) -> None:
        """Something has happened."""
        for listener in self._listeners.get(type(event), ()):
            try:
                listener(event)
            except Exception:
                LOG.exception('an event is not told of: %s',
                              type(event).__name__)

    def hears(self, kind: type) -> bool:
        """Whether anybody listens to events of this kind."""
        return kind in self._listeners

    def close(self) -> None:
        """Send and count what waits for it, as far as that is quick."""
        for close in self._close:
            close()


def make(conf: cfg.ConfigOpts) -> Channel:
    """What the options ask for; nothing is opened before the first event."""
    listeners: list[Listeners] = [journal.Journal().listeners()]
    closing: list[collections.abc.Callable[[], None]] = []
    if conf.metrics.bind_port:
        recorder = series.Recorder(conf)
        listeners.append(recorder.listeners())
        closing.append(recorder.flush)
    if not notifications.are_on(conf):
        return Channel(*listeners, close=closing)
    channel: Channel
    sender = notifications.Sender(conf, lambda event: channel.tell(event))
    listeners.append(notifications.Notifier(conf, sender).listeners())
    # First, since what becomes of the last notifications is counted.
    closing.insert(0, sender.close)
    channel = Channel(*listeners, with_records=True, close=closing)
    return channel
