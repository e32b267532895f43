"""The life of an upload, of each kind, on a real database and directory."""

import datetime
import hashlib
import os

import pytest
import sqlalchemy as sa

from glance_import.db import images as db_images
from glance_import.db import staging as db_staging
from glance_import.db import tables
from glance_import.domain import quotas
from glance_import import errors
from glance_import import staging
from glance_import import states
from glance_import.uploads import integrity
from glance_import.uploads import put_data
from glance_import.uploads import receiving
from glance_import.uploads import recovery
from glance_import.uploads import resumable
from glance_import.uploads import stage

DATA = b'0123456789'
CAP = quotas.Cap(100, 'image_size_cap')
ALL = stage.Announced()
KINDS = [receiving.STAGE, receiving.PARTS, receiving.PUT_FILE]


def found(opened, image_id):
    """Status of the image, and state of its staged data."""
    with opened.db.read() as conn:
        record = db_staging.get(conn, image_id)
        return (db_images.status(conn, image_id),
                record.state if record else None)


def target(opened, ctx, image_id, limits=quotas.TO_STAGE):
    return receiving.find(opened, ctx, image_id, limits)


def files(opened, image_id):
    return [name for name in os.listdir(opened.area.directory)
            if name.startswith(image_id)]


def delete(opened, image_id):
    with opened.db.write() as conn:
        db_images.move(conn, image_id, (states.QUEUED, states.UPLOADING),
                       states.DELETED)
        db_staging.delete(conn, image_id)


def body(failure=None):
    yield DATA
    if failure is not None:
        raise failure


@pytest.mark.parametrize('kind', KINDS)
def test_begun(opened, image_id, kind):
    with receiving.Receiver(opened, kind, image_id, cap=CAP) as receiver:
        epoch = receiver.begin(10)
        assert found(opened, image_id) == (kind.status, states.OPEN)
        assert bool(epoch) == (kind is receiving.PUT_FILE)
        assert opened.area.is_live(image_id)
    assert not opened.area.is_live(image_id)


@pytest.mark.parametrize('kind', [receiving.STAGE, receiving.PARTS])
def test_completed(opened, image_id, kind):
    with receiving.Receiver(opened, kind, image_id, cap=CAP) as receiver:
        receiver.begin()
        ALL.receive(receiver, body())
        staged = receiver.complete()
    assert staged.size == 10
    assert staged.hash_value == hashlib.sha512(DATA).hexdigest()
    assert found(opened, image_id) == (states.UPLOADING, states.COMPLETE)
    assert files(opened, image_id) == [image_id]


@pytest.mark.parametrize('failure', [
    errors.ClientGone('gone'), errors.ClientSilent('silent'),
    ZeroDivisionError(), KeyboardInterrupt()], ids=lambda each: repr(each))
@pytest.mark.parametrize('kind', KINDS)
def test_what_is_no_refusal(opened, image_id, kind, failure):
    """What came is kept, but for the store: nothing partial goes there."""
    with pytest.raises(type(failure)), receiving.Receiver(
            opened, kind, image_id, cap=CAP) as receiver:
        receiver.begin()
        ALL.receive(receiver, body(failure))
    if kind is receiving.PUT_FILE:
        assert found(opened, image_id) == (states.QUEUED, None)
        assert files(opened, image_id) == []
    else:
        assert found(opened, image_id) == (kind.status, states.OPEN)
        assert opened.area.part_size(image_id) == 10


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('cap, announced, digests, expected', [
    (quotas.Cap(9, 'image_size_cap'), ALL, (), errors.TooLarge),
    (CAP, stage.Announced(size=11), (), errors.Invalid),
    (CAP, ALL, (integrity.ExpectedDigest('X', 'md5', bytes(16)),),
     integrity.DigestMismatch)])
