"""How bytes are received: begun, then completed, kept or discarded.

The one life of an upload, whichever way its bytes come, and the one place
that records it. While bytes come, the image has the status of the upload's
kind and its staged data is ``open``; whoever is receiving has the lock on the
part file, and nothing else says so. Complete: every byte is on disk
and the record has the digests. Kept: what came stays as a partial upload, to
be resumed or begun anew. Discarded: the image is queued again. Touches the
staging area, the image and the record of its staged data.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import time
import typing
import uuid

from oslo_log import log

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import staging as db_staging
from glance_import.domain import images
from glance_import.domain import quotas
from glance_import.domain import telling
from glance_import import errors
from glance_import.observe import events
from glance_import import staging
from glance_import.staging import room
from glance_import import states
from glance_import.uploads import integrity

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import import context
    from glance_import import services

LOG = log.getLogger(__name__)
_T = typing.TypeVar('_T')
# Seconds between two tries to get a lock.
_PAUSE = 0.02


class InProgress(errors.Conflict):
    """Another request is uploading to the image."""


class Kind(typing.NamedTuple):
    """One of the ways in which bytes come.

    ``source`` is what metrics call it; ``status``, that of the image while
    they come; ``complete`` is the state of its staged data when all have
    come, None where none stays; ``refusals`` are the errors after which
    nothing of them is kept.
    """

    source: str
    status: str
    complete: str | None
    refusals: tuple[type[BaseException], ...] = ()


STAGE = Kind('stage', states.UPLOADING, states.COMPLETE,
             (staging.StagingError, errors.Invalid))
PARTS = Kind('parts', states.UPLOADING, states.COMPLETE)
PUT_FILE = Kind('file', states.SAVING, None, (BaseException,))
# PUT file whose data goes through an import.
TO_IMPORT = Kind('file', states.UPLOADING, states.COMPLETE, (BaseException,))
DOWNLOAD = Kind('import', states.IMPORTING, states.IN_USE)


class Target(typing.NamedTuple):
    """An image that data comes in for, as one transaction has found it."""

    image: db_images.Image
    record: db_staging.Record | None
    use: quotas.Use


def find(services: services.Services, ctx: context.RequestContext,
         image_id: str, limits: tuple[str, ...] = ()) -> Target:
    """The image, when it is there and the caller may see it.

    :param limits: those of the quotas that the data is to keep
    :raises errors.NotFound: absent, malformed id, or not to be seen
    """
    with services.db.read() as conn:
        image = images.peek(conn, ctx, image_id)
        if image is None:
            raise errors.no_image(image_id)
        return Target(image, db_staging.get(conn, image.id), quotas.use(
            conn, services.conf, image.id, image.owner, limits))


# -- the record -----------------------------------------------------------

def check_status(kind: Kind, image_id: str, status: str | None,
                 record: db_staging.Record | None) -> None:
    """:raises errors.Conflict, errors.NotFound: no data is taken now"""
    if status != states.QUEUED and not (
            status == states.UPLOADING == kind.status
            and _is_replaceable(record)):
        raise refused_status(kind, image_id, status)


def _is_replaceable(record: db_staging.Record | None) -> bool:
    """Data that is partial, or came back from an import."""
    return record is None or record.state in (states.OPEN, states.RETURNED)


def refused_status(kind: Kind, image_id: str, status: str | None
                   ) -> errors.DomainError:
    """Why an image of that status takes no data."""
    if status in (None, states.DELETED):
        return errors.no_image(image_id)
    if kind is PUT_FILE:
        return errors.Conflict(
            f'Image {image_id} is {status}; only a queued image takes data '
            'by PUT file.')
    hint = {
        states.QUEUED: 'it was changed just now; try again',
        states.SAVING: 'its data is being uploaded',
        states.UPLOADING: 'its staged data is complete: import it, or '
                          'delete the image',
        states.IMPORTING: 'an import of it is running',
        states.ACTIVE: 'it has its data already',
    }.get(status or '', 'only a queued image can be staged')
    return errors.Conflict(
        f'Image {image_id} is {status} and cannot be staged: {hint}.')


def record_begin(conn: sa.Connection, kind: Kind, image_id: str, *,
                 upload_id: str, area: str, expected: int | None = None,
                 verified: int | None = None) -> None:
    """The image has the status of the kind; its data is ``open``.

    An import has moved its image already. For the others the move decides
    who uploads.

    :raises errors.Conflict, errors.NotFound: it takes no data now
    """
    if kind is DOWNLOAD:
        db_images.lock(conn, image_id)
    else:
        if not db_images.move(conn, image_id, states.QUEUED, kind.status):
            _record_again(conn, kind, image_id)
        images.drop_error(conn, image_id)
    db_staging.begin(conn, image_id, upload_id=upload_id, area=area,
                     expected=expected, verified=verified)


def _record_again(conn: sa.Connection, kind: Kind, image_id: str) -> None:
    # The update locks the row before the record is read.
    if kind.status != states.UPLOADING or not db_images.update(
            conn, image_id, expected=(kind.status,), size=None) \
            or not _is_replaceable(db_staging.get(conn, image_id)):
        raise refused_status(kind, image_id,
                             db_images.status(conn, image_id))


def record_complete(conn: sa.Connection, kind: Kind, image_id: str,
                    upload_id: str, staged: staging.Staged) -> bool:
    """Its data is complete, if that very upload is still the image's."""
    assert kind.complete is not None
    identity = dataclasses.asdict(staged.identity) | {'size': staged.size}
    return db_images.update(
        conn, image_id, expected=(kind.status,), size=staged.size
    ) and db_staging.move(
        conn, image_id, (states.OPEN,), kind.complete, upload_id=upload_id,
        checksum=staged.checksum, hash_algo=staged.hash_algo,
        hash_value=staged.hash_value, **identity,
        detected_format=(staged.detected_format or '')[:20] or None)


