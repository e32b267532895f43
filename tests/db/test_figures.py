"""Figures of the queue, on each kind of database."""

import uuid

import sqlalchemy as sa

from glance_import.db import conductors
from glance_import.db import figures
from glance_import.db import jobs
from glance_import.db import tables
from glance_import.db import tasks


def post(conn, **values):
    job_id = str(uuid.uuid4())
    tasks.insert(conn, id=job_id, type='api_image_import', owner='p',
                 image_id=job_id, request_id='r', user_id='u', input={})
    jobs.insert(conn, id=job_id, image_id=job_id, project='p',
                user_id='u', roles=[], request_id='r', area=None,
                method='glance-direct', request={}, plugins=[], **values)
    return job_id


def test_the_queue(shared):
    with shared.read() as conn:
        found = figures.queue(conn)
    assert (found.waiting, found.running, found.oldest,
            found.conductors) == (0, 0, 0, 0)
    with shared.write() as conn:
        first, _second, third = (post(conn) for _ in range(3))
        conn.execute(sa.update(tables.import_jobs).where(
            jobs.Columns.id == first).values(
                created_at=tables.db_now() - 100))
        job = jobs.claim(conn, third, token='t', conductor='c', seconds=60)
        conductors.announce(conn, name='c', node='n', area='a', version='1',
                            honours=None)
    assert job.first and job.waited >= 0
    with shared.read() as conn:
        found = figures.queue(conn)
        again = jobs.get(conn, third)
    assert (found.waiting, found.running, found.conductors) == (2, 1, 1)
    assert 100 <= found.oldest < 1000
    # One that waits for an operator waits for no conductor.
    with shared.write() as conn:
        conn.execute(sa.update(tables.import_jobs).where(
            jobs.Columns.id == first).values(held_at=tables.db_now()))
        found = figures.queue(conn)
    assert (found.waiting, found.running, found.held) == (1, 1, 1)
    assert found.oldest < 100
    assert again.running >= 0 and not again.first


def test_only_the_first_lease_is_the_first(shared):
    with shared.write() as conn:
        job_id = post(conn)
        taken = jobs.claim(conn, job_id, token='t', conductor='c', seconds=60)
        jobs.release(conn, jobs.Lease(job_id, 't', taken.epoch),
                     refund_attempt=True)
        again = jobs.claim(conn, job_id, token='s', conductor='c', seconds=60)
    assert (taken.first, again.first) == (True, False)
    assert again.waited == taken.waited
