"""What bodies look like, as JSON Schema: judged by it, and published.

``/v2/schemas/...`` shows what clients validate against; the same tables
judge what clients send. Formats come from options.
"""

from __future__ import annotations

import functools
import typing

import jsonschema
from oslo_config import cfg

from glance_import.domain import tasks
from glance_import import errors
from glance_import import states

Schema = dict[str, typing.Any]

# Clients in other languages judge by it too, and have no \Z. In Python $ fits
# before a newline at the end as well; in them the last part says nothing.
UUID = ('^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}'
        '-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$(?!\\n)')
VISIBILITIES = ('community', 'public', 'private', 'shared')
# What a status may be in an answer: deleted ones are never shown.
STATUSES = tuple(status for status in states.ALL)
MAX_VALUE = 65535
_TOO_MANY = ('maxItems', 'maxProperties')


def _text(description: str, **more: typing.Any) -> Schema:
    return {'type': 'string', 'description': description, **more}


def _maybe(description: str, length: int = 255, **more: typing.Any
           ) -> Schema:
    return {'type': ['null', 'string'], 'description': description,
            'maxLength': length, **more}


def _number(description: str) -> Schema:
    return {'type': 'integer', 'description': description, 'minimum': 0,
            'maximum': 2147483647}


def _size(description: str) -> Schema:
    return {'type': ['null', 'integer'], 'description': description,
            'readOnly': True}


def _settable(disk_formats: typing.Sequence[str],
              container_formats: typing.Sequence[str]) -> Schema:
    """The attributes that a client gives."""
    return {
        'id': _text('Identifies the image.', pattern=UUID),
        'name': _maybe('What people call the image.'),
        'owner': _maybe('Project that owns the image.'),
        'visibility': {'type': 'string', 'enum': list(VISIBILITIES),
                       'description': 'Who may see the image.'},
        'protected': {'type': 'boolean',
                      'description': 'Whether the image cannot be deleted.'},
        'os_hidden': {'type': 'boolean',
                      'description': 'Whether lists leave the image out '
                                     'unless they are asked for hidden '
                                     'ones.'},
        'disk_format': {'type': ['null', 'string'],
                        'enum': [None, *disk_formats],
                        'description': 'Format of the disk.'},
        'container_format': {'type': ['null', 'string'],
                             'enum': [None, *container_formats],
                             'description': 'Format of what holds the disk.'},
        'min_disk': _number('Disk space, in GB, a machine needs.'),
        'min_ram': _number('Memory, in MB, a machine needs.'),
        'tags': {'type': 'array', 'description': 'Words tied to the image.',
                 'items': {'type': 'string', 'maxLength': 255}},
    }


_URL: Schema = {'type': 'string', 'minLength': 1, 'maxLength': 2048}
_DIGESTS: Schema = {
    'type': 'object', 'additionalProperties': False,
    'properties': {name: {'type': 'string', 'maxLength': 128} for name in (
        'checksum', 'os_hash_algo', 'os_hash_value')}}
_NEW_LOCATION: Schema = {
    'type': 'object', 'required': ['url'], 'additionalProperties': False,
    'properties': {
        'url': _URL,
        'validation_data': {
            'type': 'object', 'additionalProperties': False,
            'dependentRequired': {'os_hash_algo': ['os_hash_value'],
                                  'os_hash_value': ['os_hash_algo']},
            'properties': {'os_hash_algo': {'type': 'string'},
                           'os_hash_value': {'type': 'string',
                                             'maxLength': 128}}}}}

_SHOWN: Schema = {
    'status': _text('Where the image stands.', enum=list(STATUSES),
                    readOnly=True),
    'size': _size('Bytes of the data.'),
    'virtual_size': _size('Bytes of the disk that the data describes.'),
    'checksum': _maybe('MD5 of the data.', 32, readOnly=True),
    'os_hash_algo': _maybe('Algorithm of os_hash_value.', 64, readOnly=True),
    'os_hash_value': _maybe('Digest of the data.', 128, readOnly=True),
    'created_at': _text('When it was made, UTC.', readOnly=True),
    'updated_at': _text('When it was last changed, UTC.', readOnly=True),
    'self': _text('Path of the image.', readOnly=True),
    'file': _text('Path of the data of the image.', readOnly=True),
    'schema': _text('Path of this description.', readOnly=True),
    'direct_url': _text('Where a store has the data.', readOnly=True),
    'stores': _text('Stores that have the data, separated by commas.',
                    readOnly=True),
    'locations': {
        'type': 'array', 'description': 'Where stores have the data.',
        'items': {'type': 'object', 'required': ['url', 'metadata'],
                  'properties': {'url': _URL, 'metadata': {'type': 'object'},
                                 'validation_data': _DIGESTS}}},
}

_IMAGE_LINKS = [
    {'rel': 'self', 'href': '{self}'},
    {'rel': 'enclosure', 'href': '{file}'},
    {'rel': 'describedby', 'href': '{schema}'},
]


def image(conf: cfg.ConfigOpts) -> Schema:
    """What describes one image."""
    formats = conf.image_format
    described = _settable(formats.disk_formats, formats.container_formats)
    return {'name': 'image', 'properties': {**described, **_SHOWN},
            'additionalProperties': {'type': 'string'},
            'links': _IMAGE_LINKS}


