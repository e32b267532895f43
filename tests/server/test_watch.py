"""Workers that stand still are replaced; signals sent out of habit are not
the end.
"""

import os
import signal
import time

import pytest

import server_harness
from test_http_server import ask_json
from test_http_server import get
from test_http_server import head
from test_http_server import response


@pytest.mark.parametrize('how, words', [
    ('sleep', 'stand_still'), ('regex', 'stand_still'), ('stop', '')])
def test_a_worker_that_stands_still_is_replaced(start, how, words):
    server = start(worker_hang_timeout=1, workers=2)
    old = server_harness.wait_for(
        lambda: len(server.children()) == 2 and sorted(server.children()))
    if how == 'stop':
        hung = old[0]
        os.kill(hung, signal.SIGSTOP)
    else:
        server.send(get(f'/hang?how={how}')).close()
        hung = int(server_harness.wait_for(
            lambda: 'stands still: ' in server.output()
            and server.output().split('stands still: ')[1].split()[0]))
    server_harness.wait_for(lambda: hung not in server.children()
                            and len(server.children()) == 2)
    # The other one is still there, and no request is lost any more.
    assert set(old) - set(server.children()) == {hung}
    for _ in range(10):
        assert ask_json(server, '/state')['pid'] in server.children()
    output = server.output()
    assert f'worker {hung} has not moved for' in output
    assert f'worker {hung} ended with signal 9' in output
    told = output.split('its threads:')[1]
    assert words in told
    assert 'it does not tell' in told if how == 'stop' else (
        # Every native thread, and what the event loop would go on with.
        '_work' in told and 'Thread 0x' in told)


def test_workers_that_work_hard_are_left_alone(start):
    server = start(worker_hang_timeout=2)
    old = server.children()
    waiting = [server.send(get(path)) for path in
               ['/sleep?seconds=4'] * 25 + ['/busy?seconds=4'] * 4]
    waiting += [server.send(head(10) + b'x')]
    try:
        for sock in waiting[:-1]:
            assert response(sock).status == 200
        waiting[-1].sendall(b'x' * 9)
        assert response(waiting[-1]).status == 200
    finally:
        for sock in waiting:
            sock.close()
    assert server.children() == old


def test_a_machine_that_slept(start):
    """Parent and children were stopped: nobody was looking."""
    server = start(worker_hang_timeout=3)
    old = server.children()
    os.killpg(server.pid, signal.SIGSTOP)
    time.sleep(4)
    os.killpg(server.pid, signal.SIGCONT)
    for _ in range(10):
        assert ask_json(server, '/state')['pid'] == old[0]
        time.sleep(0.2)
    assert 'has not moved' not in server.output()


def test_without_a_limit(start):
    server = start(worker_hang_timeout=0, workers=2)
    old = server_harness.wait_for(
        lambda: len(server.children()) == 2 and server.children())
    os.kill(old[0], signal.SIGSTOP)
    time.sleep(2)
    os.kill(old[0], signal.SIGCONT)
    assert server.children() == old


@pytest.mark.parametrize('number', [signal.SIGUSR1, signal.SIGUSR2])
def test_signals_that_end_nothing(server, number):
    old = server.children()
    with server.send(head(4) + b'ab') as upload:
        for pid in (server.pid, *old):
            os.kill(pid, number)
        server_harness.wait_for(lambda: server.output().count(
            f'{number.name}: thread MainThread') == 2)
        upload.sendall(b'cd')
        assert response(upload).status == 200
    assert ask_json(server, '/state')['pid'] == old[0]
    # Who waits where: the parent, native threads, green threads.
    for words in ('in _turn', 'thread request-0', 'green thread(s)',
                  'in _accept', 'in _tell_turns'):
        server_harness.wait_for(lambda: words in server.output())
    os.killpg(server.pid, number)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
