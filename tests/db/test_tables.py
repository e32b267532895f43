import os

from alembic import autogenerate
from alembic import migration
import pytest
import sqlalchemy as sa
from taskflow.persistence.backends.sqlalchemy import tables as taskflow_tables

from glance_import.db import engine
from glance_import.db import tables

# Differ in the last character only, far behind what an index holds; random,
# so that no server can squeeze them below its limit for an index entry.
LONG = os.urandom(4000).hex()
OTHER = LONG[:-1] + 'x'


def is_comparable(name, kind, _parents):
    if kind == 'table':
        return name in tables.metadata.tables
    # Its definition is not the same on every server.
    return name != 'import_image_properties_idx'


def add_properties(connection, values):
    now = engine.utcnow()
    for name, value in values.items():
        connection.execute(tables.images.insert().values(
            id=name, status='queued', created_at=now))
        connection.execute(tables.image_properties.insert().values(
            image_id=name, name='colour', value=value, created_at=now))


def test_the_tables_are_what_the_migrations_make(synced):
    with synced.read() as connection:
        context = migration.MigrationContext.configure(connection, opts={
            'compare_type': True,
            'include_name': is_comparable,
        })
        differences = autogenerate.compare_metadata(context, tables.metadata)

    assert differences == []


def test_the_record_of_a_flow_has_taskflows_columns():
    theirs = taskflow_tables.fetch(sa.MetaData())
    for table in theirs:
        ours = tables.metadata.tables[f'import_{table.name}']
        assert set(ours.columns.keys()) == set(table.columns.keys())


def test_properties_are_found_by_value(synced):
    with synced.write() as connection:
        add_properties(connection, {'a': 'blue', 'b': LONG, 'c': OTHER})

    def holders(value):
        with synced.read() as connection:
            return connection.scalars(
                sa.select(tables.image_properties.c.image_id)
                .where(tables.property_is('colour', value))).all()

    assert holders('blue') == ['a']
    assert holders(LONG) == ['b']
    assert holders(OTHER) == ['c']
    assert holders(LONG[:255]) == []


EXPLAIN = {
    'sqlite': ('EXPLAIN QUERY PLAN ', None),
    'postgresql': ('EXPLAIN ', 'SET enable_seqscan = off'),
    'mysql': ('EXPLAIN ', None),
}


def test_property_search_uses_its_index(synced):
    explain, first = EXPLAIN[synced.engine.dialect.name]
    query = sa.select(tables.image_properties.c.image_id).where(
        tables.property_is('colour', 'v7'))
    text = str(query.compile(synced.engine,
                             compile_kwargs={'literal_binds': True}))
    with synced.write() as connection:
        add_properties(connection, {str(n): f'v{n}' for n in range(50)})
    with synced.read() as connection:
        # Where it is unique or foreign, the plan would name its own index.
        if first:
            connection.exec_driver_sql(first)
        plan = connection.exec_driver_sql(explain + text.replace('%', '%%'))
        assert 'import_image_properties_idx' in str(plan.all())


@pytest.mark.parametrize('number', [0, 1, 2 ** 63 - 1, 2 ** 63, 2 ** 64 - 1,
                                    None])
def test_inode_numbers_of_any_size(sqlite, number):
    staging = tables.import_staging
    with sqlite.write() as connection:
        connection.execute(staging.insert().values(
            image_id='a', upload_id='u', state='open', inode=number,
            created_at=engine.utcnow()))
        assert connection.scalar(sa.select(staging.c.inode)) == number
        if number is not None:
            assert connection.scalar(
                sa.select(staging.c.image_id)
                .where(staging.c.inode == number)) == 'a'