_MEMBER: Schema = {
    'name': 'member',
    'properties': {
        'member_id': _text('Project the image is shared with.'),
        'image_id': _text('The image.', pattern=UUID),
        'status': _text('What the project said to it.',
                        enum=list(states.MEMBER)),
        'created_at': _text('When it was shared, UTC.'),
        'updated_at': _text('When that was last changed, UTC.'),
        'schema': _text('Path of this description.', readOnly=True),
    },
}

_TASK: Schema = {
    'name': 'task',
    'properties': {
        'id': _text('Identifies the task.', pattern=UUID),
        'type': _text('What the task does.', enum=list(tasks.TYPES)),
        'status': _text('Where the task stands.',
                        enum=list(states.TASK)),
        'input': {'type': ['null', 'object'],
                  'description': 'What it was asked to do.'},
        'result': {'type': ['null', 'object'],
                   'description': 'What came of it.'},
        'owner': _text('Project whose task it is.'),
        'message': _text('Why it failed, or how far it is.'),
        'image_id': _maybe('The image it is about.'),
        'request_id': _maybe('The request that asked for it.'),
        'user_id': _maybe('Who asked for it.'),
        'expires_at': {'type': ['null', 'string'],
                       'description': 'When it is forgotten, UTC.'},
        'created_at': _text('When it was made, UTC.'),
        'updated_at': _text('When it was last changed, UTC.'),
        'self': _text('Path of the task.', readOnly=True),
        'schema': _text('Path of this description.', readOnly=True),
    },
}


def _list_of(item: Schema, name: str, links: list[str]) -> Schema:
    properties: Schema = {name: {'type': 'array', 'items': item}}
    for rel in ('first', 'next'):
        if rel in links:
            properties[rel] = {'type': 'string'}
    properties['schema'] = {'type': 'string'}
    return {'name': name, 'properties': properties, 'links': [
        {'rel': rel,
         'href': '{schema}' if rel == 'describedby' else '{%s}' % rel}
        for rel in links]}


def published(name: str, conf: cfg.ConfigOpts) -> Schema | None:
    """What GET /v2/schemas/{name} answers; None when there is none."""
    paged = ['first', 'next', 'describedby']
    makers: dict[str, typing.Callable[[], Schema]] = {
        'image': lambda: image(conf),
        'images': lambda: _list_of(image(conf), 'images', paged),
        'member': lambda: _MEMBER,
        'members': lambda: _list_of(_MEMBER, 'members', ['describedby']),
        'task': lambda: _TASK,
        'tasks': lambda: _list_of(_TASK, 'tasks', ['describedby']),
    }
    return makers[name]() if name in makers else None


class _Bounds(typing.NamedTuple):
    """How many of each a record may have; None for no limit."""

    properties: int | None
    tags: int | None
    locations: int | None


def _bounds(conf: cfg.ConfigOpts) -> _Bounds:
    return _Bounds(*(quota if quota >= 0 else None for quota in (
        conf.image_property_quota, conf.image_tag_quota,
        conf.image_location_quota)))


@functools.cache
def _validator(disk_formats: tuple[str, ...],
               container_formats: tuple[str, ...], bounds: _Bounds
               ) -> jsonschema.Draft7Validator:
    known = {**_settable(disk_formats, container_formats),
             'locations': _SHOWN['locations']}
    for name, most in (('tags', bounds.tags),
                       ('locations', bounds.locations)):
        if most is not None:
            # First of all: what is behind it is looked at item by item.
            known[name] = {'maxItems': most, **known[name]}
    schema: Schema = {'type': 'object'}
    if bounds.properties is not None:
        schema['maxProperties'] = bounds.properties + len(known)
    return jsonschema.Draft7Validator({
        **schema, 'properties': known,
        'propertyNames': {'minLength': 1, 'maxLength': 255},
        'additionalProperties': {'type': 'string', 'maxLength': MAX_VALUE},
    })


def check_new_location(value: typing.Any) -> None:
    """Judge the body of POST /v2/images/{image_id}/locations.

    :raises errors.Invalid: naming the attribute and what is wrong
    """
    if not isinstance(value, dict):
        raise errors.Invalid('The request body must be a JSON object.')
    _validate(jsonschema.Draft202012Validator(_NEW_LOCATION), value,
              'location')


def check_image(value: typing.Any, conf: cfg.ConfigOpts,
                exempt: typing.Container[str] = ()) -> None:
    """Judge attributes of an image that a client gives.

    ``exempt`` names are left to a later check with an answer of its own.

    :raises errors.Invalid: naming the attribute and what is wrong
    :raises errors.TooLarge: there is more of something than a quota allows
    """
    if not isinstance(value, dict):
        raise errors.Invalid('The request body must be a JSON object.')
    judged = {name: item for name, item in value.items()
              if name not in exempt}
    validator = _validator(tuple(conf.image_format.disk_formats),
                           tuple(conf.image_format.container_formats),
                           _bounds(conf))
    _validate(validator, judged, 'image')


def _validate(validator: typing.Any, value: typing.Any, name: str) -> None:
    # The first is enough: each holds what it is about, as text.
    failure = next(validator.iter_errors(value), None)
    if failure is None:
        return
    where = '.'.join(str(part) for part in failure.absolute_path)
    if failure.validator in _TOO_MANY:
        raise errors.TooLarge(
            'The limit has been exceeded on the number of allowed image '
            f'{where[:300] or "properties"}. Attempted: '
            f'{len(failure.instance)}, Maximum: {failure.validator_value}')
    text = failure.message
    if len(text) > 300:
        text = text[:300] + '...'
    raise errors.Invalid(
        f"Provided object does not match schema '{name}': {text}"
        + (f' (attribute {where[:300]})' if where else ''))
