"""Texts that a collation takes for one, told apart by every query."""

import uuid

import pytest
import sqlalchemy as sa

from glance_import.db import images
from glance_import.db import members
from glance_import.db import names
from glance_import.db import spelling
from glance_import.db import tables
from glance_import.db import usage
from glance_import import errors

TEXTS = ('file:///Images/a', 'file:///images/a')


@pytest.fixture
def make(shared):
    def make(properties=None, tags=(), **values):
        image_id = str(uuid.uuid4())
        with shared.write() as conn:
            images.insert(conn, {
                'id': image_id, 'status': 'active', 'visibility': 'shared',
                'min_disk': 0, 'min_ram': 0, 'protected': False,
                'os_hidden': False, 'owner': 'red', **values},
                properties or {}, tags)
        return image_id
    return make


def test_locations(shared, make):
    image_id = make(size=5)
    with shared.write() as conn:
        for each in TEXTS:
            images.add_location(conn, image_id, each, {})
        images.set_location_metadata(conn, image_id, TEXTS[1], {'x': 1})
        images.drop_location(conn, image_id, TEXTS[0])
        assert images.locations(conn, [image_id]) == [
            images.Location(TEXTS[1], {'x': 1})]
        images.drop_location(conn, image_id, TEXTS[1])
        images.revive_location(conn, image_id, TEXTS[0])
        assert [each.url for each in images.locations(conn, [image_id])
                ] == [TEXTS[0]]
    other = make(status='queued')
    with shared.read() as conn:
        assert images.owned_by_another(conn, other, TEXTS[0], ())
        assert not images.owned_by_another(conn, other, TEXTS[1], ())


def test_usage_of_projects(shared, make):
    make(owner='usage')
    make(owner='USAGE')
    with shared.read() as conn:
        assert usage.count(conn, 'usage') == usage.count(conn, 'USAGE') == 1
        assert usage.count(conn, 'Usage') == usage.count(conn, None) == 0


def test_members_that_glance_has_let_in(shared, make):
    """Their rows share a key once they are deleted at one moment."""
    image_id = make()
    with shared.write() as conn:
        for each in ('blue', 'BLUE', 'Blue', 'green'):
            members.insert(conn, image_id, each)
        images.delete_parts(conn, image_id)
    with shared.read() as conn:
        assert members.of_image(conn, image_id) == []


def test_a_name_of_the_service_that_glance_has_let_in(shared, make):
    """It is taken over, so that no import is left without its end."""
    image_id = make({'OS_GLANCE_import_error': 'mine'})
    with shared.write() as conn:
        images.set_property(conn, image_id, 'os_glance_import_error', 'why',
                            own=True)
        assert images.properties(
            conn, image_id)['os_glance_import_error'] == 'why'
        assert images.drop_property(conn, image_id, 'os_glance_import_error')


def test_which_names_are_one(shared, make):
    image_id = make({'abc': '1'})
    is_exact = shared.engine.dialect.name != 'mysql'
    with shared.write() as conn:
        assert names.alike(conn, image_id, ['ABC', 'x']) == (
            None if is_exact else 'abc')
        assert names.alike(conn, image_id, ['abc']) is None
        if is_exact:
            images.set_property(conn, image_id, 'ABC', '2')
        else:
            with pytest.raises(errors.Conflict, match='abc and ABC'):
                images.set_property(conn, image_id, 'ABC', '2')
        assert images.properties(conn, image_id)['abc'] == '1'
        assert not images.drop_property(conn, image_id, 'Abc')


def test_conditions(shared, make):
    ids = [make(name=each, checksum='c') for each in (*TEXTS, None)]
    column = tables.images.c.name

    def found(condition):
        with shared.read() as conn:
            return set(conn.execute(sa.select(tables.images.c.id).where(
                condition, tables.images.c.checksum == 'c')).scalars())
    assert found(spelling.exactly(column, TEXTS[0])) == {ids[0]}
    assert found(spelling.exactly(column, None)) == {ids[2]}
    assert found(spelling.among(column, TEXTS)) == set(ids[:2])
    assert found(spelling.among(column, [TEXTS[1], 'x'])) == {ids[1]}
    assert found(spelling.exactly(column, TEXTS[0] + ' ')) == set()


def test_plain_names():
    assert spelling.is_plain('os_distro')
    for each in ('OS_distro', 'caf\u00e9', 'a b', 'a\n', ''):
        assert not spelling.is_plain(each)
