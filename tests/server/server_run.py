"""Serve the test application; what cmd/api.py is to the real one."""

import logging
import os
import resource
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from glance_import.api import serving  # noqa: E402
from glance_import import conf as options  # noqa: E402
from glance_import.server import limits  # noqa: E402
from glance_import.server import parent  # noqa: E402
from glance_import import signals  # noqa: E402


def load_app():
    if os.path.exists(os.environ.get('TEST_APP_BROKEN', '/nonexistent')):
        raise ValueError('the configuration is\nwrong')
    import server_app
    return server_app.application


def main():
    signals.survive()
    logging.basicConfig(level=os.environ.get('TEST_APP_LOG', 'INFO'))
    logging.getLogger('glance_import.server.connection').setLevel(
        logging.DEBUG)
    # What would take a test too long.
    limits.STALLED = float(os.environ.get('TEST_APP_STALLED', limits.STALLED))
    if 'TEST_APP_FILES' in os.environ:
        files = int(os.environ['TEST_APP_FILES'])
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    conf = options.load(sys.argv[1:])

    def reload():
        fresh = options.load(sys.argv[1:])

        def decided(up):
            print('decided:', up, flush=True)
        return parent.Generation(serving.server_settings(fresh), load_app,
                                 decided)

    return parent.serve(
        parent.Generation(serving.server_settings(conf), load_app),
        reload=reload)


if __name__ == '__main__':
    sys.exit(main())
