"""The process that serves metrics beside a service, which starts it.

By hand it is ``glance-import-manage metrics serve``.
"""

from __future__ import annotations

import collections.abc
import sys

from glance_import.exposition import serving
from glance_import.imports import embedded
from glance_import.observe import reports
from glance_import import signals
from glance_import import startup

PROG = 'glance-import-metrics'


def main(argv: collections.abc.Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit status."""
    signals.survive()
    given = list(sys.argv[1:] if argv is None else argv)
    parent = [word for word in given if word.startswith(embedded.FLAG)]
    if parent:
        embedded.follow_parent(parent[0])
    try:
        conf = startup.read([word for word in given if word not in parent],
                            PROG)
        startup.check_options(conf)
    except startup.StartupError as failure:
        return startup.fail(PROG, failure)
    reports.install(conf, PROG)
    serving.serve(conf, patient=True)


if __name__ == '__main__':
    sys.exit(main())
