"""Changes a user asks for: attributes, custom properties, tags, activation.

Each is worked out and written in one transaction that locks the image's row
first, and writes only what it changes: two users' changes follow each other,
and neither an import nor a change undoes the other. Touches the database.
"""

from __future__ import annotations

import collections.abc
import typing

from glance_import import context
from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.domain import deletions
from glance_import.domain import images
from glance_import.domain import locations
from glance_import.domain import patch
from glance_import.domain import stored_data
from glance_import.domain import telling
from glance_import import errors
from glance_import.policies import protections
from glance_import import states

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import.db import deletions as db_deletions
    from glance_import import services

BASE = ('name', 'visibility', 'owner', 'disk_format', 'container_format',
        'min_disk', 'min_ram', 'protected', 'os_hidden')
FORMATS = locations.FORMATS
# While an import runs it relies on the formats; before it they are free.
FORMATS_OPEN = (states.QUEUED, states.UPLOADING)
MAX_TAG = 255


class _Draft:
    """An image while operations are applied to it."""

    def __init__(self, image: db_images.Image,
                 ctx: context.RequestContext,
                 access: protections.Access) -> None:
        self.image = image
        self.base = {name: getattr(image, name) for name in BASE}
        self.properties = dict(image.properties)
        self.tags = list(image.tags)
        self.locations = list(image.locations)
        self._ctx = ctx
        self._access = access

    def apply(self, operation: patch.Operation) -> None:
        if operation.name == 'locations':
            self.locations = locations.apply(self.locations, operation)
            return
        _APPLY[operation.op](self, operation)

    def add(self, operation: patch.Operation) -> None:
        name = operation.name
        if self._set_base(operation):
            return
        if name in self.properties:
            if operation.exclusive:
                if not self._access.allows(name, 'read'):
                    # What one may not read is absent here too.
                    self._access.require(name, 'create')
                raise errors.Conflict(f'Property {name} already present.')
            self._access.require(name, 'update')
        else:
            self._access.require(name, 'create')
        self.properties[name] = operation.value

    def replace(self, operation: patch.Operation) -> None:
        name = operation.name
        if self._set_base(operation):
            return
        self._require_present(name)
        self._access.require(name, 'update')
        self.properties[name] = operation.value

    def remove(self, operation: patch.Operation) -> None:
        name = operation.name
        if name in BASE or name == 'tags':
            raise errors.Forbidden(f'Property {name} may not be removed.')
        if name in images.REMOVABLE and self._in_use(name):
            raise errors.Forbidden(f"Attribute '{name}' is reserved.")
        self._require_present(name)
        self._access.require(name, 'delete')
        del self.properties[name]

    def _in_use(self, name: str) -> bool:
        """Whether a property of the service still says something."""
        if self.image.status == states.IMPORTING \
                or images.LOCK in self.properties:
            return True
        return (name not in (images.ERROR, images.ERROR_CODE)
                and self.properties.get(name) != '')

    def _require_present(self, name: str) -> None:
        # What one may not read is absent.
        if name not in self.properties \
                or not self._access.allows(name, 'read'):
            raise errors.Conflict(f'Property {name} does not exist.')

    def _set_base(self, operation: patch.Operation) -> bool:
        name, value = operation.name, operation.value
        if name == 'tags':
            self.tags = list(value)
            return True
        if name not in BASE:
            return False
        if name == 'owner' and value != self.base['owner'] \
                and not self._ctx.is_admin:
            raise errors.Forbidden(
                'Only an administrator may give an image to another owner.')
        if name in FORMATS and value != self.base[name] \
                and self.image.status not in FORMATS_OPEN:
            raise errors.Forbidden(
                f"Attribute '{name}' cannot be changed while the image is "
                f'{self.image.status}; only before it is imported.')
        self.base[name] = value
        return True


_APPLY = {'add': _Draft.add, 'replace': _Draft.replace,
          'remove': _Draft.remove}


