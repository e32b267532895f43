"""glance-import-conductor: run the imports that wait in the database.

SIGTERM and SIGINT end it; SIGHUP has it read its files again.
"""

from __future__ import annotations

import collections.abc
import gc
import os
import signal
import sys
import threading

from oslo_log import log

from glance_import.exposition import beside
from glance_import.imports import conductor
from glance_import.imports import embedded
from glance_import.observe import reports
from glance_import import signals
from glance_import import startup

LOG = log.getLogger(__name__)
PROG = 'glance-import-conductor'


def main(argv: collections.abc.Sequence[str] | None = None) -> int:
    """Run imports until told to stop; the exit status."""
    signals.survive()
    given = list(sys.argv[1:] if argv is None else argv)
    parent = [word for word in given if word.startswith(embedded.FLAG)]
    arguments = [word for word in given if word not in parent]
    try:
        if parent:
            embedded.follow_parent(parent[0])
        conf = startup.read(arguments, PROG)
        # The API has judged the files for the conductor that it starts;
        # should they have been spoilt since, imports go on: each brings what
        # it is judged by.
        if not parent:
            _check_files(arguments)
        box = startup.open_all(conf, accepting=False)
    except startup.StartupError as failure:
        return startup.fail(PROG, failure)
    runner = conductor.Conductor(box)
    reports.install(conf, PROG, runner.running)
    exporter = beside.Exporter(conf, arguments)
    if not parent:
        exporter.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.stop())
    begin_again = _reload_on_hangup(runner, arguments)
    # One that came since the files were read has waited.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    # What was loaded stays: the collector need not walk through it each time.
    gc.collect()
    gc.freeze()
    runner.run(patience=conf.graceful_shutdown_timeout)
    exporter.stop()
    box.close()
    if begin_again.is_set():
        # In the same process: whoever started it sees no end.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        signals.pass_over()
        command = embedded.command(given)
        os.execv(command[0], command)  # nosec B606: our own interpreter
    return 0


def _check_files(arguments: collections.abc.Sequence[str]) -> None:
    """:raises startup.StartupError: the files cannot be used"""
    fresh = startup.read(arguments, PROG)
    startup.check_options(fresh)
    startup.check_extensions(fresh)


def _reload_on_hangup(runner: conductor.Conductor,
                      arguments: collections.abc.Sequence[str]
                      ) -> threading.Event:
    """On SIGHUP: judge the files, and if they can be used end the conductor.

    Imports that run are handed over, and go on with the options they were
    asked for with. The event says that it ends to begin again.
    """
    begin_again = threading.Event()

    def reload() -> None:
        try:
            _check_files(arguments)
        except startup.StartupError as failure:
            LOG.error('not reloaded: %s', failure)
            return
        LOG.info('reloading the configuration')
        begin_again.set()
        runner.stop()

    # Judging starts plugins, which a signal handler must not wait for.
    signal.signal(signal.SIGHUP, lambda *_: threading.Thread(
        target=reload, daemon=True, name='reload').start())
    return begin_again


if __name__ == '__main__':
    sys.exit(main())
