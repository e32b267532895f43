"""Pages of images that cost the same among a thousand and a million.

There are two plans. When some filter matches few images, they are fetched by
its own index first, and each is held against the other conditions. Otherwise
the images are walked in the order of the list: what an ordinary user sees is
a few sets, each with an index in that order, so each gives its first rows and
the page is merged from them. A single condition over all sets would read
everything on every server. Every function takes a connection whose
transaction the caller owns.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import functools
import operator
import typing

import sqlalchemy as sa

from glance_import.db import images
from glance_import.db import spelling
from glance_import.db import tables
from glance_import import states

Columns = tables.images.c
_LIVE = Columns.deleted == sa.false()
# The same conditions for a query that begins at ids (of the images shared with
# a project): written so that no index fits them. With one that fits, SQLite's
# planner reads every image by that index, instead of the few by their ids.
_LIVE_BY_ID = sa.func.coalesce(Columns.deleted, sa.true()) == sa.false()
_SHARED_BY_ID = sa.cast(Columns.visibility, sa.String) == 'shared'

# As many images as a filter may match to be "few". Judging that many costs
# about as much as the rest of the request.
FEW = 500

_OPERATORS: dict[str, typing.Callable] = {
    'eq': operator.eq, 'neq': operator.ne, 'gt': operator.gt,
    'gte': operator.ge, 'lt': operator.lt, 'lte': operator.le}
# No list shows them.
_NOT_KILLED = Columns.status != states.KILLED
_NEVER = datetime.datetime(9999, 12, 31)
# Columns with an index that can tell whether few images match.
_SELECTIVE = ('id', 'name', 'checksum', 'os_hash_value', 'owner')


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """Which images a list is of.

    ``visibility`` None is what a list holds by default; 'all' adds community
    images of others. ``exact`` repeats those of ``conditions`` that are plain
    equality on a text column.
    """

    scope: images.Scope
    visibility: str | None = None
    member_status: str = states.ACCEPTED
    hidden: bool = False
    conditions: collections.abc.Sequence[sa.ColumnElement[bool]] = ()
    exact: collections.abc.Mapping[str, str] = dataclasses.field(
        default_factory=dict)
    properties: collections.abc.Mapping[str, str] = dataclasses.field(
        default_factory=dict)
    tags: collections.abc.Sequence[str] = ()


def compare(name: str, comparison: str,
            value: typing.Any) -> sa.ColumnElement[bool]:
    """A column against a value; comparisons are named as in filters."""
    return _OPERATORS[comparison](Columns[name], value)


def among(name: str, values: collections.abc.Collection[str]
          ) -> sa.ColumnElement[bool]:
    """A column of text that is exactly one of ``values``."""
    return spelling.among(Columns[name], values)


def is_text(name: str, value: str) -> sa.ColumnElement[bool]:
    """A column of text that is exactly ``value``."""
    return spelling.exactly(Columns[name], value)


def page(conn: sa.Connection, selection: Selection, *,
         order: collections.abc.Sequence[tuple[str, str]],
         limit: int, after: images.Image | sa.Row | None = None
         ) -> list[images.Image]:
    """A page of images after the image ``after``, in ``order``.

    ``order`` holds (column, 'asc' or 'desc') pairs that end in the id, so
    that the order is total.
    """
    if limit == 0:
        return []
    values: dict[str, typing.Any] = {'page': limit}
    if selection.scope.project_id is not None:
        values['project'] = selection.scope.project_id
    if after is not None:
        for name, _direction in order:
            value = getattr(after, name)
            values[f'last_{name}'] = (_blank(name) if value is None
                                      else value)
    shape = Shape(selection.scope.is_admin, 'project' in values,
                  selection.visibility, selection.member_status,
                  selection.hidden, tuple(order), after is not None)
    if not (selection.conditions or selection.properties or selection.tags):
        return images.assemble(conn, conn.execute(
            _plain(shape), values).all())
    few = _few(conn, selection)
    if few is not None and not few:
        return []
    conditions = [*selection.conditions]
    conditions += [_has_property(name, value)
                   for name, value in selection.properties.items()]
    conditions += [_has_tag(tag) for tag in selection.tags]
    return images.assemble(conn, conn.execute(
        _statement(shape, conditions, few), values).all())


class Shape(typing.NamedTuple):
    """What a statement looks like, whatever its values."""

    is_admin: bool
    of_project: bool
    visibility: str | None
    member_status: str
    hidden: bool
    order: tuple[tuple[str, str], ...]
    goes_on: bool


@functools.lru_cache(maxsize=256)
def _plain(shape: Shape) -> sa.Select:
    """A page without filters: there are few, and making one takes long."""
    return _statement(shape, [], None)


def _statement(shape: Shape,
               conditions: collections.abc.Sequence[sa.ColumnElement[bool]],
               few: list[str] | None) -> sa.Select:
    """A page; its values are ``page``, ``project`` and ``last_COLUMN``."""
    conditions = [_behind(shape.order) if shape.goes_on
                  else _beginning(shape.order), _NOT_KILLED, *conditions]
    sets = _sets(shape)
    if few is not None:
        # CASE, or SQLite would begin at the indexes of each set instead.
        seen = sa.case((sa.or_(*sets), sa.literal_column('1')),
                       else_=sa.literal_column('0'))
        sets = [Columns.id.in_(few) & (seen == sa.literal_column('1'))]
    size = sa.bindparam('page', type_=sa.Integer)
    ordered = [getattr(_sortable(name), direction)()
               for name, direction in shape.order]
    queries = [images.SELECT.where(*conditions, one).order_by(*ordered)
               .limit(size) for one in sets]
    if len(queries) == 1:
        return queries[0]
    merged = sa.union(*(sa.select(query.subquery()) for query in queries)
                      ).subquery()
    return sa.select(merged).order_by(*(
        getattr(_sortable(name, merged.c), direction)()
        for name, direction in shape.order)).limit(size)


def _sets(shape: Shape) -> list[sa.ColumnElement[bool]]:
    """What the caller may list, as sets that may overlap."""
    visibility = shape.visibility
    listed = _LIVE & (Columns.os_hidden == sa.literal(shape.hidden))
    if shape.is_admin:
        return [listed if visibility in (None, 'all')
                else listed & (Columns.visibility == visibility)]
    # Nobody's images are not those of a caller without a project.
    own: sa.ColumnElement[bool] = sa.false()
    shared: sa.ColumnElement[bool] = sa.false()
    if shape.of_project:
        project: sa.BindParameter[str] = sa.bindparam('project')
        own = listed & spelling.exactly(Columns.owner, project)
        shared = _by_id(shape) & _shared_with(project, shape.member_status)
    public = listed & (Columns.visibility == 'public')
    community = listed & (Columns.visibility == 'community')
    sets: dict[str | None, list[sa.ColumnElement[bool]]] = {
        None: [public, own, shared],
        'all': [public, own, shared, community],
        'public': [public],
        'community': [community],
        'private': [own & (Columns.visibility == 'private')],
        'shared': [own & (Columns.visibility == 'shared'), shared],
    }
    return sets[visibility]


def _shared_with(project: sa.BindParameter[str], status: str
                 ) -> sa.ColumnElement[bool]:
    members = tables.image_members.c
    query = sa.select(members.image_id).where(
        spelling.exactly(members.member, project),
        members.deleted == sa.false())
    if status != 'all':
        query = query.where(members.status == status)
    return _SHARED_BY_ID & Columns.id.in_(query)


def _by_id(shape: Shape) -> sa.ColumnElement[bool]:
    hidden = sa.func.coalesce(Columns.os_hidden, sa.false())
    return _LIVE_BY_ID & (hidden == sa.literal(shape.hidden))


def _few(conn: sa.Connection, selection: Selection) -> list[str] | None:
    """Ids to choose from, when some filter matches few images; else None.

    Each filter is asked for its first matches in its own index, so the
    answer takes the same time whatever the filter matches. What was removed
    is among them: the page's own query judges every one.
    """
    best: list[str] | None = None
    for query in _candidates(selection):
        found = conn.execute(query.limit(FEW + 1)).scalars().all()
        if len(found) <= FEW and (best is None or len(found) < len(best)):
            best = list(found)
            if not best:
                break
    return best


def _candidates(selection: Selection) -> collections.abc.Iterator[sa.Select]:
    for name in _SELECTIVE:
        if name in selection.exact:
            yield sa.select(Columns.id).where(
                Columns[name] == selection.exact[name])
    properties = tables.image_properties.c
    for name, value in selection.properties.items():
        yield sa.select(properties.image_id).where(
            tables.property_is(name, value))
    tags = tables.image_tags.c
    for tag in selection.tags:
        yield sa.select(tags.image_id).where(tags.value == tag)


def _has_property(name: str, value: str) -> sa.ColumnElement[bool]:
    table = tables.image_properties.c
    return sa.exists().where(
        table.image_id == Columns.id, tables.property_is(name, value),
        table.deleted == sa.false())


def _has_tag(value: str) -> sa.ColumnElement[bool]:
    table = tables.image_tags.c
    return sa.exists().where(
        table.image_id == Columns.id, spelling.exactly(table.value, value),
        table.deleted == sa.false())


def _blank(name: str) -> typing.Any:
    """What NULL sorts as: the least value, on every server."""
    number = isinstance(Columns[name].type, (sa.Integer, sa.BigInteger))
    return -1 if number else ''


def _sortable(name: str, columns: typing.Any = Columns
              ) -> sa.ColumnElement[typing.Any]:
    if not Columns[name].nullable or name in ('created_at', 'updated_at'):
        return columns[name]
    return sa.func.coalesce(columns[name], _blank(name))


def _beginning(order: collections.abc.Sequence[tuple[str, str]]
               ) -> sa.ColumnElement[bool]:
    """No condition at all, in words that point MariaDB to the right index.

    Without a bound on the time it intersects the indexes of single columns
    and sorts whatever is left.
    """
    name, _direction = order[0]
    if isinstance(Columns[name].type, sa.DateTime):
        return Columns[name] <= _NEVER
    return sa.true()


def _behind(order: collections.abc.Sequence[tuple[str, str]]
            ) -> sa.ColumnElement[bool]:
    """Strictly behind the values ``last_COLUMN`` in a total order.

    The first column stands alone in front: MySQL uses an index for that and
    not for the rest.
    """
    alternatives = []
    equal: list[sa.ColumnElement[bool]] = []
    first: sa.ColumnElement[bool] | None = None
    for name, direction in order:
        column = _sortable(name)
        value: sa.BindParameter[typing.Any] = sa.bindparam(
            f'last_{name}', type_=Columns[name].type)
        further = column > value if direction == 'asc' else column < value
        if first is None:
            first = column >= value if direction == 'asc' \
                else column <= value
        alternatives.append(sa.and_(*equal, further))
        equal.append(column == value)
    assert first is not None
    return sa.and_(first, sa.or_(*alternatives))
