"""Metadata definitions: one set of handlers for every kind of them."""

from __future__ import annotations

import dataclasses
import typing
from urllib import parse

from oslo_utils import strutils
import webob

from glance_import.api import call
from glance_import.api import paging
from glance_import.api import views
from glance_import.domain import metadef_kinds as kinds
from glance_import.domain import metadefs
from glance_import import errors

Json = dict[str, typing.Any]
_NAMESPACES = '/v2/metadefs/namespaces'
_RULES = kinds.NAMESPACE.rules
# What no path has to encode, beside letters and digits.
_PLAIN = ":@!$&'()*+,;=~-._"


def _require(request: call.Call, rule: str,
             namespace: metadefs.Row | None = None) -> None:
    """What the caller may not see is absent.

    :param namespace: None for what is not about one
    :raises errors.NotFound: the caller may not see namespaces, or this one
    :raises errors.Forbidden: the rule says no
    """
    policy, ctx = request.services.policy, request.ctx
    target: Json = {'project_id': ctx.project_id}
    if namespace is not None:
        target = metadefs.target(namespace)
    if policy.allows(ctx, rule, target):
        return
    if rule == _RULES['get'] or not policy.allows(ctx, _RULES['get'], target):
        name = request.args.get('namespace')
        raise errors.NotFound(
            'The resource could not be found.' if name is None else
            f'No namespace found with the name {name[:100]}')
    policy.require(ctx, rule, target)


def _namespace(request: call.Call, *rules: str) -> metadefs.Row:
    """The namespace of the path, with which the caller may do this."""
    found = metadefs.find(request.services, request.ctx,
                          request.args['namespace'])
    for rule in rules:
        _require(request, rule, found)
    return found


# -- as JSON

def _path(*names: str) -> str:
    return '/'.join([_NAMESPACES, *(parse.quote(name, safe=_PLAIN)
                                    for name in names)])


def _dates(row: metadefs.Row) -> Json:
    # What glance-manage has loaded has none of the second.
    return {name: views.when(row[name]) for name
            in ('created_at', 'updated_at') if row[name] is not None}


def _given(row: metadefs.Row, *names: str) -> Json:
    return {name: row[name] for name in names if row[name] is not None}


def _namespace_view(row: metadefs.Row, **held: typing.Any) -> Json:
    return {**_given(row, 'namespace', 'display_name', 'description'),
            'visibility': row['visibility'] or 'private',
            'protected': bool(row['protected']), 'owner': row['owner'],
            **_dates(row), **{key: value for key, value in held.items()
                              if value},
            'self': _path(row['namespace']),
            'schema': '/v2/schemas/metadefs/namespace'}


def _property(value: typing.Any) -> typing.Any:
    """A property's definition; its default is a string, as Glance has it."""
    if not isinstance(value, dict) or 'default' not in value:
        return value
    return {**value, 'default': kinds.default_text(value['default'])}


def _view(kind: kinds.Kind, row: metadefs.Row, namespace: str) -> Json:
    """One of what a namespace holds, by itself."""
    if kind is kinds.PROPERTY:
        return {**_property(kinds.definition(row)), 'name': row['name']}
    if kind is kinds.ASSOCIATION:
        return {**_given(row, 'name', 'prefix', 'properties_target'),
                **_dates(row)}
    if kind is kinds.TAG:
        return {'name': row['name'], **_dates(row)}
    return {
        'name': row['name'],
        'required': row['required'].split(',') if row['required'] else [],
        **_given(row, 'description'),
        'properties': {name: _property(value) for name, value
                       in kinds.definition(row).items()},
        **_dates(row),
        'self': _path(namespace, kind.plural, row['name']),
        'schema': f'/v2/schemas/metadefs/{kind.name}'}


