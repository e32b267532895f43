"""Uploads in parts, by the rules of tus 1.0: where one stands, how it goes on.

An upload is resumed by holding the lock on its part file; only then is the
record looked at that says which of the bytes there count. Parts that a
checksum came with count when it has been found right, all others as they
come. Each part is on disk before it is acknowledged.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import time
import typing
import uuid

from oslo_log import log

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import staging as db_staging
from glance_import.domain import integrity
from glance_import.domain import quotas
from glance_import.domain import uploads
from glance_import import errors
from glance_import import staging
from glance_import import states

if typing.TYPE_CHECKING:
    from glance_import import services

LOG = log.getLogger(__name__)

# Seconds to wait for the lock: a client that lost its connection is often
# back before the end of the old one has been noticed.
PATIENCE = 2.0
_ALL_THERE = (states.COMPLETE, states.RETURNED, states.CLAIMED)


class OffsetMismatch(errors.Conflict):
    """The part does not begin where the upload stands: at ``offset``."""

    def __init__(self, found: int, given: int) -> None:
        super().__init__(
            f'The upload stands at {found} bytes, Upload-Offset says '
            f'{given}.')
        self.offset = found


class ChecksumMismatch(errors.Invalid):
    """The part is not what its checksum says; it was dropped."""


class Locked(errors.Conflict):
    """Another request is adding to this upload."""

    retry_after = 1


@dataclasses.dataclass(frozen=True)
class Position:
    """Bytes that are there, and in all where known; when it expires (UTC)."""

    offset: int
    length: int | None = None
    expires: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True)
class Part:
    """What a client says of a part: offset and sizes in bytes.

    ``length`` is of the whole upload and ``body_length`` of this part, None
    where nothing was said.
    """

    offset: int
    length: int | None = None
    body_length: int | None = None
    checksums: tuple[integrity.Claimed, ...] = ()


def look(services: services.Services, image_id: str) -> Position:
    """Where the upload stands.

    If all bytes are there but whoever received them died before the end,
    the upload is completed first.

    :raises errors.Conflict: the image is not one that is uploaded now
    """
    record = _record(services, image_id)
    if record is None:
        return Position(0)
    if record.state in _ALL_THERE:
        return Position(record.size or 0, record.size)
    if (_there(services, record) == record.expected
            and not services.area.is_live(image_id)):
        return add(services, image_id, (), Part(record.expected or 0))
    return Position(_there(services, record), record.expected,
                    _expires(services, record))


def add(services: services.Services, image_id: str,
        blocks: collections.abc.Iterable[staging.Block],
        part: Part) -> Position:
    """Receive a part; the last one completes the staged data.

    :param blocks: the body; raises uploads.UploadCut or BadBody by itself
    :raises OffsetMismatch, ChecksumMismatch, Locked: see there
    :raises errors.Invalid: the first part must tell the length of all, and
        the others may not tell another one
    :raises errors.TooLarge: over the length, over a quota, no room
    :raises errors.Conflict: the image is not one that is uploaded now
    """
    record = _record(services, image_id)
    if record is not None and record.state in _ALL_THERE:
        return _add_nothing(record, part)
    check = integrity.Check(part.checksums)
    if record is None:
        upload, record = _begin(services, image_id, part, check)
    else:
        upload, record = _resume(services, image_id, record, part, check)
    return _receive(services, record, upload, blocks, part, check)


def terminate(services: services.Services, image_id: str) -> None:
    """Discard what was staged; the image is queued again.

    Nothing to be done when it is queued already.

    :raises errors.Conflict: the image has, or is about to have, its data
    :raises Locked: an upload is under way
    """
    if _record(services, image_id) is None:
        return

    def unused(status: str, record: db_staging.Record) -> bool:
        return (status == states.UPLOADING
                and record.state != states.CLAIMED)
    try:
        done = _patiently(image_id, lambda: uploads.give_up(
            services, image_id, unused))
    except staging.StagingError as failure:
        raise uploads.as_domain_error(failure, image_id) from failure
    if not done:
        raise errors.Conflict(
            f'The data staged for image {image_id} cannot be discarded: it '
            'is being imported, or lies on another node.')


def sweep(services: services.Services) -> None:
    """Discard what nobody will go on with: expired, or died directly."""
    with services.db.read() as conn:
        records = db_staging.opened(conn, services.area.id)
    for record in records:
        try:
            _ = (uploads.recover(services, record.image_id)
                 or uploads.give_up(services, record.image_id,
                                    _expired(services)))
        except staging.UploadInProgress:
            continue
        except (staging.StagingError, errors.DomainError) as failure:
            LOG.warning('the interrupted upload of image %s is left: %s',
                        record.image_id, failure)


# -- the parts of it ------------------------------------------------------

def _record(services: services.Services, image_id: str
            ) -> db_staging.Record | None:
    """What is staged, None if nothing is and an upload may begin.

    :raises errors.Conflict, errors.NotFound: it may not
    """
    uploads.recover(services, image_id)
    try:
        uploads.give_up(services, image_id, _expired(services))
    except staging.StagingError:
        # In use after all, or it can wait.
        pass
    with services.db.read() as conn:
        status = db_images.status(conn, image_id)
        record = db_staging.get(conn, image_id)
    if status == states.QUEUED:
        return None
    if record is None or status not in (states.UPLOADING, states.IMPORTING):
        raise uploads.not_now(image_id, status)
    if status == states.IMPORTING and record.state == states.OPEN:
        # What is being received there is what the import downloads.
        raise uploads.not_now(image_id, status)
    if record.state == states.OPEN and record.area != services.area.id:
        raise errors.Conflict(
            f'The data of image {image_id} is being uploaded to another '
            'node; go on there, or start anew with PUT.')
    return record


def _expired(services: services.Services) -> collections.abc.Callable[
        [str, db_staging.Record], bool]:
    def expired(status: str, record: db_staging.Record) -> bool:
        when = _expires(services, record)
        return (status == states.UPLOADING and record.state == states.OPEN
                and when is not None and when < engine.utcnow())
    return expired


def _expires(services: services.Services, record: db_staging.Record
             ) -> datetime.datetime | None:
    hours = services.conf.incomplete_upload_lifetime
    return (record.updated_at + datetime.timedelta(hours=hours)
            if hours else None)


def _there(services: services.Services, record: db_staging.Record) -> int:
    """Bytes that count of an open upload."""
    size = services.area.part_size(record.image_id)
    if size is None:
        found = services.area.identity(record.image_id)
        # Published by a process that died before it was recorded.
        return (found.size if found is not None
                and found.size == record.expected else 0)
    return _counted(record, size)


def _counted(record: db_staging.Record, size: int) -> int:
    return size if record.verified is None else min(size, record.verified)


def _add_nothing(record: db_staging.Record, part: Part) -> Position:
    """All is there: the last answer may have been lost on its way."""
    size = record.size or 0
    if part.offset != size:
        raise OffsetMismatch(size, part.offset)
    if part.body_length != 0:
        raise errors.TooLarge('All bytes of the upload are there.')
    return Position(size, size)


def _check_room(cap: quotas.Cap, part: Part, length: int) -> None:
    cap.check(length)
    if part.offset + (part.body_length or 0) > length:
        raise _too_much(length)


def _too_much(length: int) -> errors.TooLarge:
    return errors.TooLarge(
        f'The part goes beyond the {length} bytes that Upload-Length '
        'announced.')


def _begin(services: services.Services, image_id: str, part: Part,
           check: integrity.Check
           ) -> tuple[staging.Upload, db_staging.Record]:
    if part.offset:
        raise OffsetMismatch(0, part.offset)
    if part.length is None:
        raise errors.Invalid(
            'The first part of an upload needs the header Upload-Length.')
    cap = quotas.to_stage(services, image_id)
    _check_room(cap, part, part.length)
    upload_id = str(uuid.uuid4())
    try:
        upload = uploads.begin(services, image_id, cap, also=check.also)
    except errors.Conflict as failure:
        raise Locked(str(failure)) from failure
    try:
        uploads.record_begin(services, image_id, upload_id, part.length,
                             verified=0 if part.checksums else None)
        with services.db.read() as conn:
            record = db_staging.get(conn, image_id)
        assert record is not None
    except BaseException:
        upload.refuse()
        raise
    return upload, record


def _resume(services: services.Services, image_id: str,
            record: db_staging.Record, part: Part, check: integrity.Check
            ) -> tuple[staging.Upload, db_staging.Record]:
    found = [record]

    def confirm(size: int) -> int:
        now = _fresh(services, record)
        counted = _counted(now, size)
        if counted != part.offset:
            raise OffsetMismatch(counted, part.offset)
        length = _length(now, part)
        _check_room(quotas.to_stage(services, image_id), part, length)
        found[0] = _record_part(services, now, part, length)
        return counted
    if record.expected is not None:
        length = record.expected
        _patiently(image_id,
                   lambda: services.area.take_back(image_id, length))
    conf = services.conf
    try:
        upload = _patiently(image_id, lambda: services.area.resume(
            image_id, conf.hashing_algorithm, confirm=confirm,
            legacy_checksum=conf.legacy_checksum, also=check.also))
    except staging.StagingError as failure:
        raise uploads.as_domain_error(failure, image_id) from failure
    return upload, found[0]


_T = typing.TypeVar('_T')


def _patiently(image_id: str, take: collections.abc.Callable[[], _T]) -> _T:
    """Try for a while to get the lock.

    :raises Locked: it is still held
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return take()
        except staging.UploadInProgress as failure:
            if time.monotonic() > deadline:
                raise Locked(
                    f'Image {image_id} cannot be uploaded to now: '
                    f'{failure}.') from failure
        time.sleep(0.02)