def apply(services: services.Services, ctx: context.RequestContext,
          image: db_images.Image,
          operations: collections.abc.Sequence[patch.Operation]
          ) -> db_images.Image:
    """Apply a PATCH, all of it or nothing; the image as it is then.

    :raises errors.Forbidden: it changes what the caller may not change
    :raises errors.Conflict: a property is there, or is not
    :raises errors.TooLarge: too many properties or tags then
    :raises errors.NotFound: the image was deleted meanwhile
    """
    if not operations:
        return image
    operations = locations.as_recorded(image, operations)
    # Asked before the transaction: a rule may ask another service.
    access = services.protections.access(
        ctx, {operation.name for operation in operations})
    known = locations.prepare(services, ctx, image, operations)
    changed, gone = _apply(
        services, ctx, image.id, operations, access, known,
        _unused(services, image, operations))
    telling.image(services, 'update', changed)
    if changed.status != image.status == states.QUEUED:
        telling.image(services, 'activate', changed)
    for deletion in gone:
        deletions.attempt_within(services, deletion)
    return changed


def _unused(services: services.Services, image: db_images.Image,
            operations: collections.abc.Sequence[patch.Operation]
            ) -> set[str]:
    """The URLs of locations that are to go and that nothing uses.

    :raises errors.Conflict: something uses the data of one
    """
    about = [each for each in operations if each.name == 'locations']
    if not about:
        return set()
    left = list(image.locations)
    for each in about:
        left = locations.apply(left, each)
    staying = {each.url for each in left}
    going = [each for each in image.locations if each.url not in staying]
    stored_data.refuse_in_use(services, image.id, going,
                              'taken from there')
    return {each.url for each in going}


@engine.retried
def _apply(services: services.Services, ctx: context.RequestContext,
           image_id: str, operations: collections.abc.Sequence[
               patch.Operation],
           access: protections.Access, known: locations.KnownLocation | None,
           unused: set[str]
           ) -> tuple[db_images.Image, list[db_deletions.Deletion]]:
    """The image then, and what is to be deleted of it.

    :param unused: locations that may go
    :raises errors.Conflict: others would go
    """
    with services.db.write() as conn:
        found = _locked(conn, image_id)
        draft = _Draft(found, ctx, access)
        for operation in operations:
            draft.apply(operation)
        _check_quotas(services, found, draft)
        _write(conn, found, draft)
        going = _write_locations(services, conn, found, draft, known)
        if any(each.url not in unused for each in going):
            raise _changed_meanwhile(found)
        gone = stored_data.record(services, conn, image_id, going,
                                  seconds=deletions.ATTEMPT_SECONDS)
        changed = db_images.get(conn, image_id, db_images.EVERYTHING)
    assert changed is not None
    return changed, gone


def _locked(conn, image_id: str) -> db_images.Image:
    """The image as it is, and stays until the transaction ends."""
    if not db_images.update(conn, image_id):
        raise errors.no_image(image_id)
    found = db_images.get(conn, image_id, db_images.EVERYTHING)
    assert found is not None
    return found


def _check_quotas(services: services.Services, before: db_images.Image,
                  draft: _Draft) -> None:
    """Refuse growth past the quota; a record past it may shrink."""
    images.check_quota('properties', _grown(
        _countable(before.properties), _countable(draft.properties)),
        services.conf.image_property_quota)
    images.check_quota('tags', _grown(before.tags, draft.tags),
                       services.conf.image_tag_quota)
    images.check_quota('locations', _grown(
        [each.url for each in before.locations],
        [each.url for each in draft.locations]),
        services.conf.image_location_quota)


def _countable(properties: collections.abc.Iterable[str]) -> list[str]:
    """A user's own properties: the service's do not count."""
    return [name for name in properties
            if not name.startswith(images.RESERVED_PREFIX)]


def _grown(before: collections.abc.Sequence[str],
           after: collections.abc.Sequence[str]) -> int:
    number = len(set(after))
    return number if number > len(before) else 0


def _write(conn, before: db_images.Image, draft: _Draft) -> None:
    base = {name: value for name, value in draft.base.items()
            if value != getattr(before, name)}
    if base:
        db_images.update(conn, before.id, **base)
    # Those first whose name may come back in another spelling.
    for name in before.properties.keys() - draft.properties.keys():
        db_images.drop_property(conn, before.id, name)
    changed = {name: value for name, value in draft.properties.items()
               if name not in before.properties
               or before.properties[name] != value}
    for name, value in changed.items():
        db_images.set_property(conn, before.id, name, value)
    images.check_names(conn, before.id, changed)
    for tag in sorted(set(draft.tags) - set(before.tags)):
        db_images.add_tag(conn, before.id, tag)
    for tag in sorted(set(before.tags) - set(draft.tags)):
        db_images.drop_tag(conn, before.id, tag)


