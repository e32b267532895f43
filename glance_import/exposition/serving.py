"""The process that serves metrics: what processes counted, and gauges.

It is a process of its own, so that being asked costs no request its turn,
and the server that forks workers holds no thread's lock over it. Touches the
files of ``observe.slots``, and listens.
"""

from __future__ import annotations

import collections.abc
import threading
import typing

from oslo_config import cfg
from oslo_log import log
import prometheus_client
from prometheus_client import core
from prometheus_client import multiprocess

from glance_import.exposition import checked
from glance_import.exposition import gauges
from glance_import.exposition import listening
from glance_import.observe import series
from glance_import.observe import slots
from glance_import import services
from glance_import import staging
from glance_import.stores import configured as store_registry
from glance_import import version

LOG = log.getLogger(__name__)
# Between two tries to get an address that somebody else has.
RETRY_SECONDS = 5.0
PATHS = ('/', '/metrics')


class Counted:
    """A collector of what the processes of this node have counted."""

    def __init__(self, where: slots.Slots) -> None:
        self._slots = where

    def describe(self) -> list[core.Metric]:
        """Nothing is read when it is registered."""
        return []

    def collect(self) -> collections.abc.Iterator[core.Metric]:
        """The sum over all of them."""
        with self._slots.reading() as files:
            yield from self._merged(files)

    def _merged(self, files: list[str]) -> list[core.Metric]:
        merge = multiprocess.MultiProcessCollector.merge
        try:
            return list(merge(files))
        except Exception as failure:
            # After a power cut, say; the others are still true.
            LOG.warning('metrics: a file of counters is left out: %r',
                        failure)
        return list(merge([each for each in files if _is_sound(each)]))


def _is_sound(path: str) -> bool:
    try:
        multiprocess.MultiProcessCollector.merge([path])
    except Exception:
        return False
    return True


def registry(conf: cfg.ConfigOpts) -> prometheus_client.CollectorRegistry:
    """Everything that is served."""
    made = prometheus_client.CollectorRegistry()
    made.register(typing.cast(typing.Any, Counted(
        slots.Slots(conf.state_path))))
    made.register(typing.cast(typing.Any, gauges.Gauges(
        lambda: _probes(conf), interval=conf.metrics.refresh_interval,
        timeout=conf.metrics.refresh_timeout)))
    prometheus_client.Info(
        series.PREFIX + 'build', 'The release that serves these metrics.',
        registry=made).info({'version': version.text()})
    return made


def _at_paths(app: typing.Any) -> typing.Any:
    """The application, and 404 beside its paths."""
    def either(environ, start_response):
        if environ['PATH_INFO'] in PATHS:
            return app(environ, start_response)
        start_response('404 Not Found', [('Content-Type', 'text/plain')])
        return [b'metrics are at /metrics\n']
    return either


def _probes(conf: cfg.ConfigOpts) -> collections.abc.Sequence[gauges.Probe]:
    """None while what they look at cannot be opened."""
    try:
        return gauges.probes(services.build(conf, accepting=False))
    except (staging.StagingError, store_registry.Misconfigured) as failure:
        LOG.warning('metrics: %s', failure)
        return ()


def serve(conf: cfg.ConfigOpts, *, patient: bool) -> typing.NoReturn:
    """Serve until the process is ended.

    :param patient: try again, while somebody else has the address
    :raises listening.CannotListen: and it is not to be tried again
    """
    host, port = conf.metrics.bind_host, conf.metrics.bind_port
    found, forever, said = registry(conf), threading.Event(), False
    checks = checked.Checks(conf)
    found.register(typing.cast(typing.Any, checks))
    while True:
        try:
            server, _thread = prometheus_client.start_http_server(
                port, host, found)
            break
        except OSError as failure:
            refusal = listening.refused(conf, failure)
        if not patient:
            raise refusal
        if not said:
            LOG.error('%s', refusal)
        said = True
        forever.wait(RETRY_SECONDS)
    # The library's answers under any path.
    server.set_app(_at_paths(server.get_app()))
    LOG.info('metrics on %s port %d', host, port)
    checks.start()
    while True:
        forever.wait(3600)