def test_refused(opened, image_id, kind, cap, announced, digests, expected):
    with pytest.raises(expected), receiving.Receiver(
            opened, kind, image_id, cap=cap, digests=digests) as receiver:
        receiver.begin()
        announced.receive(receiver, body())
    if kind is receiving.PARTS:
        # Whoever receives parts drops the part himself.
        assert found(opened, image_id) == (kind.status, states.OPEN)
    else:
        assert found(opened, image_id) == (states.QUEUED, None)
        assert files(opened, image_id) == []


def test_somebody_else_is_at_it(opened, image_id):
    with receiving.Receiver(opened, receiving.STAGE, image_id) as first:
        first.begin()
        first.receive(body())
        with pytest.raises(receiving.InProgress), receiving.Receiver(
                opened, receiving.STAGE, image_id) as second:
            second.begin()
        assert first.complete().size == 10
    assert found(opened, image_id) == (states.UPLOADING, states.COMPLETE)


def test_of_two_who_read_the_same_status_one_is_let_in(opened, ctx,
                                                       image_id):
    """Nobody asks again before the first byte: the write decides."""
    seen = target(opened, ctx, image_id)
    put = target(opened, ctx, image_id, put_data.LIMITS)
    stage.stage(opened, seen, body(), ALL)
    for late in (lambda: stage.stage(opened, seen, body(), ALL),
                 lambda: put_data.save(opened, put, body(), ALL)):
        with pytest.raises(errors.Conflict, match='is uploading'):
            late()
    assert found(opened, image_id) == (states.UPLOADING, states.COMPLETE)
    assert files(opened, image_id) == [image_id]


def test_replaced_by_another(opened, image_id):
    with receiving.Receiver(opened, receiving.STAGE, image_id) as first:
        first.begin()
        first.receive(body())
        with opened.db.write() as conn:
            receiving.record_begin(conn, receiving.STAGE, image_id,
                                   upload_id='another', area=opened.area.id)
        with pytest.raises(errors.Conflict, match='replaced'):
            first.complete()
    assert found(opened, image_id) == (states.UPLOADING, states.OPEN)


@pytest.mark.parametrize('when', ['before', 'after'])
def test_deleted_meanwhile(opened, image_id, when):
    with receiving.Receiver(opened, receiving.STAGE, image_id) as receiver:
        receiver.begin()
        receiver.receive(body())
        delete(opened, image_id)
        if when == 'before':
            opened.area.discard(image_id)
        with pytest.raises((errors.Gone, staging.UploadGone)):
            receiver.complete()
    assert files(opened, image_id) == []


@pytest.mark.parametrize('kind, status', [
    (receiving.STAGE, states.ACTIVE), (receiving.PUT_FILE, states.IMPORTING),
    (receiving.PUT_FILE, states.UPLOADING), (receiving.PARTS, states.SAVING)])
def test_statuses_that_take_no_data(kind, status):
    with pytest.raises(errors.Conflict, match=f'is {status}'):
        receiving.check_status(kind, 'x', status, None)


def test_an_image_that_is_not_there():
    for status in (None, states.DELETED):
        with pytest.raises(errors.NotFound):
            receiving.check_status(receiving.STAGE, 'x', status, None)


def test_what_the_project_uses_is_read_with_the_image(opened, ctx,
                                                      image_id):
    assert target(opened, ctx, image_id).use.amounts == {}
    opened.conf.set_override('user_storage_quota', '1MB')
    try:
        before = target(opened, ctx, image_id)
        left = quotas.cap(opened, before.use).size
        put_data.save(opened, before, body(), ALL)
        assert found(opened, image_id) == (states.ACTIVE, None)
        seen = target(opened, ctx, image_id)
        assert quotas.cap(opened, seen.use).size == left - 10
        assert target(opened, ctx, image_id, ()).use.amounts == {}
        opened.conf.set_override('user_storage_quota', '1B')
        with pytest.raises(errors.TooLarge, match='user_storage_quota'):
            quotas.cap(opened, target(opened, ctx, image_id).use)
    finally:
        opened.conf.clear_override('user_storage_quota')


