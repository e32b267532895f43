"""Lists of images: what a filter means, and who sees what in a list.

Values come as text from a query string; each kind of filter is a row of a
table. Touches the database through ``db.listing`` alone.
"""

from __future__ import annotations

import collections.abc
import datetime
import typing

from oslo_utils import timeutils

from glance_import import context
from glance_import.db import images as db_images
from glance_import.db import listing as db_listing
from glance_import.domain import images
from glance_import import errors
from glance_import import states

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import import services

SORT_KEYS = images.SORT_KEYS
VISIBILITIES = ('public', 'private', 'shared', 'community', 'all')
MEMBER_STATUSES = (*states.MEMBER, 'all')
_TEXT = frozenset({'name', 'status', 'container_format', 'disk_format',
                   'owner', 'id', 'checksum', 'os_hash_value',
                   'os_hash_algo'})
_NUMBERS = frozenset({'size', 'virtual_size', 'min_disk', 'min_ram'})
_BOOLEANS = frozenset({'protected', 'os_hidden'})
_TIMES = frozenset({'created_at', 'updated_at'})
# These take "in:one,two" too.
_LISTS = frozenset({'name', 'id', 'status', 'container_format',
                    'disk_format'})
_OPERATORS = frozenset({'gt', 'gte', 'lt', 'lte', 'eq', 'neq'})
_MAX_NUMBER = 2 ** 63 - 1
_MAX_VALUES = 1000
# Each is a part of one statement, and servers bound what that may hold.
_MAX_FILTERS = 200
_MAX_TIME = 64

Condition = typing.Union['sa.ColumnElement[bool]', bool]


def page(services: services.Services, ctx: context.RequestContext, *,
         filters: dict[str, str], tags: list[str],
         order: list[tuple[str, str]], limit: int,
         marker: str | None) -> list[db_images.Image]:
    """A page of the images the caller may list.

    :raises errors.Invalid: an unknown marker or a filter value that is none
    """
    wanted = _wanted(ctx, dict(filters), tags)
    with services.db.read() as conn:
        after = None
        if marker is not None:
            after = images.peek_row(conn, ctx, marker)
            if after is None:
                raise errors.Invalid(
                    f'The marker {marker[:100]} is not an image of this '
                    'list.')
        if not all(_shown(services, ctx, name)
                   for name in wanted.properties):
            return []
        return db_listing.page(conn, wanted, order=order, limit=limit,
                               after=after)


def _shown(services: services.Services, ctx: context.RequestContext,
           name: str) -> bool:
    """Whether the caller can read a property of this name at all.

    What one may not read is absent, so that no image has it.
    """
    return (len(name) <= images.MAX_PROPERTY_NAME
            and name not in images.HIDDEN
            and services.protections.allows(ctx, name, 'read'))


def _wanted(ctx: context.RequestContext, filters: dict[str, str],
            tags: list[str]) -> db_listing.Selection:
    if len(filters) + len(tags) > _MAX_FILTERS:
        raise errors.Invalid(
            f'A list takes at most {_MAX_FILTERS} filters and tags.')
    if 'changes-since' in filters:
        raise errors.Invalid('The filter changes-since is not supported.')
    visibility = _one_of(filters, 'visibility', VISIBILITIES)
    member_status = _one_of(filters, 'member_status', MEMBER_STATUSES)
    hidden = _boolean('os_hidden', filters.pop('os_hidden', 'false'))
    conditions: list[sa.ColumnElement[bool]] = []
    properties: dict[str, str] = {}
    exact: dict[str, str] = {}
    for name, value in filters.items():
        found = _condition(name, value)
        if found is None:
            properties[name] = value
            continue
        conditions.append(found)
        if name in _TEXT and not _is_list(name, value):
            exact[name] = value
    return db_listing.Selection(
        scope=images.scope(ctx), visibility=visibility,
        member_status=member_status or states.ACCEPTED, hidden=hidden,
        conditions=conditions, exact=exact, properties=properties,
        tags=sorted(set(tags)))


def _one_of(filters: dict[str, str], name: str,
            known: collections.abc.Sequence[str]) -> str | None:
    value = filters.pop(name, None)
    if value is not None and value not in known:
        raise errors.Invalid(
            f"The filter {name} takes one of {', '.join(known)}, not "
            f"'{value[:100]}'.")
    return value


