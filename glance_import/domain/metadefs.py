"""Metadata definitions: finding, creating, changing and deleting them.

What is asked of whom, and what a client may say, is in ``metadef_kinds``;
here is what happens to the rows. Each change is one transaction.
"""

from __future__ import annotations

import collections.abc
import contextlib
import typing

from oslo_db import exception as db_exc

from glance_import import context
from glance_import.db import engine
from glance_import.db import metadefs as db_metadefs
from glance_import.domain import images
from glance_import.domain import metadef_kinds as kinds
from glance_import import errors

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import import services

# What callers are given and give.
Row = db_metadefs.Row
Page = db_metadefs.Page


def _no_namespace(name: str) -> errors.NotFound:
    return errors.NotFound(f'No namespace found with the name {name[:100]}')


def _no_part(kind: kinds.Kind, name: str, namespace: Row) -> errors.NotFound:
    return errors.NotFound(
        f'No {kind.title} found with the name {name[:100]} in the namespace '
        f"{namespace['namespace']}")


def find(services: services.Services, ctx: context.RequestContext,
         name: str) -> Row:
    """The namespace, when it is there and the caller may see it.

    :raises errors.NotFound: absent, or not to be seen
    """
    with services.db.read() as conn:
        found = db_metadefs.find(conn, name, images.scope(ctx))
    if found is None:
        raise _no_namespace(name)
    return found


def target(namespace: Row) -> dict[str, typing.Any]:
    """The namespace as policy rules see it."""
    return {'project_id': namespace['owner'],
            'visibility': namespace['visibility']}


def page(services: services.Services, ctx: context.RequestContext,
         wanted: Page, *, marker: str | None, visibility: str | None,
         resource_types: collections.abc.Collection[str] | None
         ) -> tuple[list[Row], dict[int, list[Row]]]:
    """A page of namespaces, and the associations of each by its id.

    :param marker: name of the namespace that it is behind
    :raises errors.NotFound: an unknown marker
    """
    scope = images.scope(ctx)
    with services.db.read() as conn:
        if marker is not None:
            after = db_metadefs.find(conn, marker, scope)
            if after is None:
                raise _no_namespace(marker)
            wanted = _behind(wanted, after)
        found = db_metadefs.page(conn, scope, wanted, visibility=visibility,
                                 resource_types=resource_types)
        return found, db_metadefs.parts(
            conn, db_metadefs.ASSOCIATIONS, [row['id'] for row in found])


def _behind(wanted: Page, after: Row) -> Page:
    return Page(wanted.sort_key, wanted.sort_dir, wanted.limit, after)


def contents(services: services.Services, namespace: Row
             ) -> dict[str, list[Row]]:
    """All that a namespace holds, by the key of its kind."""
    with services.db.read() as conn:
        return {kind.key: db_metadefs.parts(
            conn, kind.rows, [namespace['id']]).get(namespace['id'], [])
            for kind in kinds.PARTS}


def parts(services: services.Services, kind: kinds.Kind, namespace: Row
          ) -> list[Row]:
    """All of one kind that a namespace holds, the oldest first."""
    with services.db.read() as conn:
        return db_metadefs.parts(conn, kind.rows, [namespace['id']]).get(
            namespace['id'], [])


def page_of(services: services.Services, kind: kinds.Kind, namespace: Row,
            wanted: Page, marker: str | None) -> list[Row]:
    """A page of one kind of what a namespace holds.

    :raises errors.NotFound: an unknown marker
    """
    if marker is not None:
        wanted = _behind(wanted, get(services, kind, namespace, marker))
    with services.db.read() as conn:
        return db_metadefs.page_of(conn, kind.rows, namespace['id'], wanted)


def get(services: services.Services, kind: kinds.Kind, namespace: Row,
        name: str) -> Row:
    """One of what a namespace holds.

    :raises errors.NotFound: there is none of that name
    """
    with services.db.read() as conn:
        found = db_metadefs.get(conn, kind.rows, namespace['id'], name)
    if found is None:
        raise _no_part(kind, name, namespace)
    return found


def resource_types(services: services.Services) -> list[Row]:
    """Every resource type, whatever is associated with it."""
    with services.db.read() as conn:
        return db_metadefs.resource_types(conn)


def create(services: services.Services, ctx: context.RequestContext,
           body: kinds.Json) -> Row:
    """A new namespace with all that it is to hold, or nothing of it.

    :param body: as ``kinds.check`` returns it
    :raises errors.Invalid: a value that cannot be kept
    :raises errors.Conflict: there is one of that name, or it is to hold two
        of one name
    """
    row = kinds.namespace_row(body, ctx.project_id)
    if row['owner'] is None:
        raise errors.Forbidden(
            'Your token is for no project, and a namespace has an owner.')
    held = [(kind, kinds.part_rows(kind, body)) for kind in kinds.PARTS]
    return _create(services, row, held)


@engine.retried
def _create(services: services.Services, row: Row,
            held: list[tuple[kinds.Kind, list[Row]]]) -> Row:
    with services.db.write() as conn:
        made = insert(conn, row, held)
        found = db_metadefs.lock(conn, made)
    assert found is not None
    return found


def insert(conn: sa.Connection, row: Row,
           held: list[tuple[kinds.Kind, list[Row]]], *,
           protected: bool = False) -> int:
    """The same in a transaction of the caller's; the namespace's id.

    :param protected: whether resource types that are made are Glance's own
    """
    with _unique(kinds.NAMESPACE, row['namespace']):
        made = db_metadefs.insert(conn, row)
    for kind, rows in held:
        add_rows(conn, kind, {**row, 'id': made}, rows, protected=protected)
    return made


