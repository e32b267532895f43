"""Images: list, create, show, change, delete."""

from __future__ import annotations

import typing

import webob
from webob import exc

from glance_import.api import call
from glance_import.api import paging
from glance_import.api import patches
from glance_import.api import schemas
from glance_import.api import views
from glance_import.domain import changes
from glance_import.domain import images
from glance_import.domain import key_manager
from glance_import.domain import listing
from glance_import.domain import placement

# Rules that a visibility asks for beside the one of the request itself.
VISIBILITY_RULES = {'public': 'publicize_image',
                    'community': 'communitize_image'}
LOCATION_RULES = {'add': 'set_image_location',
                  'replace': 'set_image_location',
                  'remove': 'delete_image_location'}


def index(request: call.Call) -> webob.Response:
    """GET /v2/images: a page, with links to the first and the next one."""
    services, ctx = request.services, request.ctx
    services.policy.require(ctx, 'get_images', {
        'project_id': ctx.project_id, 'owner': ctx.project_id})
    query = paging.Query(request.req)
    limit = query.limit(services.conf)
    marker = query.take('marker')
    order = paging.image_order(query, listing.SORT_KEYS)
    tags = query.take_all('tag')
    filters = query.rest()
    found = listing.page(services, ctx, filters=filters, tags=tags,
                         order=order, limit=limit, marker=marker)
    envelope: dict[str, typing.Any] = {
        'images': view_all(request, found),
        'first': query.link('/v2/images'),
        'schema': '/v2/schemas/images',
    }
    if found and len(found) == limit:
        envelope['next'] = query.link('/v2/images', found[-1].id)
    return call.json_response(envelope)


def create(request: call.Call) -> webob.Response:
    """POST /v2/images: a record, queued, waiting for its data."""
    services = request.services
    wanted = request.json()
    check_new(request, wanted)
    made = images.create(services, request.ctx, wanted)
    response = call.json_response(
        view(request, made), 201,
        Location=f'{request.req.application_url}/v2/images/{made.id}')
    if services.methods:
        # Clients split at the comma alone: no blank behind it.
        response.headers['OpenStack-image-import-methods'] = ','.join(
            services.methods)
    if services.stores.many:
        response.headers['OpenStack-image-store-ids'] = ','.join(
            services.stores.ids)
    return response


def check_new(request: call.Call, wanted: dict[str, typing.Any]) -> None:
    """An image that the caller may make, by its schema and the policy.

    :raises errors.Invalid, errors.Forbidden: it is not
    """
    services, ctx = request.services, request.ctx
    given = wanted if isinstance(wanted, dict) else {}
    owner = given.get('owner', ctx.project_id)
    target = {'project_id': ctx.project_id,
              'owner': owner if isinstance(owner, str) else None}
    services.policy.require(ctx, 'add_image', target)
    visibility = given.get('visibility')
    if isinstance(visibility, str) and visibility in VISIBILITY_RULES:
        services.policy.require(ctx, VISIBILITY_RULES[visibility], target)
    schemas.check_image(wanted, services.conf,
                        exempt=images.READ_ONLY | images.RESERVED)


def show(request: call.Call) -> webob.Response:
    """GET /v2/images/{image_id}."""
    image = find(request, 'get_image')
    return call.json_response(view(request, image))


def update(request: call.Call) -> webob.Response:
    """PATCH /v2/images/{image_id}: operations, all of them or none."""
    services, ctx = request.services, request.ctx
    media_type = request.media_type()
    if media_type not in patches.MEDIA_TYPES:
        raise exc.HTTPUnsupportedMediaType(
            'This request takes a body of one of the types '
            + ', '.join(patches.MEDIA_TYPES) + '.',
            headers={'Accept-Patch': ', '.join(patches.MEDIA_TYPES)})
    image = find(request, 'modify_image')
    operations = patches.parse(request.json(), media_type)
    for each in operations:
        if each.op != 'remove':
            schemas.check_image(
                {each.name: each.value if each.position is None
                 else [each.value]}, services.conf)
    for each in operations:
        if each.name == 'locations':
            services.policy.require_for_image(
                ctx, LOCATION_RULES[each.op], image.id,
                images.target(services, ctx, image))
        if each.name == 'visibility' and each.value in VISIBILITY_RULES \
                and each.value != image.visibility:
            services.policy.require_for_image(
                ctx, VISIBILITY_RULES[each.value], image.id,
                images.target(services, ctx, image))
    return call.json_response(view(request, changes.apply(
        services, ctx, image, operations)))


def delete(request: call.Call) -> webob.Response:
    """DELETE /v2/images/{image_id}: record, data and a running import."""
    image = find(request, 'delete_image')
    # Of a running import, every store is looked through.
    if images.LOCK in image.properties or \
            request.services.stores.are_far(image.locations):
        request.may_wait()
    images.delete(request.services, image, _caller(request))
    return call.empty(204)


def _caller(request: call.Call) -> key_manager.Caller:
    """Who asks, with the token where it is one of Keystone's."""
    ctx, req = request.ctx, request.req
    return key_manager.Caller(
        ctx.user_id, ctx.project_id,
        req.headers.get('X-Auth-Token')
        if 'keystone.token_info' in req.environ else None)


def view(request: call.Call, record: images.Image
         ) -> dict[str, typing.Any]:
    """The image as the caller may read it."""
    return view_all(request, [record])[0]


def view_all(request: call.Call, records: list[images.Image]
             ) -> list[dict[str, typing.Any]]:
    """The same for several."""
    services, ctx = request.services, request.ctx
    readable = services.protections.readable
    shown = [views.image(record, readable(ctx, record.properties))
             for record in records]
    if services.stores.many:
        for view, record in zip(shown, records):
            if record.locations:
                view['stores'] = ','.join(sorted(
                    placement.located(services, record)))
    direct = services.conf.show_image_direct_url
    every = services.conf.show_multiple_locations
    if direct or every:
        for view, record in zip(shown, records):
            if services.policy.allows(ctx, 'get_image_location', {
                    'project_id': record.owner, 'owner': record.owner}):
                view |= views.places(record, direct=direct, every=every)
    return shown


def find(request: call.Call, rule: str) -> typing.Any:
    """The image of the path, when ``rule`` lets the caller act on it.

    :raises errors.NotFound: absent or unseen
    :raises errors.Forbidden: seen, but the rule says no
    """
    image = images.find(request.services, request.ctx,
                        request.args['image_id'])
    require(request, rule, image)
    return image


def require(request: call.Call, rule: str, image: images.Image) -> None:
    """:raises errors.Forbidden: the rule does not let the caller"""
    services, ctx = request.services, request.ctx
    services.policy.require_for_image(
        ctx, rule, image.id, images.target(services, ctx, image))
