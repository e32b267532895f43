"""The WSGI application: ``glance_import.wsgi:application``.

For any WSGI server, forking before or after loading. Configuration is found
as the commands find it, or named by ``OS_GLANCE_CONFIG_DIR`` and
``OS_GLANCE_CONFIG_FILES``. A configuration that cannot be used stops the
server while it loads this module.
"""

from __future__ import annotations

import os
import sys
import threading

from webob import exc

from glance_import.api import body
from glance_import.api import deploy
from glance_import.api import faults
from glance_import import conf as configuration
from glance_import.exposition import beside
from glance_import.imports import embedded
from glance_import.observe import reports
from glance_import import startup

PROG = 'glance-import-api'


class _Application:
    """The pipeline, and the node's conductor from the first chance on."""

    def __init__(self) -> None:
        arguments = configuration.environment_args(os.environ)
        try:
            conf = startup.read(arguments, PROG)
            box = startup.check(conf)
            self._app = deploy.load(box)
            startup.warn_unknown(conf)
        except (startup.StartupError, deploy.DeployError) as failure:
            startup.fail(PROG, failure)
            raise SystemExit(1) from failure
        self._conf = conf
        self._arguments = arguments
        self._lock = threading.Lock()
        self._supervisor: embedded.Supervisor | None = None
        self._exporter: beside.Exporter | None = None
        os.register_at_fork(after_in_child=self._forked)
        # Threads of a uWSGI master do not run: there the first request of a
        # worker has to do.
        if 'uwsgi' not in sys.modules:
            self._supervise()

    def __call__(self, environ, start_response):
        if self._supervisor is None:
            self._supervise()
        try:
            body.length(environ)
        except body.BodyMalformed as failure:
            # Some servers hand on whatever the client has sent.
            return faults.reason_first(exc.HTTPBadRequest(f'{failure}.'))(
                environ, start_response)
        return self._app(environ, start_response)

    def _supervise(self) -> None:
        with self._lock:
            if self._supervisor is not None:
                return
            self._supervisor = embedded.Supervisor(
                self._conf, self._arguments)
            self._supervisor.start()
            self._exporter = beside.Exporter(self._conf, self._arguments)
            self._exporter.start()
            # The server has the signals.
            reports.install(self._conf, PROG)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        if self._supervisor is not None:
            self._supervisor.forget()
            self._supervisor = None
        if self._exporter is not None:
            self._exporter.forget()
            self._exporter = None


application = _Application()
