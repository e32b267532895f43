import datetime
import json
import os
import pathlib
import sqlite3
import subprocess
import sys

from alembic import script
import pytest
import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import migrations
from glance_import.db import tables
from glance_import.db import upgrade
from tests.db import snapshot_schema
from tests.db import test_engine
from tests.db import workers

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2024, 5, 1, 12, 0, 0)


def run(database, *statements):
    with database.write() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def glances_part(schema):
    """A schema without what is ours."""
    return {name: table | {'indexes': _glances(table['indexes'])}
            for name, table in _glances(schema).items()}


def _glances(named):
    return {name: value for name, value in named.items()
            if not name.startswith('import_')}


@pytest.fixture
def glances(connect, tmp_path):
    """An SQLite database that Glance 33 made, with an image in it."""
    path = tmp_path / 'glance.sqlite'
    with sqlite3.connect(path) as connection:
        connection.executescript((HERE / 'glance_sqlite.sql').read_text())
    connection.close()
    database = connect(f'sqlite:///{path}')
    with database.write() as connection:
        connection.execute(tables.images.insert().values(
            id='i', name='old', status='active', created_at=NOW))
        connection.execute(tables.image_properties.insert().values(
            image_id='i', name='colour', value='blue', created_at=NOW))
    return database


def everything(database):
    """Each table of Glance's with its rows."""
    with database.read() as connection:
        names = sa.inspect(connection).get_table_names()
        return {name: connection.exec_driver_sql(
            f'SELECT * FROM {name}').fetchall()
            for name in names if not name.startswith('import_')}


def test_revisions_written_down_are_those_there():
    directory = script.ScriptDirectory(os.path.dirname(migrations.__file__))
    found = [revision.revision for revision in directory.walk_revisions()]

    assert tuple(reversed(found)) == migrations.REVISIONS


def test_schema_is_glances(synced):
    name = synced.engine.dialect.name
    theirs = json.loads((HERE / f'glance_{name}.json').read_text())

    assert glances_part(snapshot_schema.reflect(synced.engine)) == theirs
    with synced.read() as connection:
        assert connection.exec_driver_sql(
            'SELECT version_num FROM alembic_version').fetchall() == [
                ('2024_1_contract01',)]


def test_empty_then_head(empty):
    assert upgrade.status(empty) == ('empty', None, migrations.HEAD)

    upgrade.sync(empty)
    first = snapshot_schema.reflect(empty.engine)
    assert upgrade.status(empty) == ('head', migrations.HEAD,
                                     migrations.HEAD)

    upgrade.sync(empty)
    upgrade.ensure(empty)
    assert snapshot_schema.reflect(empty.engine) == first


def test_status_creates_no_file(connect, tmp_path):
    database = connect(f'sqlite:///{tmp_path}/absent.sqlite')

    assert upgrade.status(database).state == 'empty'
    assert list(tmp_path.iterdir()) == []


def test_glances_database_only_gets_indexes(glances):
    schema = snapshot_schema.reflect(glances.engine)
    rows = everything(glances)
    assert upgrade.status(glances).state == 'behind'

    upgrade.ensure(glances)

    after = snapshot_schema.reflect(glances.engine)
    assert glances_part(after) == schema
    assert everything(glances) == rows
    assert set(after) - set(schema) == {
        name for name in tables.metadata.tables
        if name.startswith('import_')} | {migrations.VERSION_TABLE}
    assert set(after['images']['indexes']) - set(
        schema['images']['indexes']) == {
            'import_images_listed_idx', 'import_images_visibility_idx',
            'import_images_owner_idx', 'import_images_name_idx'}


def test_glances_database_on_a_server(synced):
    """As Glance leaves it, since its schema is the same."""
    run(synced, f'DROP TABLE {migrations.VERSION_TABLE}',
        'DROP TABLE import_staging', 'DROP TABLE import_jobs',
        'DROP TABLE import_epochs', 'DROP TABLE import_turns',
        'DROP TABLE import_atomdetails', 'DROP TABLE import_flowdetails',
        'DROP TABLE import_logbooks')
    with synced.write() as connection:
        connection.execute(tables.images.insert().values(
            id='i', status='active', created_at=NOW))
    rows = everything(synced)
    assert upgrade.status(synced).state == 'behind'

    upgrade.sync(synced)

    assert upgrade.status(synced).state == 'head'
    assert everything(synced) == rows


