"""Kinds of metadata definitions: one table of what each is and holds.

A row says how a kind is called, which rows of the database it is kept in,
what clients may say of it, and which rules are asked. Shapes are those of
Glance 33; what is judged beyond its schemas is what Glance keeps and cannot
serve again. Touches nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import typing

import jsonschema

from glance_import.db import metadefs as db_metadefs
from glance_import.db import tables
from glance_import import errors

Json = dict[str, typing.Any]
Row = db_metadefs.Row

MAX_NAME = 80
# MySQL's TEXT.
_MAX_TEXT = 65535
_NO_NAME = ('it is used in paths, so it has from 1 to '
            f'{MAX_NAME} characters, none of them a slash, and is not . or ..')
VISIBILITIES = ('public', 'private')
_TYPES = ('array', 'boolean', 'integer', 'number', 'object', 'string', None)


def _text(description: str, length: int | None = None, **more: typing.Any
          ) -> Json:
    limit = {} if length is None else {'maxLength': length}
    return {'type': 'string', 'description': description, **limit, **more}


def _array(description: str, items: Json) -> Json:
    return {'type': 'array', 'description': description, 'items': items}


def _ref(name: str) -> Json:
    return {'$ref': f'#/definitions/{name}'}


_NAME = _text('Name, unique in the namespace.', MAX_NAME)
_DATES: Json = {
    'created_at': _text('When it was made, UTC.', readOnly=True,
                        format='date-time'),
    'updated_at': _text('When it was last changed, UTC.', readOnly=True,
                        format='date-time')}
_LINKS: Json = {'self': _text('Path of it.', readOnly=True),
                'schema': _text('Path of this description.', readOnly=True)}
_ITEMS: Json = {
    'type': 'object', 'description': 'What an array holds.',
    'properties': {'type': {'type': 'string', 'enum': list(_TYPES)},
                   'enum': {'type': 'array'}}}
_PROPERTY: Json = {
    'name': _NAME,
    'title': _text('What people call it.'),
    'description': _text('What it is for.'),
    'operators': _array('Operators that a value may begin with.',
                        {'type': 'string'}),
    'type': {'type': 'string', 'enum': list(_TYPES),
             'description': 'Type of a value.'},
    'minimum': {'type': 'number'},
    'maximum': {'type': 'number'},
    'maxLength': _ref('positiveInteger'),
    'minLength': _ref('positiveIntegerDefault0'),
    # Far more than anybody reads; a long one may take long to understand.
    'pattern': {'type': 'string', 'maxLength': 1000, 'format': 'regex'},
    'enum': {'type': 'array', 'description': 'Values that it may have.'},
    'readonly': {'type': 'boolean'},
    'confidential': {'type': 'boolean'},
    'default': {'description': 'The value that it has unless one is given.'},
    'items': _ITEMS,
    'maxItems': _ref('positiveInteger'),
    'minItems': _ref('positiveIntegerDefault0'),
    'uniqueItems': {'type': 'boolean', 'default': False},
    'additionalItems': {'type': 'boolean'},
}
_DEFINITIONS: Json = {
    'positiveInteger': {'type': 'integer', 'minimum': 0},
    'positiveIntegerDefault0': {'allOf': [_ref('positiveInteger'),
                                          {'default': 0}]},
    'stringArray': {'type': 'array', 'items': {'type': 'string'},
                    'uniqueItems': True},
    'property': {'type': 'object', 'additionalProperties': {
        'type': 'object', 'required': ['title', 'type'],
        'properties': _PROPERTY}},
}
# What a definition must be beyond that, so that Glance, Horizon and whoever
# else draws a form of it can read it.
_VALUES = {'type': 'array', 'items': {'type': ['string', 'null']}}
_READABLE: Json = {
    'type': 'object', 'required': ['title', 'type'],
    'additionalProperties': False, 'definitions': _DEFINITIONS,
    'properties': {
        **_PROPERTY, 'enum': _VALUES,
        'default': {'type': ['string', 'number', 'boolean', 'null']},
        'items': {**_ITEMS, 'required': ['type'],
                  'additionalProperties': False, 'properties': {
                      **_ITEMS['properties'], 'enum': _VALUES}}}}


def _named_only(*names: str) -> Json:
    return {'type': 'object', 'properties': {
        name: {'type': 'string'} for name in names}}


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of definition.

    :ivar name: of one, in schemas and sentences
    :ivar plural: of many, in paths and schemas
    :ivar key: of many, in the namespace that holds them and in lists
    :ivar title: what a sentence calls it
    :ivar described: its attributes, as JSON schema
    :ivar part: the rows that it is kept in; None of namespaces
    :ivar rules: policy rules that are asked, by what is done: list, each
        (of a list), get, add, add_many, modify, delete
    :ivar clear: rules that are asked to delete all of a namespace
    """

    name: str
    plural: str
    key: str
    title: str
    described: Json
    rules: dict[str, str]
    part: db_metadefs.Part | None = None
    required: tuple[str, ...] = ('name',)
    definitions: Json | None = None
    clear: tuple[str, ...] = ()
    schema_name: str | None = None
    is_keyed: bool = False

    @property
    def rows(self) -> db_metadefs.Part:
        """The part, of a kind that has one."""
        assert self.part is not None
        return self.part

    @functools.cached_property
    def read_only(self) -> tuple[str, ...]:
        # When it was made is not shown of each, and nobody's to say.
        return tuple(dict.fromkeys([*_DATES, *(
            name for name, described in self.described.items()
            if described.get('readOnly'))]))

    def schema(self) -> Json:
        """What describes one, without the definitions that it refers to."""
        return {'name': self.schema_name or self.name,
                'properties': self.described, 'additionalProperties': False,
                'required': list(self.required)}

    @functools.cached_property
    def validator(self) -> jsonschema.Draft7Validator:
        return _validator({'type': 'object', **self.schema(),
                           'definitions': self.definitions or {}})


