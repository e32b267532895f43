"""Somebody writes to staged bytes behind the service's back.

Whatever is done: an active image has bytes that its digests are of, and
keeps them. Once by a get_flow plugin in the conductor, once by a neighbour
that can write to the staging directory.
"""

import hashlib
import mmap
import os
import threading
import time

import pytest

from tests import service as services

SIZE = 3 << 20
DATA = os.urandom(SIZE)
# How long a cheat goes on in the background; it ends sooner when told to.
SECONDS = 20

# The cheats as source: the plugin and the neighbour run the same.
CHEATS = '''
import mmap
import os
import threading
import time


def again(stop, act):
    """Act now, and over and over behind everybody's back."""
    act()

    def work():
        number = 0
        while time.monotonic() < end and not os.path.exists(stop):
            number += 1
            try:
                act()
            except (OSError, ValueError):
                pass
    end = time.monotonic() + 20
    threading.Thread(target=work, daemon=True).start()


def kept_descriptor(path, stop):
    fd = os.open(path, os.O_RDWR)
    again(stop, lambda: os.pwrite(fd, os.urandom(8), 1000))


def kept_read_descriptor_reopened(path, stop):
    fd = os.open(path, os.O_RDONLY)

    def act():
        other = os.open(f'/proc/self/fd/{fd}', os.O_RDWR)
        os.pwrite(other, os.urandom(8), 1000)
        os.close(other)
    again(stop, act)


def shared_mapping(path, stop):
    with open(path, 'r+b') as file:
        view = mmap.mmap(file.fileno(), 0)
    view[5000:5008] = os.urandom(8)

    def act():
        # The second store to a dirty page changes no time stamp.
        view[5000:5008] = os.urandom(8)
    again(stop, act)


def hard_link(path, stop):
    os.link(path, stop + '.link')

    def act():
        with open(stop + '.link', 'r+b') as file:
            file.write(os.urandom(8))
    again(stop, act)


def quiet_hard_link(path, stop):
    # Nothing is changed before the import is over.
    os.link(path, stop + '.link')


def rename_over(path, stop):
    def act():
        with open(stop + '.new', 'wb') as file:
            file.write(os.urandom(3000000))
        os.rename(stop + '.new', path)
    act()


def rename_over_and_over(path, stop):
    def act():
        with open(stop + '.new', 'wb') as file:
            file.write(os.urandom(3000000))
        if os.path.exists(path):
            os.rename(stop + '.new', path)
    again(stop, act)


def truncate_and_restore(path, stop):
    with open(path, 'r+b') as file:
        data = file.read()
        file.truncate(0)
        file.seek(0)
        file.write(data)


def time_set_back(path, stop):
    found = os.stat(path)
    with open(path, 'r+b') as file:
        file.write(b'changed')
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def other_size_and_back(path, stop):
    found = os.stat(path)
    with open(path, 'ab') as file:
        file.write(b'more')
    os.truncate(path, found.st_size)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
'''

PLUGIN = CHEATS + '''
from taskflow.patterns import linear_flow
from taskflow import task


def get_flow(task_id, image_id, image_repo, **kwargs):
    def execute(file_path):
        extra = image_repo.get(image_id).extra_properties
        globals()[extra['cheat']](file_path[len('file://'):], extra['stop'])
    flow = linear_flow.Flow('cheat')
    return flow.add(task.FunctorTask(execute, name=f'cheat-{task_id}'))
'''

NAMES = [line[4:line.index('(')] for line in CHEATS.splitlines()
         if line.startswith('def ') and not line.startswith('def again')]
# Bytes that are not changed keep their digests.
HARMLESS = {'truncate_and_restore', 'other_size_and_back', 'quiet_hard_link'}


@pytest.fixture(scope='module')
def cheated(tmp_path_factory):
    plugins = services.write_distribution(
        tmp_path_factory.mktemp('plugins'), 'cheats', {'cheats': PLUGIN},
        {'glance.image_import.plugins': {'cheat': 'cheats:get_flow'}})
    running = services.Service(
        tmp_path_factory.mktemp('cheated'), path=[plugins],
        options={'image_import_opts': {'image_import_plugins': '[cheat]'}})
    running.start()
    yield running
    running.kill()


def check_stored(service, image, image_id):
    data = service.download(image_id)
    assert hashlib.sha512(data).hexdigest() == image['os_hash_value']
    assert hashlib.md5(data).hexdigest() == image['checksum']
    assert len(data) == image['size']
    return data


def check(service, image_id, name, stop):
    image = service.wait_status(image_id, 'active')
    first = check_stored(service, image, image_id)
    # Now that it is active they try harder.
    if os.path.exists(f'{stop}.link'):
        with open(f'{stop}.link', 'r+b') as file:
            file.write(b'after the fact')
    for _ in range(10):
        time.sleep(0.03)
        assert check_stored(service, image, image_id) == first
    with open(stop, 'w'):
        pass
    if name in HARMLESS:
        assert first == DATA
    assert service.staged() == []


@pytest.mark.parametrize('name', NAMES)
def test_by_a_plugin(cheated, tmp_path, name):
    stop = str(cheated.directory / name)
    image_id = cheated.create(cheat=name, stop=stop)
    assert cheated.stage(image_id, DATA).status == 204
    assert cheated.start_import(image_id).status == 202
    check(cheated, image_id, name, stop)


@pytest.mark.parametrize('name', NAMES)
def test_by_a_neighbour(service, name):
    space = {}
    exec(CHEATS, space)
    stop = str(service.directory / name)
    image_id = service.create()
    assert service.stage(image_id, DATA).status == 204
    space[name](str(service.staging / image_id), stop)
    assert service.start_import(image_id).status == 202
    check(service, image_id, name, stop)


@pytest.mark.parametrize('how', ['descriptor', 'mapping'])
@pytest.mark.parametrize('path', ['stage', 'file'])
def test_a_neighbour_who_was_there_first(service, path, how):
    """The part file was opened while the upload was still running."""
    image_id = service.create()
    half = SIZE // 2
    with service.raw() as sock:
        sock.sendall((
            f'PUT /v2/images/{image_id}/{path} HTTP/1.1\r\nHost: localhost\r\n'
            'Content-Type: application/octet-stream\r\n'
            f'Content-Length: {SIZE}\r\n\r\n').encode() + DATA[:half])
        part = service.staging / f'{image_id}.part'
        services.wait_for(lambda: part.exists()
                          and part.stat().st_size > 1 << 20)
        file = open(part, 'r+b')
        view = mmap.mmap(file.fileno(), 1 << 20)
        if how == 'mapping':
            file.close()
        over = threading.Event()

        def meddle():
            while not over.is_set():
                if how == 'mapping':
                    view[100:108] = os.urandom(8)
                else:
                    os.pwrite(file.fileno(), os.urandom(8), 100)
        # Only once the service has its bytes: what a neighbour changes
        # while it is still being received, nobody could tell.
        sock.sendall(DATA[half:])
        assert services.answer_of(sock)[0] == 204
        meddler = threading.Thread(target=meddle)
        meddler.start()
    try:
        if path == 'stage':
            assert service.start_import(image_id).status == 202
        image = service.wait_status(image_id, 'active')
        data = check_stored(service, image, image_id)
        if path == 'file':
            assert data == DATA
        for _ in range(10):
            time.sleep(0.03)
            assert check_stored(service, image, image_id) == data
    finally:
        over.set()
        meddler.join()
        view.close()
        file.close()