def _changed_meanwhile(image: db_images.Image) -> errors.Conflict:
    return errors.Conflict(
        f'Image {image.id} was changed meanwhile; look at it again.')


def _write_locations(services: services.Services, conn: sa.Connection,
                     before: db_images.Image, draft: _Draft,
                     known: locations.KnownLocation | None
                     ) -> list[db_images.Location]:
    """Those that are no longer the image's; a queued one is active then.

    :raises errors.Conflict: the image has changed since it was looked at
    """
    if draft.locations == list(before.locations):
        return []
    there = {each.url: each for each in before.locations}
    wanted = {each.url: each for each in draft.locations}
    new = [locations.named(services, each) for url, each in wanted.items()
           if url not in there]
    if new and (known is None or known.formats is not None and any(
            draft.base[name] != judged
            for name, judged in known.formats.items())):
        raise _changed_meanwhile(before)
    for each in new:
        locations.check_free(services, conn, before.id, each.url)
        db_images.add_location(conn, before.id, each.url, each.metadata)
    for url, each in wanted.items():
        if url not in there:
            continue
        metadata = locations.kept(there[url], each)
        if metadata != there[url].metadata:
            db_images.set_location_metadata(conn, before.id, url, metadata)
    gone = [each for url, each in there.items() if url not in wanted]
    for each in gone:
        db_images.drop_location(conn, before.id, each.url)
    if before.status == states.QUEUED:
        _activate_with(conn, before, draft, known)
    elif before.status != states.ACTIVE:
        raise errors.Conflict(
            f'Image {before.id} is {before.status} by now.')
    return gone


def _activate_with(conn: sa.Connection, before: db_images.Image,
                   draft: _Draft,
                   known: locations.KnownLocation | None) -> None:
    assert known is not None
    images.check_formats(before._replace(
        **{name: draft.base[name] for name in FORMATS}), 'have data')
    db_images.move(conn, before.id, states.QUEUED, states.ACTIVE,
                   size=known.size, virtual_size=known.virtual_size,
                   **known.digests)


def add_tag(services: services.Services, image_id: str, tag: str) -> None:
    """Put a tag on an image; one that is there already is fine.

    :raises errors.Invalid: the tag is too long
    :raises errors.TooLarge: there are too many
    """
    if len(tag) > MAX_TAG:
        raise errors.Invalid(
            f'A tag may have {MAX_TAG} characters, this one has {len(tag)}.')
    if _add_tag(services, image_id, tag):
        telling.changed(services, 'update', image_id)


@engine.retried
def _add_tag(services: services.Services, image_id: str, tag: str) -> bool:
    """Whether it was not there."""
    with services.db.write() as conn:
        found = _locked(conn, image_id)
        if tag in found.tags:
            return False
        images.check_quota('tags', len(found.tags) + 1,
                           services.conf.image_tag_quota)
        db_images.add_tag(conn, image_id, tag)
    return True


def drop_tag(services: services.Services, image_id: str, tag: str) -> None:
    """Take a tag off an image.

    :raises errors.NotFound: it has none such
    """
    _drop_tag(services, image_id, tag)
    telling.changed(services, 'update', image_id)


@engine.retried
def _drop_tag(services: services.Services, image_id: str, tag: str) -> None:
    with services.db.write() as conn:
        _locked(conn, image_id)
        if not db_images.drop_tag(conn, image_id, tag):
            raise errors.NotFound(
                f'Image {image_id} has no tag {tag[:MAX_TAG]}.')


def activate(services: services.Services, image_id: str, *,
             wanted: str) -> None:
    """Move between active and deactivated; once more is fine.

    :raises errors.Forbidden: another status
    """
    if _activate(services, image_id, wanted):
        telling.changed(services, 'update', image_id)


@engine.retried
def _activate(services: services.Services, image_id: str, wanted: str
              ) -> bool:
    """Whether it had the other status."""
    other = (states.ACTIVE if wanted == states.DEACTIVATED
             else states.DEACTIVATED)
    verb = (states.DEACTIVATED if wanted == states.DEACTIVATED
            else 'reactivated')
    with services.db.write() as conn:
        if db_images.move(conn, image_id, other, wanted):
            return True
        status = db_images.status(conn, image_id)
    if status in (None, states.DELETED):
        raise errors.no_image(image_id)
    if status != wanted:
        raise errors.Forbidden(
            f'Image {image_id} is {status}: only an image that is {other} '
            f'can be {verb}.')
    return False
