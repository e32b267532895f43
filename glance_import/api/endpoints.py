"""The whole API as one table: what each request does, takes and answers.

A row is all that is said of a request anywhere: who handles it, which rules
it asks, what its body must be, how it is answered. The router goes by it, and
the OpenAPI document prints it. Touches nothing.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing

import webob

from glance_import.api import call
from glance_import.api.handlers import actions
from glance_import.api.handlers import image_data
from glance_import.api.handlers import images
from glance_import.api.handlers import imports
from glance_import.api.handlers import info
from glance_import.api.handlers import locations
from glance_import.api.handlers import members
from glance_import.api.handlers import metadefs
from glance_import.api.handlers import schemas
from glance_import.api.handlers import stage
from glance_import.api.handlers import stores
from glance_import.api.handlers import tags
from glance_import.api.handlers import tasks
from glance_import.api import patches
from glance_import.domain import metadef_kinds as kinds
from glance_import import states

Json = dict[str, typing.Any]
JSON = 'application/json'
OCTETS = 'application/octet-stream'
_TEXT: Json = {'type': 'string'}


@dataclasses.dataclass(frozen=True)
class Body:
    """What a request brings: media type and JSON schema."""

    media: str
    schema: Json


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """One method of one path.

    :ivar sentence: what it does, for who reads the API
    :ivar status: of the answer when all is well
    :ivar shape: name of the published schema of that answer
    :ivar rules: names of the policy rules that it asks, or may ask
    :ivar also: other statuses that it has beside everybody's, and why
    :ivar query: parameters that it reads
    """

    method: str
    handler: collections.abc.Callable[[call.Call], webob.Response]
    sentence: str
    status: int = 200
    shape: str | None = None
    rules: tuple[str, ...] = ()
    body: Body | None = None
    also: dict[int, str] = dataclasses.field(default_factory=dict)
    query: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Route:
    """A path; ``import_only`` ones exist while enable_image_import is on.

    :ivar by_post: whether POST with X-HTTP-Method-Override stands for the
        method that it names, as tus 1.0 wants for networks that let none but
        the oldest methods pass
    """

    path: str
    endpoints: tuple[Endpoint, ...]
    import_only: bool = False
    by_post: bool = False

    @property
    def methods(self) -> dict[str, Endpoint]:
        """Its endpoints by method."""
        return {each.method: each for each in self.endpoints}


def _at(path: str, *endpoints: Endpoint, import_only: bool = False,
        by_post: bool = False) -> Route:
    return Route(path, endpoints, import_only, by_post)


def _object(required: list[str], **properties: Json) -> Json:
    return {'type': 'object', 'required': required, 'properties': properties}


def _published(name: str) -> Json:
    return {'$ref': f'#/components/schemas/{name}'}


_DATA = Body(OCTETS, {'type': 'string', 'format': 'binary'})
_PATCH = Body(patches.V21, {
    'type': 'array', 'maxItems': patches.MAX_OPERATIONS,
    'items': _object(['op', 'path'], op={'enum': list(patches.OPERATIONS)},
                     path={'type': 'string', 'pattern': '^/'}, value={})})
_IMPORT = Body(JSON, _object(
    ['method'], method=_object(['name'], name=_TEXT),
    all_stores={'type': 'boolean'},
    all_stores_must_succeed={'type': 'boolean'},
    stores={'type': 'array', 'items': _TEXT}))
_READ = {204: 'There is no data yet.', 206: 'The range asked for.',
         416: 'The image has no such range.'}
_UPLOAD = {410: 'It was there when the request began.',
           412: 'Another version of the upload protocol.',
           423: 'Somebody else is uploading to it just now.',
           460: 'The checksum of the part is another one.'}
_PAGE = ('limit', 'marker', 'sort_key', 'sort_dir')
_IMAGE_QUERY = (*_PAGE, 'sort', 'name', 'status', 'owner', 'visibility',
                'tag', 'member_status', 'os_hidden', 'protected', 'size_min',
                'size_max', 'created_at', 'updated_at')
_SHOWN = ('get_image', 'get_image_location')
_CHANGED = ('modify_image', 'publicize_image', 'communitize_image')

_NAMESPACES = '/v2/metadefs/namespaces'
_NAMESPACE = Body(JSON, _object(['namespace'], namespace=_TEXT))
_NAMED = Body(JSON, _object(['name'], name=_TEXT))


def _held(kind: kinds.Kind, many: tuple[Endpoint, ...],
          one: tuple[Endpoint, ...]) -> tuple[Route, Route]:
    """The requests about one kind of what a namespace holds.

    :param many: those about all of them that are this kind's alone
    :param one: those about one of them that are this kind's alone
    """
    held, rules, path = (metadefs.Held(kind), kind.rules,
                         f'{_NAMESPACES}/{{namespace}}/{kind.plural}')
    return (
        _at(path, *many,
            Endpoint('DELETE', held.clear,
                     f'Delete all {kind.plural} of a namespace.', 204,
                     rules=kind.clear)),
        _at(f'{path}/{{name}}', *one,
            Endpoint('PUT', held.update,
                     f'Change a {kind.title} of a namespace, its name too.',
                     body=_NAMED, rules=(rules['modify'],)),
            Endpoint('DELETE', held.delete,
                     f'Delete a {kind.title} of a namespace.', 204,
                     rules=(rules['delete'],))))


def _metadefs() -> tuple[Route, ...]:
    space, types = kinds.NAMESPACE.rules, kinds.ASSOCIATION.rules
    objects, properties, tags = (
        metadefs.Held(kind)
        for kind in (kinds.OBJECT, kinds.PROPERTY, kinds.TAG))
    associations = metadefs.Held(kinds.ASSOCIATION)
    return (
        _at(_NAMESPACES,
            Endpoint('GET', metadefs.index,
                     'A page of the namespaces of metadata definitions, with '
                     'the resource types that each is for.',
                     rules=(space['list'], types['list'], space['get']),
                     query=(*_PAGE, 'visibility', 'resource_types')),
            Endpoint('POST', metadefs.create,
                     'Create a namespace with all that it is to hold, or '
                     'nothing of it.', 201, body=_NAMESPACE,
                     rules=(space['add'], *(kind.rules['add']
                                            for kind in kinds.PARTS)))),
        _at(f'{_NAMESPACES}/{{namespace}}',
            Endpoint('GET', metadefs.show,
                     'Show a namespace with all that it holds; properties '
                     'with the prefix that they have for a resource type.',
                     query=('resource_type',),
                     rules=(space['get'], *(kind.rules['list']
                                            for kind in kinds.PARTS))),
            Endpoint('PUT', metadefs.update,
                     'Change a namespace, its name too; what it holds stays.',
                     body=_NAMESPACE, rules=(space['modify'],)),
            Endpoint('DELETE', metadefs.delete,
                     'Delete a namespace with all that it holds.', 204,
                     rules=(space['delete'],))),
        *_held(kinds.OBJECT, (
            Endpoint('GET', objects.index,
                     'List the objects (sets of properties) of a namespace.',
                     rules=('get_metadef_objects', 'get_metadef_object')),
            Endpoint('POST', objects.create, 'Add an object to a namespace.',
                     201, body=_NAMED, rules=('add_metadef_object',))), (
            Endpoint('GET', objects.show, 'Show an object of a namespace.',
                     rules=('get_metadef_object',)),)),
        *_held(kinds.PROPERTY, (
            Endpoint('GET', properties.index,
                     'List the properties of a namespace.',
                     rules=('get_metadef_properties',)),
            Endpoint('POST', properties.create,
                     'Add a property to a namespace.', 201, body=_NAMED,
                     rules=('add_metadef_property',))), (
            Endpoint('GET', properties.show,
                     'Show a property of a namespace, by its name or by that '
                     'which it has for a resource type.',
                     query=('resource_type',),
                     rules=('get_metadef_property', types['each'])),)),
        *_held(kinds.TAG, (
            Endpoint('GET', metadefs.list_tags,
                     'A page of the tags of a namespace; all of them without '
                     'a limit.', query=_PAGE, rules=('get_metadef_tags',)),
            Endpoint('POST', metadefs.create_tags,
                     'Replace the tags of a namespace, or append to them '
                     '(X-Openstack-Append).', 201,
                     body=Body(JSON, _object(['tags'], tags={
                         'type': 'array', 'items': _NAMED.schema})),
                     rules=('add_metadef_tags',))), (
            Endpoint('GET', tags.show, 'Show a tag of a namespace.',
                     rules=('get_metadef_tag',)),
            Endpoint('POST', tags.put, 'Add a tag to a namespace.', 201,
                     rules=('add_metadef_tag',)))),
        _at(f'{_NAMESPACES}/{{namespace}}/resource_types',
            Endpoint('GET', associations.index,
                     'List the resource types that a namespace is for.',
                     rules=(types['list'], types['each'])),
            Endpoint('POST', associations.create,
                     'Associate a namespace with a resource type.', 201,
                     body=_NAMED, rules=(types['add'],))),
        _at(f'{_NAMESPACES}/{{namespace}}/resource_types/{{name}}',
            Endpoint('DELETE', associations.delete,
                     'End the association with a resource type.', 204,
                     rules=(types['delete'],))),
        _at('/v2/metadefs/resource_types',
            Endpoint('GET', metadefs.resource_types,
                     'List all resource types.', rules=(types['list'],))),
        _at('/v2/schemas/metadefs/{name}',
            Endpoint('GET', metadefs.schema,
                     'Show a JSON schema of metadata definitions.')))


TABLE = (
    _at('/v2/images',
        Endpoint('GET', images.index,
                 'A page of images, with links to the first and the next.',
                 shape='images', query=_IMAGE_QUERY,
                 rules=('get_images', 'get_image_location')),
        Endpoint('POST', images.create,
                 'Create an image record, which waits for its data.', 201,
                 shape='image', body=Body(JSON, _published('image')),
                 rules=('add_image', 'publicize_image',
                        'communitize_image'))),
    _at('/v2/images/{image_id}',
        Endpoint('GET', images.show, 'Show an image.', shape='image',
                 rules=_SHOWN),
        Endpoint('PATCH', images.update,
                 'Change an image: all of the operations, or none.',
                 shape='image', body=_PATCH,
                 rules=(*_CHANGED, 'set_image_location',
                        'delete_image_location')),
        Endpoint('DELETE', images.delete,
                 'Delete an image with its data and its running import.',
                 204, rules=('delete_image',))),
    _at('/v2/images/{image_id}/stage',
        Endpoint('PUT', stage.put, 'Upload data to be imported.', 204,
                 body=_DATA, also=_UPLOAD, rules=('modify_image',)),
        Endpoint('HEAD', stage.head, 'Say how much of an upload is there.',
                 also=_UPLOAD, rules=('modify_image',)),
        Endpoint('PATCH', stage.patch,
                 'Add a part to an upload, at the offset where it stands.',
                 204, body=_DATA, also=_UPLOAD, rules=('modify_image',)),
        Endpoint('OPTIONS', stage.options,
                 'Say which upload protocol is spoken.', 204),
        Endpoint('DELETE', stage.delete,
                 'Discard what was uploaded; the image is queued again.',
                 204, also=_UPLOAD, rules=('modify_image',)),
        import_only=True, by_post=True),
    _at('/v2/images/{image_id}/import',
        Endpoint('POST', imports.post,
                 'Ask for an import; it is durable when it is accepted.',
                 202, body=_IMPORT,
                 rules=('get_image', 'modify_image', 'copy_image', 'add_task',
                        'get_task', 'modify_task')),
        Endpoint('DELETE', imports.delete,
                 'Cancel an import; it ends within seconds.', 202,
                 rules=('modify_image',)),
        import_only=True),
    _at('/v2/images/{image_id}/file',
        Endpoint('GET', image_data.get, 'Read the data of an image.',
                 also=_READ, rules=('download_image',)),
        Endpoint('HEAD', image_data.head,
                 'Say how large the data is, and its md5.', also=_READ,
                 rules=('download_image',)),
        Endpoint('PUT', image_data.put,
                 'Upload data and make the image active; through the '
                 'plugins, where some are listed.',
                 204, body=_DATA, also=_UPLOAD, rules=('upload_image',))),
    _at('/v2/images/{image_id}/actions/deactivate',
        Endpoint('POST', actions.deactivate,
                 'Keep the data of an image from everybody but '
                 'administrators.', 204, rules=('deactivate',))),
    _at('/v2/images/{image_id}/actions/reactivate',
        Endpoint('POST', actions.reactivate,
                 'Give the data of a deactivated image to users again.', 204,
                 rules=('reactivate',))),
    _at('/v2/images/{image_id}/tags/{tag}',
        Endpoint('PUT', tags.put,
                 'Add a tag; one that is there already is fine.', 204,
                 rules=('modify_image',)),
        Endpoint('DELETE', tags.delete, 'Remove a tag.', 204,
                 rules=('modify_image',))),
    _at('/v2/images/{image_id}/members',
        Endpoint('GET', members.index,
                 'List the members of an image that the caller may see.',
                 shape='members',
                 rules=('get_image', 'get_members', 'get_member')),
        Endpoint('POST', members.create, 'Share an image with a project.',
                 shape='member', rules=('get_image', 'add_member'),
                 body=Body(JSON, _object(['member'], member=_TEXT)))),
    _at('/v2/images/{image_id}/members/{member_id}',
        Endpoint('GET', members.show, 'Show a member of an image.',
                 shape='member', rules=('get_image', 'get_member')),
        Endpoint('PUT', members.update,
                 'Accept or reject an image that was shared.',
                 shape='member',
                 rules=('get_image', 'get_member', 'modify_member'),
                 body=Body(JSON, _object(['status'], status={
                     'enum': list(states.MEMBER)}))),
        Endpoint('DELETE', members.delete,
                 'Share an image with a project no more.', 204,
                 rules=('get_image', 'delete_member'))),
    _at('/v2/images/{image_id}/locations',
        Endpoint('GET', locations.index,
                 'Say where the data of an image is, for other services.',
                 rules=('fetch_image_location',)),
        Endpoint('POST', locations.create,
                 'Give a queued image data that lies in a store already.',
                 202, rules=('add_image_location',),
                 body=Body(JSON, _object(['url'], url=_TEXT,
                                         validation_data={
                                             'type': 'object'})))),
    _at('/v2/images/{image_id}/tasks',
        Endpoint('GET', tasks.of_image,
                 "List the tasks of an image, those of the caller's project.",
                 rules=_SHOWN[:1], query=('limit', 'marker'))),
    _at('/v2/schemas/{name}',
        Endpoint('GET', schemas.show, 'Show a JSON schema.')),
    _at('/v2/info/stores',
        Endpoint('GET', info.stores,
                 'List the stores, where there are several.')),
    _at('/v2/info/stores/detail',
        Endpoint('GET', info.stores_detail,
                 'List the stores with their types and options.',
                 rules=('stores_info_detail',))),
    _at('/v2/stores/{store_id}/{image_id}',
        Endpoint('DELETE', stores.delete,
                 'Delete the copy of an image in one store.', 204,
                 rules=('delete_image_location',))),
    _at('/v2/info/usage',
        Endpoint('GET', info.usage,
                 'Say what the project uses of what it may use.')),
    _at('/v2/info/import',
        Endpoint('GET', info.import_methods,
                 'List the import methods that are enabled.'),
        import_only=True),
    _at('/v2/tasks',
        Endpoint('GET', tasks.index, 'A page of tasks.', shape='tasks',
                 rules=('tasks_api_access', 'get_tasks'),
                 query=(*_PAGE, 'type', 'status')),
        Endpoint('POST', tasks.create,
                 'Ask for an import as a task, the older way.', 201,
                 shape='task',
                 rules=('tasks_api_access', 'add_task', 'add_image',
                        'publicize_image', 'communitize_image'),
                 body=Body(JSON, _object(['type', 'input'], type=_TEXT,
                                         input={'type': 'object'})))),
    _at('/v2/tasks/{task_id}',
        Endpoint('GET', tasks.show, 'Show a task.', shape='task',
                 rules=('tasks_api_access', 'get_task')),
        Endpoint('DELETE', tasks.delete,
                 'Refused: tasks are deleted by their age alone.', 405,
                 rules=('tasks_api_access',))),
    *_metadefs(),
)
