"""Images: creating, finding and deleting them."""

from __future__ import annotations

import collections.abc
import typing
import uuid

from oslo_db import exception as db_exc
from oslo_log import log

from glance_import import context
from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import names as db_names
from glance_import.db import spelling
from glance_import.db import staging as db_staging
from glance_import.db import tasks as db_tasks
from glance_import.domain import deletions
from glance_import.domain import encryption_keys
from glance_import.domain import quotas
from glance_import.domain import stored_data
from glance_import.domain import tasks
from glance_import.domain import telling
from glance_import import errors
from glance_import.net import urls
from glance_import.observe import events
from glance_import import staging
from glance_import import states
from glance_import import uuids

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import.db import deletions as db_deletions
    from glance_import.domain import key_manager
    from glance_import import services

LOG = log.getLogger(__name__)

# The records that callers are given.
Image = db_images.Image
Location = db_images.Location

RESERVED_PREFIX = 'os_glance'
LOCK = 'os_glance_import_task'
ERROR = 'os_glance_import_error'
ERROR_CODE = 'os_glance_import_error_code'
IMPORTING_STORES = 'os_glance_importing_to_stores'
FAILED_STORES = 'os_glance_failed_import'

# Kept for other nodes, never shown.
HIDDEN = frozenset({'os_glance_stage_host', 'os_glance_hash_op_host'})
MAX_PROPERTY_NAME = 255
_DELETED = 'The image was deleted while it was being imported.'

# Left behind by an import that is over. openstacksdk's update removes every
# property that it was not told, these too, so that must not be an error.
REMOVABLE = frozenset({ERROR, ERROR_CODE, IMPORTING_STORES, FAILED_STORES})

# Every property that the service itself writes.
_OWN = (LOCK, *sorted(HIDDEN | REMOVABLE))

# What a user can never set: the service's own, as in Glance.
READ_ONLY = frozenset({
    'status', 'checksum', 'size', 'virtual_size', 'created_at', 'updated_at',
    'self', 'file', 'schema', 'direct_url', 'stores', 'os_hash_algo',
    'os_hash_value'})
RESERVED = frozenset({'locations', 'location', 'deleted', 'deleted_at'})

SORT_KEYS = ('name', 'status', 'container_format', 'disk_format', 'size',
             'id', 'created_at', 'updated_at')


def scope(ctx: context.RequestContext) -> db_images.Scope:
    """What the caller may see at all."""
    return db_images.Scope(ctx.project_id, bool(ctx.is_admin))


def find(services: services.Services, ctx: context.RequestContext,
         image_id: str) -> db_images.Image:
    """The image, when it is there and the caller may see it.

    :raises errors.NotFound: absent, malformed id, or not to be seen
    """
    found = None
    if uuids.is_uuid(image_id):
        with services.db.read() as conn:
            found = peek(conn, ctx, image_id)
    if found is None:
        raise errors.no_image(image_id)
    return found


def peek(conn: sa.Connection, ctx: context.RequestContext,
         image_id: str) -> db_images.Image | None:
    """The same in a transaction of the caller's; None when not found."""
    if not uuids.is_uuid(image_id):
        return None
    return db_images.get(conn, image_id.lower(), scope(ctx))


def peek_row(conn: sa.Connection, ctx: context.RequestContext,
             image_id: str) -> sa.Row | None:
    """Only its own columns, without what hangs on it."""
    if not uuids.is_uuid(image_id):
        return None
    return db_images.row(conn, image_id.lower(), scope(ctx))


def target(services: services.Services, ctx: context.RequestContext,
           image: db_images.Image) -> dict[str, typing.Any]:
    """The image as policy rules see it."""
    member_id = None
    if image.visibility == 'shared' and image.owner != ctx.project_id:
        with services.db.read() as conn:
            if db_images.is_member(conn, image.id, ctx.project_id):
                member_id = ctx.project_id
    return {'project_id': image.owner, 'owner': image.owner,
            'member_id': member_id, 'visibility': image.visibility,
            'image_id': image.id}


