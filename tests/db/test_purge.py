"""db purge: what was deleted long ago goes for good, and nothing else."""

import datetime
import uuid

import pytest
import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import.db import jobs
from glance_import.db import purge
from glance_import.db import tables

OLD = datetime.datetime(2020, 1, 1)
LIMIT = datetime.datetime(2021, 1, 1)
OF_IMAGE = (tables.image_properties, tables.image_tags,
            tables.image_locations, tables.image_members)


def make_image(conn, deleted=None):
    """With one row of everything, all of it deleted at that time, or not."""
    image_id = str(uuid.uuid4())
    common = {'created_at': OLD, 'deleted': deleted is not None,
              'deleted_at': deleted}
    conn.execute(sa.insert(tables.images).values(
        id=image_id, status='deleted' if deleted else 'active',
        min_disk=0, min_ram=0, **common))
    for table, values in zip(OF_IMAGE, (
            {'name': 'a', 'value': 'b'}, {'value': 't'}, {'value': 'file:///'},
            {'member': 'm'}), strict=True):
        conn.execute(sa.insert(table).values(
            image_id=image_id, **values, **common))
    jobs.next_epoch(conn, image_id)
    return image_id


def count(conn, table, image_id):
    column = table.c.id if table is tables.images else table.c.image_id
    return conn.execute(sa.select(sa.func.count()).where(
        column == image_id)).scalar_one()


@pytest.fixture
def images(shared):
    with shared.write() as conn:
        return {'old': make_image(conn, OLD),
                'fresh': make_image(conn, engine.utcnow()),
                'live': make_image(conn),
                'pending': make_image(conn, OLD)}


def test_images_stay_until_they_are_asked_for(shared, images):
    with shared.write() as conn:
        conn.execute(sa.insert(tables.import_deletions).values(
            id=str(uuid.uuid4()), kind='k', image_id=images['pending'],
            payload='{}', created_at=0.0))
        # Of an image that lives: a property that was taken away.
        conn.execute(sa.update(tables.image_tags).where(
            tables.image_tags.c.image_id == images['live']).values(
                deleted=True, deleted_at=OLD))
        found = purge.rows(conn, LIMIT, 1000)
        assert found['image_properties'] >= 2 and found['image_tags'] >= 3
        for table in OF_IMAGE:
            assert not count(conn, table, images['old'])
            assert count(conn, table, images['fresh']) == 1
        assert count(conn, tables.images, images['old'])
        found = purge.images(conn, LIMIT, 1000)
        assert found['images'] >= 1
        for table in (tables.images, tables.import_epochs):
            assert not count(conn, table, images['old'])
            for name in ('fresh', 'live', 'pending'):
                assert count(conn, table, images[name]) == 1, name
    with shared.read() as conn:
        assert db_images.get(conn, images['live'], db_images.EVERYTHING
                             ).properties == {'a': 'b'}


def test_tasks_and_bounds(shared):
    ids = [str(uuid.uuid4()) for _ in range(5)]
    with shared.write() as conn:
        for number, task_id in enumerate(ids):
            conn.execute(sa.insert(tables.tasks).values(
                id=task_id, type='import', status='success', owner='o',
                created_at=OLD, updated_at=OLD, deleted=number < 4,
                deleted_at=OLD if number < 4 else None))
            conn.execute(sa.insert(tables.task_info).values(task_id=task_id))
        assert purge.rows(conn, LIMIT, 3)['tasks'] == 3
        assert purge.rows(conn, LIMIT, 3)['tasks'] == 1
        assert purge.rows(conn, LIMIT, 3)['tasks'] == 0
        assert conn.execute(sa.select(tables.task_info.c.task_id).where(
            tables.task_info.c.task_id.in_(ids))).scalars().all() == ids[4:]


def test_an_image_deleted_without_anything_else(shared):
    """Its rows may have been left undeleted by another service."""
    with shared.write() as conn:
        image_id = make_image(conn, OLD)
        conn.execute(sa.update(tables.image_members).where(
            tables.image_members.c.image_id == image_id).values(
                deleted=False, deleted_at=None))
        purge.images(conn, LIMIT, 1000)
        assert not count(conn, tables.images, image_id)
        assert not count(conn, tables.image_members, image_id)
