"""Staging: the bytes of an image arrive and become complete staged data.

An upload ends in one of three ways. Complete: every byte is on disk and the
database knows the digests. Cut (client gone, process killed, too slow): the
image stays ``uploading``, recognisable as incomplete, and may be staged
anew. Refused (too large, no room, wrong length): the image is ``queued``
again and nothing is kept. Who is uploading now is told by the lock on the
part file alone, never by a time-out.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing
import uuid

from oslo_log import log

from glance_import.db import images as db_images
from glance_import.db import staging as db_staging
from glance_import.domain import images
from glance_import.domain import quotas
from glance_import import errors
from glance_import import staging
from glance_import import states
from glance_import.uploads import integrity
from glance_import.uploads import staged_state

if typing.TYPE_CHECKING:
    from glance_import import services

LOG = log.getLogger(__name__)


class UploadCut(errors.DomainError):
    """The bytes stopped coming before the end that was announced."""


class UploadTimeout(UploadCut):
    """They came too slowly."""


class BadBody(errors.Invalid):
    """What came is not a body at all (broken chunks)."""


@dataclasses.dataclass(frozen=True)
class Announced:
    """What a client says about its data before it comes; sizes in bytes.

    ``length`` is the Content-Length, ``size`` what a header says that the
    image will have; either is None when nothing was said.
    """

    length: int | None = None
    size: int | None = None
    digests: tuple[integrity.ExpectedDigest, ...] = ()

    def check(self, cap: quotas.Cap) -> None:
        """What is wrong before the first byte.

        :raises errors.Invalid: the two do not agree
        :raises errors.TooLarge: over ``cap``
        """
        if self.size is not None and self.length not in (None, self.size):
            raise errors.Invalid(
                f'x-openstack-image-size says {self.size} bytes, '
                f'Content-Length {self.length}.')
        cap.check(self.expected)

    @property
    def expected(self) -> int | None:
        return self.length if self.length is not None else self.size


def stage(services: services.Services, image_id: str,
          blocks: collections.abc.Iterable[staging.Block],
          announced: Announced) -> None:
    """Receive the data of an image into the staging area.

    :param blocks: the body; raises UploadCut or BadBody by itself
    :raises errors.Conflict: the image is not one to stage now
    :raises errors.Invalid: the data is not what was announced
    :raises errors.TooLarge: over image_size_cap or a quota, or no room
    :raises errors.Unavailable: the staging area does not take it
    :raises errors.Gone: the image was deleted meanwhile
    """
    cap = quotas.to_stage(services, image_id)
    announced.check(cap)
    recover(services, image_id)
    _check_allowed(services, image_id)
    check = integrity.Check(announced.digests,
                            integrity.computed_by(services.conf))
    upload_id = str(uuid.uuid4())
    upload = begin(services, image_id, cap, also=check.also)
    try:
        record_begin(services, image_id, upload_id, announced.expected)
    except BaseException:
        upload.discard()
        raise
    try:
        receive(upload, blocks, announced, check)
        staged = upload.finish()
    except (staging.StagingError, errors.Invalid) as failure:
        refuse(services, image_id, upload_id, upload)
        raise as_domain_error(failure, image_id, cap) from failure
    except BaseException:
        # A cut, or a fault of ours: the bytes stay, known to be unfinished.
        upload.keep_partial()
        raise
    try:
        record_complete(services, image_id, upload_id, staged)
    finally:
        upload.release()
    LOG.info('staged image %s: %d bytes', image_id, staged.size)


def receive(upload: staging.Upload,
            blocks: collections.abc.Iterable[staging.Block],
            announced: Announced, check: integrity.Check) -> None:
    """All of a body, found to be what was announced.

    :raises errors.Invalid: it is not
    """
    for block in blocks:
        upload.write(block)
        # Or its buffer would live until the next block comes.
        del block
    if announced.size is not None and upload.size != announced.size:
        raise errors.Invalid(
            f'x-openstack-image-size says {announced.size} bytes, '
            f'{upload.size} came.')
    check.verify(upload.drain())


def as_domain_error(failure: Exception, image_id: str,
                    cap: quotas.Cap | None = None) -> Exception:
    """The refusal a user reads for what the staging area says."""
    if isinstance(failure, staging.TooLarge):
        return cap.refusal() if cap else errors.TooLarge(
            f'The image does not fit: {failure}.')
    if isinstance(failure, staging.StagingFull):
        return errors.TooLarge(f'There is no room for the image: {failure}.')
    if isinstance(failure, staging.UploadGone):
        return errors.Gone(
            f'Image {image_id} was deleted while its data was uploaded.')
    if isinstance(failure, staging.StagingError):
        LOG.error('staging image %s: %s', image_id, failure)
        return errors.Unavailable(
            f'Image data cannot be staged at the moment: {failure}.')
    return failure


def not_now(image_id: str, status: str | None) -> errors.DomainError:
    if status in (None, states.DELETED):
        return errors.NotFound(f'No image found with ID {image_id}')
    hint = {
        states.SAVING: 'its data is being uploaded',
        states.UPLOADING: 'its staged data is complete: import it, or '
                          'delete the image',
        states.IMPORTING: 'an import of it is running',
        states.ACTIVE: 'it has its data already',
    }.get(status or '', 'only a queued image can be staged')
    return errors.Conflict(
        f'Image {image_id} is {status} and cannot be staged: {hint}.')


def _may_begin(status: str | None,
               record: db_staging.Record | None) -> bool:
    """Queued; or uploading with data that was cut or came back."""
    if status == states.QUEUED:
        return True
    return status == states.UPLOADING and (
        record is None or record.state in (states.OPEN, states.RETURNED))


def _check_allowed(services: services.Services, image_id: str) -> None:
    """Say no early, before a part file is touched."""
    with services.db.read() as conn:
        status = db_images.status(conn, image_id)
        record = db_staging.get(conn, image_id)
    if not _may_begin(status, record):
        raise not_now(image_id, status)


def begin(services: services.Services, image_id: str, cap: quotas.Cap, *,
          also: collections.abc.Sequence[typing.Any] = ()
          ) -> staging.Upload:
    """Take the lock that makes an upload, and throw away older parts.

    :raises errors.Conflict: somebody else has it
    """
    conf = services.conf
    try:
        return services.area.begin(
            image_id, conf.hashing_algorithm, also=also,
            size_limit=cap.size,
            legacy_checksum=conf.legacy_checksum)
    except staging.UploadInProgress as failure:
        raise errors.Conflict(
            f'Image {image_id} cannot be staged: {failure}.') from failure
    except staging.StagingError as failure:
        raise as_domain_error(failure, image_id, cap) from failure


def record_begin(services: services.Services, image_id: str,
                 upload_id: str, expected: int | None,
                 verified: int | None = None) -> None:
    """queued (or cut, or returned) -> uploading, one transaction."""
    with services.db.write() as conn:
        if not db_images.move(conn, image_id, states.QUEUED,
                              states.UPLOADING):
            # Takes the row's lock before the record is judged.
            db_images.update(conn, image_id, expected=(states.UPLOADING,),
                             size=None)
            status = db_images.status(conn, image_id)
            if not _may_begin(status, db_staging.get(conn, image_id)):
                raise not_now(image_id, status)
        db_images.drop_property(conn, image_id, images.ERROR)
        db_staging.begin(conn, image_id, upload_id=upload_id,
                         area=services.area.id, expected=expected,
                         verified=verified)


def record_complete(services: services.Services, image_id: str,
                    upload_id: str, staged: staging.Staged) -> None:
    with services.db.write() as conn:
        done = db_images.update(
            conn, image_id, expected=(states.UPLOADING,), size=staged.size
        ) and db_staging.move(
            conn, image_id, (states.OPEN,), states.COMPLETE,
            upload_id=upload_id, **staged_state.columns(staged))
        status = db_images.status(conn, image_id)
    if done:
        return
    if status in (None, states.DELETED):
        services.area.discard(image_id)
        raise errors.Gone(
            f'Image {image_id} was deleted while its data was uploaded.')
    # Somebody staged anew in the instant after our part file was let go.
    raise errors.Conflict(
        f'The upload to image {image_id} was replaced by another one.')


def refuse(services: services.Services, image_id: str, upload_id: str,
           upload: staging.Upload, status: str = states.UPLOADING) -> None:
    """Nothing is kept; the image is queued again.

    The file goes first: dying in between leaves a cut upload, which may be
    staged anew as well.
    """
    try:
        upload.discard()
    except staging.StagingError as failure:
        LOG.warning('image %s: a refused upload could not be removed: %s',
                    image_id, failure)
    give_back(services, image_id, upload_id, status)


def give_back(services: services.Services, image_id: str, upload_id: str,
              status: str) -> bool:
    """``status`` -> queued, if that very upload is still the image's."""
    with services.db.write() as conn:
        return (db_images.update(conn, image_id, expected=(status,))
                and db_staging.delete(conn, image_id, upload_id)
                and db_images.move(conn, image_id, status, states.QUEUED))