def _views(kind: kinds.Kind, rows: list[metadefs.Row], namespace: str
           ) -> typing.Any:
    """All of a kind, as a namespace and a list show them."""
    if kind.is_keyed:
        return {row['name']: _property(kinds.definition(row))
                for row in rows}
    if kind is kinds.TAG:
        return [{'name': row['name']} for row in rows]
    return [_view(kind, row, namespace) for row in rows]


def _prefixed(view: Json, resource_type: str | None) -> Json:
    """The namespace with its properties named as they are for a type."""
    prefix = next((each.get('prefix') for each
                   in view.get('resource_type_associations', ())
                   if each['name'] == resource_type), None)
    if not prefix:
        return view

    def renamed(properties: Json) -> Json:
        return {prefix + name: value for name, value in properties.items()}

    changed = dict(view)
    if 'properties' in view:
        changed['properties'] = renamed(view['properties'])
    if 'objects' in view:
        changed['objects'] = [
            {**each, 'properties': renamed(each['properties']),
             'required': [prefix + name for name in each['required']]}
            for each in view['objects']]
    return changed


# -- namespaces

def index(request: call.Call) -> webob.Response:
    """GET /v2/metadefs/namespaces."""
    _require(request, _RULES['list'])
    _require(request, kinds.ASSOCIATION.rules['list'])
    query = paging.Query(request.req)
    limit = query.limit(request.services.conf)
    marker = query.take('marker')
    wanted = _order(query, kinds.SORT_KEYS, limit)
    visibility = _visibility(query, kinds.VISIBILITIES)
    types = query.take('resource_types')
    rows, associations = metadefs.page(
        request.services, request.ctx, wanted, marker=marker,
        visibility=visibility,
        resource_types=None if types is None else types.split(','))
    envelope: Json = {
        'namespaces': [
            _namespace_view(row, **{kinds.ASSOCIATION.key: _views(
                kinds.ASSOCIATION, associations.get(row['id'], []), '')})
            for row in rows if request.services.policy.allows(
                request.ctx, _RULES['get'], metadefs.target(row))],
        'first': query.link(_NAMESPACES),
        'schema': '/v2/schemas/metadefs/namespaces'}
    if rows and len(rows) == limit:
        envelope['next'] = query.link(_NAMESPACES, rows[-1]['namespace'])
    return call.json_response(envelope)


def _order(query: paging.Query, known: tuple[str, ...], limit: int | None
           ) -> metadefs.Page:
    key = query.take('sort_key') or 'created_at'
    direction = query.take('sort_dir') or 'desc'
    if key not in known:
        raise errors.Invalid(f'Invalid sort key: {key[:100]}')
    if direction not in ('asc', 'desc'):
        raise errors.Invalid(f'Invalid sort direction: {direction[:100]}')
    return metadefs.Page(key, direction, limit)


def _visibility(query: paging.Query, known: tuple[str, ...]) -> str | None:
    value = query.take('visibility') or None
    if value is not None and value not in known:
        raise errors.Invalid(f'Invalid visibility value: {value[:100]}')
    return value


def create(request: call.Call) -> webob.Response:
    """POST /v2/metadefs/namespaces: with all that it is to hold."""
    _require(request, _RULES['add'])
    body = kinds.check(kinds.NAMESPACE, request.json())
    for kind in kinds.PARTS:
        if body.get(kind.key):
            _require(request, kind.rules['add'])
    made = metadefs.create(request.services, request.ctx, body)
    view = _namespace_view(made, **{kind.key: body.get(kind.key)
                                    for kind in kinds.PARTS})
    return call.json_response(
        view, 201, Location=request.req.application_url + view['self'])


def show(request: call.Call) -> webob.Response:
    """GET /v2/metadefs/namespaces/{namespace}; for a ?resource_type=."""
    found = _namespace(request, _RULES['get'], *(
        kind.rules['list'] for kind in kinds.PARTS))
    query = paging.Query(request.req)
    _visibility(query, kinds.VISIBILITIES)
    held = metadefs.contents(request.services, found)
    # The newest first, as the list of tags has them.
    held[kinds.TAG.key].reverse()
    view = _namespace_view(found, **{
        kind.key: _views(kind, held[kind.key], found['namespace'])
        for kind in kinds.PARTS})
    return call.json_response(_prefixed(view, query.take('resource_type')))


