import multiprocessing
import os
import stat
import subprocess
import sys
import threading
import time

from oslo_db import exception as db_exception
import pymysql
import pytest
import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import tables
from tests.db import workers

PROCESSES = 4
THREADS = 8
TIMES = 15


def job(name, **values):
    values = {'method': 'glance-direct', 'created_at': 0.0,
              'image_id': 'image'} | values
    return tables.import_jobs.insert().values(id=name, **values)


def job_ids(database):
    with database.read() as connection:
        return set(connection.scalars(sa.select(tables.import_jobs.c.id)))


def together(target, number, *args):
    """Run ``target`` in ``number`` processes at once; their answers."""
    spawn = multiprocessing.get_context('spawn')
    barrier = spawn.Barrier(number)
    answers = spawn.Queue()
    processes = [spawn.Process(target=target, args=(*args, barrier, answers))
                 for _ in range(number)]
    for process in processes:
        process.start()
    try:
        return [answers.get(timeout=120) for _ in processes]
    finally:
        for process in processes:
            process.join(60)


def in_child(function):
    """Fork; the child's exit status, 0 when ``function`` returned True."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if function() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_write_commits(synced):
    with synced.write() as connection:
        connection.execute(job('a'))

    assert job_ids(synced) == {'a'}


def test_write_rolls_back_on_exception(synced):
    with pytest.raises(KeyError):
        with synced.write() as connection:
            connection.execute(job('a'))
            raise KeyError

    assert job_ids(synced) == set()
    with synced.write() as connection:
        connection.execute(job('b'))
    assert job_ids(synced) == {'b'}


def test_read_keeps_nothing(synced):
    with synced.read() as connection:
        connection.execute(job('a'))

    assert job_ids(synced) == set()


def test_a_duplicate_is_named_as_such(synced):
    with synced.write() as connection:
        connection.execute(job('a'))

    with pytest.raises(db_exception.DBDuplicateEntry):
        with synced.write() as connection:
            connection.execute(job('a'))


def test_readers_do_not_wait_for_a_writer(synced):
    with synced.write() as connection:
        connection.execute(job('a'))
        assert job_ids(synced) == set()

    assert job_ids(synced) == {'a'}


def test_what_a_writer_read_stays_true(sqlite, connect):
    other = connect(sqlite.url)
    began = threading.Event()

    def interfere():
        with other.write() as connection:
            began.set()
            connection.execute(job('a'))

    with sqlite.write() as connection:
        query = sa.select(sa.func.count()).select_from(tables.import_jobs)
        before = connection.scalar(query)
        thread = threading.Thread(target=interfere)
        thread.start()
        # It cannot begin before we end; waiting only gives it the chance.
        assert not began.wait(0.2)
        assert connection.scalar(query) == before
        connection.execute(job('b'))
    thread.join()

    assert job_ids(sqlite) == {'a', 'b'}


def test_write_inside_write_is_refused(sqlite):
    with sqlite.write():
        with pytest.raises(RuntimeError, match='inside'):
            with sqlite.write():
                pass
    with sqlite.write() as connection:
        connection.execute(job('a'))
    assert job_ids(sqlite) == {'a'}


def test_many_writers_on_one_file(sqlite):
    with sqlite.write() as connection:
        connection.exec_driver_sql('CREATE TABLE counter (value INTEGER)')
        connection.exec_driver_sql('INSERT INTO counter VALUES (0)')

    answers = together(workers.count, PROCESSES, str(sqlite.url), THREADS,
                       TIMES)

    assert answers == [''] * PROCESSES
    with sqlite.read() as connection:
        value = connection.exec_driver_sql('SELECT value FROM counter')
        assert value.scalar() == PROCESSES * THREADS * TIMES


def driver_connection(database):
    with database.read() as connection:
        connection.execute(sa.select(tables.tasks.c.id)).all()
        return connection.connection.driver_connection


def test_fork_gives_the_child_connections_of_its_own(synced):
    parents = driver_connection(synced)
    assert driver_connection(synced) is parents
    if synced.is_sqlite:
        synced.dispose()

    def child():
        own = driver_connection(synced) is not parents
        with synced.write() as connection:
            connection.execute(job('child'))
        synced.dispose()
        return own

    assert in_child(child) == 0
    with synced.write() as connection:
        connection.execute(job('parent'))
    assert job_ids(synced) == {'child', 'parent'}


def test_the_end_of_a_child_leaves_the_parents_session(connect, postgresql):
    database = connect(postgresql.create())

    def session():
        with database.read() as connection:
            return connection.exec_driver_sql(
                'SELECT pg_backend_pid()').scalar()

    before = session()
    assert in_child(lambda: session() != before) == 0
    assert session() == before


def is_refused(database):
    """Whether this process, a child, does not get to use the file."""
    for use in (database.read, database.write):
        with pytest.raises(engine.DatabaseProblem, match='forked'):
            with use():
                pass
    return True


def test_an_open_file_is_not_for_children(sqlite):
    """Used or idle; a child of the child inherits it as well."""
    with sqlite.read() as connection:
        connection.execute(sa.select(tables.tasks.c.id)).all()
        assert in_child(lambda: is_refused(sqlite)) == 0
    assert in_child(lambda: is_refused(sqlite)) == 0
    assert in_child(lambda: in_child(lambda: is_refused(sqlite)) == 0) == 0

    sqlite.dispose()
    assert in_child(lambda: job_ids(sqlite) == set()) == 0
    assert in_child(
        lambda: in_child(lambda: job_ids(sqlite) == set()) == 0) == 0
    assert job_ids(sqlite) == set()


def test_what_is_in_use_is_not_closed_for_a_child(sqlite):
    with sqlite.read():
        sqlite.dispose()
        assert in_child(lambda: is_refused(sqlite)) == 0
    sqlite.dispose()


def test_disposed_of_is_closed(sqlite):
    def descriptors():
        found = (os.path.realpath(f'/proc/self/fd/{number}')
                 for number in os.listdir('/proc/self/fd'))
        return [path for path in found
                if path.startswith(sqlite.url.database)]

    with sqlite.write() as writer, sqlite.read() as reader:
        writer.execute(job('a'))
        reader.execute(sa.select(tables.tasks.c.id)).all()
        assert descriptors()
    sqlite.dispose()
    assert descriptors() == []


def test_a_fork_waits_for_no_lock_of_the_parent(sqlite):
    """Another thread writes: the child refuses, the parent goes on."""
    writing = threading.Event()
    forked = threading.Event()

    def write():
        with sqlite.write() as connection:
            connection.execute(job('thread'))
            writing.set()
            forked.wait(60)

    thread = threading.Thread(target=write)
    thread.start()
    writing.wait(60)
    try:
        assert in_child(lambda: is_refused(sqlite)) == 0
    finally:
        forked.set()
        thread.join()

    with sqlite.write() as connection:
        connection.execute(job('later'))
    assert job_ids(sqlite) == {'thread', 'later'}
    # Nothing is open any more: the next child is welcome.
    sqlite.dispose()
    assert in_child(lambda: job_ids(sqlite) == {'thread', 'later'}) == 0


def test_sqlite_settings(sqlite):
    def pragma(name):
        with sqlite.read() as connection:
            return connection.exec_driver_sql(f'PRAGMA {name}').scalar()

    assert pragma('journal_mode') == 'wal'
    assert pragma('synchronous') == 2
    assert pragma('foreign_keys') == 1
    assert pragma('busy_timeout') == 30000


def test_foreign_keys_hold(synced):
    with pytest.raises(db_exception.DBReferenceError):
        with synced.write() as connection:
            connection.execute(tables.task_info.insert().values(task_id='x'))


def test_sqlite_file_is_private(connect, tmp_path):
    directory = tmp_path / 'state'
    database = connect(f'sqlite:///{directory}/glance.sqlite')
    assert not directory.exists()

    with database.write() as connection:
        connection.exec_driver_sql('CREATE TABLE t (x INTEGER)')
        modes = {path.name: stat.S_IMODE(path.stat().st_mode)
                 for path in directory.iterdir()}

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert modes == {'glance.sqlite': 0o600, 'glance.sqlite-wal': 0o600,
                     'glance.sqlite-shm': 0o600}


@pytest.mark.parametrize('url, culprit', [
    ('sqlite://', 'by its path'),
    ('sqlite:///:memory:', 'by its path'),
    ('nonsense', 'parse'),
    ('oracle+nothing://host/x', 'oracle.nothing'),
    ('', 'not set'),
])
def test_a_url_that_cannot_be_used(connect, url, culprit):
    with pytest.raises(engine.DatabaseProblem, match=culprit) as caught:
        connect(url)

    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('given, meant', (
    ('mysql+pymysql://u:p@h/g?charset=utf8',
     'mysql+pymysql://u:p@h/g?charset=utf8mb4'),
    ('mariadb+pymysql://u:p@h/g', 'mysql+pymysql://u:p@h/g'),
    ('mysql+pymysql://u:p@h/g?charset=latin1&x=y',
     'mysql+pymysql://u:p@h/g?charset=latin1&x=y'),
    ('postgresql+psycopg2://u:p@h/mariadb',
     'postgresql+psycopg2://u:p@h/mariadb')))
def test_how_a_server_is_spoken_to(connect, given, meant):
    assert connect(given).url.render_as_string(
        hide_password=False) == meant


def test_a_directory_that_cannot_be_made(connect, tmp_path):
    (tmp_path / 'file').write_text('')
    database = connect(f'sqlite:///{tmp_path}/file/glance.sqlite')

    with pytest.raises(engine.DatabaseProblem, match='file/glance.sqlite'):
        database.wait()


def test_a_server_that_does_not_answer(connect):
    database = connect('postgresql+psycopg2://user:secret@127.0.0.1:1/x',
                       max_retries=2, retry_interval=0)

    with pytest.raises(engine.DatabaseProblem, match='127.0.0.1') as caught:
        database.wait()

    assert '\n' not in str(caught.value)
    assert 'secret' not in str(caught.value)


def test_postgresql_settings(connect, postgresql):
    with connect(postgresql.create()).read() as connection:
        def show(name):
            return connection.exec_driver_sql(f'SHOW {name}').scalar()

        assert show('idle_in_transaction_session_timeout') == '5s'
        assert show('transaction_isolation') == 'read committed'


def test_mariadb_settings(connect, mariadb):
    with connect(mariadb.create()).read() as connection:
        assert connection.exec_driver_sql(
            'SELECT @@tx_isolation, @@idle_transaction_timeout, '
            '@@innodb_lock_wait_timeout').one() == ('READ-COMMITTED', 5, 20)


def test_a_lost_connection_is_replaced(connect, postgresql):
    database = connect(postgresql.create())
    with database.read() as connection:
        pid = connection.exec_driver_sql('SELECT pg_backend_pid()').scalar()
    postgresql.execute(f'SELECT pg_terminate_backend({pid})')

    with database.read() as connection:
        assert connection.exec_driver_sql('SELECT 1').scalar() == 1


@pytest.mark.parametrize('failure', (
    db_exception.DBDeadlock(), db_exception.DBConsistencyError(),
    db_exception.DBConnectionError(sa.exc.OperationalError(
        'x', {}, pymysql.err.OperationalError(1047, 'not yet prepared')))))
def test_what_was_rolled_back_is_done_again(failure):
    tries = []

    @engine.retried
    def fail_twice():
        tries.append(1)
        if len(tries) < 3:
            raise failure
        return 'done'

    assert fail_twice() == 'done'
    assert len(tries) == 3


@pytest.mark.parametrize('failure', (
    db_exception.DBDuplicateEntry(), db_exception.DBConnectionError(
        sa.exc.OperationalError('x', {}, pymysql.err.OperationalError(
            2013, 'lost')))))
def test_what_may_have_happened_is_not_done_again(failure):
    tries = []

    @engine.retried
    def fail():
        tries.append(1)
        raise failure

    with pytest.raises(type(failure)):
        fail()
    assert len(tries) == 1


def test_the_databases_clock(synced):
    with synced.read() as connection:
        now = connection.scalar(sa.select(tables.db_now()))

    assert isinstance(now, float)
    # Of one machine; a zone taken for UTC would be far off.
    assert abs(now - time.time()) < 60


def test_the_clock_in_an_update(synced):
    jobs = tables.import_jobs
    with synced.write() as connection:
        connection.execute(job('a'))
        connection.execute(jobs.update().values(
            claim_expires=tables.db_now() + 3600.0))
        expired = sa.select(jobs.c.id).where(
            jobs.c.claim_expires < tables.db_now())
        assert connection.scalars(expired).all() == []
        connection.execute(jobs.update().values(
            claim_expires=tables.db_now() - 3600.0))
        assert connection.scalars(expired).all() == ['a']


def test_utcnow_is_naive_and_whole():
    now = engine.utcnow()

    assert (now.tzinfo, now.microsecond) == (None, 0)


FORKS = '''
import os, subprocess, sys, threading
from glance_import import conf as configuration
from glance_import.db import engine

conf = configuration.load(['--config-file', '/dev/null'])
conf.set_override('connection', f'sqlite:///{sys.argv[1]}', 'database')
kept = [engine.Database(conf) for _ in range(2)]


def spawn():
    for _ in range(40):
        subprocess.Popen(['true'], preexec_fn=lambda: None).wait()


threads = [threading.Thread(target=spawn, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print('all ended', flush=True)
os._exit(0)
'''


def test_threads_that_fork_at_the_same_moment(tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', FORKS, str(tmp_path / 'x.sqlite')],
        capture_output=True, text=True, timeout=60)
    assert done.stdout == 'all ended\n', done