def recover(services: services.Services, image_id: str) -> bool:
    """Bring an image back whose direct upload died with its process.

    It is found ``saving`` while nobody holds its part file.
    """
    try:
        return give_up(services, image_id, died_saving)
    except staging.UploadInProgress:
        return False
    except staging.StagingError as failure:
        raise as_domain_error(failure, image_id) from failure


def died_saving(status: str, record: db_staging.Record) -> bool:
    """A condition for ``give_up``: a direct upload and nobody at it."""
    return status == states.SAVING and record.state == states.OPEN


def give_up(services: services.Services, image_id: str,
            condition: collections.abc.Callable[
                [str, db_staging.Record], bool]) -> bool:
    """Discard an image's data that nobody works on; it is queued again.

    :param condition: whether to, by the status and what is known of the
        data; asked before and again when nothing can change any more
    :returns: whether that was done
    :raises staging.UploadInProgress: the data is being uploaded
    """
    found = _look_if(services, image_id, condition)
    if found is None:
        return False

    def confirm(size: int) -> int:
        if _look_if(services, image_id, condition) != found:
            raise _Changed
        return 0
    try:
        upload = services.area.resume(image_id, 'md5', confirm=confirm,
                                      legacy_checksum=False)
    except _Changed:
        return False
    try:
        status, record = found
        done = give_back(services, image_id, record.upload_id, status)
        if done:
            services.area.discard(image_id)
            LOG.info('image %s is queued again; its %s data was discarded',
                     image_id, record.state)
        return done
    finally:
        upload.discard()


class _Changed(Exception):
    pass


def _look_if(services: services.Services, image_id: str,
             condition: collections.abc.Callable[
                 [str, db_staging.Record], bool]
             ) -> tuple[str, db_staging.Record] | None:
    with services.db.read() as conn:
        status = db_images.status(conn, image_id)
        record = db_staging.get(conn, image_id)
    if status is None or record is None \
            or record.area != services.area.id \
            or not condition(status, record):
        return None
    return status, record
