"""Images with their properties, tags and locations.

Every function takes a connection whose transaction the caller owns. A change
writes only what it changes, and a status moves only by a conditional UPDATE,
so nobody's change is undone by somebody else's save. Whoever changes
properties touches the image's row first: its row lock puts two writers of
one image in order on every database.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import json
import operator
import typing

import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import names
from glance_import.db import spelling
from glance_import.db import tables
from glance_import import states

Columns = tables.images.c


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """Whose eyes look: what a query may return at all."""

    project_id: str | None
    is_admin: bool = False


# For the service itself, whoever asked was judged before.
EVERYTHING = Scope(None, True)


class Location(typing.NamedTuple):
    """Where bytes of an image are: a URI and what the store said of it."""

    url: str
    metadata: dict[str, typing.Any]
    status: str = states.ACTIVE


class Image(typing.NamedTuple):
    """One image as the database has it. Times are naive UTC.

    A tuple, since pages are made of many.
    """

    id: str
    name: str | None
    status: str
    visibility: str
    owner: str | None
    disk_format: str | None
    container_format: str | None
    size: int | None
    virtual_size: int | None
    checksum: str | None
    os_hash_algo: str | None
    os_hash_value: str | None
    min_disk: int
    min_ram: int
    protected: bool
    os_hidden: bool
    created_at: datetime.datetime
    updated_at: datetime.datetime
    properties: dict[str, str | None]
    tags: tuple[str, ...]
    locations: tuple[Location, ...]


class ImageParts(typing.NamedTuple):
    """Of one image, as its rows are read; locations with their numbers."""

    properties: dict[str, str | None]
    tags: list[str]
    locations: list[tuple[int, Location]]


_BASE = Image._fields[:Image._fields.index('properties')]
# As text, which it is: the type's own check of every row takes its time.
_TEXT = sa.type_coerce(Columns.visibility, sa.String).label('visibility')
SELECT = sa.select(*(_TEXT if name == 'visibility' else Columns[name]
                     for name in _BASE))
_LIVE = Columns.deleted == sa.false()
_INSERT = sa.insert(tables.images)
_INSERT_TAGS = sa.insert(tables.image_tags)


def _visible(project: sa.ColumnElement[str] | None
             ) -> sa.ColumnElement[bool]:
    """What somebody of ``project`` may see by id.

    More than lists show (glance_import.db.listing): also others' community
    images and those whose sharing is still pending.
    """
    members = tables.image_members.c
    conditions: list[sa.ColumnElement[bool]] = [
        Columns.visibility.in_(('public', 'community'))]
    if project is not None:
        conditions += [
            sa.and_(Columns.visibility == 'shared', sa.exists().where(
                members.image_id == Columns.id,
                spelling.exactly(members.member, project),
                members.deleted == sa.false())),
            spelling.exactly(Columns.owner, project)]
    return sa.or_(*conditions)


# Statements are made once: making one costs as much as running it.
_BY_ID = SELECT.where(Columns.id == sa.bindparam('image'), _LIVE)
_OF_PROJECT = _BY_ID.where(_visible(sa.bindparam('project')))
_OF_NOBODY = _BY_ID.where(_visible(None))
# What these are given is named b_...: a column's name is a value to write.
_UPDATE = sa.update(tables.images).where(
    Columns.id == sa.bindparam('b_image'), _LIVE)
_UPDATE_FROM = _UPDATE.where(Columns.status == sa.bindparam('b_expected'))
_UPDATE_FROM_ANY = _UPDATE.where(
    Columns.status.in_(sa.bindparam('b_expected', expanding=True)))
_STATUS = sa.select(Columns.status, Columns.deleted).where(
    Columns.id == sa.bindparam('b_image'))
_INSERT_LOCATION = sa.insert(tables.image_locations)
_PROPERTY = tables.image_properties.c
_OF_IMAGE = _PROPERTY.image_id == sa.bindparam('b_image')
_PROPERTIES = sa.select(_PROPERTY.name, _PROPERTY.value).where(
    _OF_IMAGE, _PROPERTY.deleted == sa.false())
_SET_OWN = sa.update(tables.image_properties).where(
    _OF_IMAGE, _PROPERTY.name == sa.bindparam('b_name'))
_SET = _SET_OWN.where(sa.or_(
    _PROPERTY.deleted == sa.true(),
    spelling.is_spelled(_PROPERTY.name, sa.bindparam('b_name'))))
_DROP = sa.update(tables.image_properties).where(
    _OF_IMAGE, spelling.exactly(_PROPERTY.name, sa.bindparam('b_name')),
    _PROPERTY.deleted == sa.false())
_DROP_EXPECTED = _DROP.where(
    spelling.exactly(_PROPERTY.value, sa.bindparam('b_expected')))


_PART = ('kind', 'image_id', 'id', 'deleted', 'one', 'two', 'three')


def _parts(which: typing.Callable[[sa.Column], sa.ColumnElement[bool]],
           before: collections.abc.Sequence[str] = ()) -> list[sa.Select]:
    """Properties, tags and locations of images, in columns of one kind.

    Removed rows are few and skipped by whoever reads this. A condition on
    them would have SQLite read every row that is not removed, by Glance's
    index on that.

    :param before: names of empty columns to put in front
    """
    def part(kind: str, table: sa.Table, *columns: typing.Any) -> sa.Select:
        return sa.select(
            *(sa.null().label(name) for name in before),
            sa.literal_column(f"'{kind}'").label('kind'), table.c.image_id,
            table.c.id, table.c.deleted,
            *(sa.cast(column, sa.Text).label(label) for column, label
              in zip(columns, _PART[-3:]))
        ).where(which(table.c.image_id))
    nothing = sa.null()
    properties, tags, locations = (
        tables.image_properties, tables.image_tags, tables.image_locations)
    return [
        part('property', properties, properties.c.name, properties.c.value,
             nothing),
        part('tag', tags, tags.c.value, nothing, nothing),
        part('location', locations, locations.c.value,
             locations.c.meta_data, locations.c.status)]


_PARTS_OF_MANY = sa.union_all(*_parts(
    lambda column: column.in_(sa.bindparam('ids', expanding=True))))
# One value for all of them: SQLAlchemy writes a list of many into the
# statement anew each time, which takes longer than SQLite's whole answer.
_PARTS_OF_LIST = sa.union_all(*_parts(
    lambda column: column.in_(sa.select(sa.func.json_each(
        sa.bindparam('ids', type_=sa.String)).table_valued('value').c.value))))


def _whole(statement: sa.Select) -> sa.CompoundSelect:
    """One image, and in rows of their own its parts: a round trip less.

    The image's columns come first in each row, those of a part behind them.
    """
    return sa.union_all(
        statement.add_columns(*(sa.null().label(name) for name in _PART)),
        *_parts(lambda column: column == sa.bindparam('image'), _BASE))


_WHOLE = {statement: _whole(statement)
          for statement in (_BY_ID, _OF_PROJECT, _OF_NOBODY)}


def assemble(conn: sa.Connection, rows: typing.Sequence[sa.Row]
             ) -> list[Image]:
    """Add properties, tags and locations: one query for any number."""
    ids = [row.id for row in rows]
    if not ids:
        return []
    found = (conn.execute(_PARTS_OF_LIST, {'ids': json.dumps(ids)})
             if conn.dialect.name == 'sqlite' else
             conn.execute(_PARTS_OF_MANY, {'ids': ids})).all()
    return _assembled(rows, found)


def _assembled(rows: typing.Sequence[typing.Sequence],
               parts: typing.Iterable[typing.Sequence]) -> list[Image]:
    parts_of = {row[0]: ImageParts({}, [], []) for row in rows}
    for kind, image_id, number, deleted, one, two, three in parts:
        if deleted:
            continue
        of_image = parts_of[image_id]
        if kind == 'property':
            of_image.properties[one] = two
        elif kind == 'tag':
            of_image.tags.append(one)
        else:
            of_image.locations.append(
                (number, Location(one, metadata(two), three)))
    return [_image(row, parts_of[row[0]]) for row in rows]


def _image(row: typing.Sequence, parts: ImageParts) -> Image:
    locations = tuple(place for _, place in sorted(
        parts.locations, key=operator.itemgetter(0)))
    return Image(*row, parts.properties,  # type: ignore[call-arg]
                 tuple(sorted(parts.tags)), locations)


def metadata(value: typing.Any) -> dict[str, typing.Any]:
    """The JSON of a location; Glance has written it as text and as null."""
    if isinstance(value, str):
        value = tables.from_json(value or '{}')
    return dict(value or {})


def get(conn: sa.Connection, image_id: str, scope: Scope) -> Image | None:
    """The image, or None when it is absent or not to be seen."""
    statement, values = _seen_by(image_id, scope)
    size = len(_BASE)
    own, parts = None, []
    for found in conn.execute(_WHOLE[statement], values).all():
        if found[size] is None:
            own = found[:size]
        else:
            parts.append(found[size:])
    return _assembled([own], parts)[0] if own is not None else None


def row(conn: sa.Connection, image_id: str, scope: Scope) -> sa.Row | None:
    """Its own columns alone."""
    return conn.execute(*_seen_by(image_id, scope)).first()


def _seen_by(image_id: str, scope: Scope
             ) -> tuple[sa.Select, dict[str, str]]:
    if scope.is_admin:
        return _BY_ID, {'image': image_id}
    if scope.project_id is None:
        return _OF_NOBODY, {'image': image_id}
    return _OF_PROJECT, {'image': image_id, 'project': scope.project_id}


def is_member(conn: sa.Connection, image_id: str,
              project_id: str | None) -> bool:
    """Whether the image is shared with the project."""
    table = tables.image_members.c
    return conn.execute(sa.select(sa.literal(1)).where(
        table.image_id == image_id,
        spelling.exactly(table.member, project_id),
        table.deleted == sa.false())).first() is not None


def of_status(conn: sa.Connection, status: str, *, after: str, limit: int
              ) -> list[Image]:
    """Images of a status whose id is behind ``after``, by id."""
    return assemble(conn, conn.execute(
        SELECT.where(Columns.id > after, Columns.status == status, _LIVE)
        .order_by(Columns.id).limit(limit)).all())


def status(conn: sa.Connection, image_id: str) -> str | None:
    """The status, ``deleted`` of a deleted image, None of an unknown id."""
    row = conn.execute(_STATUS, {'b_image': image_id}).first()
    if row is None:
        return None
    return states.DELETED if row.deleted else row.status


def insert(conn: sa.Connection, values: dict[str, typing.Any],
           properties: collections.abc.Mapping[str, str | None],
           tags: collections.abc.Iterable[str]) -> Image:
    """A new image row with its properties and tags; what it is then.

    :param values: every column but the times
    :raises oslo_db.exception.DBDuplicateEntry: the id was used before
    :raises errors.Conflict: two names are one to the database
    """
    now = engine.utcnow()
    common = {'created_at': now, 'updated_at': now, 'deleted': False}
    image_id, tags = values['id'], sorted(set(tags))
    conn.execute(_INSERT, {**values, **common})
    if properties:
        names.insert(conn, [
            {'image_id': image_id, 'name': name, 'value': value, **common}
            for name, value in properties.items()])
    if tags:
        conn.execute(_INSERT_TAGS, [
            {'image_id': image_id, 'value': value, **common}
            for value in tags])
    unset = dict.fromkeys(_BASE)
    return Image(**{**unset, **values, 'created_at': now, 'updated_at': now},
                 properties=dict(properties), tags=tuple(tags), locations=())


def move(conn: sa.Connection, image_id: str,
         expected: str | collections.abc.Collection[str], target: str,
         **changes: typing.Any) -> bool:
    """Compare-and-swap the status; False when another status was found.

    Entering ``queued`` clears the sizes, as Glance does.

    :raises states.NoSuchMove: the table of moves does not have it
    """
    if isinstance(expected, str):
        expected = (expected,)
    states.check(expected, target)
    if target == states.QUEUED:
        changes = {'size': None, 'virtual_size': None, **changes}
    if target in (states.DELETED, states.PENDING_DELETE):
        changes['deleted'] = True
        changes['deleted_at'] = engine.utcnow()
    return _update(conn, image_id, expected, status=target, **changes)


def update(conn: sa.Connection, image_id: str,
           expected: collections.abc.Collection[str] | None = None,
           **changes: typing.Any) -> bool:
    """Change columns other than the status; also locks the row.

    With no ``changes`` it only touches ``updated_at``.
    """
    _contend(conn, image_id)
    return _update(conn, image_id, expected, **changes)


def _update(conn: sa.Connection, image_id: str,
            expected: collections.abc.Collection[str] | None,
            **changes: typing.Any) -> bool:
    values = {'b_image': image_id, 'updated_at': engine.utcnow(), **changes}
    statement = _UPDATE
    if expected is not None:
        found = list(expected)
        single = len(found) == 1
        statement = _UPDATE_FROM if single else _UPDATE_FROM_ANY
        values['b_expected'] = found[0] if single else found
    return conn.execute(statement, values).rowcount == 1


def lock(conn: sa.Connection, image_id: str) -> bool:
    """Keep others from changing the image until the transaction ends.

    Changes nothing the user sees; False when the image is gone.
    """
    _contend(conn, image_id)
    return conn.execute(_UPDATE, {
        'b_image': image_id, 'id': image_id}).rowcount == 1


def _contend(conn: sa.Connection, image_id: str) -> None:
    """Have one of two writers of an image on two nodes of Galera fail.

    They wait for no lock of each other's. Of two that have written the same
    row the later is rolled back at its commit, but an UPDATE that changes
    nothing writes no row: this changes it, and back again.
    """
    if not engine.is_galera(conn):
        return
    for _ in range(2):
        conn.execute(sa.update(tables.images).where(
            Columns.id == image_id, _LIVE).values(
                protected=sa.not_(Columns.protected)))


def set_property(conn: sa.Connection, image_id: str, name: str,
                 value: str | None, *, own: bool = False) -> None:
    """Write one property, reviving a removed one (the key is unique).

    :param own: the name is the service's own, and takes the place of one
        that the database takes for the same
    :raises errors.Conflict: there is such a one
    """
    now = engine.utcnow()
    found = conn.execute(_SET_OWN if own else _SET, {
        'b_image': image_id, 'b_name': name, 'name': name, 'value': value,
        'deleted': False, 'deleted_at': None, 'updated_at': now})
    if found.rowcount == 0:
        names.insert_one(conn, {
            'image_id': image_id, 'name': name, 'value': value,
            'created_at': now, 'updated_at': now, 'deleted': False})


def drop_property(conn: sa.Connection, image_id: str, name: str,
                  expected: str | None = None) -> bool:
    """Remove one property, only while it holds ``expected`` if given."""
    values = {'b_image': image_id, 'b_name': name, 'deleted': True,
              'deleted_at': engine.utcnow()}
    if expected is None:
        return conn.execute(_DROP, values).rowcount == 1
    return conn.execute(_DROP_EXPECTED, {
        **values, 'b_expected': expected}).rowcount == 1


def properties(conn: sa.Connection, image_id: str) -> dict[str, str | None]:
    """The live properties of one image."""
    return {row.name: row.value for row in conn.execute(
        _PROPERTIES, {'b_image': image_id})}


def add_tag(conn: sa.Connection, image_id: str, value: str) -> None:
    """One more tag; whether it is there already, the caller has looked."""
    now = engine.utcnow()
    conn.execute(sa.insert(tables.image_tags).values(
        image_id=image_id, value=value, created_at=now, updated_at=now,
        deleted=False))


def drop_tag(conn: sa.Connection, image_id: str, value: str) -> bool:
    """Remove a tag; False when there is none such."""
    table = tables.image_tags
    return conn.execute(
        sa.update(table)
        .where(table.c.image_id == image_id,
               spelling.exactly(table.c.value, value),
               table.c.deleted == sa.false())
        .values(deleted=True, deleted_at=engine.utcnow())).rowcount > 0


def add_location(conn: sa.Connection, image_id: str, url: str,
                 metadata: dict[str, typing.Any]) -> None:
    """Record where bytes of the image are."""
    now = engine.utcnow()
    conn.execute(_INSERT_LOCATION, {
        'image_id': image_id, 'value': url,
        'meta_data': json.dumps(metadata), 'status': states.ACTIVE,
        'created_at': now, 'updated_at': now, 'deleted': False})


def locations(conn: sa.Connection,
              ids: collections.abc.Collection[str]) -> list[Location]:
    """Where the bytes of these images are, whatever became of the images."""
    table = tables.image_locations.c
    return [Location(row.value, metadata(row.meta_data), row.status)
            for row in conn.execute(sa.select(
                table.value, table.meta_data, table.status).where(
                    table.image_id.in_(ids), table.deleted == sa.false())
                .order_by(table.id))]


def drop_location(conn: sa.Connection, image_id: str, url: str) -> None:
    """The bytes there are no longer the image's."""
    table = tables.image_locations
    conn.execute(sa.update(table).where(
        table.c.image_id == image_id, spelling.exactly(table.c.value, url),
        table.c.deleted == sa.false()).values(
            deleted=True, deleted_at=engine.utcnow(), status=states.DELETED))


