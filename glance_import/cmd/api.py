"""glance-import-api: serve the Image API, with a conductor beside it."""

from __future__ import annotations

import collections.abc
import sys

from glance_import.api import deploy
from glance_import.api import serving
from glance_import.exposition import beside
from glance_import.imports import embedded
from glance_import.observe import reports
from glance_import.server import parent
from glance_import.server import settings
from glance_import import services
from glance_import import signals
from glance_import import startup

PROG = 'glance-import-api'


def main(argv: collections.abc.Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit status."""
    signals.survive()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        conf = startup.read(arguments, PROG)
        startup.check_options(conf)
        deploy.check_exposure(conf)
        plugins = startup.check_extensions(conf)
        box = startup.open_all(conf, plugins)
        deploy.load(box)
        startup.warn_unknown(conf)
        box.close()
    except (startup.StartupError, deploy.DeployError) as failure:
        return startup.fail(PROG, failure)

    supervisor = embedded.Supervisor(conf, arguments)
    exporter = beside.Exporter(conf, arguments)

    def load_app():
        reports.install(conf, PROG)
        # With the plugins that were judged, whatever the files say by now.
        return deploy.load(services.build(conf, plugins))

    def reload() -> settings.Settings:
        """Judge the files before a running service takes them over."""
        nonlocal plugins
        fresh = startup.read(arguments, PROG)
        startup.check_options(fresh)
        deploy.check_exposure(fresh)
        plugins = startup.check_extensions(fresh)
        startup.check_policy(fresh)
        conf.reload_config_files()
        startup.set_up_logging(conf)
        supervisor.reload()
        exporter.reload()
        return serving.server_settings(conf)

    reports.install(conf, PROG)
    supervisor.start()
    exporter.start()
    try:
        return parent.serve(serving.server_settings(conf), load_app,
                            reload=reload)
    finally:
        exporter.stop()
        supervisor.stop()


if __name__ == '__main__':
    sys.exit(main())
