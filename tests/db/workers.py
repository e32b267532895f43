"""What test processes of their own run; each gets plain values only."""

import threading

import sqlalchemy as sa

from glance_import import conf as configuration
from glance_import.db import engine
from glance_import.db import upgrade


def open_database(url: str) -> engine.Database:
    conf = configuration.load(['--config-file', '/dev/null'])
    conf.set_override('connection', url, 'database')
    return engine.Database(conf)


def ensure(url: str, barrier, answers) -> None:
    """Start on the database at the same moment as the others."""
    _bring_to_head(upgrade.ensure, url, barrier, answers)


def sync(url: str, barrier, answers) -> None:
    """Sync the database at the same moment as the others."""
    _bring_to_head(upgrade.sync, url, barrier, answers)


def _bring_to_head(function, url: str, barrier, answers) -> None:
    database = open_database(url)
    barrier.wait(60)
    try:
        function(database)
        with database.read() as connection:
            connection.execute(sa.text('SELECT id FROM import_jobs'))
        answers.put('')
    except Exception as e:
        answers.put(repr(e))


def count(url: str, threads: int, times: int, barrier, answers) -> None:
    """Add one to a counter, ``times`` times in each thread."""
    database = open_database(url)
    errors = []

    def add() -> None:
        try:
            for _ in range(times):
                with database.write() as connection:
                    value = connection.scalar(
                        sa.text('SELECT value FROM counter'))
                    connection.execute(
                        sa.text('UPDATE counter SET value = :value'),
                        {'value': value + 1})
        except Exception as e:
            errors.append(repr(e))

    workers = [threading.Thread(target=add) for _ in range(threads)]
    barrier.wait(60)
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    answers.put('; '.join(errors))
