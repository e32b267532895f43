"""Metadata definitions: namespaces, and the rows of what they hold.

Every function takes a connection whose transaction the caller owns. Who
changes what a namespace holds locks the namespace first, so that it is not
deleted meanwhile.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import functools
import typing

from oslo_db import exception as db_exc
import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import images
from glance_import.db import spelling
from glance_import.db import tables

# A row by its columns' names; times are naive UTC.
Row = dict[str, typing.Any]
Scope = images.Scope
EVERYTHING = images.EVERYTHING

_NAMESPACES = tables.metadef_namespaces
_TYPES = tables.metadef_resource_types
_OF_TYPE = tables.metadef_namespace_resource_types
_SELECT = sa.select(_NAMESPACES)
_BY_ID = _NAMESPACES.c.id == sa.bindparam('b_id')
_UPDATE = sa.update(_NAMESPACES).where(_BY_ID)
_DELETE = sa.delete(_NAMESPACES).where(_BY_ID)
_LOCK = _SELECT.where(_BY_ID).with_for_update()
_ALL_TYPES = sa.select(_TYPES).order_by(_TYPES.c.id)
_TYPE_IDS = sa.select(_TYPES.c.name, _TYPES.c.id).where(
    _TYPES.c.name.in_(sa.bindparam('b_names', expanding=True)))


class SpelledAlike(Exception):
    """To this database a name is another one that is there already."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One kind of what a namespace holds: its table, and how it is read.

    Each has a name of its own in the namespace. That of an association is
    the resource type's, a row of another table.
    """

    table: sa.Table

    @property
    def is_association(self) -> bool:
        return self.table is _OF_TYPE

    @property
    def name(self) -> sa.Column[str]:
        return _TYPES.c.name if self.is_association else self.table.c.name

    @functools.cached_property
    def select(self) -> sa.Select:
        if self.is_association:
            return sa.select(_TYPES.c.name, self.table).join_from(
                self.table, _TYPES)
        return sa.select(self.table)

    @functools.cached_property
    def of_many(self) -> sa.Select:
        order = (self.table.c.resource_type_id if self.is_association
                 else self.table.c.id)
        return self.select.where(self.table.c.namespace_id.in_(
            sa.bindparam('b_ids', expanding=True))).order_by(order)

    @functools.cached_property
    def one(self) -> sa.Select:
        return self.select.where(
            self.table.c.namespace_id == sa.bindparam('b_namespace'),
            spelling.exactly(self.name, sa.bindparam('b_name')))

    def key(self, row: Row) -> list[sa.ColumnElement[bool]]:
        """The condition that is true of one row alone."""
        return [column == row[column.name]
                for column in self.table.primary_key.columns]


OBJECTS = Part(tables.metadef_objects)
PROPERTIES = Part(tables.metadef_properties)
TAGS = Part(tables.metadef_tags)
ASSOCIATIONS = Part(_OF_TYPE)
PARTS = (TAGS, OBJECTS, PROPERTIES, ASSOCIATIONS)


@functools.cache
def _visible(is_admin: bool, has_project: bool) -> sa.ColumnElement[bool]:
    if is_admin:
        return sa.true()
    public = _NAMESPACES.c.visibility == 'public'
    if not has_project:
        return public
    return sa.or_(public, spelling.exactly(
        _NAMESPACES.c.owner, sa.bindparam('b_project')))


def _seen(scope: Scope) -> tuple[sa.ColumnElement[bool], Row]:
    """The condition, and the values that it takes."""
    own = not scope.is_admin and scope.project_id is not None
    return (_visible(scope.is_admin, scope.project_id is not None),
            {'b_project': scope.project_id} if own else {})


@functools.cache
def _named(is_admin: bool, has_project: bool) -> sa.Select:
    return _SELECT.where(
        spelling.exactly(_NAMESPACES.c.namespace, sa.bindparam('b_name')),
        _visible(is_admin, has_project))


def find(conn: sa.Connection, name: str, scope: Scope) -> Row | None:
    """The namespace of that name, if the caller may see it."""
    _condition, values = _seen(scope)
    return _row(conn.execute(
        _named(scope.is_admin, scope.project_id is not None),
        {'b_name': name, **values}).first())


def lock(conn: sa.Connection, namespace_id: int) -> Row | None:
    """The namespace as it is now, and until the transaction ends."""
    return _row(conn.execute(_LOCK, {'b_id': namespace_id}).first())


def _row(found: sa.Row | None) -> Row | None:
    return None if found is None else dict(found._mapping)


def is_empty(conn: sa.Connection) -> bool:
    """Whether there is no namespace at all."""
    return conn.execute(sa.select(_NAMESPACES.c.id).limit(1)).first() is None


def names(conn: sa.Connection) -> list[str]:
    """Of every namespace, in their order."""
    return list(conn.scalars(sa.select(_NAMESPACES.c.namespace).order_by(
        _NAMESPACES.c.namespace, _NAMESPACES.c.id)))


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Which rows of a list, and in which order.

    :ivar after: the row that the page is behind
    :ivar limit: rows on it, None for all
    """

    sort_key: str = 'created_at'
    sort_dir: str = 'desc'
    limit: int | None = None
    after: Row | None = None


