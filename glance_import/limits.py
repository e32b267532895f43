"""Limits that Keystone keeps for each project, read through oslo.limit.

Only where ``use_keystone_limits`` is on; then oslo.limit, and the SDK it
needs, are imported when the first limit is asked for. Touches Keystone.
"""

from __future__ import annotations

import collections.abc
import threading
import typing

from oslo_config import cfg
from oslo_log import log

LOG = log.getLogger(__name__)


class LimitsAway(Exception):
    """Keystone does not say what the limits are."""


class Limits:
    """Asks Keystone each time: a limit that is raised holds at once."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._lock = threading.Lock()
        self._enforcer: typing.Any = None

    def of_project(self, project: str | None,
                   names: collections.abc.Sequence[str]) -> dict[str, int]:
        """Name -> limit; negative for none, 0 for a name nobody registered.

        :raises LimitsAway: Keystone does not answer, or not as it should
        """
        try:
            return dict(self._ready().get_project_limits(project, names))
        except Exception as failure:
            LOG.error('the limits of project %s cannot be read: %s', project,
                      failure)
            with self._lock:
                # Whatever it holds may be what is wrong.
                self._enforcer = None
            raise LimitsAway(str(failure)) from failure

    def _ready(self) -> typing.Any:
        with self._lock:
            if self._enforcer is None:
                self._enforcer = self._connect()
            return self._enforcer

    def _connect(self) -> typing.Any:
        from oslo_limit import limit
        from oslo_limit import opts

        # The library reads one global configuration; ours is handed down.
        opts.CONF = limit.CONF = self._conf
        opts.register_opts(self._conf)
        limit._SDK_CONNECTION = None
        return limit.Enforcer(_not_asked, cache=False)


def _not_asked(project: str | None, names: collections.abc.Collection[str]
               ) -> dict[str, int]:
    """Usage is counted by the domain, not through oslo.limit."""
    raise RuntimeError('usage is counted elsewhere')
