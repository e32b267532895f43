"""Staging area and store on CephFS, mounted by two nodes.

The second node sees its own mount at the path of the first, as it would on a
machine of its own.
"""

import concurrent.futures
import hashlib
import os
import signal

import pytest

from glance_import import staging
from glance_import.staging import area as areas
from glance_import.staging import errors
from glance_import.stores import copying
from tests.ceph import ceph  # noqa: F401
from tests.cephfs import cephfs  # noqa: F401
from tests.faults import deployment
from tests import servers
from tests import service as services

DATA = os.urandom(3_000_000)
ALGO = 'sha512'


def in_place_of(there, here, words):
    """A command that has the directory ``there`` at ``here``."""
    return [servers.program('unshare'), '--mount', 'sh', '-c',
            'mount --bind "$1" "$2" && shift 2 && exec "$@"', 'sh',
            str(there), str(here), *words]


@pytest.fixture
def nodes(cephfs, tmp_path):  # noqa: F811
    """``start`` has the API on one node and the conductor on the other."""
    one, two = cephfs
    made = deployment.Deployment(tmp_path, slow=0.3)
    made.images = one / 'images'
    for node in made.nodes:
        node.staging, node.images = one / 'staging', made.images
        node.configure(
            DEFAULT={'node_staging_uri': f'file://{node.staging}'},
            glance_store={'filesystem_store_datadir': node.images},
            taskflow_executor={'embedded_conductor': False})
    other = made.nodes[1]
    command = other.command
    other.command = lambda *words: in_place_of(two, one, command(*words))
    yield made
    made.remove()
    other.kill()


def test_what_the_file_system_promises(cephfs):  # noqa: F811
    one, two = cephfs
    here, there = (areas.Area.open(f'file://{place}/area')
                   for place in cephfs)
    assert here.id == there.id
    image_id = '8ee5cf8c-5bd1-4d8f-9b5c-3f2f3a1a7c11'
    upload = here.begin(image_id, ALGO)
    upload.write(DATA)
    # A lock on one node is one on the other.
    assert there.is_live(image_id)
    with pytest.raises(errors.UploadInProgress):
        there.begin(image_id, ALGO)
    staged = upload.finish()
    upload.release()
    # What one has recorded is what the other finds.
    assert there.identity(image_id) == staged.identity
    assert staging.Identity.of_path(here.path(image_id)) == staged.identity
    # Names: whoever is first has it, for both.
    (one / 'new').write_bytes(b'new')
    (two / 'taken').write_bytes(b'taken')
    with pytest.raises(FileExistsError):
        copying.rename_new(str(one / 'new'), str(one / 'taken'))
    copying.rename_new(str(two / 'new'), str(two / 'name'))
    assert (one / 'name').read_bytes() == b'new'
    assert not (one / 'new').exists()


def test_a_writer_on_the_other_node(cephfs):  # noqa: F811
    """The kernel grants a lease here; it says nothing of there."""
    one, two = cephfs
    (one / 'file').write_bytes(b'as it was')
    identity = staging.Identity.of_path(str(one / 'file'))
    with open(two / 'file', 'r+b') as writer, open(one / 'file', 'rb') as it:
        with copying.unchanged(it.fileno(), identity) as proved:
            assert not proved
        writer.write(b'changed')


@pytest.mark.skipif('LONG_TESTS' not in os.environ,
                    reason='LONG_TESTS; the short form is of the files alone')
def test_staged_here_imported_there(nodes, cephfs):  # noqa: F811
    """The conductor is killed in the middle, and nothing is lost.

    Somebody here keeps the staged file open for writing, which the kernel
    there cannot know: what is stored has to be a copy.
    """
    nodes.start()
    image_id = nodes.ask(DATA)
    writer = os.open(cephfs[0] / 'staging' / image_id, os.O_RDWR)
    try:
        services.wait_for(nodes.seen.exists)
        nodes.kill_two(signal.SIGKILL)
        nodes.start_two()
        nodes.api.wait_status(image_id, 'active')
        os.pwrite(writer, b'changed', 0)
        os.fsync(writer)
    finally:
        os.close(writer)
    found = nodes.check()
    del found['steps begun again']
    assert not any(found.values()), found


@pytest.mark.skipif('LONG_TESTS' not in os.environ,
                    reason='LONG_TESTS; the short form is of the files alone')
def test_one_image_through_both(nodes):
    """Uploads at once: one wins. In parts: every other one by the other."""
    nodes.start()
    here, there = nodes.nodes
    there.start()
    image_id, parts, direct = here.create(), here.create(), here.create()
    datas = DATA, DATA[::-1]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(
            lambda node, data: node.stage(image_id, data), nodes.nodes,
            datas))
    for answer in answers:
        assert answer.status in (204, 409), answer
    assert here.start_import(image_id).status == 202
    for start in range(0, len(DATA), 499_999):
        node = nodes.nodes[start % 2]
        answer = node.request(
            'PATCH', f'/v2/images/{parts}/stage',
            DATA[start:start + 499_999],
            {'Content-Type': 'application/offset+octet-stream',
             'Upload-Offset': str(start), 'Upload-Length': str(len(DATA))})
        assert answer.status == 204, answer
    assert there.start_import(parts).status == 202
    assert there.request(
        'PUT', f'/v2/images/{direct}/file', DATA,
        {'Content-Type': 'application/octet-stream'}).status == 204
    for node in nodes.nodes:
        for each, wanted in ((image_id, datas), (parts, (DATA,)),
                             (direct, (DATA,))):
            image = node.wait_status(each, 'active')
            found = node.download(each)
            assert found in wanted
            assert image['os_hash_value'] == hashlib.sha512(
                found).hexdigest()
