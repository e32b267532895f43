"""Metadata definitions on every kind of server: all of a change or nothing.

What is asked at once by several, and what names are one to a server.
"""

import concurrent.futures
import itertools
import threading
import types

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from glance_import import context
from glance_import.db import metadefs as db_metadefs
from glance_import.db import tables
from glance_import.domain import metadef_files
from glance_import.domain import metadef_kinds as kinds
from glance_import.domain import metadefs
from glance_import import errors

ADMIN = context.RequestContext(project_id='ops', is_admin=True)
OTHER = context.RequestContext(project_id='far')
P = {'title': 'T', 'type': 'string'}
TABLES = [table for name, table in tables.metadata.tables.items()
          if name.startswith('metadef_')]
WHOLE = {'visibility': 'public', 'tags': [{'name': 't1'}, {'name': 't2'}],
         'objects': [{'name': 'o', 'required': ['p'], 'properties': {'p': P}}],
         'properties': {'p': P, 'q': {**P, 'enum': ['é', '\U0001f600']}},
         'resource_type_associations': [{'name': 'X', 'prefix': 'x_'},
                                        {'name': 'Y'}]}


@pytest.fixture
def box(shared):
    """What the domain asks of the services, on an empty database."""
    metadef_files.unload(shared)
    assert not any(counted(shared).values())
    return types.SimpleNamespace(db=shared)