def create(services: services.Services, ctx: context.RequestContext,
           wanted: dict[str, typing.Any]) -> db_images.Image:
    """A new image record, ``queued``.

    ``wanted`` has passed the schema of the API; what is checked here is what
    needs the options or the caller.

    :raises errors.Forbidden: a read-only or reserved name, another's owner
    :raises errors.Conflict: the id was used before, or the database takes
        two names for one
    :raises errors.TooLarge: too many properties or tags
    """
    conf = services.conf
    for name in wanted:
        if name in READ_ONLY:
            raise errors.Forbidden(f"Attribute '{name}' is read-only.")
        if name in RESERVED or name.startswith(RESERVED_PREFIX):
            raise errors.Forbidden(f"Attribute '{name}' is reserved.")
    base: dict[str, typing.Any] = {name: wanted[name] for name in (
        'name', 'disk_format', 'container_format', 'visibility', 'min_disk',
        'min_ram', 'protected', 'os_hidden', 'owner') if name in wanted}
    if base.setdefault('owner', ctx.project_id) != ctx.project_id \
            and not ctx.is_admin:
        raise errors.Forbidden(
            'Only an administrator may create an image for another owner.')
    if base['owner'] is None and ctx.project_id is None:
        raise errors.Forbidden(
            'Your token is for no project, and an image has an owner.')
    quotas.check_create(services, base['owner'])
    properties = {name: value for name, value in wanted.items()
                  if name not in base and name not in ('id', 'tags')}
    tags = list(wanted.get('tags', ()))
    check_quota('properties', len(properties), conf.image_property_quota)
    check_quota('tags', len(set(tags)), conf.image_tag_quota)
    access = services.protections.access(ctx, properties)
    for name in properties:
        access.require(name, 'create')
    values: dict[str, typing.Any] = {
        'visibility': 'shared', 'min_disk': 0, 'min_ram': 0,
        'protected': False, 'os_hidden': False, 'name': None,
        'disk_format': None, 'container_format': None, **base,
        'id': str(wanted.get('id') or uuid.uuid4()).lower(),
        'status': states.QUEUED}
    try:
        made = _insert(services, values, properties, tags)
    except db_exc.DBDuplicateEntry as e:
        raise errors.Conflict(
            f"Image ID {values['id']} already exists!") from e
    telling.image(services, 'create', made)
    return made


@engine.retried
def _insert(services: services.Services, values: dict[str, typing.Any],
            properties: dict[str, str | None], tags: list[str]
            ) -> db_images.Image:
    with services.db.write() as conn:
        made = db_images.insert(conn, values, properties, tags)
        check_names(conn, made.id, properties)
    return made


def check_names(conn: sa.Connection, image_id: str,
                written: collections.abc.Iterable[str]) -> None:
    """No property just written takes the place of one of the service's.

    :raises errors.Forbidden: the database takes its name for such a one
    """
    if all(map(spelling.is_plain, written)):
        return
    found = db_names.alike(conn, image_id, _OWN)
    if found is not None:
        raise errors.Forbidden(
            f"Attribute '{found}' is reserved: to the database of this "
            f'service it is one of those that begin with {RESERVED_PREFIX}.')


def check_formats(image: db_images.Image, purpose: str,
                  refusal: type[errors.DomainError] = errors.Invalid) -> None:
    """Both formats are set: what they are is told before bytes come.

    :param purpose: what the image is to do, such as ``have data``
    :raises errors.DomainError: a ``refusal``, since one of them is missing
    """
    for name in ('container_format', 'disk_format'):
        if getattr(image, name) is None:
            raise refusal(
                f"'{name}' needs to be set before image {image.id} can "
                f'{purpose}.')


def check_quota(kind: str, number: int, quota: int) -> None:
    """:raises errors.TooLarge: more than a quota that is not negative"""
    if 0 <= quota < number:
        raise errors.TooLarge(
            'The limit has been exceeded on the number of allowed image '
            f'{kind}. Attempted: {number}, Maximum: {quota}')


def delete(services: services.Services, image: db_images.Image,
           caller: key_manager.Caller | None = None) -> None:
    """Delete the image, its data, and whatever import it has running.

    :param caller: who deletes an image that was somebody's: the key of an
        encrypted volume goes with it

    The import loses its job row, and with it the right to write anything;
    its task ends as a failure that says why. Bytes go after the commit; what
    cannot be removed now is recorded with it, and removed later. With
    delayed_delete an active image is ``pending_delete`` until then.

    :raises errors.Forbidden: the image is protected
    :raises errors.Conflict: the status does not allow it, or something uses
        its data
    """
    if image.protected:
        raise errors.Forbidden(
            f'Image {image.id} is protected and cannot be deleted.')
    stored_data.refuse_in_use(services, image.id, image.locations)
    gone = _delete(services, image, caller)
    if gone.job is not None:
        _tell_end(services, gone.job)
    telling.image(services, 'delete', image)
    try:
        services.area.discard(image.id)
    except staging.StagingError as failure:
        LOG.error('image %s is deleted, but not what is staged of it: %s',
                  image.id, failure)
    for deletion in gone.deletions:
        deletions.attempt_within(services, deletion)


