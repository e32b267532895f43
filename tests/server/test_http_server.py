"""The server over real sockets: requests good and bad, signals, children."""

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import threading
import time

import pytest

import server_harness

DATA = os.urandom(5_000_000)
SUM = hashlib.sha256(DATA).hexdigest()


def blocks_of(data, size):
    return [data[at:at + size] for at in range(0, len(data), size)]


def chunk(block):
    return b'%x\r\n%b\r\n' % (len(block), block)


def chunked(data, size):
    return b''.join(map(chunk, blocks_of(data, size))) + b'0\r\n\r\n'


def head(length=None, path='/upload', *more):
    framing = ('Transfer-Encoding: chunked' if length is None
               else f'Content-Length: {length}')
    lines = [f'PUT {path} HTTP/1.1', 'Host: test', framing, *more, '', '']
    return '\r\n'.join(lines).encode()


def get(path, *more):
    lines = [f'GET {path} HTTP/1.1', 'Host: test', *more, '', '']
    return '\r\n'.join(lines).encode()


def response(sock, method='GET'):
    """Read one response; the connection may be used again."""
    answer = http.client.HTTPResponse(sock, method=method)
    answer.begin()
    answer.content = answer.read()
    return answer


def ask_json(server, path):
    with server.send(get(path, 'Connection: close')) as sock:
        return json.loads(response(sock).content)


def wait_for_upload(server):
    server_harness.wait_for(
        lambda: ask_json(server, '/state')['uploads'] == 1)


def status(answer):
    return int(answer.split(b' ', 2)[1])


# -- bodies ------------------------------------------------------------

@pytest.mark.parametrize('size, length', [
    (1, 20_000), (65536, len(DATA)), (4 << 20, len(DATA))])
@pytest.mark.parametrize('how', ['length', 'chunked'])
def test_uploads_arrive_whole(shared, size, length, how):
    data = DATA[:length]
    with shared.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(head(length if how == 'length' else None))
        for block in blocks_of(data, size):
            sock.sendall(block if how == 'length' else chunk(block))
        if how == 'chunked':
            sock.sendall(b'0\r\n\r\n')
        answer = response(sock)
    assert answer.status == 200
    assert json.loads(answer.content)['sha256'] == (
        hashlib.sha256(data).hexdigest())


def test_chunks_torn_at_every_byte(shared):
    data = b'0123456789abcdef' * 3
    wire = b'10;name="a b"\r\n' + data[:16] + b'\r\n' + (
        b'00020\r\n' + data[16:] + b'\r\n0\r\nTrailer: x\r\n\r\n')
    with shared.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(head())
        for byte in wire:
            sock.sendall(bytes([byte]))
        answer = json.loads(response(sock).content)
        assert answer['sha256'] == hashlib.sha256(data).hexdigest()
        # The trailer is gone: the next request is understood.
        sock.sendall(get('/state'))
        assert response(sock).status == 200


def test_empty_bodies(shared):
    for wire in (head(0), head() + b'0\r\n\r\n'):
        with shared.send(wire) as sock:
            assert json.loads(response(sock).content)['size'] == 0


def test_body_has_its_own_thread(shared):
    with shared.send(head(1) + b'x') as sock:
        assert json.loads(response(sock).content)['thread'] == 'body'


@pytest.mark.parametrize('wire', [
    b'xyz\r\nabc\r\n0\r\n\r\n', b'\r\n', b'-1\r\n', b'0x3\r\nabc\r\n',
    b' 3\r\nabc\r\n0\r\n\r\n', b'3\nabc\r\n0\r\n\r\n', b'3_0\r\nabc\r\n',
    b'3\r\nabcd\r\n0\r\n\r\n', b'3\r\nabc0\r\n\r\n', b'3\r\nabc\n0\r\n\r\n',
    b'ffffffffffffffffffff\r\nabc', b'3;' + b'x' * 9000 + b'\r\nabc\r\n',
    b'0\r\n' + b'T: x\r\n' * 9000 + b'\r\n'])
