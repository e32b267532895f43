"""The report at SIGUSR2: threads, running imports, and the options in force.

It is oslo.reports' guru meditation report, of which an operator of OpenStack
knows where to look for what; but for green threads, which that looks for in a
way that other threads do not survive. It goes to the log, or to files in
``[oslo_reports] log_dir``; ``file_event_handler`` asks for one where the
server takes all signals. Touches the handler of SIGUSR2, the log, that file.
"""

from __future__ import annotations

import collections.abc
import os
import re
import signal
import typing

from oslo_config import cfg
from oslo_log import log

from glance_import import signals
from glance_import import version

LOG = log.getLogger(__name__)
# What stands before the host of a URL may be a password.
_PASSWORD = re.compile(r'(://)[^/@\s\'"]+@')
# One line for each import that the process runs.
Running = collections.abc.Callable[[], collections.abc.Iterable[str]]


def _nothing() -> collections.abc.Iterable[str]:
    return ('this process runs no imports',)


def install(conf: cfg.ConfigOpts, prog: str,
            running: Running = _nothing) -> None:
    """From now on SIGUSR2 asks this process for a report.

    :param running: what imports it runs, and at which step each is
    """
    def write() -> None:
        text = _text(conf, running)
        directory = conf.oslo_reports.log_dir
        if not directory:
            LOG.info('SIGUSR2: report of %s\n%s', prog, text)
            return
        path = _save(text, directory, prog)
        LOG.info('SIGUSR2: report of %s in %s', prog, path)

    signals.report_by(signal.SIGUSR2, write)
    if conf.oslo_reports.file_event_handler:
        _watch(conf, prog, write)


def _watch(conf: cfg.ConfigOpts, prog: str,
           write: collections.abc.Callable[[], None]) -> None:
    from oslo_reports import guru_meditation_report as guru

    class Watched(guru.TextGuruMeditation):
        @classmethod
        def handle_signal(cls, *_given: typing.Any) -> None:
            write()

    try:
        Watched.setup_autorun(None, service_name=prog, conf=conf,
                              setup_signal=False)
    except OSError as failure:
        LOG.error('[oslo_reports] file_event_handler: %s', failure)


def _save(text: str, directory: str, prog: str) -> str:
    """:raises OSError: it cannot be written"""
    from oslo_utils import timeutils

    stamp = timeutils.utcnow().strftime('%Y%m%d%H%M%S')
    path = os.path.join(directory,
                        f'{prog}-{os.getpid()}_gurumeditation_{stamp}')
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
                 | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, 'w', encoding='utf-8', errors='replace') as file:
        file.write(text)
    return path


class _Version:
    """What oslo.reports asks a version for."""

    def vendor_string(self) -> str:
        return 'OpenStack'

    def product_string(self) -> str:
        return 'glance-import'

    def version_string_with_package(self) -> str:
        return version.text()


def _text(conf: cfg.ConfigOpts, running: Running) -> str:
    from oslo_reports.generators import conf as options
    from oslo_reports.generators import version as package
    from oslo_reports import report

    made = report.TextReport('Guru Meditation')
    made.add_section('Package', package.PackageReportGenerator(_Version()))
    made.add_section('Threads', lambda: '\n\n'.join(signals.stacks()))
    made.add_section('Imports', lambda: '\n'.join(running())
                     or 'none is running')
    made.add_section('Configuration', options.ConfigReportGenerator(conf))
    return _PASSWORD.sub(r'\1***@', made.run())