def _is_regex(value: object) -> bool:
    """Whether some dialect reads it: brackets are closed, repeats repeat.

    It is for the forms that browsers draw (ECMA 262), and nothing here uses
    it. To compile it by Python's rules would refuse what is good there, and
    a short one may take a second.
    """
    if not isinstance(value, str):
        return True
    depth, in_class, repeatable, at = 0, False, False, 0
    while at < len(value):
        char, at = value[at], at + 1
        if char == '\\':
            if at == len(value):
                return False
            at += 1
            repeatable = True
        elif in_class:
            in_class = char != ']'
            repeatable = True
        elif char in '*+?':
            if not repeatable:
                return False
            # Lazy, or possessive.
            at += value[at:at + 1] in ('?', '+')
            repeatable = False
        elif char == '(':
            depth += 1
            at += value[at:at + 1] == '?'
            repeatable = False
        elif char == ')':
            depth -= 1
            if depth < 0:
                return False
            repeatable = True
        else:
            in_class = char == '['
            repeatable = char not in '[|^'
    return not depth and not in_class


_FORMATS = jsonschema.FormatChecker(formats=())
_FORMATS.checks('regex')(_is_regex)


def _validator(schema: Json) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(schema, format_checker=_FORMATS)


_READABLE_PROPERTY = _validator(_READABLE)

OBJECT = Kind(
    'object', 'objects', 'objects', 'object', {
        'name': _NAME,
        'description': _text('What it is for.'),
        'required': _ref('stringArray'),
        'properties': _ref('property'), **_LINKS, **_DATES},
    {'list': 'get_metadef_objects', 'each': 'get_metadef_object',
     'get': 'get_metadef_object', 'add': 'add_metadef_object',
     'modify': 'modify_metadef_object', 'delete': 'delete_metadef_object'},
    db_metadefs.OBJECTS, definitions=_DEFINITIONS,
    clear=('delete_metadef_namespace',))
PROPERTY = Kind(
    'property', 'properties', 'properties', 'property',
    {**_PROPERTY}, {
        'list': 'get_metadef_properties', 'get': 'get_metadef_property',
        'add': 'add_metadef_property', 'modify': 'modify_metadef_property',
        'delete': 'remove_metadef_property'},
    db_metadefs.PROPERTIES, required=('type', 'title', 'name'),
    definitions=_DEFINITIONS, clear=('delete_metadef_namespace',),
    is_keyed=True)
TAG = Kind(
    'tag', 'tags', 'tags', 'tag', {'name': _NAME, **_DATES},
    {'list': 'get_metadef_tags', 'get': 'get_metadef_tag',
     'add': 'add_metadef_tag', 'add_many': 'add_metadef_tags',
     'modify': 'modify_metadef_tag', 'delete': 'delete_metadef_tag'},
    db_metadefs.TAGS,
    clear=('delete_metadef_namespace', 'delete_metadef_tags'))
ASSOCIATION = Kind(
    'resource_type', 'resource_types', 'resource_type_associations',
    'resource type', {
        'name': _text('A type of resource, as Heat calls it where it has '
                      'one.', MAX_NAME),
        'prefix': _text('What the names of properties begin with when they '
                        'are applied to it, with the separator.', MAX_NAME),
        'properties_target': _text('Which of several sets of properties that '
                                   'it has is meant.', MAX_NAME), **_DATES},
    {'list': 'list_metadef_resource_types',
     'each': 'get_metadef_resource_type',
     'add': 'add_metadef_resource_type_association',
     'delete': 'remove_metadef_resource_type_association'},
    db_metadefs.ASSOCIATIONS, schema_name='resource_type_association')