def test_broken_chunks(shared, wire):
    with shared.send(head() + wire) as sock:
        answer = response(sock)
    assert answer.status == 400
    assert json.loads(answer.content)['error'] == 'BodyMalformed'
    assert answer.getheader('Connection') == 'close'


@pytest.mark.parametrize('wire', [
    b'', b'3', b'3\r\n', b'3\r\nab', b'3\r\nabc', b'3\r\nabc\r\n',
    b'3\r\nabc\r\n0', b'3\r\nabc\r\n0\r\n', b'0\r\nTrailer: x\r\n'])
def test_cut_chunked_body_is_never_complete(shared, wire):
    with shared.send(head() + wire) as sock:
        sock.shutdown(socket.SHUT_WR)
        answer = response(sock)
    assert answer.status == 400
    assert json.loads(answer.content)['error'] == 'BodyTruncated'


def test_shorter_than_announced(shared):
    with shared.send(head(1000) + b'x' * 999) as sock:
        sock.shutdown(socket.SHUT_WR)
        answer = response(sock)
    assert answer.status == 400
    told = json.loads(answer.content)
    assert told['error'] == 'BodyTruncated'
    assert '999 of 1000' in told['text']


def test_longer_than_announced_is_the_next_request(shared):
    answer = shared.ask(head(3) + b'abcdef\r\n\r\n')
    first, _, second = answer.partition(b'HTTP/1.1 400')
    assert status(first) == 200
    assert b'"size":3' in first
    assert second


@pytest.mark.parametrize('reset', [True, False])
def test_client_gone_is_told_to_the_application(start, tmp_path, reset):
    notes = tmp_path / 'notes'
    server = start(env={'TEST_APP_NOTES': str(notes)})
    sock = server.send(head(1000) + b'x' * 10)
    wait_for_upload(server)
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                        b'\1\0\0\0\0\0\0\0')
    sock.close()
    server_harness.wait_for(lambda: notes.exists() and notes.read_text())
    assert '10 of 1000' in notes.read_text()


def test_too_slow(start):
    server = start(client_socket_timeout=1)
    with server.send(head(1000) + b'x' * 10) as sock:
        answer = response(sock)
    assert answer.status == 408
    assert json.loads(answer.content)['error'] == 'BodyTimeout'


def test_expect_continue(shared):
    wait = 'Expect: 100-continue'
    with shared.send(head(3, '/upload', wait)) as sock:
        assert sock.recv(25, socket.MSG_WAITALL) == (
            b'HTTP/1.1 100 Continue\r\n\r\n')
        sock.sendall(b'abc')
        assert json.loads(response(sock).content)['size'] == 3
        sock.sendall(get('/state'))
        assert response(sock).status == 200


def test_expect_continue_refused_before_the_body(shared):
    with shared.send(head(3, '/refuse', 'Expect: 100-continue')) as sock:
        answer = server_harness.read_all(sock)
    assert status(answer) == 409
    assert b'Connection: close' in answer


@pytest.mark.parametrize('length', [None, 50_000_000])
def test_refused_client_that_keeps_sending_sees_the_answer(shared, length):
    block = bytes(1 << 20)
    with shared.send(head(length, '/refuse')) as sock:
        for _ in range(40):
            sock.sendall(block if length else chunk(block))
        answer = response(sock)
    assert answer.status == 409
    assert answer.getheader('Connection') == 'close'


def test_small_unread_body_keeps_the_connection(shared):
    with shared.send(head(3, '/refuse') + b'abc') as sock:
        assert response(sock).status == 409
        sock.sendall(get('/state'))
        assert response(sock).status == 200


def test_webob_reads_bodies_of_both_kinds(shared):
    for wire in (head(7, '/json') + b'{"a":1}',
                 head(None, '/json') + chunked(b'{"a":1}', 3)):
        with shared.send(wire) as sock:
            assert json.loads(response(sock).content) == {'a': 1}


# -- heads -------------------------------------------------------------

