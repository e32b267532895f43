"""The conductor's threads: none waits for what another one waits for.

It runs in this process, so that a test can hold up a part of it; the API
beside it is a process of its own.
"""

import contextlib
import os
import threading

import pytest

from glance_import import conf as configuration
from glance_import.db import turns as db_turns
from glance_import import housekeeping
from glance_import.imports import conductor as conductors
from glance_import.imports import executor
from glance_import import startup
from tests import service as services

EXPIRY = 1


@pytest.fixture
def running(make_service):
    """Start a service and then, in this process, its conductor."""
    with contextlib.ExitStack() as ends:
        def make():
            service = make_service(options={'taskflow_executor': {
                'embedded_conductor': False, 'claim_expiry': EXPIRY,
                'poll_interval': 1}}).start()
            box = startup.open_all(
                configuration.load(['--config-dir', str(service.conf)]),
                accepting=False)
            ends.callback(box.close)
            runner = conductors.Conductor(box)
            thread = threading.Thread(target=runner.run)
            thread.start()
            ends.callback(thread.join)
            ends.callback(runner.stop)
            return service, runner, box

        yield make


def test_imports_run_while_stores_are_looked_through(running, monkeypatch):
    begun, over = threading.Event(), threading.Event()

    def look(_box):
        begun.set()
        assert over.wait(services.DEADLINE)

    monkeypatch.setattr(housekeeping, 'clean', look)
    service, _runner, _box = running()
    try:
        assert begun.wait(services.DEADLINE)
        image_id = service.ask(os.urandom(10_000))
        service.wait_status(image_id, 'active')
    finally:
        over.set()


def test_a_claim_is_kept_whatever_the_board_says(running, monkeypatch):
    held = []

    def run(self, job, lease, stopped):
        # Three times as long as a claim lasts that nobody renews.
        stopped.wait(3 * EXPIRY)
        with self._services.db.read() as conn:
            free = db_turns.waiting(conn, areas=None, limit=10)
        held.append(job.id not in free and not stopped.is_set())
        raise executor.Interrupted

    monkeypatch.setattr(executor.TaskFlowExecutor, 'run', run)
    service, runner, box = running()

    def refuse(_posting, _seconds):
        raise RuntimeError('the board has lost it')

    monkeypatch.setattr(box.board, 'renew', refuse)
    service.ask(os.urandom(10_000))
    services.wait_for(lambda: held)
    assert held[0]
