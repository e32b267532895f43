"""What is still to be deleted, and by whom, on each kind of database."""

import pytest
import sqlalchemy as sa

from glance_import.db import deletions
from glance_import.db import tables

PAYLOAD = {'key': 'k\u00e9y', 'number': 1}


@pytest.fixture
def deletion(shared):
    with shared.write() as conn:
        conn.execute(sa.delete(tables.import_deletions))
        return deletions.insert(conn, 'kind', PAYLOAD, image_id='image',
                                area='mine', seconds=60)


def due(shared, area='mine'):
    with shared.read() as conn:
        return deletions.due(conn, area, 10)


def let_be_due(shared):
    with shared.write() as conn:
        conn.execute(sa.update(tables.import_deletions).where(
            tables.import_deletions.c.next_at.is_not(None)).values(
                next_at=tables.db_now() - 1))


def test_the_first_attempt_is_of_who_wrote_it(shared, deletion):
    assert due(shared) == []
    with shared.write() as conn:
        assert deletions.take(conn, deletion.id, 60) is None
    let_be_due(shared)
    assert due(shared) == [deletion.id]
    assert due(shared, 'another') == []
    with shared.write() as conn:
        taken = deletions.take(conn, deletion.id, 60)
    assert (taken.kind, taken.image_id, taken.payload, taken.attempts) == (
        'kind', 'image', PAYLOAD, 2)
    with shared.write() as conn:
        assert deletions.take(conn, deletion.id, 60) is None


def test_again_later_or_never(shared, deletion):
    with shared.write() as conn:
        deletions.put_off(conn, deletion, 'away', 60)
    assert due(shared) == []
    let_be_due(shared)
    assert due(shared) == [deletion.id]
    with shared.write() as conn:
        deletions.put_off(conn, deletion, 'never', None)
    let_be_due(shared)
    assert due(shared) == []
    with shared.write() as conn:
        deletions.done(conn, deletion.id)
        assert conn.scalar(sa.select(sa.func.count()).select_from(
            tables.import_deletions)) == 0


def test_what_any_node_can_do(shared):
    with shared.write() as conn:
        conn.execute(sa.delete(tables.import_deletions))
        made = deletions.insert(conn, 'kind', PAYLOAD, seconds=0)
    let_be_due(shared)
    assert due(shared) == due(shared, 'another') == [made.id]
