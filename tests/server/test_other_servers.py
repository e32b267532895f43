"""The same application under gunicorn and uWSGI: the same bytes, or a no."""

import hashlib
import importlib.util
import json
import os
import shutil
import socket
import sys

import pytest

import server_harness
from test_http_server import chunk
from test_http_server import chunked
from test_http_server import head
from test_http_server import response

from tests import servers

DATA = os.urandom(3_000_000)

GUNICORN = [sys.executable, '-m', 'gunicorn', '-k', 'gthread', '--threads',
            '4', '-b', '127.0.0.1:{port}', 'server_app:application']
UWSGI = ['uwsgi', '--http-socket', '127.0.0.1:{port}', '--module',
         'server_app:application', '--threads', '4', '--master',
         '--die-on-term', '--socket-timeout', '5', '--virtualenv', sys.prefix,
         # A chunk above this is an error; the default is 1 MiB.
         '--chunked-input-limit', '8388608']


def uwsgi_program():
    beside = os.path.join(os.path.dirname(sys.executable), 'uwsgi')
    return beside if os.path.exists(beside) else shutil.which('uwsgi')


@pytest.fixture(scope='module', params=['gunicorn', 'uwsgi'])
def other(request, tmp_path_factory):
    if request.param == 'gunicorn':
        if importlib.util.find_spec('gunicorn') is None:
            servers.missing('gunicorn is not installed')
        command = GUNICORN
    else:
        if uwsgi_program() is None:
            servers.missing('uwsgi is not installed')
        command = [uwsgi_program(), *UWSGI[1:]]
    port = server_harness.free_port()
    server = server_harness.Running(
        [part.format(port=port) for part in command], port,
        tmp_path_factory.mktemp('other') / 'log',
        server_harness.environment())

    def up():
        assert server.process.poll() is None, server.output()
        return server.connect().close() is None
    try:
        server_harness.wait_for(up)
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize('size, length', [
    (1, 2_000), (65536, len(DATA)), (4 << 20, len(DATA))])
@pytest.mark.parametrize('how', ['length', 'chunked'])
def test_uploads_arrive_whole(other, how, size, length):
    data = DATA[:length]
    wire = (head(length) + data if how == 'length'
            else head() + chunked(data, size))
    with other.send(wire) as sock:
        answer = json.loads(response(sock).content)
    assert answer['sha256'] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize('wire', [
    head(1000) + b'x' * 999,
    head() + chunk(b'abc'), head() + b'5\r\nabc', head() + b'5\r\n', head()])
def test_cut_body_is_never_complete(other, wire):
    with other.send(wire) as sock:
        sock.shutdown(socket.SHUT_WR)
        try:
            answer = server_harness.read_all(sock)
        except ConnectionResetError:
            answer = b''
    assert not answer or b' 400 ' in answer.splitlines()[0]
