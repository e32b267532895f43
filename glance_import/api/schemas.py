"""What a body must look like, as JSON Schema; formats come from options."""

from __future__ import annotations

import functools
import typing

import jsonschema

from glance_import.domain import errors

_TEXT = {'type': ['null', 'string'], 'maxLength': 255}
_UUID = ('^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}'
         '-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$')
_INT = {'type': 'integer', 'minimum': 0, 'maximum': 2147483647}


@functools.cache
def _create_validator(disk_formats: tuple[str, ...],
                      container_formats: tuple[str, ...]
                      ) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator({
        'type': 'object',
        'properties': {
            'id': {'type': 'string', 'pattern': _UUID},
            'name': _TEXT,
            'owner': _TEXT,
            'visibility': {'enum': ['community', 'public', 'private',
                                    'shared']},
            'protected': {'type': 'boolean'},
            'os_hidden': {'type': 'boolean'},
            'disk_format': {'enum': [None, *disk_formats]},
            'container_format': {'enum': [None, *container_formats]},
            'min_disk': _INT,
            'min_ram': _INT,
            'tags': {'type': 'array', 'items': {'type': 'string',
                                                'maxLength': 255}},
        },
        'propertyNames': {'minLength': 1, 'maxLength': 255},
        'additionalProperties': {'type': 'string', 'maxLength': 65535},
    })


def check_create(value: typing.Any, disk_formats: typing.Iterable[str],
                 container_formats: typing.Iterable[str],
                 exempt: typing.Container[str]) -> None:
    """Judge the body of POST /v2/images.

    ``exempt`` names are left to a later check with an answer of its own.

    :raises errors.Invalid: naming the attribute and what is wrong
    """
    if not isinstance(value, dict):
        raise errors.Invalid('The request body must be a JSON object.')
    judged = {name: item for name, item in value.items()
              if name not in exempt}
    validator = _create_validator(tuple(disk_formats),
                                  tuple(container_formats))
    for failure in sorted(validator.iter_errors(judged), key=str):
        where = '.'.join(str(part) for part in failure.absolute_path)
        text = failure.message
        if len(text) > 300:
            text = text[:300] + '...'
        raise errors.Invalid(
            f"Provided object does not match schema 'image': {text}"
            + (f' (attribute {where})' if where else ''))
    refuse_nul(judged)


def refuse_nul(value: typing.Any) -> None:
    """NUL has no place in text that databases keep.

    :raises errors.Invalid: there is one somewhere in ``value``
    """
    if isinstance(value, str):
        if '\0' in value:
            raise errors.Invalid('Text may not hold NUL characters.')
        try:
            value.encode('utf-8')
        except UnicodeEncodeError as failure:
            raise errors.Invalid(
                'Text may not hold lone surrogates.') from failure
    elif isinstance(value, dict):
        for name, item in value.items():
            refuse_nul(name)
            refuse_nul(item)
    elif isinstance(value, list):
        for item in value:
            refuse_nul(item)