@engine.retried
def record_discard(services: services.Services, image_id: str,
                   upload_id: str, status: str) -> bool:
    """``status`` -> queued, if that very upload is still the image's."""
    with services.db.write() as conn:
        return (db_images.update(conn, image_id, expected=(status,))
                and db_staging.delete(conn, image_id, upload_id)
                and db_images.move(conn, image_id, status, states.QUEUED))


# -- the bytes ------------------------------------------------------------

class Receiver:
    """One upload of an image's data; used by one thread at a time.

    At the end of its ``with`` block what came is discarded after an error
    that is among the kind's refusals, and kept after any other; what the
    staging area says is raised as the error that a user reads.
    """

    def __init__(self, services: services.Services, kind: Kind,
                 image_id: str, *, cap: quotas.Cap | None = None,
                 digests: tuple[integrity.ExpectedDigest, ...] = (),
                 upload_id: str | None = None) -> None:
        """``digests``: what the bytes must have; those of PARTS, what comes.

        :param upload_id: of one that is resumed
        """
        self.image_id = image_id
        self.upload_id = upload_id or str(uuid.uuid4())
        self.cap = cap
        self._services = services
        self._kind = kind
        self._digests = digests
        self._upload: staging.Upload | None = None
        self._is_recorded = False
        self._received = 0

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, _kind: object, failure: BaseException | None,
                 _trace: object) -> None:
        if self._received:
            self._services.events.tell(events.DataReceived(
                self._kind.source, self._received))
        if self._upload is not None:
            if self._is_recorded and not isinstance(failure,
                                                    self._kind.refusals):
                self._upload.keep_partial()
            else:
                self._discard(self._upload)
        if isinstance(failure, staging.StagingError):
            raise refusal(failure, self.image_id, self.cap) from failure

    @property
    def upload(self) -> staging.Upload:
        """The part file; there once it was begun or resumed."""
        assert self._upload is not None
        return self._upload

    def begin(self, expected: int | None = None,
              verified: int | None = None) -> int:
        """Take the lock that makes an upload, and record it.

        What was kept of an older one is thrown away.

        :param expected: bytes that are announced, if they are
        :param verified: bytes to keep if it ends early; None for all
        :returns: the image's next epoch, by which a store will name the
            data; 0 where none does
        :raises staging.StagingError: UploadInProgress: it is taken;
            StagingFull: it would not fit
        :raises errors.Conflict, errors.NotFound: the image takes no data now
        """
        self._services.area.room.require(expected or 0)
        self.open_anew()
        epoch = self._record_begin(expected, verified)
        self._is_recorded = True
        return epoch

    @engine.retried
    def _record_begin(self, expected: int | None, verified: int | None
                      ) -> int:
        with self._services.db.write() as conn:
            record_begin(conn, self._kind, self.image_id,
                         upload_id=self.upload_id,
                         area=self._services.area.id,
                         expected=expected, verified=verified)
            return (db_jobs.next_epoch(conn, self.image_id)
                    if self._kind is PUT_FILE else 0)

    def open_anew(self) -> None:
        """An empty part, locked; nothing is recorded.

        :raises staging.StagingError: as in ``begin``
        """
        if self._upload is not None:
            self._upload.discard()
        self._upload = self._services.area.begin(
            self.image_id, **self._options())

    def resume(self, confirm: collections.abc.Callable[[int], int], *,
               seconds: float, size: int | None = None,
               unrecorded: collections.abc.Callable[[], object] | None = None,
               pause: collections.abc.Callable[[float], object] = time.sleep
               ) -> None:
        """Lock the part that was kept, with the digests of its bytes.

        :param confirm: bytes that are there -> how many of them to keep
        :param seconds: how long to try to get the lock
        :param unrecorded: also take what a process published that died
            before it recorded so; raises what comes out of here if it has
        :param size: bytes of that, if they are known
        :raises staging.StagingError: UploadInProgress: somebody has the lock
        """
        options = self._options()

        def take() -> staging.Upload:
            if unrecorded is not None:
                self._services.area.take_back(self.image_id, unrecorded, size)
            return self._services.area.resume(
                self.image_id, confirm=confirm, **options)

        self._upload = when_unlocked(take, seconds, pause)
        self._is_recorded = True

    def _options(self) -> dict[str, typing.Any]:
        conf = self._services.conf
        self.check = integrity.Check(
            self._digests, () if self._kind is PARTS
            else integrity.computed_by(conf))
        return {'hash_algo': conf.hashing_algorithm, 'also': self.check.also,
                'legacy_checksum': conf.legacy_checksum,
                'size_limit': self.cap.size if self.cap else None}

    def receive(self, blocks: collections.abc.Iterable[staging.Block]
                ) -> None:
        """Write blocks as they come.

        :raises staging.StagingError: the area does not take them
        """
        unseen = 0
        for block in blocks:
            unseen += len(block)
            if unseen > room.STEP:
                self._services.area.room.require(unseen)
                unseen = 0
            self.upload.write(block)
            self._received += len(block)
            # Or its buffer would live until the next block comes.
            del block

    def verify(self) -> None:
        """:raises integrity.DigestMismatch: the bytes have another digest"""
        self.check.verify(self.upload.drain())

    def complete(self, then: collections.abc.Callable[
            [sa.Connection], object] = lambda conn: None) -> staging.Staged:
        """Make the bytes complete staged data, and record that they are.

        :param then: what else happens in the transaction that records it
        :raises errors.Gone: the image was deleted meanwhile
        :raises errors.Conflict: another upload is in the place of this one
        """
        staged, image_id = self.upload.finish(), self.image_id
        is_recorded, status = self._record_complete(staged, then)
        if is_recorded:
            if self._kind in (STAGE, PARTS):
                telling.changed(self._services, 'update', image_id)
            return staged
        if status in (None, states.DELETED):
            self._services.area.discard(image_id)
            raise deleted(image_id)
        raise errors.Conflict(
            f'The upload to image {image_id} was replaced by another one.')

    @engine.retried
    def _record_complete(self, staged: staging.Staged,
                         then: collections.abc.Callable[
                             [sa.Connection], object]
                         ) -> tuple[bool, str | None]:
        """Whether it is recorded, and else the status that was found."""
        with self._services.db.write() as conn:
            if record_complete(conn, self._kind, self.image_id,
                               self.upload_id, staged):
                then(conn)
                return True, None
            return False, db_images.status(conn, self.image_id)

    def _discard(self, upload: staging.Upload) -> None:
        """Keep nothing; the image is queued again.

        The file goes first: dying in between leaves a partial upload, which
        may be begun anew as well. Not so what was published already: whether
        it is recorded may be unknown (a connection lost while the commit was
        answered), and what is recorded is not removed.
        """
        published, discarded = not upload.is_open, False
        if published and self._is_recorded:
            discarded = record_discard(self._services, self.image_id,
                                       self.upload_id, self._kind.status)
        try:
            if discarded:
                self._services.area.discard(self.image_id)
            upload.discard()
        except staging.StagingError as failure:
            LOG.warning('image %s: what was refused could not be '
                        'removed: %s', self.image_id, failure)
        if self._is_recorded and not published:
            record_discard(self._services, self.image_id, self.upload_id,
                           self._kind.status)