def counted(database):
    with database.read() as conn:
        return {table.name: conn.execute(
            sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in TABLES}


def create(box, name, **more):
    return metadefs.create(box, ADMIN, kinds.check(
        kinds.NAMESPACE, {'namespace': name, **more}))


def at_once(*calls):
    """What each returned or raised, all begun together."""
    barrier = threading.Barrier(len(calls))

    def call(function):
        barrier.wait(30)
        try:
            return function()
        except errors.DomainError as failure:
            return failure

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def test_whole_and_gone(box):
    made = create(box, 'n', **WHOLE)
    held = metadefs.contents(box, made)
    assert [row['name'] for row in held['tags']] == ['t1', 't2']
    assert [(row['name'], row['prefix']) for row
            in held['resource_type_associations']] == [('X', 'x_'),
                                                       ('Y', None)]
    assert kinds.definition(held['properties'][1])['enum'] == [
        'é', '\U0001f600']
    create(box, 'stays', **WHOLE)
    before = counted(box.db)
    metadefs.delete(box, made)
    after = counted(box.db)
    # Resource types are nobody's.
    assert {name: count * (1 if name == 'metadef_resource_types' else 2)
            for name, count in after.items()} == before
    with pytest.raises(errors.NotFound):
        metadefs.delete(box, made)
    with pytest.raises(errors.NotFound):
        metadefs.add(box, kinds.TAG, made, [{'name': 'late'}])


@pytest.mark.parametrize('twice', [
    {'tags': [{'name': 'a'}] * 2}, {'objects': [{'name': 'a'}] * 2},
    {'resource_type_associations': [{'name': 'New'}] * 2}])
def test_what_fails_in_the_middle_leaves_nothing(box, twice):
    with pytest.raises(errors.Conflict):
        create(box, 'n', **{**WHOLE, **twice})
    assert not any(counted(box.db).values())


def test_made_twice_at_once(box):
    said = at_once(*[lambda: create(box, 'n', **WHOLE)] * 6)
    refused = [each for each in said if isinstance(each, errors.Conflict)]
    made, = (each for each in said if isinstance(each, dict))
    assert len(refused) == 5, said
    assert made['namespace'] == 'n'
    assert counted(box.db)['metadef_namespaces'] == 1


def test_a_resource_type_made_by_several_at_once(box):
    said = at_once(*[
        lambda name=f'n{number}': create(box, name, **WHOLE)
        for number in range(6)])
    assert all(isinstance(each, dict) for each in said), said
    assert counted(box.db)['metadef_resource_types'] == 2


def test_added_to_while_it_is_deleted(box):
    for _ in range(5):
        made = create(box, 'n', **WHOLE)
        said = at_once(
            lambda: metadefs.delete(box, made),
            lambda: metadefs.add(box, kinds.TAG, made, [{'name': 'late'}]),
            lambda: metadefs.add(box, kinds.ASSOCIATION, made, [
                {'name': 'Late', 'prefix': None, 'properties_target': None}]))
        assert said[0] is None
        assert all(each is None or isinstance(each, errors.NotFound)
                   for each in said[1:]), said
        held = counted(box.db)
        held.pop('metadef_resource_types')
        assert not any(held.values())


def test_renamed_to_one_name_at_once(box):
    made = create(box, 'n', tags=[{'name': f't{n}'} for n in range(4)])
    said = at_once(*[
        lambda name=f't{number}': metadefs.change(
            box, kinds.TAG, made, name, {'name': 'same'})
        for number in range(4)])
    assert sum(isinstance(each, dict) for each in said) == 1, said
    assert sum(isinstance(each, errors.Conflict) for each in said) == 3


def test_letter_by_letter(box):
    """To MySQL Case and case are one name: refused, never mixed up."""
    create(box, 'case', **WHOLE)
    for wrong in ('Case', 'case ', 'cäse', 'ca'):
        with pytest.raises(errors.NotFound):
            metadefs.find(box, ADMIN, wrong)
    is_mysql = box.db.engine.dialect.name == 'mysql'
    try:
        create(box, 'Case')
    except errors.Conflict:
        assert is_mysql
    made = metadefs.find(box, ADMIN, 'case')
    with pytest.raises(errors.NotFound):
        metadefs.get(box, kinds.TAG, made, 'T1')
    other = {'name': 'x', 'prefix': None, 'properties_target': None}
    try:
        metadefs.add(box, kinds.ASSOCIATION, made, [other])
    except errors.Conflict as failure:
        assert is_mysql and 'spelled otherwise' in str(failure)


def test_what_is_not_seen(box):
    create(box, 'private')
    create(box, 'public', visibility='public')
    create(box, 'own', owner='far')
    for name in ('public', 'own'):
        assert metadefs.find(box, OTHER, name)['namespace'] == name
    with pytest.raises(errors.NotFound):
        metadefs.find(box, OTHER, 'private')
    rows, _ = page(box, OTHER, metadefs.Page())
    assert {row['namespace'] for row in rows} == {'public', 'own'}


def page(box, ctx, wanted, marker=None, visibility=None, types=None):
    return metadefs.page(box, ctx, wanted, marker=marker,
                         visibility=visibility, resource_types=types)


def test_pages_are_the_list(box):
    for number, (visibility, named) in enumerate(itertools.product(
            kinds.VISIBILITIES, (True, False))):
        for each in range(2):
            create(box, f'n{number}-{each}', visibility=visibility,
                   **({'display_name': f'D{each}'} if named else {}),
                   resource_type_associations=[{'name': f'R{each}'}])
    for key, direction in itertools.product(kinds.SORT_KEYS,
                                            ('asc', 'desc')):
        whole, _ = page(box, ADMIN, metadefs.Page(key, direction))
        names = [row['namespace'] for row in whole]
        assert len(set(names)) == 8
        found, marker = [], None
        while True:
            rows, _ = page(box, ADMIN, metadefs.Page(key, direction, 3),
                           marker)
            if not rows:
                break
            found += [row['namespace'] for row in rows]
            marker = found[-1]
        assert found == names, (key, direction)
    rows, held = page(box, ADMIN, metadefs.Page(), types=['R0', 'none'])
    assert len(rows) == 4
    assert {each['name'] for row in rows for each in held[row['id']]} == {
        'R0'}
    for name in ('none', 'n0-1'):
        made = create(box, f'tags of {name}',
                      tags=[{'name': f't{n}'} for n in range(7)])
    found, marker = [], None
    while rows := metadefs.page_of(
            box, kinds.TAG, made, metadefs.Page('name', 'desc', 3), marker):
        found += [row['name'] for row in rows]
        marker = found[-1]
    assert found == [f't{n}' for n in range(6, -1, -1)]


def test_a_list_takes_no_more_statements_for_more(box):
    def statements(action):
        said = []

        def note(_conn, _cursor, statement, *_rest):
            said.append(statement)

        event.listen(box.db.engine, 'before_cursor_execute', note)
        try:
            action()
        finally:
            event.remove(box.db.engine, 'before_cursor_execute', note)
        return len([each for each in said if 'SELECT' in each])

    create(box, 'first', **WHOLE)
    few = statements(lambda: page(box, ADMIN, metadefs.Page(), 'first'))
    for number in range(30):
        create(box, f'n{number}', **WHOLE)
    many = statements(lambda: page(
        box, ADMIN, metadefs.Page('namespace', 'asc'), 'first'))
    assert few <= many <= 3
    found = metadefs.find(box, ADMIN, 'n3')
    assert statements(lambda: metadefs.contents(box, found)) == 4


def test_loaded_by_several_at_once(box):
    """`db sync` on two hosts: one has it, the other sees that it is there."""
    said = at_once(*[lambda: metadef_files.seed(box.db)] * 4)
    assert sorted(said) == [False, False, False, True]
    assert not metadef_files.seed(box.db)
    with box.db.read() as conn:
        assert db_metadefs.names(conn) == ['OS::Glance::ImageImport']