def revive_location(conn: sa.Connection, image_id: str, url: str) -> bool:
    """The bytes there are the image's after all, if there is an image."""
    if not lock(conn, image_id):
        return False
    table = tables.image_locations
    newest = conn.execute(
        sa.select(sa.func.max(table.c.id)).where(
            table.c.image_id == image_id,
            spelling.exactly(table.c.value, url))).scalar()
    conn.execute(sa.update(table).where(table.c.id == newest).values(
        deleted=False, deleted_at=None, status=states.ACTIVE))
    return True


def set_location_metadata(conn: sa.Connection, image_id: str, url: str,
                          metadata: dict[str, typing.Any]) -> None:
    """Replace the metadata of a location."""
    table = tables.image_locations
    conn.execute(sa.update(table).where(
        table.c.image_id == image_id, spelling.exactly(table.c.value, url),
        table.c.deleted == sa.false()).values(
            meta_data=json.dumps(metadata), updated_at=engine.utcnow()))


def owned_by_another(conn: sa.Connection, image_id: str, url: str,
                     inside: collections.abc.Collection[str]) -> bool:
    """Whether what is at a URL is the data of an image that is not this one.

    Looks through all locations: there is no index on them.

    :param inside: UUIDs in the URL. Data is stored under the id of its
        image, or is a volume that a location names, in one spelling or other
    """
    if inside and conn.execute(
            sa.select(Columns.id).where(Columns.id.in_(inside), _LIVE,
                                        Columns.id != image_id).limit(1)
            ).first():
        return True
    table = tables.image_locations
    return conn.execute(
        sa.select(table.c.id).where(
            table.c.deleted == sa.false(), table.c.image_id != image_id,
            sa.or_(spelling.exactly(table.c.value, url), *(
                table.c.value.contains(each) for each in inside))).limit(1)
        ).first() is not None