class _Gone(typing.NamedTuple):
    """What is left of an image that was just deleted.

    ``job``: the import that was not over.
    """

    deletions: list[db_deletions.Deletion]
    job: db_jobs.Job | None


@engine.retried
def _delete(services: services.Services, image: db_images.Image,
            caller: key_manager.Caller | None) -> _Gone:
    with services.db.write() as conn:
        delayed = services.conf.delayed_delete and db_images.move(
            conn, image.id, states.ACTIVE, states.PENDING_DELETE)
        if not delayed and not db_images.move(
                conn, image.id, states.sources(states.DELETED),
                states.DELETED):
            found = db_images.status(conn, image.id)
            if found in (None, states.DELETED):
                raise errors.no_image(image.id)
            raise errors.Conflict(
                f'Image {image.id} cannot be deleted while it is {found}.')
        db_staging.delete(conn, image.id)
        epoch = db_jobs.last_epoch(conn, image.id)
        job = db_jobs.of_image(conn, image.id) if epoch or (
            LOCK in image.properties) else None
        unfinished = epoch and (
            image.status not in (states.ACTIVE, states.DEACTIVATED)
            or job is not None)
        ended = False
        for task_id in db_jobs.delete_of_image(conn, image.id):
            for status in (states.PENDING, states.PROCESSING):
                ended |= db_tasks.move(
                    conn, task_id, status, states.FAILURE,
                    expires_at=tasks.expiry(services),
                    result={'code': errors.ImageGone.code},
                    message=_DELETED)
        # Asked now that nobody adds any: a copy may have ended meanwhile.
        to_go = stored_data.record(
            services, conn, image.id,
            db_images.locations(conn, [image.id]),
            seconds=services.conf.scrub_time if delayed
            else deletions.ATTEMPT_SECONDS)
        now = [] if delayed else to_go
        if unfinished:
            now.append(stored_data.record_attempts(
                conn, image.id, epoch, seconds=deletions.ATTEMPT_SECONDS))
        if caller is not None and encryption_keys.names_key(image.properties):
            # As they are now, which nobody changes any more.
            key = encryption_keys.record(
                services, conn, image.id,
                db_images.properties(conn, image.id), caller,
                deletions.ATTEMPT_SECONDS)
            now += [] if key is None else [key]
        db_images.delete_parts(
            conn, image.id,
            states.PENDING_DELETE if delayed else states.DELETED)
        if delayed and not to_go:
            db_deletions.end_of_image(conn, image.id)
    return _Gone(now, job if ended else None)


def _tell_end(services: services.Services, job: db_jobs.Job) -> None:
    """Its import has ended with the image."""
    image, task = telling.records(services, job.image_id, job.id)
    services.events.tell(events.ImportEnded(
        job.id, job.image_id, job.method, job.project, job.user_id,
        job.request_id, code=errors.ImageGone.code, reason=_DELETED,
        waited=job.waited, running=job.running, image=image, task=task))


def public_url(location: Location) -> str:
    """Where data is, without what lets somebody in there."""
    return urls.public(location.url)


def storable(text: str) -> str:
    """A reason as every database keeps it, and everybody may read it.

    MySQL's utf8 ends at U+FFFF, and a store's own words may hold an URL with
    a password in it.
    """
    return ''.join(each if each <= '\uffff' else '\ufffd'
                   for each in urls.public_text(text))


def set_error(conn: sa.Connection, image_id: str, code: str,
              reason: str) -> None:
    """Say on the image why its last import, or its data, failed.

    :param code: a row of glance_import.imports.outcome.CODES
    """
    db_images.set_property(conn, image_id, ERROR, storable(reason), own=True)
    db_images.set_property(conn, image_id, ERROR_CODE, code, own=True)


def drop_error(conn: sa.Connection, image_id: str) -> None:
    """What failed before is of no interest any more."""
    for name in (ERROR, ERROR_CODE):
        db_images.drop_property(conn, image_id, name)
