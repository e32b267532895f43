"""kill -9 at random moments on every kind of deployment, and a table of it.

Nothing may be lost, truncated, done twice, stuck or left behind. That a step
begins again is what a kill in its middle means; it is counted, too.
"""

import contextlib
import os
import random
import signal
import time

import pytest

from tests.faults import conftest
from tests.faults import deployment
from tests import service as services

ROWS = []
# Every kind in the long form.
SOME = deployment.KINDS if conftest.LONG else (
    ('sqlite', 'sql'), ('postgresql', 'redis'))


@pytest.fixture(scope='module', autouse=True)
def table():
    yield
    if ROWS:
        names = list(ROWS[0])
        print('\n' + ' | '.join(names))
        for row in ROWS:
            print(' | '.join(str(row[name]) for name in names))


def one_kill(made, randomness):
    """Kill something, and start again what does not by itself.

    Mostly who runs an import right now; whether there was one.
    """
    what = randomness.choice(('owner', 'owner', 'api', 'everything'))
    owners = made.execute('SELECT conductor FROM import_jobs '
                          'WHERE owner IS NOT NULL ORDER BY created_at')
    if what == 'owner' and owners:
        pid = int(owners[0][0].split(':')[1])
        if made.conductor.pid == pid:
            made.kill_two()
        elif pid in made.api.children():
            # Only then: the claim may be of one that was killed before.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if what in ('api', 'everything'):
        made.api.kill()
    if what == 'everything':
        made.kill_two()
    if made.api.process is None:
        made.api.start()
    if made.conductor is None:
        made.start_two()
    return bool(owners)


@pytest.mark.parametrize('database, board', deployment.KINDS)
def test_kills(deploy, kills, database, board):
    # Thirty in all in the short form.
    number = kills if kills >= 100 else max(1, kills // 5)
    randomness = random.Random(f'{database} {board} {number}')
    made = deploy(database, board, slow=0.03)
    hits = 0
    for _ in range(number):
        for _ in range(randomness.choice((1, 1, 2))):
            made.ask(deployment.some_bytes(randomness))
        services.wait_for(made.running)
        time.sleep(randomness.uniform(0, 0.12))
        hits += one_kill(made, randomness)
    found = made.check(120 + number)
    ROWS.append({'database': database, 'board': board, 'kills': number,
                 'while one ran': hits, 'imports': len(made.asked), **found})
    print(ROWS[-1])
    again = found.pop('steps begun again')
    assert not any(found.values()), found
    # Only what was killed in its middle: two nodes with ten slots each.
    assert again <= 2 * len(made.asked)
    assert hits


@pytest.mark.parametrize('database, board', SOME)
def test_a_conductor_that_slept_changes_nothing(deploy, database, board):
    """SIGSTOP past the claim, takeover by the other node, SIGCONT."""
    made = deploy(database, board, slow=0.7, claim_expiry=1)
    image_id = made.ask(os.urandom(100_000))
    (owner,), = services.wait_for(lambda: made.execute(
        'SELECT conductor FROM import_jobs WHERE owner IS NOT NULL'))
    services.wait_for(made.seen.exists)
    two = made.conductor.pid
    sleeper = two if f':{two}:' in owner else made.api.conductor_pid()
    log = made.nodes[1 if sleeper == two else 0]
    os.kill(sleeper, signal.SIGSTOP)
    try:
        made.api.wait_status(image_id, 'active')
        services.wait_for(lambda: made.execute(
            'SELECT count(*) FROM import_jobs') == [(0,)])
        services.wait_for(lambda: not made.api.staged())
        before = [made.execute(f'SELECT * FROM {name}') for name in (
            'images', 'tasks', 'task_info', 'image_locations',
            'import_staging')] + [made.api.stored()]
    finally:
        os.kill(sleeper, signal.SIGCONT)
    services.wait_for(lambda: 'no longer ours' in log.text())
    time.sleep(1.0)
    assert before == [made.execute(f'SELECT * FROM {name}') for name in (
        'images', 'tasks', 'task_info', 'image_locations',
        'import_staging')] + [made.api.stored()]
    found = made.check()
    found.pop('steps begun again')
    assert not any(found.values()), found


@pytest.mark.parametrize('database, board', SOME)
def test_another_node_takes_over(deploy, tmp_path, database, board):
    """How long it takes, from the kill and from being ready; printed."""
    # It runs until this test has seen all it wants to see.
    gate = tmp_path / 'go on'
    made = deploy(database, board, environment={'SLOW_UNTIL': str(gate)})
    made.kill_two(signal.SIGTERM)
    made.ask(os.urandom(100_000))
    services.wait_for(made.running)

    def owner():
        found = made.execute(
            'SELECT owner FROM import_jobs WHERE owner IS NOT NULL')
        return found[0][0] if found else None

    first = owner()
    made.start_two()
    services.wait_for(lambda: 'at once' in made.nodes[1].text().rpartition(
        'ends')[2])
    made.api.kill()
    killed = time.monotonic()
    services.wait_for(lambda: owner() not in (None, first))
    elsewhere = time.monotonic() - killed
    second = owner()
    made.kill_two()
    begun = made.nodes[1].text().count('runs up to')
    made.start_two()
    services.wait_for(
        lambda: made.nodes[1].text().count('runs up to') > begun)
    ready = time.monotonic()
    services.wait_for(lambda: owner() not in (None, second))
    here = time.monotonic() - ready
    print(f'{database}/{board}: by another node {elsewhere:.2f} s after the '
          f'kill (claim_expiry 2 s), by the same node {here:.2f} s after it '
          'was ready')
    gate.touch()
    made.api.start()
    found = made.check()
    found.pop('steps begun again')
    assert not any(found.values()), found
