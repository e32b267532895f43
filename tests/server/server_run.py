"""Serve the test application; what cmd/api.py is to the real one."""

import logging
import os
import resource
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from glance_import.api import places  # noqa: E402
from glance_import.api import server  # noqa: E402
from glance_import import conf as options  # noqa: E402


def load_app():
    if os.path.exists(os.environ.get('TEST_APP_BROKEN', '/nonexistent')):
        raise ValueError('the configuration is\nwrong')
    import server_app
    return server_app.application


def main():
    logging.basicConfig(level=os.environ.get('TEST_APP_LOG', 'INFO'))
    logging.getLogger('glance_import.api.hub').setLevel(logging.DEBUG)
    # What would take a test too long.
    places.STALLED = float(os.environ.get('TEST_APP_STALLED', places.STALLED))
    if 'TEST_APP_FILES' in os.environ:
        files = int(os.environ['TEST_APP_FILES'])
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    conf = options.load(sys.argv[1:])
    return server.serve(conf, load_app, reload=conf.reload_config_files)


if __name__ == '__main__':
    sys.exit(main())
