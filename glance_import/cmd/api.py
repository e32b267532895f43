"""glance-import-api: serve the Image API, with a conductor beside it."""

from __future__ import annotations

import collections.abc
import dataclasses
import sys

from oslo_config import cfg
from oslo_log import log

from glance_import.api import deploy
from glance_import.api import serving
from glance_import.conf import changes
from glance_import.exposition import beside
from glance_import.imports import embedded
from glance_import.observe import reports
from glance_import.server import parent
from glance_import import services
from glance_import import signals
from glance_import import startup

LOG = log.getLogger(__name__)
PROG = 'glance-import-api'


def main(argv: collections.abc.Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit status."""
    signals.survive()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        conf = startup.read(arguments, PROG)
        first = _generation(conf)
    except (startup.StartupError, deploy.DeployError) as failure:
        return startup.fail(PROG, failure)
    supervisor = embedded.Supervisor(conf, arguments)
    exporter = beside.Exporter(conf, arguments)

    def reload() -> parent.Generation:
        """Judge the files before a running service takes them over."""
        old, fresh = conf, startup.load(arguments, PROG)
        exporter.check(fresh)
        generation = _generation(fresh)
        fixed = changes.needing_restart(old, fresh)
        if fixed:
            raise startup.StartupError(
                f'{", ".join(fixed)} cannot change while the service runs: '
                'restart it')
        _log_as(fresh, old)

        def decided(up: bool) -> None:
            nonlocal conf
            if not up:
                startup.set_up_logging(old)
                return
            conf = fresh
            for change in changes.named(old, fresh):
                LOG.info('changed: %s', change)
            supervisor.reload(fresh)
            exporter.reload(fresh)
        return dataclasses.replace(generation, decided=decided)

    reports.install(conf, PROG)
    supervisor.start()
    exporter.start()
    try:
        return parent.serve(first, reload=reload)
    finally:
        exporter.stop()
        supervisor.stop()


def _generation(conf: cfg.ConfigOpts) -> parent.Generation:
    """What workers are started with, once all of it was tried here.

    :raises startup.StartupError, deploy.DeployError: it cannot be used
    """
    startup.check_options(conf)
    deploy.check_exposure(conf)
    plugins = startup.check_extensions(conf)
    box = startup.open_all(conf, plugins)
    try:
        deploy.load(box)
    finally:
        box.close()
    startup.warn_unknown(conf)

    def load_app():
        reports.install(conf, PROG)
        # With the plugins that were judged, whatever the files say by now.
        return deploy.load(services.build(conf, plugins))
    return parent.Generation(serving.server_settings(conf), load_app)


def _log_as(fresh: cfg.ConfigOpts, old: cfg.ConfigOpts) -> None:
    """:raises startup.StartupError: it cannot be done; logging is as it was
    """
    try:
        startup.set_up_logging(fresh)
    except startup.StartupError:
        startup.set_up_logging(old)
        raise


if __name__ == '__main__':
    sys.exit(main())