def _condition(name: str, value: str) -> sa.ColumnElement[bool] | None:
    """What a filter asks of an image's own columns; None: a property."""
    if name in _TEXT:
        if _is_list(name, value):
            return db_listing.among(name, _split(value[3:]))
        return db_listing.is_text(name, value)
    if name in _NUMBERS:
        return db_listing.compare(name, 'eq', _number(name, value))
    if name in _BOOLEANS:
        return db_listing.compare(name, 'eq', _boolean(name, value))
    if name in _TIMES:
        operator, moment = _time(name, value)
        return db_listing.compare(name, operator, moment)
    base, ending = name[:-4], name[-4:]
    if base in _NUMBERS and ending in ('_min', '_max'):
        return db_listing.compare(base, 'gte' if ending == '_min' else 'lte',
                                  _number(name, value))
    return None


def _is_list(name: str, value: str) -> bool:
    return name in _LISTS and value.startswith('in:')


def _split(text: str) -> list[str]:
    """Values between commas; quotes keep a comma inside one.

    Read once from left to right: what a pattern makes of many blanks or
    quotes can take a time that grows much faster than the text.

    :raises errors.Invalid: the quotes do not match, or there are too many
    """
    values: list[str] = []
    at = 0
    while True:
        value, at = _item(text, _behind_blanks(text, at))
        values.append(value)
        if at == len(text):
            return values
        if len(values) == _MAX_VALUES:
            raise errors.Invalid(
                f'A filter takes at most {_MAX_VALUES} values.')
        at += 1


def _item(text: str, at: int) -> tuple[str, int]:
    """The value that begins at ``at``, and where its comma or the end is."""
    if text[at:at + 1] == '"':
        value, at = _quoted(text, at + 1)
        at = _behind_blanks(text, at)
        if text[at:at + 1] not in ('', ','):
            raise _no_list(text)
        return value, at
    end = text.find(',', at)
    end = len(text) if end < 0 else end
    value = text[at:end].strip()
    if '"' in value:
        raise _no_list(text)
    return value, end


def _quoted(text: str, at: int) -> tuple[str, int]:
    """What stands before the closing quote, and the place behind it."""
    parts: list[str] = []
    while True:
        each = text[at:at + 1]
        if each == '\\':
            at += 1
            each = text[at:at + 1]
        elif each == '"':
            return ''.join(parts), at + 1
        if not each:
            raise _no_list(text)
        parts.append(each)
        at += 1


def _behind_blanks(text: str, at: int) -> int:
    while text[at:at + 1].isspace():
        at += 1
    return at


def _no_list(text: str) -> errors.Invalid:
    return errors.Invalid(
        f"The filter value '{text[:100]}' is not a list of values between "
        'commas, each in double quotes or without any.')


def _number(name: str, value: str) -> int:
    digits = value.removeprefix('-')
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20
            ) or int(digits) > _MAX_NUMBER:
        raise errors.Invalid(
            f"The filter {name} takes a whole number, not '{value[:100]}'.")
    return int(value)


def _boolean(name: str, value: str) -> bool:
    try:
        return {'true': True, 'false': False}[value.lower()]
    except KeyError:
        raise errors.Invalid(f'The filter {name} takes true or false, not '
                             f"'{value[:100]}'.") from None


def _time(name: str, value: str) -> tuple[str, datetime.datetime]:
    """An operator and a moment (naive UTC)."""
    operator, colon, rest = value.partition(':')
    if not colon or operator not in _OPERATORS:
        operator, rest = 'eq', value
    try:
        if len(rest) > _MAX_TIME or rest != rest.strip():
            raise ValueError('not a moment')
        return operator, timeutils.normalize_time(
            timeutils.parse_isotime(rest)).replace(microsecond=0)
    except (ValueError, OverflowError) as failure:
        raise errors.Invalid(
            f'The filter {name} takes an operator ('
            + ', '.join(sorted(_OPERATORS))
            + ") and a time such as gt:2026-01-31T12:00:00Z, not "
            f"'{value[:100]}'.") from failure
