"""The file store: every way in, every cheat, every kind of disk."""

import ctypes
import errno
import hashlib
import mmap
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

import conformance
from conformance import add
from conformance import DATA
from conformance import describe
from glance_import import staging
from glance_import.stores import base
from glance_import.stores import copying
from glance_import.stores import file as file_store
from tests import mounts


@pytest.fixture(params=['here', 'xfs', 'other'])
def place(request, tmp_path):
    """Where the store is: beside the source, on XFS with it, elsewhere."""
    if request.param == 'here':
        yield tmp_path / 'images'
        return
    kind = 'xfs' if request.param == 'xfs' else 'ext4'
    with mounts.disk(tmp_path, kind) as mounted:
        yield mounted / 'images'


@pytest.fixture
def here(tmp_path):
    store = file_store.FileStore(str(tmp_path / 'images'))
    store.prepare()
    return store


class TestFileStore(conformance.Conformance):

    @pytest.fixture
    def store(self, place):
        store = file_store.FileStore(str(place))
        store.prepare()
        yield store
        assert not [name for name in os.listdir(place)
                    if name.startswith('.')]

    @pytest.fixture
    def source(self, place):
        # On XFS beside the store, so that the blocks can be shared.
        on_xfs = place.parent.name == 'disk.mnt' and shutil.which(
            'mkfs.xfs') and 'xfs' in subprocess.run(
                ['stat', '-f', '-c', '%T', str(place.parent)],
                capture_output=True, text=True).stdout
        parent = place.parent if on_xfs or (
            place.parent.name != 'disk.mnt') else place.parent.parent
        path = parent / 'source'
        path.write_bytes(DATA)
        return path


def stored_path(stored):
    return stored.uri.removeprefix('file://')


def test_uri_is_the_one_glance_writes(here, image_id, source):
    stored = add(here, image_id, str(source), describe(source), epoch=1)
    assert stored.uri == f'file://{here.datadir}/{image_id}'


def no_copy(*args, **kwargs):
    raise AssertionError('bytes were read')


def test_unchanged_is_taken_by_reference(here, image_id, source, monkeypatch):
    expected = describe(source)
    monkeypatch.setattr(copying, 'Copy', no_copy)
    stored = add(here, image_id, str(source), expected, epoch=1)
    assert os.path.samefile(stored_path(stored), source)
    assert os.stat(source).st_mode & 0o222 == 0
    source.unlink()
    assert conformance.content(here, stored.uri) == DATA


def test_reflink_on_xfs(tmp_path, image_id, monkeypatch):
    with mounts.disk(tmp_path, 'xfs') as mounted:
        store = file_store.FileStore(str(mounted / 'images'))
        store.prepare()
        source = mounted / 'source'
        source.write_bytes(DATA)
        expected = describe(source)
        monkeypatch.setattr(copying, 'Copy', no_copy)
        stored = add(store, image_id, str(source), expected, epoch=1)
        assert not os.path.samefile(stored_path(stored), source)
        with open(source, 'r+b') as writer:
            writer.write(b'changed')
        assert conformance.content(store, stored.uri) == DATA


def cheat_kept_descriptor(source):
    writer = open(source, 'r+b', buffering=0)
    yield
    writer.write(b'!')
    yield
    writer.close()


def cheat_mapping(source):
    with open(source, 'r+b') as file:
        mapping = mmap.mmap(file.fileno(), 0)
    mapping[0:1] = b'!'
    before = os.stat(source)
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    yield
    mapping[0:1] = b'?'
    yield
    mapping.close()


def cheat_second_name(source):
    other = source.with_name('other')
    os.link(source, other)
    yield
    os.chmod(other, 0o600)
    with open(other, 'r+b') as writer:
        writer.write(b'!')
    yield


def test_a_second_name_from_before(here, image_id, source):
    other = source.with_name('other')
    os.link(source, other)
    stored = add(here, image_id, str(source), describe(source), epoch=1)
    os.chmod(other, 0o600)
    with open(other, 'r+b') as writer:
        writer.write(b'!')
    assert conformance.content(here, stored.uri) == DATA