def _fresh(services: services.Services, record: db_staging.Record
           ) -> db_staging.Record:
    """The record now that nobody else can change it."""
    with services.db.read() as conn:
        now = db_staging.get(conn, record.image_id)
    if now is None or (now.upload_id, now.state) != (record.upload_id,
                                                     states.OPEN):
        raise errors.Conflict(
            f'The upload to image {record.image_id} was ended or replaced '
            'by another request.')
    return now


def _length(record: db_staging.Record, part: Part) -> int:
    if part.length is None and record.expected is None:
        raise errors.Invalid(
            'The length of this upload is not known yet: the header '
            'Upload-Length is needed.')
    if None not in (part.length, record.expected) \
            and part.length != record.expected:
        raise errors.Invalid(
            f'The upload was announced with {record.expected} bytes, '
            f'Upload-Length says {part.length}.')
    length = part.length if record.expected is None else record.expected
    assert length is not None
    return length


def _record_part(services: services.Services, record: db_staging.Record,
                 part: Part, length: int) -> db_staging.Record:
    """What is to be kept should this part be cut, however."""
    verified = part.offset if part.checksums else None
    if (record.expected, record.verified) == (length, verified):
        return record
    _note(services, record, expected=length, verified=verified)
    return dataclasses.replace(record, expected=length, verified=verified)


