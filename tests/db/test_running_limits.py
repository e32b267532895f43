"""How many imports of a project, or to a store, may run at once."""

import uuid

import pytest
import sqlalchemy as sa

from glance_import.db import job_admin
from glance_import.db import jobs
from glance_import.db import tables
from glance_import.db import turns

AREA = str(uuid.uuid4())


def post(conn, project, stores=None):
    job_id = str(uuid.uuid4())
    jobs.insert(conn, id=job_id, image_id=str(uuid.uuid4()), project=project,
                method='glance-direct', area=AREA, request={}, plugins=[],
                roles=[], stores=stores)
    return job_id


@pytest.fixture
def board(shared):
    """Three of red, one of blue, in this order; names of the ids."""
    with shared.write() as conn:
        conn.execute(sa.delete(tables.import_jobs))
        ids = [post(conn, 'red', ['fast', 'a_%"b']),
               post(conn, 'red', ['slow']), post(conn, 'red'),
               post(conn, 'blue', ['slow', 'fast'])]
        # Of one instant, they would be in the order of their ids.
        for number, job_id in enumerate(ids):
            conn.execute(sa.update(tables.import_jobs).where(
                tables.import_jobs.c.id == job_id).values(
                    created_at=float(number)))
    return dict(zip(('red-0', 'red-1', 'red-2', 'blue-0'), ids,
                    strict=True))


def waiting(shared, board, **how):
    names = {job_id: name for name, job_id in board.items()}
    with shared.read() as conn:
        return {names[job_id] for job_id in turns.waiting(
            conn, areas=[AREA], limit=10, **how)}


def claim(shared, job_id):
    with shared.write() as conn:
        assert jobs.claim(conn, job_id, token=uuid.uuid4().hex,
                          conductor='c', seconds=60)


def test_of_a_project(shared, board):
    assert waiting(shared, board) == set(board)
    assert waiting(shared, board, share=1) == {'red-0', 'blue-0'}
    claim(shared, board['red-0'])
    assert waiting(shared, board, share=1) == {'blue-0'}
    assert waiting(shared, board, share=2) == {'red-1', 'blue-0'}
    assert waiting(shared, board, share=3) == {'red-1', 'red-2', 'blue-0'}


def test_to_be_cancelled(shared, board):
    """What a conductor that is drained still takes."""
    with shared.write() as conn:
        jobs.cancel(conn, conn.execute(sa.select(jobs.Columns.image_id).where(
            jobs.Columns.id == board['red-1'])).scalar_one())
    assert waiting(shared, board, cancelled=True) == {'red-1'}
    assert waiting(shared, board) == set(board)


def test_an_approval_is_of_the_bytes_it_was_given_for(shared, board):
    """They are gone when the import begins again elsewhere."""
    job_id = board['red-0']
    with shared.write() as conn:
        job = jobs.claim(conn, job_id, token='t', conductor='c', seconds=60)
        lease = jobs.Lease(job_id, 't', job.epoch)
        assert job_admin.suspend(conn, lease, by=['inspect gate'],
                                 message='look')
        assert job_admin.approve(conn, job_id) == ['inspect gate']
        assert jobs.get(conn, job_id).approved == ['inspect gate']
        assert job_admin.unbind(conn, job_id)
        assert jobs.get(conn, job_id).approved is None
        job = jobs.claim(conn, job_id, token='u', conductor='c', seconds=60)
        lease = jobs.Lease(job_id, 'u', job.epoch)
        job_admin.suspend(conn, lease, by=['inspect gate'], message='look')
        assert job_admin.unbind(conn, job_id)
        assert job_admin.held(conn, job_id) is None
        assert jobs.get(conn, job_id).message is None


def test_of_a_store(shared, board):
    assert waiting(shared, board, full=['slow']) == {'red-0', 'red-2'}
    assert waiting(shared, board, full=['fast', 'slow']) == {'red-2'}
    assert waiting(shared, board, full=['']) == {'red-0', 'red-1', 'blue-0'}
    # Names are compared whole and letter by letter.
    assert waiting(shared, board, full=['a_%"b']) == {
        'red-1', 'red-2', 'blue-0'}
    assert waiting(shared, board, full=['low', 'a%']) == set(board)
    claim(shared, board['blue-0'])
    claim(shared, board['red-2'])
    with shared.read() as conn:
        assert turns.running_in_stores(conn) == {'slow': 1, 'fast': 1, '': 1}
