"""The ClamAV plugin with a real clamd and a small signature of our own."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest

from tests import servers
from tests import service as services

SIGNATURE = b'glance-import-test-signature'


@pytest.fixture(scope='module')
def clamd():
    """A clamd on a socket of its own, as an ordinary user; its directory."""
    program = servers.program('clamd', '/usr/sbin')
    directory = pathlib.Path(tempfile.mkdtemp(prefix='clamd-'))
    database = directory / 'db'
    database.mkdir()
    (database / 'test.ndb').write_text(
        f'Test.Marker:0:*:{SIGNATURE.hex()}\n')
    (directory / 'clamd.conf').write_text(
        f'LocalSocket {directory}/clamd.ctl\nLocalSocketMode 666\n'
        f'DatabaseDirectory {database}\nForeground yes\n'
        f'LogFile {directory}/log\nStreamMaxLength 4M\nMaxFileSize 4M\n'
        'MaxScanSize 8M\nMaxThreads 4\n')
    preexec = []
    if os.geteuid() == 0:
        for path in (directory, *directory.rglob('*')):
            shutil.chown(path, 'nobody')
        directory.chmod(0o755)
        preexec = ['setpriv', '--reuid', 'nobody', '--regid', 'nogroup',
                   '--clear-groups']
    process = subprocess.Popen(
        [*preexec, program, '-c', str(directory / 'clamd.conf')],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        services.wait_for(lambda: _answers(directory / 'clamd.ctl'))
        yield directory
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        shutil.rmtree(directory)


def _answers(path):
    with contextlib.suppress(OSError), socket.socket(
            socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b'zPING\0')
        return sock.recv(16) == b'PONG\0'
    return False


@pytest.fixture
def scan(make_service, clamd):
    """Import bytes through the plugin: (image, what the task says)."""
    made = []

    def _scan(data, **options):
        if not made:
            path = clamd / 'clamd.ctl'
            service = make_service(['clamav'], {'clamav': {
                'socket': path, 'sockets': path, **options}})
            made.append(service.start())
        service = made[0]
        image_id = service.ask(data)
        image = service.wait_status(image_id, 'active', 'uploading')
        return image, service.tasks(image_id)[0]['result']['plugins']
    return _scan


def test_finds_and_passes(scan):
    image, said = scan(b'clean' * 200_000, max_size=4)
    assert image['status'] == 'active', image
    assert said[-1]['bytes_read'] == 1_000_000
    image, said = scan(b'x' * 3_000_000 + SIGNATURE + b'x' * 100_000)
    assert image['status'] == 'uploading'
    assert image['os_glance_import_error'] == (
        'plugin clamav: The virus scanner found Test.Marker.UNOFFICIAL. '
        '(clamav.found)')


def test_what_cannot_be_scanned_is_refused(scan):
    image, said = scan(b'x' * (5 << 20), max_size=4)
    assert said[-1]['code'] == 'clamav.too_large'
    assert said[-1]['step'] == 'precheck'
    assert image['status'] == 'uploading'


def test_a_limit_of_clamd_s_own_fails_closed(scan):
    """The operator said 100 MiB, clamd takes 4: never called clean."""
    image, said = scan(b'x' * (9 << 20), max_size=100)
    assert image['status'] == 'uploading'
    assert said[-1]['verdict'] == 'error'
    assert 'could not be judged' in image['os_glance_import_error']


def test_windows(scan):
    at = 4 * (1 << 20) - len(SIGNATURE) // 2
    data = b'x' * at + SIGNATURE + b'x' * (6 << 20)
    image, said = scan(data, max_size=4, beyond_max_size='windows')
    assert said[-1]['code'] == 'clamav.found', said
    image, said = scan(b'x' * len(data))
    assert image['status'] == 'active'


def test_no_scanner_fails_closed(make_service, tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / 'dead.ctl'))
    service = make_service(['clamav'], {'clamav': {
        'socket': tmp_path / 'dead.ctl', 'sockets': tmp_path / 'dead.ctl'}})
    service.start()
    image_id = service.ask(b'x')
    image = service.wait_status(image_id, 'active', 'uploading')
    assert image['status'] == 'uploading'
