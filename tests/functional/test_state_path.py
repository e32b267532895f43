"""The directory of a node's state is the service's own, or refused."""

import os
import pathlib
import stat
import subprocess
import sys
import tempfile

import pytest

from glance_import import state
from tests import service as services

OTHER = 65534


def tried(service):
    """What each command that uses the directory says of it."""
    for name, *words in (('api',), ('conductor',), ('manage', 'db', 'sync'),
                         ('manage', 'imports', 'list')):
        done = service.run(name, *words)
        yield name, done.returncode, done.stderr + done.stdout


@pytest.mark.parametrize('mode, word', [
    (0o777, 'everybody'), (0o1777, 'everybody'), (0o702, 'everybody'),
    (0o770, 'group'), (0o775, 'group'), (0o720, 'group')])
def test_modes(tmp_path, mode, word):
    path = tmp_path / 'state'
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(state.StateError, match=word) as failure:
        state.prepare(str(path))
    assert str(path) in str(failure.value)
    assert 'chmod' in str(failure.value)


def test_every_command_refuses(make_service):
    service = make_service()
    service.state.mkdir()
    service.state.chmod(0o777)
    for name, status, text in tried(service):
        assert status == 1, (name, text)
        assert str(service.state) in text and 'everybody' in text, text
        assert 'Traceback' not in text
        if name in ('api', 'conductor'):
            assert 'glance-api.conf' in text and 'state_path' in text
    assert os.listdir(service.state) == []
    assert stat.S_IMODE(service.state.stat().st_mode) == 0o777


@pytest.mark.parametrize('mode', [0o700, 0o755, 0o750, 0o2770, 0o2775])
def test_modes_that_are_fine(tmp_path, mode):
    path = tmp_path / 'state'
    path.mkdir()
    path.chmod(mode)
    state.prepare(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_service_in_one_that_is_shared(make_service):
    service = make_service()
    service.state.mkdir()
    service.state.chmod(0o2770)
    service.start()
    image_id = service.ask(b'data')
    service.wait_status(image_id, 'active')
    # Others of the group may wake the conductor and use the database.
    for name in os.listdir(service.state):
        mode = stat.S_IMODE((service.state / name).stat().st_mode)
        assert mode == (0o600 if name.endswith('.lock') else 0o660), name


@pytest.mark.skipif(os.getuid() != 0, reason='root gives files away')
def test_of_somebody_else(make_service):
    service = make_service()
    service.state.mkdir(mode=0o700)
    os.chown(service.state, OTHER, 0)
    done = service.run('api')
    assert done.returncode == 1, done
    assert 'belongs to' in done.stderr and 'Traceback' not in done.stderr
    assert os.listdir(service.state) == []


@pytest.mark.skipif(os.getuid() != 0, reason='root gives files away')
def test_a_group_that_is_not_ours(make_service):
    service = make_service()
    service.state.mkdir()
    os.chown(service.state, 0, 4711)
    service.state.chmod(0o2770)
    done = service.run('api')
    assert done.returncode == 1 and 'group 4711' in done.stderr, done


@pytest.mark.skipif(os.getuid() != 0, reason='root gives files away')
@pytest.mark.parametrize('planted', ['link', 'database', 'database link'])
def test_what_others_have_put_there(make_service, tmp_path, planted):
    service = make_service()
    own = tmp_path / 'own'
    own.mkdir()
    if planted == 'link':
        service.state.symlink_to(own)
        path = service.state
    else:
        service.state.mkdir()
        path = service.state / 'glance.sqlite'
        if planted == 'database':
            path.touch()
        else:
            path.symlink_to(own / 'elsewhere')
    os.chown(path, OTHER, OTHER, follow_symlinks=False)
    done = service.run('api')
    assert done.returncode == 1, done
    assert str(path) in done.stderr and 'belongs to' in done.stderr
    assert os.listdir(own) == []


@pytest.mark.parametrize('name', ['conductor.lock', 'embedded.lock',
                                  'conductor.wake'])
def test_links_are_not_followed(make_service, tmp_path, name):
    service = make_service()
    service.state.mkdir()
    victim = tmp_path / 'victim'
    victim.write_bytes(b'')
    (service.state / name).symlink_to(victim)
    if name == 'embedded.lock':
        service.start()
        services.wait_for(lambda: 'cannot start a conductor'
                          in service.text())
    else:
        done = service.run('conductor')
        assert done.returncode != 0, done
    assert victim.read_bytes() == b''


def test_an_own_link_is_fine(make_service, tmp_path):
    service = make_service()
    (tmp_path / 'elsewhere').mkdir(mode=0o700)
    service.state.symlink_to(tmp_path / 'elsewhere')
    service.start()
    assert (tmp_path / 'elsewhere' / 'glance.sqlite').exists()


@pytest.mark.skipif(os.getuid() != 0, reason='root becomes somebody else')
def test_an_ordinary_user():
    """What root has made is fine, as far as root alone can write it."""
    with tempfile.TemporaryDirectory() as top:
        # That of pytest is closed to others.
        os.chmod(top, 0o755)
        as_somebody_else(pathlib.Path(top))


def as_somebody_else(tmp_path):
    code = ('import os, sys; os.setgroups([4711]); os.setgid(4711); '
            f'os.setuid({OTHER}); from glance_import import state; '
            'state.prepare(sys.argv[1])')
    for mode, group, status in (
            (0o755, 0, 0), (0o2770, 4711, 0), (0o770, 4711, 1),
            (0o2770, 0, 1), (0o777, 0, 1)):
        path = tmp_path / f'{mode:o}-{group}'
        path.mkdir()
        os.chown(path, 0, group)
        path.chmod(mode)
        done = subprocess.run([sys.executable, '-c', code, str(path)],
                              capture_output=True, text=True)
        assert bool(done.returncode) == bool(status), (path, done)


def test_files_of_others(tmp_path):
    (tmp_path / 'file').touch()
    os.close(state.open_file(str(tmp_path), 'file', os.O_RDWR))
    (tmp_path / 'link').symlink_to('file')
    with pytest.raises(OSError):
        state.open_file(str(tmp_path), 'link', os.O_RDWR | os.O_CREAT)
    if os.getuid() == 0:
        os.chown(tmp_path / 'file', OTHER, OTHER)
        with pytest.raises(state.StateError):
            state.open_file(str(tmp_path), 'file', os.O_RDWR)