# -- what is left by others

def left(opened, image_id, kind):
    """What a process leaves that dies."""
    receiver = receiving.Receiver(opened, kind, image_id)
    receiver.begin(20)
    receiver.receive(body())
    receiver.upload.keep_partial()


def test_a_direct_upload_that_died(opened, ctx, image_id):
    left(opened, image_id, receiving.PUT_FILE)
    seen = target(opened, ctx, image_id)
    assert seen.image.status == states.SAVING
    again = recovery.recovered(opened, seen)
    assert (again.image.status, again.record) == (states.QUEUED, None)
    assert files(opened, image_id) == []


def test_a_direct_upload_that_lives(opened, ctx, image_id):
    with receiving.Receiver(opened, receiving.PUT_FILE, image_id,
                            cap=CAP) as receiver:
        receiver.begin()
        seen = target(opened, ctx, image_id)
        assert recovery.recovered(opened, seen) == seen
        with pytest.raises(errors.Conflict, match='is being uploaded'):
            stage.stage(opened, seen, body(), ALL)


def test_a_partial_upload_goes_on_until_it_expires(opened, ctx, image_id):
    left(opened, image_id, receiving.PARTS)
    seen = target(opened, ctx, image_id)
    assert recovery.recovered(opened, seen) == seen
    recovery.discard_abandoned(opened)
    assert resumable.position(opened, seen).offset == 10
    with opened.db.write() as conn:
        conn.execute(sa.update(tables.import_staging).where(
            tables.import_staging.c.image_id == image_id).values(
                updated_at=datetime.datetime(2020, 1, 1)))
    seen = target(opened, ctx, image_id)
    assert resumable.position(opened, seen).offset == 0
    assert found(opened, image_id) == (states.QUEUED, None)


@pytest.mark.parametrize('done', ['published', 'recorded'])
def test_who_waited_takes_back_nothing_that_is_recorded(opened, ctx,
                                                        image_id, done):
    """It was open when he looked; the last byte came while he waited."""
    with receiving.Receiver(opened, receiving.PARTS, image_id) as receiver:
        receiver.begin(10)
        receiver.receive(body())
        seen = target(opened, ctx, image_id)
        if done == 'recorded':
            receiver.complete()
        else:
            receiver.upload.finish()
    part = resumable.Part(10, body_length=0)
    if done == 'recorded':
        with pytest.raises(errors.Conflict, match='ended or replaced'):
            resumable.add(opened, seen, (), part)
    else:
        # Nobody recorded it: its process died.
        assert resumable.add(opened, seen, (), part).offset == 10
    assert found(opened, image_id) == (states.UPLOADING, states.COMPLETE)
    assert files(opened, image_id) == [image_id]


def test_nobody_adds_to_what_an_import_fetches(opened, ctx, image_id):
    """Not even while the conductor that fetched it is gone."""
    with opened.db.write() as conn:
        db_images.move(conn, image_id, states.QUEUED, states.IMPORTING)
    with receiving.Receiver(opened, receiving.DOWNLOAD, image_id) as fetching:
        fetching.resume(lambda size: size, seconds=0)
        with opened.db.write() as conn:
            receiving.record_begin(
                conn, receiving.DOWNLOAD, image_id,
                upload_id=fetching.upload_id, area=opened.area.id)
        fetching.receive(body())
    with pytest.raises(errors.Conflict, match='ended or replaced'):
        resumable.add(opened, target(opened, ctx, image_id), body(),
                      resumable.Part(10, length=20))
    assert opened.area.part_size(image_id) == 10


def test_unlocked_in_time():
    tries = []

    def take():
        tries.append(1)
        if len(tries) < 3:
            raise staging.UploadInProgress('busy')
        return 'lock'
    assert receiving.when_unlocked(take, 60, tries.append) == 'lock'
    with pytest.raises(staging.UploadInProgress):
        receiving.when_unlocked(lambda: take() and tries.clear() or take(),
                                -1)
