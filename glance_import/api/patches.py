"""Bodies of PATCH, in both media types, read into operations.

What can be told from the body alone is judged here; what depends on the
image is the domain's. Touches nothing.
"""

from __future__ import annotations

import typing

from glance_import.domain import images
from glance_import.domain import patch
from glance_import import errors

V21 = 'application/openstack-images-v2.1-json-patch'
V20 = 'application/openstack-images-v2.0-json-patch'
MEDIA_TYPES = (V21, V20)

# Each image has a few hundred attributes at most, and each is changed once.
MAX_OPERATIONS = 1000
OPERATIONS = ('add', 'remove', 'replace')
# Never changed by a user. Others than on creation: the id is given by then.
READ_ONLY = images.READ_ONLY | {'id'}


def parse(body: typing.Any, media_type: str) -> list[patch.Operation]:
    """The operations of a body, in order.

    :raises errors.Invalid: not a patch, or not one that means something
    :raises errors.Forbidden: it changes what is not the user's to change
    :raises errors.TooLarge: there are too many
    """
    if not isinstance(body, list):
        raise errors.Invalid('The request body must be a JSON list of '
                             'operations.')
    if len(body) > MAX_OPERATIONS:
        raise errors.TooLarge(
            f'A request may have {MAX_OPERATIONS} operations, this one has '
            f'{len(body)}. Send them in several requests.')
    read = _v21 if media_type == V21 else _v20
    return [_operation(*read(item), exclusive=media_type == V20)
            for item in body]


def _v21(item: typing.Any) -> tuple[str, typing.Any, dict]:
    if not isinstance(item, dict):
        raise errors.Invalid('Each operation must be a JSON object.')
    for name in ('op', 'path'):
        if name not in item:
            raise errors.Invalid(f"An operation lacks its member '{name}'.")
    if item['op'] not in OPERATIONS:
        raise errors.Invalid(_unknown(item['op']))
    return item['op'], item['path'], item


def _v20(item: typing.Any) -> tuple[str, typing.Any, dict]:
    if not isinstance(item, dict):
        raise errors.Invalid('Each operation must be a JSON object.')
    named = [name for name in item if name != 'value']
    if len(named) != 1 or named[0] not in OPERATIONS:
        raise errors.Invalid(_unknown(', '.join(named)))
    return named[0], item[named[0]], item


def _unknown(op: typing.Any) -> str:
    return (f'Unknown operation {str(op)[:100]!r}: it is one of '
            + ', '.join(OPERATIONS) + '.')


def _operation(op: str, pointer: typing.Any, item: dict, *,
               exclusive: bool) -> patch.Operation:
    path = _path(pointer)
    name = path[0]
    if name in READ_ONLY:
        raise errors.Forbidden(f"Attribute '{name}' is read-only.")
    removable = op == 'remove' and name in images.REMOVABLE
    if name != 'locations' and not removable and (
            name in images.RESERVED
            or name.startswith(images.RESERVED_PREFIX)):
        raise errors.Forbidden(f"Attribute '{name[:255]}' is reserved.")
    if name == 'locations':
        if len(path) > 2:
            raise errors.Invalid(f'Invalid JSON pointer: {pointer[:300]}')
    elif len(path) != 1:
        raise errors.Invalid(
            f'Invalid JSON pointer: {pointer[:300]}; an attribute is changed '
            'as a whole.')
    if op != 'remove' and 'value' not in item:
        raise errors.Invalid(
            f"The operation {op} of {pointer[:300]} lacks its member 'value'.")
    return patch.Operation(op, name, item.get('value'),
                           '/'.join(path[1:]) or None,
                           exclusive and op == 'add')


def _path(pointer: typing.Any) -> list[str]:
    """The parts of a JSON pointer (RFC 6901).

    :raises errors.Invalid: it is none that can name an attribute
    """
    if not isinstance(pointer, str) or not pointer.startswith('/'):
        raise errors.Invalid(
            f'Invalid JSON pointer: {str(pointer)[:300]}; it begins with /.')
    parts = pointer[1:].split('/')
    for part in parts:
        if len(part) > images.MAX_PROPERTY_NAME:
            raise errors.Invalid(
                f'Invalid JSON pointer: {pointer[:300]}; a name has at most '
                f'{images.MAX_PROPERTY_NAME} characters.')
        if not part.strip() or part != part.strip():
            raise errors.Invalid(
                f'Invalid JSON pointer: {pointer[:300]}; a part is empty or '
                'has blanks around it.')
        if any(each[:1] not in ('0', '1') for each in part.split('~')[1:]):
            raise errors.Invalid(
                f'Invalid JSON pointer: {pointer[:300]}; ~ is written ~0 '
                'and / is written ~1.')
    return [part.replace('~1', '/').replace('~0', '~') for part in parts]
