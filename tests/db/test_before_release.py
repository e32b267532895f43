"""Databases that were made before the first release are taken over.

``before_release_DIALECT.sql`` is what ``db sync`` sent to an empty database
then, from the first revision to the eighth; commit e3b5995 ended with the
seventh.
"""

import pathlib

import pytest
import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import jobs
from glance_import.db import keys
from glance_import.db import migrations
from glance_import.db import upgrade
from tests.db import snapshot_schema

HERE = pathlib.Path(__file__).parent
ROWS = {
    'import_0001': (
        'INSERT INTO images (id, name, status, created_at, deleted, min_disk,'
        " min_ram) VALUES ('i', 'old', 'importing', '2026-01-02 03:04:05',"
        ' {false}, 0, 0)',
        'INSERT INTO image_properties (image_id, name, value, created_at,'
        " deleted) VALUES ('i', 'colour', 'blue', '2026-01-02 03:04:05',"
        ' {false})'),
    'import_0002': (
        'INSERT INTO import_jobs (id, image_id, method, request, plugins,'
        ' roles, created_at, priority, epoch, attempts, cancel) VALUES'
        " ('j', 'i', 'glance-direct', '{{}}', '[]', '[]', 5.5, 0, 3, 1,"
        ' {false})',
        'INSERT INTO import_staging (image_id, upload_id, state, size, inode,'
        " created_at) VALUES ('i', 'u', 'claimed', 7, -1,"
        " '2026-01-02 03:04:05')",
        "INSERT INTO import_epochs (image_id, epoch) VALUES ('i', 3)",
        "INSERT INTO import_turns (project, served) VALUES ('p', 4.5)"),
    'import_0005': (
        "INSERT INTO import_logbooks (uuid, name) VALUES ('j', 'book')",),
    'import_0007': (
        'UPDATE import_jobs SET {before} = \'{{"": {{"name": "x"}}}}\'',),
}
QUOTES = {'mysql': '`before`'}


def made_before(database, last):
    """The database as it was at revision ``last``, with something in it."""
    name = database.engine.dialect.name
    words = {'false': '0' if name == 'sqlite' else 'false',
             'before': QUOTES.get(name, 'before')}
    text = (HERE / f'before_release_{name}.sql').read_text()
    with database.write() as connection:
        for statement in text.split(';\n')[:-1]:
            connection.exec_driver_sql(statement.replace('%', '%%'))
            reached = next((
                revision for revision in migrations.BEFORE_RELEASE
                if 'import_alembic_version' in statement
                and statement.partition('WHERE')[0].find(revision) > 0), '')
            for row in ROWS.get(reached, ()):
                connection.exec_driver_sql(row.format(**words))
            if reached == last:
                break


def rows(database, without=()):
    """Table -> rows as dictionaries, of every table that holds any."""
    with database.read() as connection:
        found = {name: [
            dict(row._mapping) for row in connection.exec_driver_sql(
                f'SELECT * FROM {name}')]
            for name in sa.inspect(connection).get_table_names()
            if name not in without}
    return {name: rows for name, rows in found.items() if rows}


@pytest.fixture
def fresh(connect, url, request, tmp_path):
    """Another database of the same kind, made by this release."""
    kind = request.node.callspec.params['url']
    database = connect(
        f'sqlite:///{tmp_path}/fresh.sqlite' if kind == 'sqlite' else
        request.getfixturevalue(
            {'mysql': 'mariadb'}.get(kind, kind)).create())
    upgrade.sync(database)
    return database


@pytest.mark.parametrize('last', migrations.BEFORE_RELEASE)
def test_taken_over(empty, fresh, last):
    made_before(empty, last)
    assert upgrade.status(empty) == ('behind', last, migrations.HEAD)
    kept = rows(empty, without={migrations.VERSION_TABLE})
    for job in kept.get('import_jobs', ()):
        del job['priority']
        job['undo_log'] = job.pop('before', None)

    upgrade.sync(empty)

    assert upgrade.status(empty).state == 'head'
    assert (snapshot_schema.reflect(empty.engine)
            == snapshot_schema.reflect(fresh.engine))
    found = rows(empty, without={migrations.VERSION_TABLE})
    secret, = found.pop('import_keys')
    assert secret['name'] == keys.SNAPSHOT
    assert kept.pop('import_keys', [secret]) == [secret]
    assert found.keys() == kept.keys()
    for name, before in kept.items():
        after = [{column: row[column] for column in old}
                 for row, old in zip(found[name], before, strict=True)]
        assert after == before
    # What is new has a value that the code can read.
    with empty.read() as connection:
        job = jobs.get(connection, 'j')
        undo_log = (jobs.undo_log(connection, 'j') if job else None)
    if job is not None:
        assert (job.epoch, job.retries, job.damaged) == (3, 0, None)
        assert undo_log == ({'': {'name': 'x'}} if last >= 'import_0007'
                            else {})


def test_an_interrupted_take_over_is_gone_on_with(empty, fresh):
    """As MySQL leaves it, which commits each statement by itself."""
    made_before(empty, 'import_0008')
    mysql = empty.engine.dialect.name == 'mysql'
    with empty.write() as connection:
        for statement in (
                f'DELETE FROM {migrations.VERSION_TABLE}',
                'DROP INDEX import_jobs_claim_idx'
                + (' ON import_jobs' if mysql else '')):
            connection.exec_driver_sql(statement)

    upgrade.sync(empty)

    assert (snapshot_schema.reflect(empty.engine)
            == snapshot_schema.reflect(fresh.engine))


@pytest.mark.parametrize('server', ['postgresql', 'mariadb'])
def test_a_server_is_left_to_the_operator(connect, request, server):
    database = connect(request.getfixturevalue(server).create())
    made_before(database, 'import_0008')

    with pytest.raises(engine.DatabaseProblem,
                       match='import_0008 .* glance-import-manage db sync'):
        upgrade.ensure(database)