def page(conn: sa.Connection, scope: Scope, wanted: Page, *,
         visibility: str | None = None,
         resource_types: collections.abc.Collection[str] | None = None
         ) -> list[Row]:
    """A page of namespaces that the caller may see.

    :param resource_types: those of which one at least is associated
    """
    condition, values = _seen(scope)
    query = _SELECT.where(condition)
    if visibility is not None:
        query = query.where(_NAMESPACES.c.visibility == visibility)
    if resource_types is not None:
        query = query.where(_NAMESPACES.c.id.in_(
            sa.select(_OF_TYPE.c.namespace_id).join_from(_OF_TYPE, _TYPES)
            .where(spelling.among(_TYPES.c.name, resource_types))))
    return _paged(conn, query, _NAMESPACES, wanted, values)


def page_of(conn: sa.Connection, part: Part, namespace_id: int,
            wanted: Page) -> list[Row]:
    """A page of one kind of what a namespace holds."""
    query = part.select.where(part.table.c.namespace_id == namespace_id)
    return _paged(conn, query, part.table, wanted, {})


def _paged(conn: sa.Connection, query: sa.Select, table: sa.Table,
           wanted: Page, values: Row) -> list[Row]:
    """In the order that Glance has: the key, when it was made, its id."""
    keys = list(dict.fromkeys([wanted.sort_key, 'created_at', 'id']))
    columns = [_sortable(table, key) for key in keys]
    ascending = wanted.sort_dir == 'asc'
    if wanted.after is not None:
        query = query.where(_behind(columns, [
            _sorted_as(table, key, wanted.after) for key in keys], ascending))
    query = query.order_by(*(
        column.asc() if ascending else column.desc() for column in columns))
    if wanted.limit is not None:
        query = query.limit(wanted.limit)
    return [dict(row._mapping) for row in conn.execute(query, values)]


def _sortable(table: sa.Table, key: str) -> sa.ColumnElement[typing.Any]:
    """The column in a form that servers compare, NULL too."""
    column = table.c[key]
    if isinstance(column.type, sa.Boolean):
        return sa.case((column, 1), else_=0)
    if not column.nullable:
        return column
    return sa.func.coalesce(column, table.c.created_at
                            if key == 'updated_at' else '')


def _sorted_as(table: sa.Table, key: str, row: Row) -> typing.Any:
    if isinstance(table.c[key].type, sa.Boolean):
        return int(bool(row[key]))
    if row[key] is None:
        return row['created_at'] if key == 'updated_at' else ''
    return row[key]


def _behind(columns: list[sa.ColumnElement[typing.Any]],
            values: list[typing.Any], ascending: bool
            ) -> sa.ColumnElement[bool]:
    """Strictly behind the values, in the order of the columns."""
    alternatives = []
    equal: list[sa.ColumnElement[bool]] = []
    for column, value in zip(columns, values):
        further = column > value if ascending else column < value
        alternatives.append(sa.and_(*equal, further))
        equal.append(column == value)
    return sa.or_(*alternatives)


def insert(conn: sa.Connection, values: Row) -> int:
    """A new namespace; its id.

    :raises oslo_db.exception.DBDuplicateEntry: there is one of that name
    """
    now = engine.utcnow()
    done = conn.execute(sa.insert(_NAMESPACES).values(
        **values, created_at=now, updated_at=now))
    key: typing.Any = done.inserted_primary_key
    return key[0]