def update(request: call.Call) -> webob.Response:
    """PUT /v2/metadefs/namespaces/{namespace}: what it holds stays."""
    found = _namespace(request, _RULES['modify'])
    body = kinds.check(kinds.NAMESPACE, request.json())
    row = kinds.namespace_row(body, request.ctx.project_id or found['owner'])
    return call.json_response(_namespace_view(
        metadefs.update(request.services, found, row)))


def delete(request: call.Call) -> webob.Response:
    """DELETE /v2/metadefs/namespaces/{namespace}, with all that it holds."""
    metadefs.delete(request.services, _namespace(request, _RULES['delete']))
    return call.empty(204)


# -- what a namespace holds

@dataclasses.dataclass(frozen=True)
class Held:
    """The handlers of one kind of what a namespace holds."""

    kind: kinds.Kind

    def index(self, request: call.Call) -> webob.Response:
        """GET .../{plural}: all that there are."""
        kind = self.kind
        found = _namespace(request, kind.rules['list'])
        self._check_query(request)
        rows = metadefs.parts(request.services, kind, found)
        if 'each' in kind.rules and not request.services.policy.allows(
                request.ctx, kind.rules['each'], metadefs.target(found)):
            rows = []
        envelope = {kind.key: _views(kind, rows, found['namespace'])}
        if kind is kinds.OBJECT:
            envelope['schema'] = 'v2/schemas/metadefs/objects'
        return call.json_response(envelope)

    def _check_query(self, request: call.Call) -> None:
        """The list of objects is whole, whatever page is asked for."""
        query = paging.Query(request.req)
        if self.kind is kinds.OBJECT:
            if query.limit(request.services.conf) == 0:
                raise errors.Invalid('limit param must be positive')
            query.take('sort_key')
            _order(query, ('created_at',), None)
            _visibility(query, (*kinds.VISIBILITIES, 'shared'))

    def show(self, request: call.Call) -> webob.Response:
        """GET .../{plural}/{name}."""
        found = _namespace(request, self.kind.rules['get'])
        name = request.args['name']
        if self.kind is kinds.PROPERTY:
            name = _unprefixed(request, found, name)
        return self._answer(found, metadefs.get(
            request.services, self.kind, found, name))

    def create(self, request: call.Call) -> webob.Response:
        """POST .../{plural}."""
        found = _namespace(request, self.kind.rules['add'])
        body = kinds.check(self.kind, request.json())
        return self._add(request, found, body)

    def put(self, request: call.Call) -> webob.Response:
        """POST .../{plural}/{name}: one that has nothing but its name."""
        found = _namespace(request, self.kind.rules['add'])
        return self._add(request, found, {'name': request.args['name']})

    def _add(self, request: call.Call, namespace: metadefs.Row,
             body: Json) -> webob.Response:
        row = kinds.part_row(self.kind, body)
        metadefs.add(request.services, self.kind, namespace, [row])
        return self._answer(namespace, metadefs.get(
            request.services, self.kind, namespace, row['name']), 201)

    def update(self, request: call.Call) -> webob.Response:
        """PUT .../{plural}/{name}: all of it, its name too."""
        found = _namespace(request, self.kind.rules['modify'])
        body = kinds.check(self.kind, request.json())
        return self._answer(found, metadefs.change(
            request.services, self.kind, found, request.args['name'],
            kinds.part_row(self.kind, body)))

    def delete(self, request: call.Call) -> webob.Response:
        """DELETE .../{plural}/{name}."""
        found = _namespace(request, self.kind.rules['delete'])
        metadefs.remove(request.services, self.kind, found,
                        request.args['name'])
        return call.empty(204)

    def clear(self, request: call.Call) -> webob.Response:
        """DELETE .../{plural}: all that there are."""
        found = _namespace(request, *self.kind.clear)
        metadefs.remove_all(request.services, self.kind, found)
        return call.empty(204)

    def _answer(self, namespace: metadefs.Row, row: metadefs.Row,
                status: int = 200) -> webob.Response:
        return call.json_response(
            _view(self.kind, row, namespace['namespace']), status)


