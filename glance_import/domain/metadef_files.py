"""Metadata definitions as files: one namespace each, as Glance ships them.

Files are loaded all together or not at all, and what is exported loads again.
Touches the database and the files that it is told.
"""

from __future__ import annotations

import collections.abc
import copy
import json
import os
import pathlib
import re
import sys
import typing

from glance_import.db import engine
from glance_import.db import metadefs as db_metadefs
from glance_import.domain import import_properties
from glance_import.domain import metadef_kinds as kinds
from glance_import.domain import metadefs
from glance_import.domain import records
from glance_import import errors

# Where packages of Glance put its definitions; pip, below its environment.
PLACES = ('/etc/glance/metadefs',
          os.path.join(sys.prefix, 'etc', 'glance', 'metadefs'))
# The project that owns what does not say whose it is, as in Glance.
OWNER = 'admin'
# What is done with a namespace that is there already.
KEEP, MERGE, PREFER_NEW, OVERWRITE = MODES = (
    'keep', 'merge', 'prefer-new', 'overwrite')
_DIRECT = ('namespace', 'display_name', 'description', 'visibility',
           'protected')

Json = kinds.Json


class _File(typing.NamedTuple):
    """A namespace of a file, as rows."""

    path: str
    row: metadefs.Row
    held: list[tuple[kinds.Kind, list[metadefs.Row]]]


def default_directory() -> str:
    """Where Glance's definitions are on this host.

    :raises errors.Invalid: there are none
    """
    for place in PLACES:
        if os.path.isdir(place):
            return place
    raise errors.Invalid(
        'There is no directory of definitions at ' + ' or '.join(PLACES)
        + '; name the one to load.')


def read(path: str) -> list[_File]:
    """The definitions of a file, or of each ``*.json`` of a directory.

    :raises errors.Invalid: naming the file and what is wrong with it
    """
    try:
        files = ([path] if not os.path.isdir(path) else
                 [os.path.join(path, name) for name
                  in sorted(os.listdir(path)) if name.endswith('.json')
                  and os.path.isfile(os.path.join(path, name))])
    except OSError as failure:
        raise errors.Invalid(f'{path}: {failure.strerror}.') from failure
    if not files:
        raise errors.Invalid(f'{path} holds no file whose name ends in .json.')
    found: dict[str, tuple[str, _File]] = {}
    for name in files:
        each = _read(name)
        other = found.setdefault(each.row['namespace'], (name, each))
        if other[0] != name:
            raise errors.Invalid(
                f'{name}: the namespace {each.row["namespace"]} is defined '
                f'in {other[0]} too.')
    return [each for _name, each in found.values()]


def _read(path: str) -> _File:
    try:
        # Not open(): what is no file, such as a pipe, would be waited for.
        if not os.path.isfile(path):
            raise errors.Invalid('it is not there, or no file.')
        value = records.parse(pathlib.Path(path).read_bytes(), 'the file')
        return _rows(path, _without_nulls(value))
    except OSError as failure:
        raise errors.Invalid(f'{path}: {failure.strerror}.') from failure
    except errors.DomainError as failure:
        raise errors.Invalid(f'{path}: {failure}') from failure


def _without_nulls(value: typing.Any) -> typing.Any:
    """Without attributes that Glance exports as null: they are not there."""
    if not isinstance(value, dict):
        return value
    kept = {name: item for name, item in value.items() if item is not None}
    for kind in (kinds.OBJECT, kinds.TAG, kinds.ASSOCIATION):
        if isinstance(kept.get(kind.key), list):
            kept[kind.key] = [_without_nulls(each) for each
                              in kept[kind.key]]
    return kept


def _rows(path: str, value: Json) -> _File:
    # Kept as the file has it.
    kinds.check(kinds.NAMESPACE, copy.deepcopy(value), is_new=False)
    row = {**kinds.namespace_row(value, OWNER, is_new=False),
           'visibility': value.get('visibility'),
           'protected': value.get('protected')}
    return _File(path, row, [
        (kind, kinds.part_rows(kind, value, is_new=False))
        for kind in kinds.PARTS])


def load(database: engine.Database, path: str, mode: str = KEEP
         ) -> dict[str, list[str]]:
    """Put the definitions of files into the database.

    :param mode: what is done with a namespace that is there: it stays as it
        is; what it lacks is added; that, and what it has is changed; or it
        goes, and a new one comes
    :return: names of namespaces, by what was done: loaded, changed, kept
    :raises errors.Invalid: naming the file and what is wrong with it
    :raises errors.Conflict: two names are one to this database
    """
    return _load(database, read(path), mode)


@engine.retried
def _load(database: engine.Database, files: list[_File], mode: str
          ) -> dict[str, list[str]]:
    done: dict[str, list[str]] = {'loaded': [], 'changed': [], 'kept': []}
    try:
        with database.write() as conn:
            for file in files:
                try:
                    what = _put(conn, file, mode)
                except errors.Conflict as failure:
                    raise errors.Conflict(f'{file.path}: {failure}'
                                          ) from failure
                done[what].append(file.row['namespace'])
    except engine.ERRORS as failure:
        if not engine.is_bad_value(failure):
            raise
        raise errors.Invalid(
            'The database cannot keep a definition: '
            f'{engine.one_line(failure)[:300]}') from failure
    return done


