"""What the upgrade check says of this node, now and then: metric and log.

The check is run as an operator would, by a process of its own: it reads the
files as they are by then, and so tells beforehand what the next start will
do. Touches that process and the log.
"""

from __future__ import annotations

import collections.abc
import json
import subprocess  # nosec B404
import threading
import typing

from oslo_config import cfg
from oslo_log import log
from prometheus_client import core

from glance_import.exposition import gauges
from glance_import.imports import embedded
from glance_import.observe import series

LOG = log.getLogger(__name__)
MODULE = 'glance_import.cmd.status'
NAME = 'check_level'
# The row that is at fault when the check cannot even begin.
_FIRST = 'Options'
_GOOD, _ODD, _WRONG = range(3)
# Seconds: the first look comes behind the start of the service.
_FIRST_LOOK = 60.0
_LONGEST = 900.0
# By row: how bad it is, and what is said of it.
Found = dict[str, tuple[int, str]]


class Checks:
    """A collector of prometheus_client; looks once it is started."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._interval = conf.metrics.check_interval
        self._command = embedded.command([
            *(word for path in conf.config_file or ()
              for word in ('--config-file', path)),
            *(word for path in conf.config_dirs or ()
              for word in ('--config-dir', path)),
            'upgrade', 'check', '--json'], MODULE)
        self._found: Found = {}

    def start(self) -> None:
        """Return at once; nothing is looked at where nothing is to be."""
        if self._interval:
            threading.Thread(target=self._run, daemon=True,
                             name='checks').start()

    def describe(self) -> gauges.Families:
        """Nothing is looked at when it is registered."""
        return []

    def collect(self) -> collections.abc.Iterator[core.Metric]:
        """As it was found last."""
        text, labels = gauges.GAUGES[NAME]
        family = core.GaugeMetricFamily(series.PREFIX + NAME, text,
                                        labels=labels)
        for name, (level, _text) in self._found.items():
            family.add_metric([name], level)
        if self._found:
            yield family

    def _run(self) -> typing.NoReturn:
        pause = threading.Event()
        pause.wait(min(self._interval, _FIRST_LOOK))
        while True:
            self.note(self._checked())
            pause.wait(self._interval)

    def _checked(self) -> Found:
        try:
            # Our own interpreter, on our own module.
            done = subprocess.run(  # nosec B603
                self._command, stdin=subprocess.DEVNULL, capture_output=True,
                text=True, timeout=_LONGEST)
            return {each['check']: (each['result'], each['details'] or '')
                    for each in json.loads(done.stdout)['checks']}
        except (OSError, subprocess.TimeoutExpired) as failure:
            return {_FIRST: (_WRONG, f'the check failed: {failure}')}
        except (ValueError, LookupError):
            return {_FIRST: (_WRONG, done.stderr.strip()[-500:]
                             or f'the check ended with {done.returncode}')}

    def note(self, found: Found) -> None:
        """Say what has become better or worse."""
        for name, (level, text) in found.items():
            before = self._found.get(name, (_GOOD, ''))[0]
            if level == before:
                continue
            if level == _GOOD:
                LOG.info('check "%s" is good again: %s', name, text)
            else:
                LOG.log(log.ERROR if level == _WRONG else log.WARNING,
                        'check "%s": %s', name, text)
        self._found = {**self._found, **found}
