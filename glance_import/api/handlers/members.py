"""Members of an image: sharing it, and accepting what is shared."""

from __future__ import annotations

import typing

import webob

from glance_import.api import call
from glance_import.api.handlers import images
from glance_import.api import views
from glance_import.domain import images as records
from glance_import.domain import members
from glance_import import errors
from glance_import import states


def index(request: call.Call) -> webob.Response:
    """GET /v2/images/{image_id}/members: those the caller may see.

    The owner sees all, a member itself.
    """
    image = images.find(request, 'get_image')
    members.require_shared(image)
    request.services.policy.require_for_image(
        request.ctx, 'get_members', image.id,
        _target(image, _own(request, image)))
    return call.json_response({
        'members': [views.member(each) for each
                    in members.of_image(request.services, image.id)
                    if _may_see(request, image, each)],
        'schema': '/v2/schemas/members',
    })


def show(request: call.Call) -> webob.Response:
    """GET /v2/images/{image_id}/members/{member_id}."""
    image = images.find(request, 'get_image')
    members.require_shared(image)
    found = members.find(request.services, image.id, request.args['member_id'])
    if not _may_see(request, image, found):
        raise errors.NotFound(
            f'{found.member} is not a member of image {image.id}.')
    return call.json_response(views.member(found))


def create(request: call.Call) -> webob.Response:
    """POST /v2/images/{image_id}/members: share it with a project."""
    image = images.find(request, 'get_image')
    _require(request, image, 'add_member', None)
    members.require_shared(image)
    member = _name(request.json())
    return call.json_response(views.member(
        members.add(request.services, image.id, member)))


def update(request: call.Call) -> webob.Response:
    """PUT /v2/images/{image_id}/members/{member_id}: accept or reject."""
    image = images.find(request, 'get_image')
    members.require_shared(image)
    found = members.find(request.services, image.id, request.args['member_id'])
    _require(request, image, 'modify_member', found.member)
    status = _status(request.json())
    return call.json_response(views.member(members.set_status(
        request.services, image.id, found.member, status)))


def delete(request: call.Call) -> webob.Response:
    """DELETE /v2/images/{image_id}/members/{member_id}: share no more."""
    image = images.find(request, 'get_image')
    _require(request, image, 'delete_member', None)
    members.require_shared(image)
    members.delete(request.services, image.id, request.args['member_id'])
    return call.empty(204)


def _target(image: records.Image, member: str | None
            ) -> dict[str, typing.Any]:
    """The membership as policy rules see it.

    ``member_id`` is the project the membership is about, whoever asks.
    """
    return {'project_id': image.owner, 'owner': image.owner,
            'member_id': member, 'visibility': image.visibility,
            'image_id': image.id}


def _own(request: call.Call, image: records.Image) -> str | None:
    return records.target(
        request.services, request.ctx, image)['member_id']


def _may_see(request: call.Call, image: records.Image,
             member: members.Member) -> bool:
    return request.services.policy.allows(
        request.ctx, 'get_member', _target(image, member.member))


def _require(request: call.Call, image: records.Image, rule: str,
             member: str | None) -> None:
    """The image is seen, so a denial is a plain 403."""
    request.services.policy.require(request.ctx, rule, _target(image, member))


def _name(body: typing.Any) -> str:
    member = body.get('member') if isinstance(body, dict) else None
    if not isinstance(member, str) or not member.strip():
        raise errors.Invalid(
            "The request body needs 'member', the id of a project.")
    if len(member) > members.MAX_NAME:
        raise errors.Invalid(
            f"'member' may have {members.MAX_NAME} characters.")
    return member


def _status(body: typing.Any) -> str:
    status = body.get('status') if isinstance(body, dict) else None
    if not isinstance(status, str) or status not in states.MEMBER:
        raise errors.Invalid(
            "The request body needs 'status', one of: "
            + ', '.join(states.MEMBER) + '.')
    return status
