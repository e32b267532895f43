"""The staging area, on real files and with real processes."""

import concurrent.futures
import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import uuid

import pytest

from glance_import import staging
from tests import mounts

ALGO = 'sha512'


@pytest.fixture
def area(tmp_path):
    return staging.Area.open(f'file://{tmp_path}/staging')


@pytest.fixture
def image_id():
    return str(uuid.uuid4())


def blocks_of(data, size):
    return (data[at:at + size] for at in range(0, len(data), size))


def names(area):
    return sorted(name for name in os.listdir(area.directory)
                  if not name.startswith('.'))


@pytest.mark.parametrize('length, size', [
    (0, 1), (1, 1), (70_001, 1), (3_000_000, 65536), (9_500_000, 4 << 20),
    (20_000_000, 20_000_000)])
@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview])
def test_bytes_and_digests(area, image_id, length, size, kind):
    data = os.urandom(length)
    upload = area.begin(image_id, ALGO)
    for block in blocks_of(data, size):
        upload.write(kind(block))
    assert upload.size == length
    staged = upload.finish()
    with open(area.path(image_id), 'rb') as stored:
        assert stored.read() == data
    assert staged.size == length
    assert staged.checksum == hashlib.md5(data).hexdigest()
    assert staged.hash_algo == ALGO
    assert staged.hash_value == hashlib.sha512(data).hexdigest()
    assert staged.identity == area.identity(image_id)
    assert names(area) == [image_id]


def test_mixed_block_sizes_keep_their_order(area, image_id):
    data = os.urandom(6_000_000)
    upload = area.begin(image_id, 'sha256')
    at = 0
    for size in [1, 65536, 3, 2 << 20, 1, 1 << 20, 700_000, 7, 6_000_000]:
        upload.write(data[at:at + size])
        at += size
    assert upload.finish().hash_value == hashlib.sha256(data).hexdigest()


def test_without_legacy_checksum(area, image_id):
    upload = area.begin(image_id, ALGO, legacy_checksum=False)
    upload.write(b'x')
    assert upload.finish().checksum is None


@pytest.mark.parametrize('algo', ['sha256', 'sha384', 'blake2b', 'sha3_256'])
def test_other_algorithms(area, image_id, algo):
    upload = area.begin(image_id, algo)
    upload.write(b'abc')
    expected = hashlib.new(algo, b'abc').hexdigest()
    assert upload.finish().hash_value == expected


def test_unknown_algorithm_leaves_no_lock(area, image_id):
    with pytest.raises(ValueError):
        area.begin(image_id, 'no-such')
    area.begin(image_id, ALGO).discard()


def test_two_at_once_one_is_let_in(area, image_id):
    first = area.begin(image_id, ALGO)
    assert area.is_live(image_id)
    with pytest.raises(staging.UploadInProgress):
        area.begin(image_id, ALGO)
    first.write(b'kept')
    first.finish()
    assert not area.is_live(image_id)
    with open(area.path(image_id), 'rb') as stored:
        assert stored.read() == b'kept'


def test_many_at_once_exactly_one_is_let_in(area, image_id):
    gate = threading.Barrier(8)

    def try_it():
        gate.wait()
        try:
            return area.begin(image_id, ALGO)
        except staging.UploadInProgress:
            return None

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = [call.result() for call in
                   [pool.submit(try_it) for _ in range(8)]]
    winners = [upload for upload in results if upload]
    assert len(winners) == 1
    winners[0].discard()


def test_asking_whether_it_is_live_keeps_nobody_out(area, image_id):
    stop = threading.Event()
    area.begin(image_id, ALGO).keep_partial()

    def ask():
        while not stop.is_set():
            area.is_live(image_id)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        for _ in range(50):
            area.begin(image_id, ALGO).keep_partial()
    finally:
        stop.set()
        asker.join()


def test_what_came_is_kept_as_a_part(area, image_id):
    upload = area.begin(image_id, ALGO)
    upload.write(b'half')
    upload.keep_partial()
    assert names(area) == [image_id + '.part']
    assert area.part_size(image_id) == 4
    assert area.identity(image_id) is None
    assert not area.is_live(image_id)
    again = area.begin(image_id, ALGO)
    again.write(b'whole')
    assert again.finish().size == 5
    assert names(area) == [image_id]