def _note(services: services.Services, record: db_staging.Record,
          **changes: typing.Any) -> None:
    with services.db.write() as conn:
        if not db_staging.move(
                conn, record.image_id, (states.OPEN,), states.OPEN,
                upload_id=record.upload_id, **changes):
            raise errors.Gone(
                f'The upload to image {record.image_id} was discarded.')


def _receive(services: services.Services, record: db_staging.Record,
             upload: staging.Upload,
             blocks: collections.abc.Iterable[staging.Block],
             part: Part, check: integrity.Check) -> Position:
    try:
        got = _take(services, record, upload, blocks, part, check)
        if isinstance(got, Position):
            return got
        uploads.record_complete(services, record.image_id,
                                record.upload_id, got)
    finally:
        # Whatever else happened: what came is kept, and the lock let go of.
        upload.cut()
    LOG.info('staged image %s: %d bytes, the last %d in one part',
             record.image_id, got.size, got.size - part.offset)
    return Position(got.size, got.size)


def _take(services: services.Services, record: db_staging.Record,
          upload: staging.Upload,
          blocks: collections.abc.Iterable[staging.Block],
          part: Part, check: integrity.Check) -> Position | staging.Staged:
    """The part; all of the data when it was the last one."""
    image_id, length = record.image_id, record.expected
    assert length is not None
    # Only what may have to be undone is worth a copy.
    before = upload.snapshot() if part.checksums else None
    try:
        for block in blocks:
            if upload.size + len(block) > length:
                raise _too_much(length)
            upload.write(block)
            del block
        upload.settle()
        check.verify()
        if upload.size < length:
            return _suspend(services, record, upload)
        return upload.finish()
    except uploads.UploadCut:
        if part.checksums:
            upload.drop_after(part.offset, before)
        else:
            _suspend(services, record, upload)
        raise
    except (staging.StagingError, errors.DomainError) as failure:
        _drop(upload, part, before)
        if isinstance(failure, integrity.DigestMismatch):
            raise ChecksumMismatch(str(failure)) from failure
        raise uploads.as_domain_error(failure, image_id) from failure


def _suspend(services: services.Services, record: db_staging.Record,
             upload: staging.Upload) -> Position:
    # On disk first, then vouched for; the lock is let go of last, so that
    # nobody sees the one without the other.
    upload.sync()
    _note(services, record, verified=None)
    upload.suspend()
    return Position(upload.size, record.expected, _expires(
        services, dataclasses.replace(record, updated_at=engine.utcnow())))


def _drop(upload: staging.Upload, part: Part, before: typing.Any) -> None:
    if not upload.is_open:
        return
    try:
        upload.drop_after(part.offset, before)
    except staging.StagingError as failure:
        LOG.warning('a part could not be dropped: %s', failure)