def _put(conn: typing.Any, file: _File, mode: str) -> str:
    found = db_metadefs.find(conn, file.row['namespace'],
                             db_metadefs.EVERYTHING)
    if found is not None and mode == KEEP:
        return 'kept'
    if found is not None and mode == OVERWRITE:
        db_metadefs.delete(conn, found['id'])
    if found is None or mode == OVERWRITE:
        metadefs.insert(conn, file.row, file.held, protected=True)
        return 'loaded' if found is None else 'changed'
    db_metadefs.lock(conn, found['id'])
    if mode == PREFER_NEW:
        db_metadefs.update(conn, found['id'], file.row)
    for kind, rows in file.held:
        _merge(conn, kind, found, rows, mode == PREFER_NEW)
    return 'changed'


def _merge(conn: typing.Any, kind: kinds.Kind, namespace: metadefs.Row,
           rows: list[metadefs.Row], changes: bool) -> None:
    there = {row['name']: row for row in db_metadefs.parts(
        conn, kind.rows, [namespace['id']]).get(namespace['id'], [])}
    metadefs.add_rows(conn, kind, namespace, [
        row for row in rows if row['name'] not in there], protected=True)
    for row in rows if changes else ():
        if row['name'] in there:
            db_metadefs.change(conn, kind.rows, there[row['name']], row)


@engine.retried
def unload(database: engine.Database,
           names: collections.abc.Collection[str] = ()) -> list[str]:
    """Delete namespaces with all that they hold, protected ones too.

    :param names: which; none means all, and all resource types with them
    :return: their names
    :raises errors.NotFound: there is none of such a name
    """
    with database.write() as conn:
        wanted = list(dict.fromkeys(names)) or db_metadefs.names(conn)
        for name in wanted:
            found = db_metadefs.find(conn, name, db_metadefs.EVERYTHING)
            if found is None:
                raise errors.NotFound(
                    f'No namespace found with the name {name[:100]}')
            db_metadefs.delete(conn, found['id'])
        if not names:
            db_metadefs.remove_unused_types(conn)
    return wanted


def export(database: engine.Database, directory: str) -> list[str]:
    """Write each namespace to a file of its own; the files.

    :raises errors.Invalid: one of them cannot be written
    """
    written: list[str] = []
    with database.read() as conn:
        for name in db_metadefs.names(conn):
            found = db_metadefs.find(conn, name, db_metadefs.EVERYTHING)
            if found is None:
                continue
            text = json.dumps(_exported(conn, found), indent=4) + '\n'
            path = _path(directory, name, written)
            try:
                os.makedirs(directory, exist_ok=True)
                pathlib.Path(path).write_text(text)
            except OSError as failure:
                raise errors.Invalid(
                    f'{path}: {failure.strerror}.') from failure
            written.append(path)
    return written


def _path(directory: str, name: str, taken: list[str]) -> str:
    """A file name that says which namespace it is, and is nobody else's."""
    stem = re.sub(r'[^A-Za-z0-9_-]+', '-', name).strip('-') or 'namespace'
    path, number = os.path.join(directory, f'{stem}.json'), 1
    while path in taken:
        number += 1
        path = os.path.join(directory, f'{stem}-{number}.json')
    return path


def _exported(conn: typing.Any, namespace: metadefs.Row) -> Json:
    value = _given(namespace, *_DIRECT)
    if namespace['owner'] != OWNER:
        value['owner'] = namespace['owner']
    for kind in kinds.PARTS:
        rows = db_metadefs.parts(conn, kind.rows, [namespace['id']]).get(
            namespace['id'])
        if rows and kind.is_keyed:
            value[kind.key] = {row['name']: kinds.definition(row)
                               for row in rows}
        elif rows:
            value[kind.key] = [_exported_part(kind, row) for row in rows]
    return value


def _exported_part(kind: kinds.Kind, row: metadefs.Row) -> Json:
    if kind is not kinds.OBJECT:
        return _given(row, *(name for name in kind.described
                             if name not in kind.read_only))
    value = _given(row, 'name', 'description')
    if row['required']:
        value['required'] = row['required'].split(',')
    return {**value, 'properties': kinds.definition(row)}


def _given(row: metadefs.Row, *names: str) -> Json:
    return {name: row[name] for name in names if row[name] is not None}


def seed(database: engine.Database) -> bool:
    """Load this service's own namespace where there is none at all.

    Horizon's dialogs cannot do with an empty list.

    :return: whether that was so
    """
    with database.read() as conn:
        if not db_metadefs.is_empty(conn):
            return False
    try:
        own = _rows('import_properties', import_properties.NAMESPACE)
        return bool(_load(database, [own], KEEP)['loaded'])
    except errors.Conflict:
        # Somebody else has done it just now.
        return False
