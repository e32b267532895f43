"""A staging area that is shared with a group, and one that is looked at."""

import os
import stat
import uuid

import pytest

from glance_import.domain import sealing
from glance_import import staging
from glance_import.staging import area as areas
from glance_import import state


@pytest.fixture
def shared(tmp_path):
    path = tmp_path / 'staging'
    path.mkdir()
    path.chmod(0o2770)
    before = os.umask(0o077)
    yield path
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_what_the_group_gets(shared):
    """Whatever the umask is."""
    area = staging.Area.open(f'file://{shared}')
    image_id = str(uuid.uuid4())
    upload = area.begin(image_id, 'sha512')
    upload.write(b'data')
    upload.finish()
    sealing.seal(area, {'token': 'x'})
    with area.scratch() as scratch:
        assert mode(shared / os.path.basename(scratch.path)) == 0o640
    product = area.new_product(image_id, 1, 0)
    assert mode(shared / os.path.basename(product)) == 0o640
    assert mode(shared / image_id) == 0o640
    assert mode(shared / sealing.KEY_FILE) == 0o640
    assert mode(shared / areas.ID_FILE) == 0o660


def test_a_private_one_stays_private(tmp_path):
    area = staging.Area.open(f'file://{tmp_path}/staging')
    sealing.seal(area, {'token': 'x'})
    for path in (tmp_path / 'staging').iterdir():
        assert mode(path) == 0o600, path


def test_an_upload_that_is_resumed_is_known_by_its_file(shared):
    """Its mode is set once: setting it again would make it another file."""
    area = staging.Area.open(f'file://{shared}')
    image_id = str(uuid.uuid4())
    upload = area.begin(image_id, 'sha512')
    upload.write(b'data')
    upload.suspend()
    before = (shared / f'{image_id}.part').stat().st_ctime_ns
    upload = area.resume(image_id, 'sha512', confirm=lambda size: size)
    assert (shared / f'{image_id}.part').stat().st_ctime_ns == before
    upload.finish()


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root for chown')
def test_of_another_user_of_the_group(shared):
    os.chown(shared, 65534, os.getegid())
    shared.chmod(0o2770)
    assert staging.Area.open(f'file://{shared}').id
    # Of a group that is not ours, or without the bit, it is somebody else's.
    shared.chmod(0o0770)
    with pytest.raises(staging.StagingError, match='2770'):
        staging.Area.open(f'file://{shared}')
    os.chown(shared, 65534, 4711)
    shared.chmod(0o2770)
    with pytest.raises(staging.StagingError, match='2770'):
        staging.Area.open(f'file://{shared}')


def test_looking_makes_nothing(tmp_path):
    uri = f'file://{tmp_path}/staging'
    assert areas.Area.existing(uri) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / 'staging').mkdir(mode=0o700)
    found = areas.Area.existing(uri)
    assert found is not None and found.id == ''
    assert list((tmp_path / 'staging').iterdir()) == []
    made = staging.Area.open(uri)
    assert areas.Area.existing(uri).id == made.id
    with pytest.raises(staging.StagingError):
        areas.Area.existing('http://x')


@pytest.mark.parametrize('bits, expected', [
    (0o2770, True), (0o2775, True), (0o770, False), (0o2700, False),
    (0o2777, False)])
def test_what_is_shared(tmp_path, bits, expected):
    tmp_path.chmod(bits)
    assert state.is_shared(str(tmp_path)) is expected
    assert state.is_shared(str(tmp_path / 'absent')) is False
