"""Clients that take places and ask for nothing must not stop the others."""

import contextlib
import json
import socket
import time

import pytest

from glance_import.server import limits
import server_harness
from test_http_server import ask_json
from test_http_server import get
from test_http_server import head
from test_http_server import response
from test_http_server import status
from tests import servers


def test_a_slow_head_is_cut_off(start):
    server = start(client_header_timeout=1)
    with server.connect() as slow, server.connect() as silent, \
            server.connect() as empty, server.connect() as idle:
        idle.sendall(get('/state'))
        assert response(idle).status == 200
        slow.sendall(b'GET /state HTTP/1.1\r\n')
        # However steadily it comes.
        slow.settimeout(0.05)
        answer = b''
        while not answer:
            try:
                slow.sendall(b'A: x\r\n')
                answer = slow.recv(1000)
            except TimeoutError:
                empty.sendall(b'\r\n')
        assert status(answer) == 408
        assert b'did not come in time' in answer
        assert silent.recv(1) == empty.recv(1) == b''
        # One that has been answered may wait for longer.
        time.sleep(1.5)
        idle.sendall(get('/state')[:9])
        time.sleep(0.1)
        idle.sendall(get('/state')[9:])
        assert response(idle).status == 200
        idle.sendall(get('/state')[:9])
        assert response(idle).status == 408


def test_a_socket_time_out_holds_for_heads_too(start):
    server = start(client_header_timeout=0, client_socket_timeout=1)
    with server.send(b'GET /state HTTP/1.1\r\n') as sock:
        assert status(server_harness.read_all(sock)) == 408