def test_context_manager_keeps_what_came(area, image_id):
    with pytest.raises(RuntimeError), area.begin(image_id, ALGO) as upload:
        upload.write(b'half')
        raise RuntimeError
    assert names(area) == [image_id + '.part']


def test_discard_leaves_nothing(area, image_id):
    upload = area.begin(image_id, ALGO)
    upload.write(b'x' * 5_000_000)
    upload.discard()
    assert names(area) == []
    with pytest.raises(staging.StagingError):
        upload.write(b'more')
    upload.keep_partial()
    upload.discard()


def test_discarded_upload_leaves_earlier_data(area, image_id):
    first = area.begin(image_id, ALGO)
    first.write(b'first')
    staged = first.finish()
    second = area.begin(image_id, ALGO)
    second.write(b'second')
    second.discard()
    assert area.identity(image_id) == staged.identity


def test_nobody_takes_back_what_is_just_complete(area, image_id):
    """Until it is recorded; a process that died holds nothing."""
    upload = area.begin(image_id, 'sha512')
    upload.write(b'data')
    staged = upload.finish()
    with pytest.raises(staging.UploadInProgress):
        area.take_back(image_id, pytest.fail, 4)
    assert area.identity(image_id) == staged.identity
    upload.release()
    assert not area.take_back(image_id, pytest.fail, 5)
    assert area.take_back(image_id, lambda: None, 4)
    assert area.identity(image_id) is None
    assert area.part_size(image_id) == 4
    with pytest.raises(staging.UploadGone):
        upload = area.begin(image_id, 'sha512')
        os.unlink(upload.part)
        upload.finish()


def test_nobody_takes_back_what_is_recorded(area, image_id):
    """Whoever waited for the lock asks again when he has it."""
    upload = area.begin(image_id, 'sha512')
    upload.write(b'data')
    staged = upload.finish()
    upload.release()

    class Recorded(Exception):
        pass

    def confirm():
        raise Recorded
    with pytest.raises(Recorded):
        area.take_back(image_id, confirm)
    assert area.identity(image_id) == staged.identity
    assert area.take_back(image_id, lambda: None)
    assert not area.take_back(image_id, pytest.fail)


def test_size_limit(area, image_id):
    upload = area.begin(image_id, ALGO, size_limit=10)
    upload.write(b'x' * 10)
    with pytest.raises(staging.TooLarge):
        upload.write(b'x')
    assert upload.size == 10
    upload.discard()
    assert names(area) == []


def test_discard_while_live_is_noticed(area, image_id):
    upload = area.begin(image_id, ALGO)
    upload.write(b'x')
    area.discard(image_id)
    with pytest.raises(staging.UploadGone):
        upload.finish()
    upload.discard()
    assert names(area) == []


def test_discarded_upload_cannot_take_its_successors_bytes(area, image_id):
    old = area.begin(image_id, ALGO)
    old.write(b'old')
    area.discard(image_id)
    new = area.begin(image_id, ALGO)
    new.write(b'new')
    with pytest.raises(staging.UploadGone):
        old.finish()
    old.discard()
    assert new.finish().size == 3
    with open(area.path(image_id), 'rb') as stored:
        assert stored.read() == b'new'


def test_discard_complete_and_nothing(area, image_id):
    area.discard(image_id)
    upload = area.begin(image_id, ALGO)
    upload.finish()
    area.discard(image_id)
    assert names(area) == []


class Refuses:
    def update(self, block):
        raise ValueError('not an image')


def test_a_looker_on_can_refuse(area, image_id):
    upload = area.begin(image_id, ALGO, also=[Refuses()])
    upload.write(b'x' * 100)
    with pytest.raises(ValueError, match='not an image'):
        upload.finish()
    upload.discard()
    assert names(area) == []


@pytest.mark.parametrize('name', [
    '', '.', '..', '../x', 'a/b', 'x' * 36, '.staging_area_id',
    '{12345678-1234-1234-1234-123456789012}',
    '12345678-1234-1234-1234-123456789012\n'])
def test_only_uuids_name_files(area, name):
    for call in (area.path, area.discard, area.is_live, area.identity,
                 lambda name: area.begin(name, ALGO)):
        with pytest.raises(staging.StagingError):
            call(name)


