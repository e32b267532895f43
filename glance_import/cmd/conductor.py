"""glance-import-conductor: run the imports that wait in the database.

SIGTERM and SIGINT end it; SIGHUP has it read its files again.
"""

from __future__ import annotations

import collections.abc
import gc
import logging
import os
import signal
import subprocess  # nosec B404
import sys
import threading

from oslo_config import cfg
from oslo_log import log

from glance_import import ambient
from glance_import.conf import changes
from glance_import.exposition import beside
from glance_import.exposition import listening
from glance_import.imports import conductor
from glance_import.imports import embedded
from glance_import.observe import reports
from glance_import.server import notify
from glance_import import services
from glance_import import signals
from glance_import import startup
from glance_import import state

LOG = log.getLogger(__name__)
PROG = 'glance-import-conductor'
# Asks a process to start as far as it can, say why not, and end.
TRIAL = '--trial'
TRIAL_SECONDS = 120


def main(argv: collections.abc.Sequence[str] | None = None) -> int:
    """Run imports until told to stop; the exit status."""
    signals.survive()
    ambient.keep()
    given = list(sys.argv[1:] if argv is None else argv)
    parent = [word for word in given if word.startswith(embedded.FLAG)]
    trial = TRIAL in given
    arguments = [word for word in given if word not in (*parent, TRIAL)]
    try:
        if parent:
            embedded.follow_parent(parent[0])
        conf = startup.read(arguments, PROG)
        # The API has judged the files for the conductor that it starts;
        # should they have been spoilt since, imports go on: each brings what
        # it is judged by.
        if not parent:
            startup.check_options(conf)
            startup.check_extensions(conf)
        opened = startup.open_all(conf, accepting=False)
    except startup.StartupError as failure:
        return startup.fail(PROG, failure)
    if trial:
        opened.close()
        return 0
    return _run(opened, conf, given, arguments)


def _run(opened: services.Services, conf: cfg.ConfigOpts,
         given: list[str], arguments: list[str]) -> int:
    embeds = any(word.startswith(embedded.FLAG) for word in given)
    runner = conductor.Conductor(opened)
    reports.install(conf, PROG, runner.running)
    exporter = beside.Exporter(conf, arguments)
    if not embeds:
        exporter.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.stop())
    begin_again = _reload_on_hangup(
        runner, conf, arguments, None if embeds else exporter)
    # One that came since the files were read has waited.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    if not embeds:
        _tell_manager(runner)
    # What was loaded stays: the collector need not walk through it each time.
    gc.collect()
    gc.freeze()
    runner.run(patience=conf.graceful_shutdown_timeout)
    exporter.stop()
    opened.close()
    if begin_again.is_set():
        # In the same process: whoever started it sees no end.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        signals.pass_over()
        ambient.hand_on()
        command = embedded.command(given)
        os.execv(command[0], command)  # nosec B606: our own interpreter
    if runner.left_behind:
        # The interpreter would wait for their threads.
        logging.shutdown()
        os._exit(0)
    return 0


def _tell_manager(runner: conductor.Conductor) -> None:
    """Of the service: ready once it is announced, alive while it looks."""
    ready = threading.Event()
    watchdog = notify.Watchdog()

    def at_work() -> None:
        if runner.announced.is_set() and not ready.is_set():
            ready.set()
            notify.say(f'READY=1\nMAINPID={os.getpid()}')
        watchdog.ping()

    runner.at_work = at_work


def _reload_on_hangup(runner: conductor.Conductor, conf: cfg.ConfigOpts,
                      arguments: list[str], exporter: beside.Exporter | None
                      ) -> threading.Event:
    """On SIGHUP: try the files, and if they can be used end the conductor.

    Imports that run are handed over, and go on with the options they were
    asked for with. The event says that it ends to begin again.
    """
    begin_again = threading.Event()
    one_at_a_time = threading.Lock()

    def reload() -> None:
        with one_at_a_time:
            fresh, wrong = _read_and_try(conf, arguments, exporter)
            if fresh is None:
                LOG.error('not reloaded: %s', wrong)
                return
            LOG.info('reloading the configuration')
            for change in changes.named(conf, fresh):
                LOG.info('changed: %s', change)
            begin_again.set()
            runner.stop()

    # Trying takes long, which a signal handler must not.
    signal.signal(signal.SIGHUP, lambda *_: threading.Thread(
        target=reload, daemon=True, name='reload').start())
    return begin_again


def _read_and_try(conf: cfg.ConfigOpts, arguments: list[str],
                  exporter: beside.Exporter | None
                  ) -> tuple[cfg.ConfigOpts | None, str]:
    """The files, read; else None, and why they cannot be used."""
    try:
        fresh = startup.load(arguments, PROG)
        if fresh.state_path != conf.state_path:
            raise startup.StartupError('[DEFAULT] state_path cannot change '
                                       'while the conductor runs: restart it')
        _try(arguments)
        if exporter is not None:
            exporter.check(fresh)
    except (startup.StartupError, listening.CannotListen, OSError,
            state.StateError) as failure:
        return None, str(failure)
    return fresh, ''


def _try(arguments: list[str]) -> None:
    """Let another process start as this one will, as far as it can.

    :raises startup.StartupError: it could not
    """
    command = embedded.command([TRIAL, *arguments])
    try:
        # Our own interpreter, on our own module.
        done = subprocess.run(  # nosec B603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, timeout=TRIAL_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise startup.StartupError(f'trying failed: {failure}') from failure
    if done.returncode:
        said = done.stderr.strip().split('\n')[-1]
        raise startup.StartupError(said.removeprefix(f'{PROG}: ')
                                   or f'status {done.returncode}')


if __name__ == '__main__':
    sys.exit(main())
