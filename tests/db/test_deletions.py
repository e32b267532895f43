"""What is still to be deleted, and by whom, on each kind of database."""

import pytest
import sqlalchemy as sa

from glance_import.db import deletions
from glance_import.db import tables

PAYLOAD = {'key': 'k\u00e9y', 'number': 1}


@pytest.fixture
def deletion(synced):
    with synced.write() as conn:
        return deletions.insert(conn, 'kind', PAYLOAD, image_id='image',
                                area='mine', seconds=60)


def due(synced, area='mine'):
    with synced.read() as conn:
        return deletions.due(conn, area, 10)


def let_be_due(synced):
    with synced.write() as conn:
        conn.execute(sa.update(tables.import_deletions).where(
            tables.import_deletions.c.next_at.is_not(None)).values(
                next_at=tables.db_now() - 1))


def test_the_first_attempt_is_of_who_wrote_it(synced, deletion):
    assert due(synced) == []
    with synced.write() as conn:
        assert deletions.take(conn, deletion.id, 60) is None
    let_be_due(synced)
    assert due(synced) == [deletion.id]
    assert due(synced, 'another') == []
    with synced.write() as conn:
        taken = deletions.take(conn, deletion.id, 60)
    assert (taken.kind, taken.image_id, taken.payload, taken.attempts) == (
        'kind', 'image', PAYLOAD, 2)
    with synced.write() as conn:
        assert deletions.take(conn, deletion.id, 60) is None


def test_again_later_or_never(synced, deletion):
    with synced.write() as conn:
        deletions.put_off(conn, deletion, 'away', 60)
    assert due(synced) == []
    let_be_due(synced)
    assert due(synced) == [deletion.id]
    with synced.write() as conn:
        deletions.put_off(conn, deletion, 'never', None)
    let_be_due(synced)
    assert due(synced) == []
    with synced.write() as conn:
        deletions.done(conn, deletion.id)
        assert conn.scalar(sa.select(sa.func.count()).select_from(
            tables.import_deletions)) == 0


def test_what_any_node_can_do(synced):
    with synced.write() as conn:
        made = deletions.insert(conn, 'kind', PAYLOAD, seconds=0)
    let_be_due(synced)
    assert due(synced) == due(synced, 'another') == [made.id]
