"""What processes count: the counters and histograms of prometheus_client.

In its multiprocess mode, so that workers that come and go add up: each
counts in files of its own (``slots``), which whoever serves metrics reads.
Labels are of few values each, and what a client sends is none of them.
Touches the files of this process's slot.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import os
import threading
import time
import typing

from oslo_config import cfg
from oslo_log import log

from glance_import.observe import events
from glance_import.observe import slots
from glance_import import state
from glance_import import states

LOG = log.getLogger(__name__)

PREFIX = 'glance_import_'
OTHER = 'other'
METHODS = frozenset({'GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH',
                     'OPTIONS'})
_VARIABLE = 'PROMETHEUS_MULTIPROC_DIR'
_making = threading.Lock()
# Between two tries to find a place to count in.
RETRY_SECONDS = 60.0
# Between two times that answers are counted, and how many are kept for that.
FLUSH_SECONDS = 0.5
_MOST_ANSWERED = 1000
# Most values of a label that comes from a plugin or a store.
_MAX_VALUES = 200
_REQUEST_SECONDS = (.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60)
_IMPORT_SECONDS = (.1, .5, 1, 5, 15, 60, 300, 900, 3600, 14400)

# name, what it counts, labels; histograms have buckets besides.
COUNTERS = {
    'http_requests_total': (
        'Requests answered, by method, route and status.',
        ('method', 'route', 'status')),
    'refusals_total': (
        'Requests refused for a quota, a limit or a full staging area.',
        ('code',)),
    'database_errors_total': (
        'Requests that the database kept from being answered.', ()),
    'received_bytes_total': (
        'Bytes that have come into the staging area, by what brought them.',
        ('source',)),
    'stored_bytes_total': (
        'Bytes that stores have taken.', ('store',)),
    'sent_bytes_total': (
        'Bytes of image data sent to clients.', ()),
    'store_failures_total': (
        'Failures of stores to take or give data.', ('store',)),
    'imports_begun_total': (
        'Imports that a conductor has begun.', ('method',)),
    'imports_total': (
        'Imports that have ended, by method, outcome and code.',
        ('method', 'outcome', 'code')),
    'plugin_verdicts_total': (
        'Verdicts of plugins of the contract.', ('plugin', 'verdict')),
    'leases_lost_total': (
        'Imports that a conductor found to be no longer its own.', ()),
    'notifications_total': (
        'Notifications that were sent, failed or dropped.', ('result',)),
}
HISTOGRAMS = {
    'http_request_duration_seconds': (
        'Seconds until an answer began.', ('method', 'route'),
        _REQUEST_SECONDS),
    'import_queue_seconds': (
        'Seconds that imports waited for a conductor.', ('method',),
        _IMPORT_SECONDS),
    'import_run_seconds': (
        'Seconds from the first claim of an import to its end.',
        ('method', 'outcome'), _IMPORT_SECONDS),
    'import_step_seconds': (
        'Seconds that a step of an import took.', ('step',),
        _IMPORT_SECONDS),
    'plugin_seconds': (
        'Seconds until a plugin of the contract gave its verdict.',
        ('plugin',), _IMPORT_SECONDS),
}


class _Series:
    """The metrics of one process, in the files of a slot of its own."""

    def __init__(self, where: slots.Slots) -> None:
        import prometheus_client
        from prometheus_client import values

        slot = where.take()
        self._directory = where.path
        self._values = values
        self._value_class = values.MultiProcessValue(lambda: slot)
        self._registry = prometheus_client.CollectorRegistry()
        self._children: dict[tuple[str, ...], typing.Any] = {}
        with self._own_files():
            self._metrics: dict[str, typing.Any] = {
                name: prometheus_client.Counter(
                    PREFIX + name, text, labels, registry=self._registry)
                for name, (text, labels) in COUNTERS.items()}
            for name, (text, labels, buckets) in HISTOGRAMS.items():
                self._metrics[name] = prometheus_client.Histogram(
                    PREFIX + name, text, labels, registry=self._registry,
                    buckets=buckets)

    def child(self, name: str, *labels: str) -> typing.Any:
        """The counter or histogram with these values of its labels."""
        key = (name, *labels)
        found = self._children.get(key)
        if found is None:
            metric = self._metrics[name]
            with self._own_files():
                found = metric.labels(*labels) if labels else metric
            self._children[key] = found
        return found

    @contextlib.contextmanager
    def _own_files(self) -> collections.abc.Iterator[None]:
        """prometheus_client has one kind of value and one directory at a
        time, as its documentation says it of uWSGI; here, ours.
        """
        with _making:
            before = self._values.ValueClass
            os.environ[_VARIABLE] = self._directory
            self._values.ValueClass = self._value_class
            try:
                yield
            finally:
                self._values.ValueClass = before
                del os.environ[_VARIABLE]


class Recorder:
    """Counts events; one for a process and those that it forks."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._slots = slots.Slots(conf.state_path)
        self._lock = threading.Lock()
        self._series: _Series | None = None
        self._known: dict[str, set[str]] = {}
        self._next = 0.0
        self._answered: collections.deque[events.RequestAnswered] = (
            collections.deque())
        self._some = threading.Event()
        self._awake = False
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """A child counts in a slot of its own, from its first event on."""
        self._lock = threading.Lock()
        self._series = None
        # What the parent has answered it counts itself.
        self._answered.clear()
        self._some = threading.Event()
        self._awake = False
        self._thread = None

    def listeners(self) -> dict[type, collections.abc.Callable]:
        """For the channel."""
        return {
            events.RequestAnswered: self._request,
            events.RequestRefused: lambda event: self._add(
                'refusals_total', 1, self._few('code', event.code)),
            events.DatabaseAway: lambda event: self._add(
                'database_errors_total'),
            events.DataReceived: lambda event: self._add(
                'received_bytes_total', event.size, event.source),
            events.DataStored: lambda event: self._add(
                'stored_bytes_total', event.size,
                self._few('store', event.store)),
            events.DataSent: lambda event: self._add(
                'sent_bytes_total', event.size),
            events.StoreHeard: self._store_heard,
            events.ImportBegun: self._begun,
            events.ImportEnded: self._ended,
            events.PluginJudged: self._judged,
            events.LeaseLost: lambda event: self._add('leases_lost_total'),
            events.NotificationEnded: lambda event: self._add(
                'notifications_total', 1, event.result),
        }

    def _made(self) -> _Series | None:
        """None while there is no place to count in."""
        if self._series is None:
            with self._lock:
                if self._series is None and time.monotonic() >= self._next:
                    try:
                        self._series = _Series(self._slots)
                    except (OSError, state.StateError) as failure:
                        self._next = time.monotonic() + RETRY_SECONDS
                        LOG.error('nothing is counted: %s', failure)
        return self._series

    def _add(self, name: str, amount: float = 1, *labels: str) -> None:
        made = self._made()
        if made is not None:
            made.child(name, *labels).inc(amount)

    def _take(self, name: str, seconds: float, *labels: str) -> None:
        made = self._made()
        if made is not None:
            made.child(name, *labels).observe(max(0.0, seconds))

    def _few(self, label: str, value: str) -> str:
        """The value, or ``other`` when the label has had very many."""
        known = self._known.setdefault(label, set())
        if value not in known:
            if len(known) >= _MAX_VALUES:
                return OTHER
            known.add(value)
        return value

    def _request(self, event: events.RequestAnswered) -> None:
        """Kept, to be counted with others: a request shall cost little."""
        self._answered.append(event)
        if not self._awake:
            self._awake = True
            self._wake()
        elif len(self._answered) >= _MOST_ANSWERED:
            self.flush()

    def _wake(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._flush_now_and_then, daemon=True,
                    name='metrics')
                self._thread.start()
        self._some.set()

    def _flush_now_and_then(self) -> None:
        while True:
            self._some.wait()
            self._some.clear()
            time.sleep(FLUSH_SECONDS)
            self._awake = False
            self.flush()

    def flush(self) -> None:
        """Count the requests that were answered since the last time."""
        if not self._answered:
            return
        made = self._made()
        totals: collections.Counter[tuple[str, ...]] = collections.Counter()
        with contextlib.suppress(IndexError):
            while True:
                method, route, status, seconds = self._answered.popleft()
                if made is None:
                    continue
                if method not in METHODS:
                    method = OTHER
                totals[method, route, str(status)] += 1
                made.child('http_request_duration_seconds', method,
                           route).observe(seconds)
        for labels, number in totals.items():
            self._add('http_requests_total', number, *labels)

    def _store_heard(self, event: events.StoreHeard) -> None:
        if event.trouble is not None:
            self._add('store_failures_total', 1,
                      self._few('store', event.store))

    def _begun(self, event: events.ImportBegun) -> None:
        self._add('imports_begun_total', 1, event.method)
        self._take('import_queue_seconds', event.waited, event.method)

    def _ended(self, event: events.ImportEnded) -> None:
        outcome = states.SUCCESS if event.code is None else states.FAILURE
        self._add('imports_total', 1, event.method, outcome,
                  self._few('code', event.code or ''))
        if event.running is not None:
            self._take('import_run_seconds', event.running, event.method,
                       outcome)
        for step, seconds in event.steps.items():
            self._take('import_step_seconds', seconds,
                       self._few('step', step))

    def _judged(self, event: events.PluginJudged) -> None:
        plugin = self._few('plugin', event.plugin)
        self._add('plugin_verdicts_total', 1, plugin, event.verdict)
        self._take('plugin_seconds', event.seconds, plugin)
