"""glance-import-manage metrics: figures of this node, for Prometheus."""

from __future__ import annotations

import sys

from oslo_config import cfg

from glance_import.db import engine
from glance_import.exposition import listening
from glance_import.exposition import serving
from glance_import import startup

NAME = 'metrics'
HELP = 'figures of this node, for Prometheus'


def serve(conf: cfg.ConfigOpts) -> int:
    """Serve what the services of this node count, and how things stand.

    On [metrics] bind_host and bind_port, until it is ended. A service
    starts this by itself; by hand it is for whoever wants it as a unit of
    its own.
    """
    if not conf.metrics.bind_port:
        print('[metrics] bind_port is 0: nothing is counted, and nothing '
              'served', file=sys.stderr)
        return 1
    try:
        startup.check_options(conf)
        print(f'serving on http://{conf.metrics.bind_host}:'
              f'{conf.metrics.bind_port}/metrics', flush=True)
        serving.serve(conf, patient=False)
    except (startup.StartupError, listening.CannotListen) as failure:
        raise engine.DatabaseProblem(str(failure)) from failure


COMMANDS = {'serve': (serve, ())}