def cheat_rename_over(source):
    other = source.with_name('other')
    other.write_bytes(DATA[:-1] + b'!')
    before = os.stat(source)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, source)
    yield
    yield


def cheat_truncate_and_restore(source):
    before = os.stat(source)
    with open(source, 'r+b') as writer:
        writer.truncate(0)
        writer.write(DATA[:-1] + b'!')
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    yield
    yield


def cheat_time_set_back(source):
    before = os.stat(source)
    with open(source, 'r+b') as writer:
        writer.write(b'!')
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    yield
    yield


@pytest.mark.parametrize('cheat', [
    cheat_kept_descriptor, cheat_mapping, cheat_second_name,
    cheat_rename_over, cheat_truncate_and_restore, cheat_time_set_back])
def test_cheats_cannot_change_stored_bytes(here, image_id, source, cheat):
    expected = describe(source)
    cheating = cheat(source)
    next(cheating)
    stored = add(here, image_id, str(source), expected, epoch=1)
    next(cheating)
    data = conformance.content(here, stored.uri)
    # Whatever was stored: the digests told are those of the bytes kept.
    assert hashlib.sha512(data).hexdigest() == stored.hash_value
    assert hashlib.md5(data).hexdigest() == stored.checksum
    assert not os.path.samefile(stored_path(stored), source)
    cheating.close()


def test_lease_is_refused_to_writers_and_mappings(source):
    identity = staging.Identity.of_path(str(source))
    fd = os.open(source, os.O_RDONLY)
    with copying.unchanged(fd, identity) as proved:
        assert proved
    with open(source, 'r+b'):
        with copying.unchanged(fd, identity) as proved:
            assert not proved
    with open(source, 'rb'):
        with copying.unchanged(fd, identity) as proved:
            assert proved
    os.close(fd)


def test_a_writer_who_comes_during_the_proof_does_no_harm(source):
    """Breaking a lease sends a signal that would end a careless process."""
    fd = os.open(source, os.O_RDONLY)
    with copying.unchanged(fd, staging.Identity.of_fd(fd)) as proved:
        assert proved
        with pytest.raises(BlockingIOError):
            os.open(source, os.O_WRONLY | os.O_NONBLOCK)
    os.close(fd)


def test_holes_are_kept(tmp_path, image_id):
    with mounts.disk(tmp_path, 'ext4') as mounted:
        store = file_store.FileStore(str(mounted / 'images'))
        store.prepare()
        source = tmp_path / 'sparse'
        with open(source, 'wb') as file:
            file.write(b'begin')
            file.seek(100_000_000)
            file.write(b'middle')
            file.truncate(200_000_123)
        expected = describe(source)
        stored = add(store, image_id, str(source), expected, epoch=1)
        assert stored.hash_value == expected.hash_value
        assert stored.checksum == expected.checksum
        found = os.stat(stored_path(stored))
        assert found.st_size == 200_000_123
        assert found.st_blocks * 512 < 1_000_000


def test_full_disk_leaves_nothing(tmp_path, image_id):
    with mounts.disk(tmp_path, 'ext4', 8) as mounted:
        store = file_store.FileStore(str(mounted / 'images'))
        store.prepare()
        source = tmp_path / 'source'
        source.write_bytes(os.urandom(20_000_000))
        with pytest.raises(base.StoreFull):
            add(store, image_id, str(source), describe(source), epoch=1)
        assert os.listdir(store.datadir) == []


KILLED = textwrap.dedent('''
    import os, signal, sys
    sys.path[:0] = sys.argv[1].split(':')
    import conformance
    from glance_import.stores import copying
    from glance_import.stores import file as file_store
    where, image_id, source, step = sys.argv[2:]
    owner, _, name = step.partition('.')
    module = {'copying': copying, 'os': os}[owner]
    real = getattr(module, name)
    def deadly(*args, **kwargs):
        real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    store = file_store.FileStore(where)
    expected = conformance.describe(source)
    setattr(module, name, deadly)
    conformance.add(store, image_id, source, expected, epoch=1)
''')


