"""How things stand when metrics are asked for: queue, staging, stores.

Each kind is looked up in a thread of its own, at most once in so many
seconds, and waited for a bounded time: a database or a store that hangs
takes its own figures off the answer and nothing else. Touches the database,
the staging area, the job board and the stores, reading.
"""

from __future__ import annotations

import collections.abc
import os
import threading
import time
import typing

from oslo_log import log
from prometheus_client import core

from glance_import.db import engine
from glance_import.db import figures
from glance_import import jobboard
from glance_import.observe import series
from glance_import.stores import base as stores
from glance_import.stores import file as file_store

if typing.TYPE_CHECKING:
    from glance_import import services as all_services

LOG = log.getLogger(__name__)
Families = list[core.Metric]
# What each says, and its labels.
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    'database_up': ('Whether the database answers.', ()),
    'imports_waiting': (
        'Imports that wait for a conductor, of all nodes.', ()),
    'imports_held': (
        'Imports that wait for an operator, of all nodes.', ()),
    'imports_running': ('Imports that are run, of all nodes.', ()),
    'oldest_waiting_import_seconds': (
        'Age of the oldest import that waits; 0 when none does.', ()),
    'conductors': ('Conductors heard of lately, of all nodes.', ()),
    'job_board_up': (
        'Whether the job board outside the database answers.', ()),
    'staging_up': ('Whether the staging area can be read.', ()),
    'staging_bytes': (
        'Bytes in the staging area, by what they are.', ('state',)),
    'store_up': ('Whether the store answers; not of those that have no way '
                 'to be asked.', ('store',)),
    'free_bytes': (
        'Bytes that may still be written, by where: staging, or a store.',
        ('where',)),
    'capacity_bytes': ('Bytes of the file system, by where.', ('where',)),
    'check_level': ('What the upgrade check says of this node, by its rows: '
                    '0 good, 1 odd, 2 wrong.', ('check',)),
}


class Probe:
    """Something that is looked up now and then.

    :param measure: what is found; raises what says that it is away
    :param name: for the log
    :param up: name of the gauge that says whether it answered
    :param labels: values of that gauge's labels
    """

    def __init__(self, name: str, measure: collections.abc.Callable[
            [], Families], *, up: str | None = None,
            labels: tuple[str, ...] = ()) -> None:
        self.name = name
        self.up = up
        self.labels = labels
        self._measure = measure
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._running = False
        self._found: Families | None = None
        self._looked_at = -1e9
        self._away = False

    def begin(self, interval: float) -> None:
        """Look, unless somebody does, or has done so lately."""
        with self._lock:
            if self._running or (
                    time.monotonic() - self._looked_at < interval):
                return
            self._running = True
            self._done.clear()
        threading.Thread(target=self._run, daemon=True,
                         name=f'look-{self.name}').start()

    def result(self, deadline: float) -> Families | None:
        """What was found; None while it is away, or not there in time."""
        self._done.wait(max(0.0, deadline - time.monotonic()))
        with self._lock:
            return None if self._running else self._found

    def _run(self) -> None:
        found, trouble = None, ''
        try:
            found = self._measure()
        except Exception as failure:
            trouble = engine.one_line(failure)
        with self._lock:
            self._found = found
            self._looked_at = time.monotonic()
            self._running = False
            self._done.set()
        if trouble and not self._away:
            LOG.warning('metrics: %s: %s', self.name, trouble)
        elif self._away and not trouble:
            LOG.info('metrics: %s answers again', self.name)
        self._away = bool(trouble)


class Gauges:
    """A collector of prometheus_client.

    :param probes: called until it gives some: what they look at may not be
        there yet
    :param interval: seconds for which nothing is looked up again
    :param timeout: seconds for which an answer waits
    """

    def __init__(self, probes: collections.abc.Callable[
            [], collections.abc.Sequence[Probe]], *, interval: float,
            timeout: float) -> None:
        self._make = probes
        self._probes: collections.abc.Sequence[Probe] = ()
        self._interval = interval
        self._timeout = timeout

    def describe(self) -> Families:
        """Nothing is looked up when it is registered."""
        return []

    def collect(self) -> collections.abc.Iterator[core.Metric]:
        """What answers in time."""
        if not self._probes:
            self._probes = self._make()
        deadline = time.monotonic() + self._timeout
        for probe in self._probes:
            probe.begin(self._interval)
        families: dict[str, core.Metric] = {}
        for probe in self._probes:
            found = probe.result(deadline)
            if probe.up is not None:
                _merge(families, [_gauge(
                    probe.up, float(found is not None), *probe.labels)])
            _merge(families, found or ())
        yield from families.values()


def _merge(families: dict[str, core.Metric],
           more: collections.abc.Iterable[core.Metric]) -> None:
    for each in more:
        if each.name in families:
            families[each.name].samples.extend(each.samples)
        else:
            families[each.name] = core.GaugeMetricFamily(
                each.name, each.documentation)
            families[each.name].samples.extend(each.samples)


def _gauge(name: str, value: float, *labels: str
           ) -> core.GaugeMetricFamily:
    text, names = GAUGES[name]
    made = core.GaugeMetricFamily(series.PREFIX + name, text, labels=names)
    made.add_metric(labels, value)
    return made


def probes(services: all_services.Services) -> list[Probe]:
    """Everything that this service works on."""
    found = [
        Probe('the database', lambda: _queue(services), up='database_up'),
        Probe('the staging area', lambda: _staging(services), up='staging_up')]
    if services.board.outside:
        found.append(Probe('the job board', lambda: _board(services.board),
                           up='job_board_up'))
    return found + [_store(each) for each in services.stores.all()]


def _queue(services: all_services.Services) -> Families:
    with services.db.read() as conn:
        found = figures.queue(conn)
    return [_gauge('imports_waiting', found.waiting),
            _gauge('imports_running', found.running),
            _gauge('imports_held', found.held),
            _gauge('oldest_waiting_import_seconds', found.oldest),
            _gauge('conductors', found.conductors)]


def _staging(services: all_services.Services) -> Families:
    sizes = dict.fromkeys(('receiving', 'partial', 'complete', 'derived'), 0)
    for entry in services.area.list():
        sizes['complete' if entry.complete else
              'receiving' if entry.live else 'partial'] += entry.size
    for product in services.area.products():
        try:
            sizes['derived'] += os.stat(product.path).st_size
        except FileNotFoundError:
            continue
    return [*(_gauge('staging_bytes', size, state)
              for state, size in sizes.items()),
            *_room('staging', services.area.directory)]


def _room(name: str, directory: str) -> Families:
    found = os.statvfs(directory)
    return [
        _gauge('free_bytes', found.f_bavail * found.f_frsize, name),
        _gauge('capacity_bytes', found.f_blocks * found.f_frsize, name)]


def _board(board: jobboard.Board) -> Families:
    board.check()
    return []


def _store(store: stores.Store) -> Probe:
    def measure() -> Families:
        if not store.check():
            return []
        return (_room(store.id, store.datadir)
                if isinstance(store, file_store.FileStore) else [])
    return Probe(f'store {store.id}', measure, up='store_up',
                 labels=(store.id,))
