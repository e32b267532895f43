"""Sharing: an image's owner adds projects, and they accept or reject."""

from __future__ import annotations

import typing

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import members as db_members
from glance_import.domain import telling
from glance_import import errors

if typing.TYPE_CHECKING:
    from glance_import import services

# The record that callers are given.
Member = db_members.Member

MAX_NAME = 255


def require_shared(image: db_images.Image) -> None:
    """:raises errors.Forbidden: only shared images have members"""
    if image.visibility != 'shared':
        raise errors.Forbidden(
            f'Image {image.id} is {image.visibility}: only an image of the '
            'visibility shared has members.')


def of_image(services: services.Services,
             image_id: str) -> list[db_members.Member]:
    """Every member, the first one added first."""
    with services.db.read() as conn:
        return db_members.of_image(conn, image_id)


def find(services: services.Services, image_id: str,
         member: str) -> db_members.Member:
    """The membership of one project.

    :raises errors.NotFound: the image is not shared with it
    """
    with services.db.read() as conn:
        found = db_members.get(conn, image_id, member)
    if found is None:
        raise _none(image_id, member)
    return found


def _none(image_id: str, member: str) -> errors.NotFound:
    return errors.NotFound(
        f'{member[:MAX_NAME]} is not a member of image {image_id}.')


def add(services: services.Services, image_id: str,
        member: str) -> db_members.Member:
    """Share an image with a project, ``pending`` until it accepts.

    :raises errors.Conflict: it is shared with it already
    :raises errors.TooLarge: over the quota
    """
    made = _add(services, image_id, member)
    telling.member(services, 'create', made)
    return made


@engine.retried
def _add(services: services.Services, image_id: str,
         member: str) -> db_members.Member:
    quota = services.conf.image_member_quota
    with services.db.write() as conn:
        _lock(conn, image_id)
        if db_members.get(conn, image_id, member) is not None:
            raise errors.Conflict(
                f'Image {image_id} is shared with {member} already.')
        number = db_members.count(conn, image_id) + 1
        if 0 <= quota < number:
            raise errors.TooLarge(
                'The limit has been exceeded on the number of allowed image '
                f'members for this image. Attempted: {number}, Maximum: '
                f'{quota}')
        db_members.insert(conn, image_id, member)
        made = db_members.get(conn, image_id, member)
    assert made is not None
    return made


def _lock(conn, image_id: str) -> None:
    if not db_images.lock(conn, image_id):
        raise errors.no_image(image_id)


def set_status(services: services.Services, image_id: str, member: str,
               status: str) -> db_members.Member:
    """What the project says to an image shared with it.

    :raises errors.NotFound: it is not shared with it any more
    """
    found = _set_status(services, image_id, member, status)
    telling.member(services, 'update', found)
    return found


@engine.retried
def _set_status(services: services.Services, image_id: str, member: str,
                status: str) -> db_members.Member:
    with services.db.write() as conn:
        if not db_members.set_status(conn, image_id, member, status):
            raise _none(image_id, member)
        found = db_members.get(conn, image_id, member)
    assert found is not None
    return found


def delete(services: services.Services, image_id: str, member: str) -> None:
    """Share an image with a project no more.

    :raises errors.NotFound: it was not
    """
    telling.member(services, 'delete', _delete(services, image_id, member))


@engine.retried
def _delete(services: services.Services, image_id: str, member: str
            ) -> db_members.Member:
    """As it was."""
    with services.db.write() as conn:
        _lock(conn, image_id)
        found = db_members.get(conn, image_id, member)
        if found is None or not db_members.delete(conn, image_id, member):
            raise _none(image_id, member)
    return found