# In the order of a namespace's JSON.
PARTS = (ASSOCIATION, PROPERTY, OBJECT, TAG)
NAMESPACE = Kind(
    'namespace', 'namespaces', 'namespaces', 'namespace', {
        'namespace': _text('Its name, unique in the cloud.', MAX_NAME),
        'display_name': _text('What people call it.', MAX_NAME),
        'description': _text('What it is for.', 500),
        'visibility': _text('Who may see it.', enum=list(VISIBILITIES)),
        'protected': {'type': 'boolean', 'description':
                      'Whether it cannot be deleted, nor what it holds.'},
        'owner': _text('Project that owns it.', 255), **_DATES, **_LINKS,
        'resource_type_associations': _array(
            'Resource types that it is for.',
            _named_only('name', 'prefix', 'properties_target')),
        'properties': _ref('property'),
        'objects': _array('Sets of properties.', {
            'type': 'object', 'properties': {
                'name': {'type': 'string'}, 'description': {'type': 'string'},
                'required': _ref('stringArray'),
                'properties': _ref('property')}}),
        'tags': _array('Words.', _named_only('name'))},
    {'list': 'get_metadef_namespaces', 'get': 'get_metadef_namespace',
     'add': 'add_metadef_namespace', 'modify': 'modify_metadef_namespace',
     'delete': 'delete_metadef_namespace'},
    required=('namespace',), definitions=_DEFINITIONS)
KINDS = (NAMESPACE, *PARTS)
SORT_KEYS = tuple(name for name in tables.metadef_namespaces.c.keys())
TAG_SORT_KEYS = tuple(name for name in tables.metadef_tags.c.keys())


def published(name: str) -> Json | None:
    """What GET /v2/schemas/metadefs/{name} answers; None if there is none."""
    for kind in KINDS:
        if name == kind.name:
            return {**kind.schema(), **_with_definitions(kind)}
        if name == kind.plural:
            return _published_list(kind)
    return None


def _with_definitions(kind: Kind) -> Json:
    return {} if kind.definitions is None else {
        'definitions': kind.definitions}


def _published_list(kind: Kind) -> Json:
    one: Json = kind.schema()
    if kind.is_keyed:
        # By name, which is then none of its attributes.
        items: Json = {'type': 'object', 'additionalProperties': {
            **one, 'required': [each for each in one['required']
                                if each != 'name']}}
    else:
        items = {'type': 'array', 'items': one}
    links = [('first', '{first}'), ('next', '{next}'),
             ('describedby', '{schema}')]
    return {
        'name': kind.key,
        'properties': {kind.key: items, **{
            each: {'type': 'string'} for each in ('first', 'next', 'schema')}},
        'links': [{'rel': rel, 'href': href} for rel, href in links],
        **_with_definitions(kind)}


def check(kind: Kind, value: typing.Any, *, is_new: bool = True) -> Json:
    """Judge what a client, or a file, says of a definition.

    :param is_new: whether it shall be readable by everybody; what Glance let
        be made, and was exported, need not be
    :return: the same as it is to be kept, without what is read-only of what
        it holds; ``value`` is not used any more
    :raises errors.Forbidden: an attribute is read-only
    :raises errors.Invalid: naming the attribute and what is wrong
    """
    if not isinstance(value, dict):
        raise errors.Invalid('The request body must be a JSON object.')
    for name in kind.read_only:
        if name in value:
            raise errors.Forbidden(f"Attribute '{name}' is read-only.")
    validate(kind.validator, kind.name, value)
    if kind is NAMESPACE:
        return _check_parts(value, is_new)
    _check_properties(kind, value, is_new)
    return value


def _check_parts(value: Json, is_new: bool) -> Json:
    checked = dict(value)
    for kind in PARTS:
        held = checked.get(kind.key)
        if held is None:
            continue
        if kind.is_keyed:
            _check_definitions(held, kind.key, is_new)
            continue
        checked[kind.key] = [
            _check_part(kind, each, f'{kind.key}.{number}', is_new)
            for number, each in enumerate(held)]
    return checked


def _check_part(kind: Kind, value: Json, where: str, is_new: bool) -> Json:
    value = {name: item for name, item in value.items()
             if name not in kind.read_only}
    validate(kind.validator, kind.name, value, where)
    _check_properties(kind, value, is_new, where)
    return value