def test_pipelined_requests_are_answered_in_order(shared):
    wire = (head(None) + chunked(b'one', 1) + get('/state') + head(3)
            + b'two' + get('/environ', 'Connection: close'))
    with shared.send(wire) as sock:
        answer = server_harness.read_all(sock)
    assert answer.count(b'HTTP/1.1 200 OK') == 4
    first, second, third, last = answer.split(b'HTTP/1.1 200 OK')[1:]
    assert hashlib.sha256(b'one').hexdigest().encode() in first
    assert b'"uploads"' in second
    assert hashlib.sha256(b'two').hexdigest().encode() in third
    assert b'"REMOTE_ADDR":"127.0.0.1"' in last
    assert b'"wsgi.multithread":true' in last


def test_more_clients_that_ask_on_and_on_than_threads(shared):
    """A thread that waits for requests by itself holds up nobody."""
    counts = [0] * 50

    def ask_on_and_on(number):
        with shared.connect() as sock:
            # As long as it takes until everybody has had some answers.
            while min(counts) < 3:
                sock.sendall(get(f'/state?{number}'))
                assert response(sock).status == 200
                counts[number] += 1

    threads = [threading.Thread(target=ask_on_and_on, args=(number,))
               for number in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert min(counts) >= 3


def test_a_request_of_each_kind_after_another_at_once_and_later(shared):
    """Whoever answers: a request thread, the event loop, a body thread.
    """
    whole = b'x' * 10_000_000
    with shared.connect() as sock:
        for pause in (0, 0.001, 0.02, 0):
            for _ in range(3):
                sock.sendall(get('/whole'))
                assert response(sock).content == whole
                time.sleep(pause)
                sock.sendall(get('/pieces'))
                assert response(sock).content == whole
                time.sleep(pause)
                sock.sendall(head(3) + b'two')
                assert response(sock).status == 200
                time.sleep(pause)
                # A head in two parts.
                first, second = get('/state')[:9], get('/state')[9:]
                sock.sendall(first)
                time.sleep(pause)
                sock.sendall(second)
                assert response(sock).status == 200
        sock.sendall(get('/state'))
        assert response(sock).status == 200
        sock.sendall(b'nonsense\r\n\r\n')
        assert response(sock).status == 400
        assert sock.recv(1) == b''


def test_long_token_is_accepted(shared):
    line = 'X-Auth-Token: ' + 'x' * 16000
    with shared.send(get('/state', line)) as sock:
        assert response(sock).status == 200


def test_http_1_0(shared):
    answer = shared.ask(b'GET /pieces HTTP/1.0\r\n\r\n')
    assert b'chunked' not in answer
    assert len(answer.partition(b'\r\n\r\n')[2]) == 10_000_000


def test_keepalive_off(start):
    server = start(http_keepalive=False)
    assert b'Connection: close' in server.ask(get('/state'))


# -- answers -----------------------------------------------------------

def test_errors_show_no_trace(server):
    answer = server.ask(get('/broken'))
    assert status(answer) == 500
    assert b'secret' not in answer
    assert b'Traceback' not in answer
    assert 'a secret' in server.output()


def test_broken_off_answer_is_seen_as_such(shared):
    with shared.send(get('/breaks-off')) as sock:
        with pytest.raises(http.client.IncompleteRead):
            response(sock)


def test_pieces(shared):
    with shared.send(get('/pieces')) as sock:
        assert response(sock).content == b'x' * 10_000_000


@pytest.fixture
def file_server(start, tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(DATA)
    server = start(env={'TEST_APP_FILE': str(path)})
    server.file = path
    return server


def test_file(file_server):
    with file_server.send(get('/file')) as sock:
        assert response(sock).content == DATA
        sock.sendall(get('/file', 'Range: bytes=1000-2000000'))
        part = response(sock)
        assert part.status == 206
        assert part.content == DATA[1000:2000001]
        sock.sendall(get('/file', 'Range: bytes=-5'))
        assert response(sock).content == DATA[-5:]
        sock.sendall(get('/file').replace(b'GET', b'HEAD'))
        answer = response(sock, 'HEAD')
        assert int(answer.getheader('Content-Length')) == len(DATA)
        sock.sendall(get('/state'))
        assert response(sock).status == 200


def test_slow_readers_hold_up_nobody(file_server):
    with open(file_server.file, 'ab') as file:
        file.truncate(200_000_000)
    readers = [file_server.send(get(path)) for path in
               ['/file'] * 30 + ['/pieces'] * 30 + ['/whole'] * 30]
    try:
        for _ in range(20):
            assert ask_json(file_server, '/state')
    finally:
        for sock in readers:
            sock.close()


def test_slow_uploaders_hold_up_nobody(server):
    uploaders = [server.send(head(100_000_000) + b'x' * 100)
                 for _ in range(60)]
    try:
        server_harness.wait_for(
            lambda: ask_json(server, '/state')['uploads'] == 60)
        for _ in range(20):
            assert ask_json(server, '/state')
        with server.send(head(len(DATA)) + DATA) as sock:
            assert json.loads(response(sock).content)['sha256'] == SUM
        for sock in uploaders:
            sock.sendall(b'y')
    finally:
        for sock in uploaders:
            sock.close()
    server_harness.wait_for(lambda: ask_json(server, '/state')['uploads'] == 0)


def test_access_log(server):
    server.ask(get('/state%1b[31m', 'Connection: close'))
    line = server_harness.wait_for(lambda: [
        line for line in server.output().splitlines() if '31m' in line])[0]
    assert 'status: 404' in line
    assert '\x1b' not in line


def test_access_log_of_heads_that_are_refused(start):
    server = start(client_header_timeout=1)
    with server.send(b'GET /cut HTTP/1.1\r\nHost:'):
        server.ask(b'GET /odd\x1b[31m\xa0HTTP/1.1\r\n\r\n')
        server.ask(b'GET /hostless HTTP/1.1\r\n\r\n')
        for line in (r'"GET /odd\x1b[31m\xa0HTTP/1.1" status: 400',
                     '"GET /hostless HTTP/1.1" status: 400',
                     '"GET /cut HTTP/1.1" status: 408'):
            server_harness.wait_for(lambda: line in server.output())


def test_access_log_of_requests_that_follow_each_other(server):
    with server.connect() as sock:
        for number in range(20):
            sock.sendall(get(f'/state?{number}' if number % 3 else
                             f'/nowhere?{number}'))
            response(sock)
            time.sleep(0.01 * (number % 2))
    lines = server_harness.wait_for(lambda: [
        found for found in [re.findall(
            r'"GET (\S+) HTTP/1.1" status: (\d+)', server.output())]
        if len(found) >= 20])[0]
    assert lines == [
        (f'/state?{number}', '200') if number % 3 else
        (f'/nowhere?{number}', '404') for number in range(20)]


# -- processes ---------------------------------------------------------

def test_nothing_but_the_log_at_start(server):
    assert 'deprecated' not in server.output().lower()


def test_port_taken(start):
    first = start()
    second = start(port=first.port, wait=False)
    assert second.process.wait(20) == 1
    line, = second.output().splitlines()
    assert line.startswith('cannot listen on 127.0.0.1 port')


def test_application_that_does_not_load(start, tmp_path):
    wrong = tmp_path / 'wrong'
    wrong.touch()
    server = start(env={'TEST_APP_BROKEN': str(wrong)}, wait=False)
    assert server.process.wait(20) == 1
    assert server.output().count('the configuration is wrong') == 1
    assert 'Traceback' not in server.output()


def refused(server):
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True


def test_sigterm_lets_requests_finish(server):
    slow = server.send(get('/sleep?seconds=1'))
    upload = server.send(head(4) + b'ab')
    idle = server.send(get('/state'))
    response(idle)
    wait_for_upload(server)
    server.process.send_signal(signal.SIGTERM)
    # Idle connections are closed, new ones refused.
    assert idle.recv(1) == b''
    server_harness.wait_for(lambda: refused(server))
    upload.sendall(b'cd')
    answer = response(upload)
    assert answer.status == 200
    assert answer.getheader('Connection') == 'close'
    assert response(slow).content == b'slept'
    assert server.process.wait(20) == 0
    for sock in (slow, upload, idle):
        sock.close()


def test_sigterm_while_a_client_asks_on_and_on(server):
    with server.connect() as sock:
        for number in range(1000):
            try:
                sock.sendall(get('/state'))
                answer = response(sock)
            except (ConnectionError, http.client.RemoteDisconnected):
                # Closed between two requests.
                break
            assert answer.status == 200
            if number == 20:
                server.process.send_signal(signal.SIGTERM)
            if answer.getheader('Connection') == 'close':
                break
        assert number < 999
    assert server.process.wait(20) == 0


def test_sigterm_cuts_what_takes_too_long(start, tmp_path):
    notes = tmp_path / 'notes'
    server = start(env={'TEST_APP_NOTES': str(notes)},
                   graceful_shutdown_timeout=1)
    with server.send(head(4) + b'ab'):
        wait_for_upload(server)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    assert 'BodyTruncated' in notes.read_text()


def test_second_sigterm_ends_at_once(server):
    with server.send(head(4) + b'ab'):
        wait_for_upload(server)
        server.process.send_signal(signal.SIGTERM)
        server_harness.wait_for(lambda: 'stopping' in server.output())
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_sighup_replaces_workers_and_drops_nothing(server):
    old = server.children()
    upload = server.send(head(4) + b'ab')
    wait_for_upload(server)
    failures, done = [], threading.Event()
    answered = []

    def ask_on():
        while not done.is_set():
            try:
                answered.append(ask_json(server, '/state')['pid'])
            except Exception as failure:
                failures.append(failure)

    asker = threading.Thread(target=ask_on)
    asker.start()
    try:
        server.config.write_text(
            server.config.read_text() + 'workers = 2\n')
        server.process.send_signal(signal.SIGHUP)
        server_harness.wait_for(lambda: set(answered) - set(old))
        server_harness.wait_for(lambda: 'parent:reloaded' in server.output())
        seen = len(answered)
        server_harness.wait_for(lambda: len(answered) > seen + 20)
    finally:
        done.set()
        asker.join()
    assert not failures
    assert set(old) < set(server.children())
    assert len(server.children()) == 3
    upload.sendall(b'cd')
    assert json.loads(response(upload).content)['size'] == 4
    upload.close()
    server_harness.wait_for(lambda: not set(old) & set(server.children()))


def test_sighup_with_a_configuration_that_is_wrong(start, tmp_path):
    wrong = tmp_path / 'wrong'
    server = start(env={'TEST_APP_BROKEN': str(wrong)})
    old = server.children()
    wrong.touch()
    server.config.write_text(server.config.read_text() + 'workers = 2\n')
    server.process.send_signal(signal.SIGHUP)
    server_harness.wait_for(lambda: 'the old ones go on' in server.output())
    server_harness.wait_for(lambda: server.children() == old)
    assert ask_json(server, '/state')['pid'] == old[0]
    assert 'decided: False' in server.output()
    # A worker that has to be replaced is started as the old ones were.
    wrong.unlink()
    os.kill(old[0], signal.SIGKILL)
    server_harness.wait_for(
        lambda: server.children() and server.children() != old)
    assert ask_json(server, '/state')
    assert len(server.children()) == 1


def test_killed_worker_is_replaced(start):
    server = start(workers=2)
    old = server_harness.wait_for(
        lambda: len(server.children()) == 2 and server.children())
    os.kill(old[0], signal.SIGKILL)
    server_harness.wait_for(
        lambda: len(server.children()) == 2 and server.children() != old)
    assert ask_json(server, '/state')
    assert f'worker {old[0]} ended with signal 9' in server.output()


def alive(pid):
    try:
        with open(f'/proc/{pid}/stat') as stat:
            return stat.read().rsplit(')', 1)[1].split()[0] not in 'ZX'
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_children_die_with_their_parent(start):
    server = start(workers=2)
    children = server_harness.wait_for(
        lambda: len(server.children()) == 2 and server.children())
    assert {os.getpgid(pid) for pid in children} == {server.pid}
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()
    server_harness.wait_for(lambda: not any(map(alive, children)))
