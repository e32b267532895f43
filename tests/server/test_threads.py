"""Who answers requests: one thread as a rule, more where that is of use."""

import select
import socket
import threading
import time

import pytest

from glance_import.server import idle
from glance_import.server import threads
import server_harness


class Client:
    """A connection of which each byte is a request."""

    def __init__(self, answer):
        self.here, self._there = socket.socketpair()
        self._there.setblocking(False)
        self._answer = answer

    def fileno(self):
        return self._there.fileno()

    def serve(self):
        self._answer(self, self._there.recv(1))

    def reply(self):
        self._there.send(b'.')


class Serving:
    """Request threads, and what a worker's event loop does for them."""

    def __init__(self, answer, clients, count=8):
        self.idle = idle.IdleConnections()
        self.clients = [Client(answer) for _ in range(clients)]
        self._watch, self._awake = threading.Event(), threading.Event()
        self._over = False
        self.threads = threads.RequestThreads(
            count, self.idle, self._awake.set, self._watch.set)
        self._watch.set()
        self._own = [threading.Thread(target=run, daemon=True)
                     for run in (self._watch_idle, self._relieve)]
        for client in self.clients:
            self.idle.add(client)
        for thread in self._own:
            thread.start()

    def _watch_idle(self):
        while not self._over:
            if not self._watch.wait(0.1):
                continue
            poll = select.poll()
            poll.register(self.idle.fileno(), select.POLLIN)
            if poll.poll(100):
                self._watch.clear()
                self.threads.take_over()

    def _relieve(self):
        while not self._over:
            if not self._awake.wait(0.1):
                continue
            self._awake.clear()
            while self.threads.awake and not self._over:
                time.sleep(0.02)
                self.threads.relieve()

    def stop(self):
        self._over = True
        for thread in self._own:
            thread.join()
        for client in self.clients:
            self.idle.forget(client)


@pytest.fixture
def serving():
    made = []

    def make(*args, **kwargs):
        made.append(Serving(*args, **kwargs))
        return made[-1]
    yield make
    for each in made:
        each.stop()


def ask_all(clients, times):
    """Each asks, and again when it has been answered."""
    poll = select.poll()
    left = {client.here.fileno(): (client, times) for client in clients}
    for fd, (client, _) in left.items():
        poll.register(fd, select.POLLIN)
        client.here.send(b'?')
    while left:
        ready = poll.poll(30_000)
        assert ready, f'{len(left)} clients wait in vain'
        for fd, _ in ready:
            client, count = left[fd]
            assert client.here.recv(1)
            left[fd] = client, count - 1
            if count > 1:
                client.here.send(b'?')
            else:
                del left[fd]
                poll.unregister(fd)


def test_every_request_of_many_clients_is_answered(serving):
    def answer(client, data):
        client.reply()
        made.idle.add(client)
    made = serving(answer, 50)
    for pause in (0, 0.001, 0.01, 0.1):
        for _ in range(20):
            ask_all(made.clients, 5)
            time.sleep(pause)


def test_a_request_that_blocks_holds_up_no_other(serving):
    release = threading.Event()

    def answer(client, data):
        if data == b'!':
            release.wait(30)
        client.reply()
        made.idle.add(client)
    made = serving(answer, 20, count=4)
    # One thread is left.
    for client in made.clients[:3]:
        client.here.send(b'!')
    ask_all(made.clients[3:], 50)
    release.set()
    for client in made.clients[:3]:
        assert client.here.recv(1)
    ask_all(made.clients, 5)


def test_requests_that_wait_for_something_else_do_so_together(serving):
    together, most = set(), []

    def answer(client, data):
        together.add(client)
        time.sleep(0.003)
        most.append(len(together))
        together.discard(client)
        client.reply()
        made.idle.add(client)
    made = serving(answer, 30)
    ask_all(made.clients, 60)
    assert max(most) > 3


def test_jobs_from_elsewhere_are_run(serving):
    def answer(client, data):
        client.reply()
        made.idle.add(client)
    made = serving(answer, 5)
    done = []
    for number in range(3000):
        made.threads.start(lambda: done.append(threading.current_thread()))
        if number % 100 == 0:
            ask_all(made.clients, 2)
            time.sleep(0.002 * (number % 5))
    server_harness.wait_for(lambda: len(done) == 3000)
    server_harness.wait_for(lambda: not made.threads.awake)


def test_a_job_that_fails_ends_no_thread(serving, caplog):
    def answer(client, data):
        made.idle.add(client)
        client.reply()
        raise SystemExit(1)
    made = serving(answer, 5, count=1)
    ask_all(made.clients, 5)
    assert 'a job of the server failed' in caplog.text