def _check_properties(kind: Kind, value: Json, is_new: bool,
                      where: str = '') -> None:
    if kind is PROPERTY:
        _check_definition(value, where, is_new)
    elif kind is OBJECT:
        _check_definitions(value.get('properties', {}),
                           _below(where, 'properties'), is_new)
        for name in value.get('required', ()):
            if ',' in name:
                raise errors.Invalid(
                    "A name in 'required' may have no comma in it "
                    f'(attribute {_below(where, "required")[:300]}).')


def _check_definitions(held: Json, where: str, is_new: bool) -> None:
    for name, value in held.items():
        _check_definition(value, _below(where, name), is_new)


def _check_definition(value: Json, where: str, is_new: bool) -> None:
    if is_new:
        validate(_READABLE_PROPERTY, 'property', value, where)
    if 'default' in value:
        value['default'] = default_text(value['default'])


def default_text(value: typing.Any) -> typing.Any:
    """A default as Glance keeps and shows it: numbers as text too."""
    return str(value) if isinstance(value, (bool, int, float)) else value


def _below(where: str, name: str) -> str:
    return f'{where}.{name}' if where else name


def validate(validator: jsonschema.Draft7Validator, name: str,
             value: typing.Any, where: str = '') -> None:
    """:raises errors.Invalid: naming the attribute and what is wrong"""
    failure = next(validator.iter_errors(value), None)
    if failure is None:
        return
    text = failure.message
    if len(text) > 300:
        text = text[:300] + '...'
    path = '.'.join(filter(None, (where, *map(str, failure.absolute_path))))
    raise errors.Invalid(
        f"Provided object does not match schema '{name}': {text}"
        + (f' (attribute {path[:300]})' if path else ''))


def namespace_row(value: Json, owner: str | None, *, is_new: bool = True
                  ) -> Row:
    """The row of a namespace; what is not said is what Glance takes.

    :raises errors.Invalid: a value that cannot be kept
    """
    row = {'namespace': value['namespace'],
           'display_name': value.get('display_name'),
           'description': value.get('description'),
           'visibility': value.get('visibility', 'private'),
           'protected': value.get('protected', False),
           'owner': value.get('owner') or owner}
    return _storable(NAMESPACE, tables.metadef_namespaces, row, 'namespace',
                     is_new)


def part_row(kind: Kind, value: Json, name: str | None = None, *,
             is_new: bool = True) -> Row:
    """The row of what a namespace holds.

    :param name: where it is none of its attributes
    :raises errors.Invalid: a value that cannot be kept
    """
    row = {'name': value['name'] if name is None else name}
    if kind is PROPERTY:
        row['json_schema'] = json.dumps(value)
    elif kind is OBJECT:
        row |= {'description': value.get('description'),
                'required': ','.join(value.get('required') or ()) or None,
                'json_schema': json.dumps(value.get('properties') or {})}
    elif kind is ASSOCIATION:
        row |= {'prefix': value.get('prefix'),
                'properties_target': value.get('properties_target')}
    return _storable(kind, kind.rows.table, row, 'name', is_new)


def part_rows(kind: Kind, value: Json, *, is_new: bool = True) -> list[Row]:
    """The rows of all that a namespace is to hold of one kind."""
    held = value.get(kind.key)
    if not held:
        return []
    if kind.is_keyed:
        return [part_row(kind, each, name, is_new=is_new)
                for name, each in held.items()]
    return [part_row(kind, each, is_new=is_new) for each in held]


def _storable(kind: Kind, table: typing.Any, row: Row, key: str,
              is_new: bool) -> Row:
    """:raises errors.Invalid: no path has the name, or no column the value"""
    if not 0 < len(row[key]) <= MAX_NAME or is_new and (
            '/' in row[key] or row[key] in ('.', '..')):
        raise errors.Invalid(
            f"The '{key}' of a {kind.title} cannot be "
            f'{row[key][:MAX_NAME + 1]!r}: {_NO_NAME}.')
    for name, value in row.items():
        if not isinstance(value, str):
            continue
        # The name of an association is a column of another table.
        limit = (table.c[name].type.length if name in table.c else MAX_NAME)
        where = f"'{name}' of the {kind.title} {row[key]!r}"
        if limit is not None and len(value) > limit:
            raise errors.Invalid(f'{where} may have {limit} characters.')
        if not value.isascii() and max(value) > '\uffff':
            raise errors.Invalid(
                f'{where} may have no characters beyond U+FFFF.')
        if limit is None and len(value.encode()) > _MAX_TEXT:
            raise errors.Invalid(f'{where} may have {_MAX_TEXT} bytes.')
    return row


def definition(row: Row) -> typing.Any:
    """What is kept as JSON: of a property itself, of an object its own."""
    return tables.from_json(row['json_schema'] or '{}') or {}