def test_list(area):
    done, partial, live = (str(uuid.uuid4()) for _ in range(3))
    area.begin(done, ALGO).finish()
    area.begin(partial, ALGO).keep_partial()
    upload = area.begin(live, ALGO)
    with open(os.path.join(area.directory, 'stranger'), 'w'):
        pass
    found = {entry.image_id: (entry.complete, entry.live)
             for entry in area.list()}
    upload.discard()
    assert found == {done: (True, False), partial: (False, False),
                     live: (False, True)}


@pytest.mark.parametrize('uri', [
    '', '/tmp/staging', 'http://localhost/x', 'file:/tmp/x', 'file://',
    'file://x', 'file://localhost/tmp/x', 'file:///', 'file:////',
    'file:///tmp/../etc', 'file:///tmp/x?y', 'file:///tmp/x#y',
    'file:///tmp/%78', 'file:///tmp/x\ny', 'file:///tmp/x\0'])
def test_uris_refused_in_one_line(uri):
    with pytest.raises(staging.StagingError) as caught:
        staging.Area.open(uri)
    assert 'node_staging_uri' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_created_for_us_alone(tmp_path):
    area = staging.Area.open(f'file://{tmp_path}/a/b/')
    assert os.stat(tmp_path / 'a/b').st_mode & 0o777 == 0o700
    assert area.uri('12345678-1234-1234-1234-123456789012') == (
        f'file://{tmp_path}/a/b/12345678-1234-1234-1234-123456789012')


def test_directory_others_can_write(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(staging.StagingError, match='written by others'):
        staging.Area.open(f'file://{tmp_path}')


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / 'f').touch()
    for path in ('f', 'f/g'):
        with pytest.raises(staging.StagingError, match='[nN]ot a directory'):
            staging.Area.open(f'file://{tmp_path}/{path}')


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root for chown')
def test_directory_of_another_user(tmp_path):
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(staging.StagingError, match='belongs to user 65534'):
        staging.Area.open(f'file://{tmp_path}')


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root for chown')
def test_link_planted_by_another_user(tmp_path):
    (tmp_path / 'ours').mkdir()
    link = tmp_path / 'link'
    link.symlink_to(tmp_path / 'ours')
    staging.Area.open(f'file://{link}')
    os.chown(link, 65534, 65534, follow_symlinks=False)
    with pytest.raises(staging.StagingError, match='symbolic link'):
        staging.Area.open(f'file://{link}')


def test_id_stays_and_is_one_for_all(tmp_path):
    uri = f'file://{tmp_path}/s'
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = {area.id for area in
               pool.map(staging.Area.open, [uri] * 16)}
    assert len(ids) == 1
    assert staging.Area.open(uri).id in ids
    uuid.UUID(ids.pop())


def test_half_written_id_is_replaced(tmp_path):
    (tmp_path / '.staging_area_id').write_text('12345')
    uuid.UUID(staging.Area.open(f'file://{tmp_path}').id)


UPLOADER = textwrap.dedent('''
    import sys, time
    from glance_import import staging
    area = staging.Area.open(sys.argv[1])
    upload = area.begin(sys.argv[2], 'sha512')
    upload.write(b'x' * 3_000_000)
    print('begun', flush=True)
    time.sleep(60)
''')