def is_named(conn: sa.Connection, url: str) -> bool:
    """Whether an image has this location; there is no index on them."""
    table = tables.image_locations.c
    return conn.execute(sa.select(table.id).where(
        table.deleted == sa.false(),
        spelling.exactly(table.value, url)).limit(1)).first() is not None


def delete_parts(conn: sa.Connection, image_id: str,
                 status: str = states.DELETED) -> None:
    """Soft-delete the rows that belong to an image that was just deleted.

    :param status: that of its locations then
    """
    now = engine.utcnow()
    gone = {'deleted': True, 'deleted_at': now}
    _make_members_unique(conn, image_id, now)
    for table in (tables.image_properties, tables.image_tags,
                  tables.image_locations, tables.image_members):
        values: dict[str, typing.Any] = dict(gone)
        if table is tables.image_locations:
            values['status'] = status
        conn.execute(sa.update(table).where(
            table.c.image_id == image_id, table.c.deleted == sa.false())
            .values(**values))


def _make_members_unique(conn: sa.Connection, image_id: str,
                         now: datetime.datetime) -> None:
    """Delete what would share a key with others once all are soft-deleted.

    The key is (image, member, deleted_at): see members.delete. Of members
    that the database takes for one, the first is left.
    """
    members = tables.image_members
    of_image = members.c.image_id == image_id
    conn.execute(sa.delete(members).where(
        of_image, members.c.deleted == sa.true(),
        members.c.deleted_at == now))
    if conn.dialect.name != 'mysql':
        return
    more = sa.select(sa.func.max(members.c.id)).where(
        of_image, members.c.deleted == sa.false()).group_by(
            members.c.member).having(sa.func.count() > 1)
    while found := conn.execute(more).scalars().all():
        conn.execute(sa.delete(members).where(members.c.id.in_(found)))
