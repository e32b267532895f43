"""glance-import-conductor: run the imports that wait in the database."""

from __future__ import annotations

import collections.abc
import signal
import sys

from glance_import.async_ import conductor
from glance_import import signals
from glance_import import startup

PROG = 'glance-import-conductor'
# Given by the API to the conductor it starts. The API has judged the files;
# should they have been spoilt since, imports go on: each job names its own
# plugins.
EMBEDDED = '--embedded'


def main(argv: collections.abc.Sequence[str] | None = None) -> int:
    """Run imports until told to stop; the exit status."""
    signals.survive()
    arguments = list(sys.argv[1:] if argv is None else argv)
    embedded = EMBEDDED in arguments
    if embedded:
        arguments.remove(EMBEDDED)
    try:
        conf = startup.read(arguments, PROG)
        if not embedded:
            startup.check_options(conf)
            startup.check_extensions(conf)
        box = startup.open_all(conf, accepting=False)
    except startup.StartupError as failure:
        return startup.fail(PROG, failure)
    runner = conductor.Conductor(box)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.stop())
    # The next start reads the files again; a running import keeps what was
    # in force when it was asked for.
    signal.signal(signal.SIGHUP, lambda *_: runner.stop())
    runner.run(patience=conf.graceful_shutdown_timeout)
    box.close()
    return 0


if __name__ == '__main__':
    sys.exit(main())