@contextlib.contextmanager
def many(server, count, data):
    """So many connections, on each of which ``data`` has been sent."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.send(data)) for _ in range(count)]


def ended(sock):
    """Whether the server has closed it; its answers are passed over."""
    sock.settimeout(0.02)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        pass
    return True


def test_a_refused_body_that_goes_on_keeps_no_place(start):
    server = start(max_request_bodies=2)
    with contextlib.ExitStack() as stack:
        dripping = []
        for _ in range(6):
            sock = stack.enter_context(server.send(
                head(1000, '/refuse') + b'x'))
            assert response(sock).status == 409
            dripping.append(sock)
        # They have been answered, and their connections are still there.
        for sock in dripping:
            sock.sendall(b'x')
        with server.send(head(3) + b'abc') as sock:
            assert json.loads(response(sock).content)['size'] == 3


def test_an_answer_nobody_reads_keeps_no_place(start, tmp_path):
    path = tmp_path / 'file'
    with open(path, 'wb') as file:
        file.truncate(50_000_000)
    server = start(max_request_bodies=1, env={'TEST_APP_FILE': str(path)})
    with many(server, 2, head(1, '/file') + b'x') as slow:
        assert slow[0].recv(1) and slow[1].recv(1)
        with server.send(head(3) + b'abc') as sock:
            assert response(sock).status == 200


def test_more_bodies_than_there_are_places_for(start):
    server = start(max_request_bodies=2)
    with many(server, 2, head(1000) + b'x') as sending:
        server_harness.wait_for(
            lambda: ask_json(server, '/state')['uploads'] == 2)
        with server.send(head(3) + b'abc') as sock:
            answer = response(sock)
        assert answer.status == 503
        assert answer.getheader('Retry-After')
        sending[0].sendall(b'x' * 999)
        assert response(sending[0]).status == 200
        with server.send(head(3) + b'abc') as sock:
            assert response(sock).status == 200


@pytest.mark.parametrize('data', [
    b'', b'G', b'\r\n', b'GET /state HTTP/1.1\r\nHost: a\r\n',
    get('/state'), head(1000, '/refuse')],
    ids=['silent', 'byte', 'empty', 'half', 'idle', 'lingering'])
def test_all_places_taken_by_those_who_ask_for_nothing(start, data):
    """One that has waited for long makes room."""
    server = start(max_connections=20)
    with many(server, 20, data) as waiting:
        if data.endswith(b'\r\n\r\n'):
            for sock in waiting:
                assert response(sock).status in (200, 409)
        time.sleep(0.2)
        for _ in range(5):
            assert ask_json(server, '/state')
        if data != head(1000, '/refuse'):
            # All of those have been told that nothing follows.
            assert 1 <= sum(map(ended, waiting)) <= 5
    assert 'Traceback' not in server.output()


def test_far_more_connections_than_places(start):
    server = start(max_connections=20)
    with many(server, 200, b'G') as waiting:
        assert ask_json(server, '/state')
        assert ended(waiting[0])


def test_requests_under_way_are_not_ended_for_others(start):
    server = start(max_connections=10)
    with many(server, 10, head(3) + b'a') as sending:
        deadline = time.monotonic() + 20
        while True:
            # Those that are not bodies yet make room; then there is none.
            answer = server.ask(get('/state', 'Connection: close'))
            if b' 503 ' in answer or time.monotonic() > deadline:
                break
        assert status(answer) == 503
        assert b'Retry-After' in answer
        for sock in sending:
            sock.sendall(b'bc')
            assert json.loads(response(sock).content)['size'] == 3
        # They are idle now.
        assert ask_json(server, '/state')
    assert server.output().count('turned away') == 1


def test_a_reader_that_has_stopped_makes_room(start):
    """Those who ask on and on, and read no answer."""
    server = start(max_connections=4, env={'TEST_APP_STALLED': '1'})
    with many(server, 4, get('/whole') * 3) as stalled:
        for sock in stalled:
            assert sock.recv(1)
        server_harness.wait_for(lambda: status(server.ask(
            get('/state', 'Connection: close'))) == 200)


def test_connections_of_one_address(start):
    server = start(max_connections_per_address=5, unbounded_addresses='')
    with many(server, 5, b'G') as first:
        answer = server.ask(get('/state'))
        assert status(answer) == 429
        assert b'Retry-After' in answer
        first[0].close()
        server_harness.wait_for(lambda: status(server.ask(
            get('/state', 'Connection: close'))) == 200)


@pytest.mark.parametrize('options', [
    {'max_connections_per_address': 0, 'unbounded_addresses': ''},
    {'max_connections_per_address': 5},
    {'max_connections_per_address': 5,
     'unbounded_addresses': '::1/128, 127.0.0.1'}])
def test_an_address_without_a_bound(start, options):
    server = start(**options)
    with many(server, 20, b'G'):
        assert ask_json(server, '/state')


def test_who_counts_as_one_client():
    for first, second, same in (
            ('192.0.2.7', '192.0.2.7', True),
            ('192.0.2.7', '192.0.2.8', False),
            ('192.0.2.7', '::ffff:192.0.2.7', True),
            ('2001:db8::1', '2001:db8:0:0:ffff::9', True),
            ('2001:db8::1', '2001:db8:0:1::1', False),
            ('fe80::1%eth0', 'fe80::2%eth1', True)):
        assert (limits.network_of(first) == limits.network_of(second)) == same


def test_few_descriptors(start):
    """There are fewer places then, and they go round like all others."""
    server = start(env={'TEST_APP_FILES': '260'})
    assert 'leaves room for 30 connections' in server.output()
    with many(server, 100, b'G'):
        assert ask_json(server, '/state')
    assert 'cannot accept' not in server.output()


def test_ipv6_clients(start):
    try:
        socket.create_server(('::1', 0), family=socket.AF_INET6).close()
    except OSError as failure:
        servers.missing(f'no IPv6 on loopback: {failure}')
    server = start(bind_host='::1', max_connections_per_address=2,
                   unbounded_addresses='')

    def connect():
        return socket.create_connection(('::1', server.port))
    with connect(), connect(), connect() as third:
        assert third.recv(12) == b'HTTP/1.1 429'