def add_rows(conn: sa.Connection, kind: kinds.Kind, namespace: Row,
             rows: list[Row], *, protected: bool = False) -> None:
    """The same of what a namespace holds.

    :raises errors.Conflict: one of that name is there
    """
    with _unique(kind, ', '.join(row['name'] for row in rows),
                 namespace['namespace']):
        db_metadefs.add(conn, kind.rows, namespace['id'], rows,
                        protected=protected)


@contextlib.contextmanager
def _unique(kind: kinds.Kind, name: str, namespace: str | None = None
            ) -> collections.abc.Iterator[None]:
    """:raises errors.Conflict: the name is one that is there already"""
    where = '' if namespace is None else f' in the namespace {namespace}'
    try:
        yield
    except db_metadefs.SpelledAlike as failure:
        raise errors.Conflict(
            f'To the database of this service the {kind.title} {failure} is '
            'another one, spelled otherwise, that is there already.'
        ) from failure
    except db_exc.DBDuplicateEntry as failure:
        raise errors.Conflict(
            f'A {kind.title} of this name already exists{where}: '
            f'{name[:300]}.') from failure


@engine.retried
def update(services: services.Services, namespace: Row, row: Row) -> Row:
    """Give a namespace other values; it holds what it held.

    :param row: as ``kinds.namespace_row`` makes it
    :raises errors.NotFound: it was deleted meanwhile
    :raises errors.Conflict: there is one of that name
    """
    with services.db.write() as conn:
        _lock(conn, namespace)
        with _unique(kinds.NAMESPACE, row['namespace']):
            db_metadefs.update(conn, namespace['id'], row)
        return _lock(conn, namespace)


def _lock(conn: sa.Connection, namespace: Row) -> Row:
    found = db_metadefs.lock(conn, namespace['id'])
    if found is None:
        raise _no_namespace(namespace['namespace'])
    return found


def _require_open(namespace: Row, what: str) -> None:
    if namespace['protected']:
        raise errors.Forbidden(
            f"The namespace {namespace['namespace']} is protected, so {what} "
            'cannot be deleted.')


@engine.retried
def delete(services: services.Services, namespace: Row) -> None:
    """Delete a namespace with all that it holds.

    :raises errors.Forbidden: it is protected
    :raises errors.NotFound: it was deleted meanwhile
    :raises errors.Conflict: something that is not ours refers to it
    """
    with services.db.write() as conn:
        _require_open(_lock(conn, namespace), 'it')
        try:
            db_metadefs.delete(conn, namespace['id'])
        except db_exc.DBReferenceError as failure:
            raise errors.Conflict(
                f"The namespace {namespace['namespace']} cannot be deleted: "
                'something has just been added to it.') from failure


@engine.retried
def add(services: services.Services, kind: kinds.Kind, namespace: Row,
        rows: list[Row], *, replace: bool = False) -> None:
    """Put rows into a namespace: all of them, or none.

    :param rows: as ``kinds.part_row`` makes them
    :param replace: whether those that are there go, if any come
    :raises errors.NotFound: the namespace was deleted meanwhile
    :raises errors.Conflict: one of that name is there
    """
    if not rows:
        return
    with services.db.write() as conn:
        _lock(conn, namespace)
        if replace:
            db_metadefs.remove_all(conn, kind.rows, namespace['id'])
        add_rows(conn, kind, namespace, rows)


@engine.retried
def change(services: services.Services, kind: kinds.Kind, namespace: Row,
           name: str, row: Row) -> Row:
    """Give one of what a namespace holds other values.

    :param row: as ``kinds.part_row`` makes it
    :raises errors.NotFound: it is not there
    :raises errors.Conflict: one of that name is there
    """
    with services.db.write() as conn:
        _lock(conn, namespace)
        found = _get(conn, kind, namespace, name)
        with _unique(kind, row['name'], namespace['namespace']):
            db_metadefs.change(conn, kind.rows, found, row)
        return _get(conn, kind, namespace, row['name'])


def _get(conn: sa.Connection, kind: kinds.Kind, namespace: Row, name: str
         ) -> Row:
    found = db_metadefs.get(conn, kind.rows, namespace['id'], name)
    if found is None:
        raise _no_part(kind, name, namespace)
    return found


@engine.retried
def remove(services: services.Services, kind: kinds.Kind, namespace: Row,
           name: str) -> None:
    """Delete one of what a namespace holds.

    :raises errors.Forbidden: the namespace is protected
    :raises errors.NotFound: it is not there
    """
    with services.db.write() as conn:
        locked = _lock(conn, namespace)
        found = _get(conn, kind, namespace, name)
        _require_open(locked, f'its {kind.title} {name[:100]}')
        db_metadefs.remove(conn, kind.rows, found)


@engine.retried
def remove_all(services: services.Services, kind: kinds.Kind, namespace: Row
               ) -> None:
    """Delete all of one kind that a namespace holds.

    :raises errors.Forbidden: the namespace is protected
    :raises errors.NotFound: it was deleted meanwhile
    """
    with services.db.write() as conn:
        _require_open(_lock(conn, namespace), f'its {kind.plural}')
        db_metadefs.remove_all(conn, kind.rows, namespace['id'])
