"""The install page, each command as it is printed, in a clean system."""

import os
import pathlib
import shutil
import socket
import tempfile

import pytest

from tests.install import page
from tests import servers

PAGE = page.TOP / 'doc/source/install/index.rst'
# Of these the page says with what status they end.
WARNS = 'glance-import-status upgrade check'

# Beyond the page: is it what the page promises?
AFTERWARDS = (page.TOP / 'tests/install/afterwards.sh').read_text()


def test_prompts_are_found():
    """The page is not read as if it had no commands."""
    found = page.commands(PAGE)
    assert len(found) > 25, found
    assert WARNS in found
    assert any('systemctl enable --now' in each for each in found)


@pytest.mark.skipif(not os.environ.get('LONG_TESTS'),
                    reason='installs a system: LONG_TESTS')
def test_the_page(tmp_path):
    if os.geteuid() != 0:
        servers.missing('only root makes a system')
    servers.program('mmdebstrap')
    if shutil.which('systemd-nspawn') is None:
        servers.missing('systemd-nspawn (systemd-container) is not installed')
    with socket.socket() as probe:
        if not probe.connect_ex(('127.0.0.1', 9292)):
            servers.missing('port 9292, which the page uses, is taken')
    place = pathlib.Path(tempfile.mkdtemp(prefix='glance-import-test-'))
    try:
        root = page.make_root(place, 'systemd', 'systemd-sysv')
        script = '\n'.join(
            f'{each} || [ $? -eq 1 ]' if each == WARNS else each
            for each in page.commands(PAGE))
        status, said = page.run_booted(root, script + '\n' + AFTERWARDS)
        journal = root / page.RESULTS / 'journal'
        assert status == 0, said[-8000:] + (
            journal.read_text('utf-8', 'replace')[-8000:]
            if journal.exists() else '')
    finally:
        shutil.rmtree(place, ignore_errors=True)