def when_unlocked(take: collections.abc.Callable[[], _T], seconds: float,
                  pause: collections.abc.Callable[[float], object]
                  = time.sleep) -> _T:
    """Try for some seconds to get a lock; what ``take`` returns.

    :raises staging.UploadInProgress: it is still held
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return take()
        except staging.UploadInProgress:
            if time.monotonic() > deadline:
                raise
        pause(_PAUSE)


def refusal(failure: staging.StagingError, image_id: str,
            cap: quotas.Cap | None = None) -> errors.DomainError:
    """What a user reads in place of what the staging area says."""
    if isinstance(failure, staging.UploadInProgress):
        return InProgress(
            f'Image {image_id} cannot be uploaded to now: {failure}.')
    if isinstance(failure, staging.TooLarge):
        return cap.refusal() if cap else errors.TooLarge(
            f'The image does not fit: {failure}.')
    if isinstance(failure, staging.StagingFull):
        return errors.TooLarge(f'There is no room for the image: {failure}.',
                               code='staging.full')
    if isinstance(failure, staging.UploadGone):
        return deleted(image_id)
    LOG.error('staging image %s: %s', image_id, failure)
    return errors.Unavailable(
        f'Image data cannot be staged at the moment: {failure}.')


def deleted(image_id: str) -> errors.Gone:
    """What whoever uploads reads when the image is gone."""
    return errors.Gone(
        f'Image {image_id} was deleted while its data was uploaded.')