def test_killed_uploader_keeps_nobody_out(area, image_id):
    child = subprocess.Popen(
        [sys.executable, '-c', UPLOADER, f'file://{area.directory}',
         image_id], stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b'begun\n'
        assert area.is_live(image_id)
        with pytest.raises(staging.UploadInProgress):
            area.begin(image_id, ALGO)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert not area.is_live(image_id)
    upload = area.begin(image_id, ALGO)
    upload.write(b'mine')
    assert upload.finish().size == 4


LIMITED = textwrap.dedent('''
    import resource, signal, sys
    from glance_import import staging
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    area = staging.Area.open(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    upload = area.begin(sys.argv[2], 'sha512')
    try:
        for _ in range(64):
            upload.write(b'x' * 100_000)
        upload.finish()
    except staging.StagingFull as failure:
        upload.discard()
        print('full', failure)
''')


def test_file_too_big_for_the_file_system(area, image_id):
    done = subprocess.run(
        [sys.executable, '-c', LIMITED, f'file://{area.directory}',
         image_id], capture_output=True, text=True, check=True)
    assert done.stdout.startswith('full no room in the staging area')
    assert names(area) == []


@pytest.fixture
def small_disk(tmp_path):
    with mounts.memory(tmp_path / 'small', '4M') as place:
        yield place


def test_full_disk(small_disk, image_id):
    area = staging.Area.open(f'file://{small_disk}')
    upload = area.begin(image_id, ALGO)
    with pytest.raises(staging.StagingFull):
        for _ in range(64):
            upload.write(b'x' * 1_000_000)
        upload.finish()
    upload.discard()
    assert names(area) == []
    again = area.begin(image_id, ALGO)
    again.write(b'x' * 1_000_000)
    assert again.finish().size == 1_000_000


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root to remount')
def test_read_only_disk(small_disk, image_id):
    area = staging.Area.open(f'file://{small_disk}')
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)],
                   check=True)
    with pytest.raises(staging.StagingUnwritable):
        area.begin(image_id, ALGO)
    with pytest.raises(staging.StagingError, match='Read-only'):
        staging.Area.open(f'file://{small_disk}')


def test_stalled_uploads_hold_no_thread(area):
    uploads = [area.begin(str(uuid.uuid4()), ALGO) for _ in range(60)]
    for upload in uploads:
        upload.write(b'x' * 70_000)
    lanes = [thread for thread in threading.enumerate()
             if thread.name.startswith('staging-')]
    assert len(lanes) <= 8 + max(2, os.cpu_count())
    last = area.begin(str(uuid.uuid4()), ALGO)
    last.write(b'y' * 10_000_000)
    assert last.finish().size == 10_000_000
    for upload in uploads:
        upload.discard()
    assert len(names(area)) == 1


class Stuck:
    def __init__(self):
        self.go = threading.Event()

    def update(self, block):
        self.go.wait(30)


def test_window_is_bounded(area, image_id):
    stuck = Stuck()
    upload = area.begin(image_id, ALGO, also=[stuck])
    handed = []

    def send():
        for _ in range(32):
            upload.write(bytes(1 << 20))
            handed.append(1)

    sender = threading.Thread(target=send)
    sender.start()
    sender.join(0.5)
    held = len(handed)
    stuck.go.set()
    sender.join()
    assert held <= 8
    assert upload.finish().size == 32 << 20


def test_a_program_that_is_being_started_holds_no_lock(area, image_id):
    """Between fork and exec it has a copy of every descriptor."""
    copies = []

    def fork():
        for name in os.listdir('/proc/self/fd'):
            place = f'/proc/self/fd/{name}'
            if os.path.realpath(place).startswith(area.directory):
                copies.append(os.dup(int(name)))
    try:
        upload = area.begin(image_id, ALGO)
        upload.write(b'bytes')
        fork()
        sealed = upload.seal()
        fork()
        sealed.close()
        assert not area.is_live(image_id)
        upload = area.begin(image_id, ALGO)
        fork()
        upload.keep_partial()
        assert not area.is_live(image_id)
        area.begin(image_id, ALGO).finish()
        assert len(copies) >= 3
    finally:
        for copy in copies:
            os.close(copy)


def test_locks_as_on_nfs(area, image_id, monkeypatch):
    """There only what is open for writing can be locked alone."""
    flock, refused = fcntl.flock, []

    def nfs(fd, how):
        mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        if how & fcntl.LOCK_EX and mode == os.O_RDONLY:
            refused.append(fd)
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return flock(fd, how)
    monkeypatch.setattr(fcntl, 'flock', nfs)
    upload = area.begin(image_id, ALGO)
    upload.write(b'bytes')
    with upload.seal() as sealed:
        assert area.is_live(image_id)
        assert open(sealed.path, 'rb').read() == b'bytes'
    assert not area.is_live(image_id)
    upload = area.begin(image_id, ALGO)
    upload.write(b'more')
    upload.finish()
    with pytest.raises(staging.UploadInProgress):
        area.take_back(image_id, pytest.fail)
    upload.release()
    assert area.take_back(image_id, lambda: None)
    assert len(refused) == 3
