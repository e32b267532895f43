"""Uploads in parts, by the rules of tus 1.0.

An upload is resumed by whoever has the lock on its part file; only then is
the record read that says which of the bytes there count. Parts that a
checksum came with count when it has been found right, all others as they
come. Each part is on disk before it is acknowledged. The length of all may be
told by any part; until it was, no part is the last one. Touches what the
receiver does.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import typing

from oslo_log import log

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import staging as db_staging
from glance_import.domain import quotas
from glance_import import errors
from glance_import import staging
from glance_import import states
from glance_import.uploads import integrity
from glance_import.uploads import receiving
from glance_import.uploads import recovery

if typing.TYPE_CHECKING:
    from glance_import import services
    from glance_import.staging import digests as running

LOG = log.getLogger(__name__)

LIMITS = quotas.TO_STAGE
# Seconds to wait for the lock: a client that lost its connection is often
# back before the end of the old one has been noticed.
PATIENCE = 2.0


class OffsetMismatch(errors.Conflict):
    """The part does not begin where the upload stands: at ``offset``."""

    def __init__(self, found: int, given: int) -> None:
        super().__init__(
            f'The upload stands at {found} bytes, Upload-Offset says '
            f'{given}.')
        self.offset = found


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
    checksums: tuple[integrity.ExpectedDigest, ...] = ()

    def check_length(self, expected: int | None) -> int | None:
        """Bytes of the whole upload, None when nobody has told yet.

        :param expected: those announced before, if they were
        :raises errors.Invalid: this part tells another number
        """
        length = self.length if expected is None else expected
        if self.length not in (None, length):
            raise errors.Invalid(
                f'The upload was announced with {length} bytes, '
                f'Upload-Length says {self.length}.')
        return length


def position(services: services.Services, target: receiving.Target
             ) -> Position:
    """Where the upload stands.

    If all bytes are there but whoever received them died before the end,
    the upload is completed first.

    :raises errors.Conflict: the image is not one that is uploaded now
    """
    target = _current(services, target)
    record = target.record
    if record is None:
        return Position(0)
    if record.state != states.OPEN:
        return Position(record.size or 0, record.size)
    size = _size(services, record)
    if size == record.expected and not services.area.is_live(record.image_id):
        return add(services, target, (), Part(size))
    return Position(size, record.expected,
                    recovery.expiry(services, record.updated_at))


def add(services: services.Services, target: receiving.Target,
        blocks: collections.abc.Iterable[staging.Block],
        part: Part) -> Position:
    """Receive a part; the last one completes the staged data.

    :param target: found with ``LIMITS``
    :param blocks: the body; raises errors.ClientGone or Invalid by itself
    :raises OffsetMismatch: the part does not begin where the upload stands
    :raises receiving.InProgress: another request is adding to the upload
    :raises integrity.DigestMismatch: it is not what its checksum says, and
        was dropped
    :raises errors.Invalid: it tells another length of all than an earlier
        one did
    :raises errors.TooLarge: over the length, over a quota, no room
    :raises errors.Conflict: the image is not one that is uploaded now
    """
    image, record, use = _current(services, target)
    if record is not None and record.state != states.OPEN:
        return _add_nothing(record, part)
    with _PartReceiver(services, image.id, part, record) as receiver:
        if record is None:
            receiver.begin_first(use)
        else:
            receiver.resume_at(record, use)
        return receiver.add(blocks)


def terminate(services: services.Services, target: receiving.Target) -> None:
    """Discard what was staged; the image is queued again.

    Nothing to be done when it is queued already.

    :raises errors.Conflict: the image has, or is about to have, its data
    :raises receiving.InProgress: an upload is under way
    """
    image, record, _use = _current(services, target)
    if record is None:
        return

    def is_unused(status: str, record: db_staging.Record) -> bool:
        return (status == states.UPLOADING
                and record.state != states.IN_USE)
    try:
        done = receiving.when_unlocked(
            lambda: recovery.give_up(services, image.id, is_unused), PATIENCE)
    except staging.StagingError as failure:
        raise receiving.refusal(failure, image.id) from failure
    if not done:
        raise errors.Conflict(
            f'The data staged for image {image.id} cannot be discarded: it '
            'is being imported, or lies on another node.')


# -- where an upload stands -----------------------------------------------

def _current(services: services.Services, target: receiving.Target
             ) -> receiving.Target:
    """The target; without a record when an upload may begin.

    :raises errors.Conflict, errors.NotFound: nor may one be resumed
    """
    target = recovery.recovered(services, target)
    image, record, _use = target
    if image.status == states.QUEUED:
        return target._replace(record=None)
    if record is None or image.status not in (states.UPLOADING,
                                              states.IMPORTING):
        raise receiving.refused_status(receiving.STAGE, image.id,
                                       image.status)
    if record.state == states.OPEN and record.area != services.area.id:
        raise errors.Conflict(
            f'The data of image {image.id} is being uploaded to another '
            'node; go on there, or start anew with PUT.')
    return target


def _size(services: services.Services, record: db_staging.Record) -> int:
    """Bytes that count of an open upload."""
    size = services.area.part_size(record.image_id)
    if size is not None:
        return _counted(record, size)
    # Published by a process that died before it was recorded?
    found = services.area.identity(record.image_id)
    return found.size if found and found.size == record.expected else 0


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


# -- a part ---------------------------------------------------------------

class _PartReceiver(receiving.Receiver):
    """Of one part. ``length``: bytes of all, None while nobody told."""

    length: int | None

    def __init__(self, services: services.Services, image_id: str,
                 part: Part, record: db_staging.Record | None) -> None:
        super().__init__(services, receiving.PARTS, image_id,
                         digests=part.checksums,
                         upload_id=record.upload_id if record else None)
        self._part = part
        # Bytes that count should this part end early; None for all.
        self._verified = part.offset if part.checksums else None

    def begin_first(self, use: quotas.Use) -> None:
        """The first part."""
        if self._part.offset:
            raise OffsetMismatch(0, self._part.offset)
        self.length = self._part.length
        self.cap = quotas.cap(self._services, use)
        self._check_room(self.cap)
        self.begin(self.length, self._verified)

    def resume_at(self, record: db_staging.Record, use: quotas.Use) -> None:
        """One of the others."""
        cap = self.cap = quotas.cap(self._services, use)

        def confirm(size: int) -> int:
            now = self._fresh()
            counted = _counted(now, size)
            if counted != self._part.offset:
                raise OffsetMismatch(counted, self._part.offset)
            self.length = self._part.check_length(now.expected)
            self._check_room(cap)
            if (now.expected, now.verified) != (self.length, self._verified):
                self._note(expected=self.length, verified=self._verified)
            return counted
        self.resume(confirm, seconds=PATIENCE, size=record.expected,
                    unrecorded=self._fresh if record.expected is not None
                    else None)

    def add(self, blocks: collections.abc.Iterable[staging.Block]
            ) -> Position:
        """Receive the bytes; what fails is dropped, what ends early kept."""
        # Only what may have to be undone is worth a copy.
        before = self.upload.snapshot() if self._part.checksums else None
        try:
            self.receive(self._bounded(blocks))
            self.verify()
            size = self.upload.size
            if self.length is None or size < self.length:
                return self._suspend()
            self.complete()
        except errors.ClientGone:
            if self._part.checksums:
                self.upload.truncate_to(self._part.offset, before)
            else:
                self._suspend()
            raise
        except (staging.StagingError, errors.DomainError):
            self._drop(before)
            raise
        LOG.info('staged image %s: %d bytes, the last %d in one part',
                 self.image_id, size, size - self._part.offset)
        return Position(size, size)

    def _check_room(self, cap: quotas.Cap) -> None:
        end = self._part.offset + (self._part.body_length or 0)
        cap.check(end if self.length is None else self.length)
        if self.length is not None and end > self.length:
            raise self._beyond()

    def _beyond(self) -> errors.TooLarge:
        return errors.TooLarge(
            f'The part goes beyond the {self.length} bytes that '
            'Upload-Length announced.')

    def _bounded(self, blocks: collections.abc.Iterable[staging.Block]
                 ) -> collections.abc.Iterator[staging.Block]:
        for block in blocks:
            if self.length is not None \
                    and self.upload.size + len(block) > self.length:
                raise self._beyond()
            yield block
            # Or its buffer would live until the next block comes.
            del block

    def _fresh(self) -> db_staging.Record:
        """The record now that nobody else can change it."""
        with self._services.db.read() as conn:
            status = db_images.status(conn, self.image_id)
            now = db_staging.get(conn, self.image_id)
        # The data of an image that is importing is its download's.
        if now is None or (status, now.upload_id, now.state) != (
                states.UPLOADING, self.upload_id, states.OPEN):
            raise errors.Conflict(
                f'The upload to image {self.image_id} was ended or replaced '
                'by another request.')
        return now

    @engine.retried
    def _note(self, **changes: typing.Any) -> None:
        with self._services.db.write() as conn:
            if not db_staging.move(
                    conn, self.image_id, (states.OPEN,), states.OPEN,
                    upload_id=self.upload_id, **changes):
                raise errors.Gone(
                    f'The upload to image {self.image_id} was discarded.')

    def _suspend(self) -> Position:
        # On disk first, then vouched for; the lock is let go of last, so
        # that nobody sees the one without the other.
        self.upload.sync()
        self._note(verified=None)
        self.upload.suspend()
        return Position(self.upload.size, self.length, recovery.expiry(
            self._services, engine.utcnow()))

    def _drop(self, before: running.Digests | None) -> None:
        if not self.upload.is_open:
            return
        try:
            self.upload.truncate_to(self._part.offset, before)
        except staging.StagingError as failure:
            LOG.warning('a part could not be dropped: %s', failure)