@pytest.mark.parametrize('step', [
    'copying.reflink', 'copying.link_open_file', 'os.chmod',
    'os.pwrite', 'os.fchmod', 'copying.rename_new', 'os.fsync'])
@pytest.mark.parametrize('changed', [False, True])
def test_killed_at_a_step_and_tried_again(here, image_id, source, step,
                                          changed, tmp_path):
    expected = describe(source)
    if changed:
        # A second name: by copy.
        os.link(source, tmp_path / 'other')
    done = subprocess.run(
        [sys.executable, '-c', KILLED, ':'.join(sys.path), here.datadir,
         image_id, str(source), step], capture_output=True, text=True)
    by_copy = step in ('os.pwrite', 'os.fchmod', 'copying.rename_new')
    by_link = step in ('copying.link_open_file', 'os.chmod')
    if changed and by_link or not changed and by_copy:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == -9, done.stderr
    stored = add(here, image_id, str(source), expected, epoch=2)
    assert stored.hash_value == expected.hash_value
    assert stored.uri.endswith(f'{image_id}.2')
    here.sweep(image_id, below=2, keep=())
    assert os.listdir(here.datadir) == [f'{image_id}.2']
    assert conformance.content(here, stored.uri) == DATA


def test_sweep_touches_earlier_names_only(here, image_id, source):
    stored = add(here, image_id, str(source), describe(source), epoch=1)
    mine, others = (os.path.join(here.datadir, name) for name in (
        f'.{image_id}.2.part', f'.{image_id}.3.part'))
    for path in (mine, others):
        open(path, 'w').close()
    here.sweep(image_id, below=3, keep=[stored.uri])
    assert not os.path.exists(mine)
    assert os.path.exists(others)
    assert here.exists(stored.uri)


@pytest.mark.parametrize('name', [
    '../outside', './x', 'a/b', '', '.hidden', 'x/../../outside', 'sub',
    'link', 'x\0'])
def test_locations_outside_are_refused(here, tmp_path, name):
    outside = tmp_path / 'outside'
    outside.write_text('precious')
    os.mkdir(os.path.join(here.datadir, 'sub'))
    os.symlink(outside, os.path.join(here.datadir, 'link'))
    for call in (here.delete, here.open, here.size):
        with pytest.raises(base.BadLocation):
            call(f'file://{here.datadir}/{name}')
    assert outside.read_text() == 'precious'
    assert os.path.islink(os.path.join(here.datadir, 'link'))


@pytest.mark.parametrize('datadir', ['relative', '/dev/null/x', '/dev/null',
                                     '/proc/x'])
def test_directories_refused_in_one_line(datadir):
    with pytest.raises(base.StoreError) as caught:
        file_store.FileStore(datadir).prepare()
    assert 'filesystem_store_datadir' in str(caught.value)
    assert '\n' not in str(caught.value)


def _no_such_rename(*_arguments):
    """On a file system by libfuse 2: no rename that never replaces."""
    ctypes.set_errno(errno.EINVAL)
    return -1


class TestWithoutHardLinks(conformance.Conformance):
    """A file system that knows no links either publishes whole objects."""

    @pytest.fixture
    def store(self, tmp_path, monkeypatch):
        def refused(*_arguments, **_more):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        monkeypatch.setattr(copying._libc, 'renameat2', _no_such_rename)
        monkeypatch.setattr(copying.os, 'link', refused)
        store = file_store.FileStore(str(tmp_path / 'store'), 'here')
        store.prepare()
        return store

    def test_never_replaces(self, store, tmp_path):
        one, other = tmp_path / 'one', tmp_path / 'other'
        one.write_bytes(b'one')
        other.write_bytes(b'other')
        with pytest.raises(FileExistsError):
            copying.rename_new(str(one), str(other))
        assert (one.read_bytes(), other.read_bytes()) == (b'one', b'other')
        copying.rename_new(str(one), str(tmp_path / 'third'))
        assert not one.exists()
        assert (tmp_path / 'third').read_bytes() == b'one'