def update(conn: sa.Connection, namespace_id: int, values: Row) -> None:
    """Change a namespace.

    :raises oslo_db.exception.DBDuplicateEntry: there is one of that name
    """
    conn.execute(_UPDATE, {'b_id': namespace_id,
                           'updated_at': engine.utcnow(), **values})


def delete(conn: sa.Connection, namespace_id: int) -> None:
    """Delete a namespace with all that it holds."""
    for part in PARTS:
        remove_all(conn, part, namespace_id)
    conn.execute(_DELETE, {'b_id': namespace_id})


def parts(conn: sa.Connection, part: Part,
          ids: collections.abc.Collection[int]) -> dict[int, list[Row]]:
    """What each of the namespaces holds of one kind, the oldest first."""
    found: dict[int, list[Row]] = collections.defaultdict(list)
    if ids:
        for row in conn.execute(part.of_many, {'b_ids': list(ids)}):
            found[row.namespace_id].append(dict(row._mapping))
    return found


def get(conn: sa.Connection, part: Part, namespace_id: int,
        name: str) -> Row | None:
    """One of what a namespace holds."""
    return _row(conn.execute(part.one, {
        'b_namespace': namespace_id, 'b_name': name}).first())


def add(conn: sa.Connection, part: Part, namespace_id: int,
        rows: collections.abc.Sequence[Row], *,
        protected: bool = False) -> None:
    """New rows; resource types that are not there yet are made.

    :param protected: whether resource types that are made are Glance's own
    :raises oslo_db.exception.DBDuplicateEntry: one of that name is there
    :raises SpelledAlike: a resource type is another to this database
    """
    if not rows:
        return
    now = engine.utcnow()
    fixed = {'namespace_id': namespace_id, 'created_at': now,
             'updated_at': now}
    if part.is_association:
        ids = _type_ids(conn, {row['name'] for row in rows}, protected)
        rows = [{**row, 'resource_type_id': ids[row['name']]} for row in rows]
    conn.execute(sa.insert(part.table), [
        _own(part, {**row, **fixed}) for row in rows])


def _own(part: Part, values: Row) -> Row:
    """Without what is no column of the table."""
    return {name: value for name, value in values.items()
            if name in part.table.c}


def _type_ids(conn: sa.Connection, wanted: set[str], protected: bool
              ) -> dict[str, int]:
    found = _known_types(conn, wanted)
    # Sorted, so that two that make the same wait rather than deadlock.
    for name in sorted(wanted - found.keys()):
        try:
            with conn.begin_nested():
                conn.execute(sa.insert(_TYPES).values(
                    name=name, protected=protected,
                    created_at=engine.utcnow(), updated_at=engine.utcnow()))
        except db_exc.DBDuplicateEntry:
            # Somebody else has made it just now.
            continue
    found = _known_types(conn, wanted)
    for name in wanted - found.keys():
        raise SpelledAlike(name)
    return found


def _known_types(conn: sa.Connection, wanted: set[str]) -> dict[str, int]:
    return {row.name: row.id for row in conn.execute(
        _TYPE_IDS, {'b_names': sorted(wanted)}) if row.name in wanted}


def change(conn: sa.Connection, part: Part, row: Row, values: Row) -> None:
    """Give a row that was read other values; an association keeps its name.

    :raises oslo_db.exception.DBDuplicateEntry: one of that name is there
    """
    conn.execute(sa.update(part.table).where(*part.key(row)).values(
        **_own(part, values), updated_at=engine.utcnow()))


def remove(conn: sa.Connection, part: Part, row: Row) -> None:
    """Delete a row that was read."""
    conn.execute(sa.delete(part.table).where(*part.key(row)))


def remove_all(conn: sa.Connection, part: Part, namespace_id: int) -> None:
    """Delete all of one kind that a namespace holds."""
    conn.execute(sa.delete(part.table).where(
        part.table.c.namespace_id == namespace_id))


def resource_types(conn: sa.Connection) -> list[Row]:
    """Every resource type, the oldest first."""
    return [dict(row._mapping) for row in conn.execute(_ALL_TYPES)]


def remove_unused_types(conn: sa.Connection) -> None:
    """Delete the resource types that no namespace is associated with."""
    conn.execute(sa.delete(_TYPES).where(
        _TYPES.c.id.not_in(sa.select(_OF_TYPE.c.resource_type_id))))