def _unprefixed(request: call.Call, namespace: metadefs.Row, name: str
                ) -> str:
    """A property's own name, from that which it has for ?resource_type=."""
    resource_type = paging.Query(request.req).take('resource_type')
    if not resource_type:
        return name
    _require(request, kinds.ASSOCIATION.rules['each'], namespace)
    association = metadefs.get(request.services, kinds.ASSOCIATION, namespace,
                               resource_type)
    prefix = association['prefix']
    if not prefix or not name.startswith(prefix):
        raise errors.NotFound(
            f'Property {name[:100]} does not start with the prefix that the '
            f'resource type {resource_type[:100]} has in this namespace.')
    return name[len(prefix):]


# -- tags, of which there may be many at once

def list_tags(request: call.Call) -> webob.Response:
    """GET /v2/metadefs/namespaces/{namespace}/tags."""
    found = _namespace(request, kinds.TAG.rules['list'])
    query = paging.Query(request.req)
    # Unlike other lists it is whole unless a limit is given.
    limit = (query.limit(request.services.conf)
             if request.req.GET.get('limit') else None)
    marker = query.take('marker') or None
    wanted = _order(query, kinds.TAG_SORT_KEYS, limit)
    _visibility(query, (*kinds.VISIBILITIES, 'shared'))
    rows = metadefs.page_of(request.services, kinds.TAG, found, wanted,
                            marker)
    return call.json_response(
        {'tags': _views(kinds.TAG, rows, found['namespace'])})


def create_tags(request: call.Call) -> webob.Response:
    """POST .../tags: instead of those that are there, or beside them."""
    found = _namespace(request, kinds.TAG.rules['add_many'])
    names = _tags(request.json())
    appends = strutils.bool_from_string(
        request.req.headers.get('X-Openstack-Append'))
    rows = [kinds.part_row(kinds.TAG, {'name': name}) for name in names]
    metadefs.add(request.services, kinds.TAG, found, rows,
                 replace=not appends)
    return call.json_response(
        {'tags': [{'name': name} for name in names]}, 201)


def _tags(body: typing.Any) -> list[str]:
    if isinstance(body, dict):
        for name in kinds.TAG.read_only:
            if name in body:
                raise errors.Forbidden(f"Attribute '{name}' is read-only.")
    if not isinstance(body, dict) or body.keys() != {'tags'} \
            or not isinstance(body['tags'], list):
        raise errors.Invalid(
            "The request body has 'tags', a list of tags with their names, "
            'and nothing else.')
    names = []
    for number, each in enumerate(body['tags']):
        if not isinstance(each, dict) or each.keys() != {'name'} \
                or not isinstance(each['name'], str):
            raise errors.Invalid(
                'A tag in the list has a name, a string, and nothing else '
                f'(attribute tags.{number}).')
        names.append(each['name'])
    return names


# -- what is not of one namespace

def resource_types(request: call.Call) -> webob.Response:
    """GET /v2/metadefs/resource_types: all that there are."""
    _require(request, kinds.ASSOCIATION.rules['list'])
    return call.json_response({'resource_types': [
        {'name': row['name'], **_dates(row)}
        for row in metadefs.resource_types(request.services)]})


def schema(request: call.Call) -> webob.Response:
    """GET /v2/schemas/metadefs/{name}."""
    name = request.args['name']
    found = kinds.published(name)
    if found is None:
        raise errors.NotFound(f'There is no schema named {name[:100]}.')
    return call.json_response(found)