def test_a_later_glance_is_welcome(glances):
    run(glances, 'ALTER TABLE images ADD COLUMN os_later VARCHAR(9)',
        'CREATE TABLE later (id INTEGER)',
        "UPDATE alembic_version SET version_num = '2031_1_contract01'")

    upgrade.sync(glances)

    assert upgrade.status(glances).state == 'head'
    with glances.read() as connection:
        assert connection.exec_driver_sql(
            'SELECT version_num FROM alembic_version').fetchall() == [
                ('2031_1_contract01',)]


@pytest.mark.parametrize('statement, culprit', [
    ('ALTER TABLE tasks DROP COLUMN request_id', 'tasks.request_id'),
    ('DROP TABLE image_tags', 'image_tags'),
    ('DROP TABLE alembic_version', 'alembic_version'),
])
def test_an_older_glance_is_refused(glances, statement, culprit):
    run(glances, statement)
    schema = snapshot_schema.reflect(glances.engine)
    assert upgrade.status(glances).state == 'foreign'

    with pytest.raises(engine.DatabaseProblem, match=culprit) as caught:
        upgrade.ensure(glances)

    assert '\n' not in str(caught.value)
    assert snapshot_schema.reflect(glances.engine) == schema


def test_somebody_elses_database_is_refused(empty):
    run(empty, 'CREATE TABLE tasks (id INTEGER, title VARCHAR(9))')

    assert upgrade.status(empty).state == 'foreign'
    with pytest.raises(engine.DatabaseProblem, match='not a database of'):
        upgrade.sync(empty)
    assert set(snapshot_schema.reflect(empty.engine)) == {'tasks'}


def test_a_later_release_is_refused(synced):
    run(synced, f'UPDATE {migrations.VERSION_TABLE} '
                "SET version_num = 'import_9999'")

    assert upgrade.status(synced) == ('ahead', 'import_9999',
                                      migrations.HEAD)
    for function in (upgrade.sync, upgrade.ensure):
        with pytest.raises(engine.DatabaseProblem, match='import_9999'):
            function(synced)


def test_an_interrupted_sync_is_taken_up(synced):
    """As MySQL leaves it, which commits each statement by itself."""
    whole = snapshot_schema.reflect(synced.engine)
    mysql = synced.engine.dialect.name == 'mysql'
    run(synced, 'DROP TABLE cached_images', 'DROP TABLE image_members',
        'DROP TABLE import_jobs', 'DROP TABLE alembic_version',
        'DROP INDEX ix_tasks_owner' + (' ON tasks' if mysql else ''),
        f'DELETE FROM {migrations.VERSION_TABLE}')
    assert upgrade.status(synced).state == 'behind'

    upgrade.sync(synced)

    assert snapshot_schema.reflect(synced.engine) == whole


@pytest.mark.parametrize('server', ['postgresql', 'mariadb'])
def test_a_server_is_left_to_the_operator(connect, request, server):
    database = connect(request.getfixturevalue(server).create())

    with pytest.raises(engine.DatabaseProblem,
                       match='glance-import-manage db sync') as caught:
        upgrade.ensure(database)

    assert '\n' not in str(caught.value)
    assert snapshot_schema.reflect(database.engine) == {}


def test_many_processes_start_on_an_absent_file(tmp_path, connect):
    url = f'sqlite:///{tmp_path}/state/glance.sqlite'

    assert test_engine.together(workers.ensure, 6, url) == [''] * 6
    assert upgrade.status(connect(url)).state == 'head'


@pytest.mark.parametrize('server', ['postgresql', 'mariadb'])
def test_many_processes_sync_one_server(connect, request, server):
    url = request.getfixturevalue(server).create()

    assert test_engine.together(workers.sync, 3, url) == [''] * 3
    assert upgrade.status(connect(url)).state == 'head'


def test_a_service_at_head_does_not_load_alembic(sqlite):
    code = ('import sys\n'
            'from tests.db import workers\n'
            'from glance_import.db import upgrade\n'
            f'upgrade.ensure(workers.open_database({str(sqlite.url)!r}))\n'
            "print('alembic' in sys.modules)\n")
    answer = subprocess.run([sys.executable, '-c', code],
                            cwd=HERE.parent.parent, check=True,
                            capture_output=True, text=True)

    assert answer.stdout == 'False\n'
