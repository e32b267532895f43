"""The test application under a real server in processes of its own."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as listener:
        return listener.getsockname()[1]


def wait_for(check, seconds=20):
    """What ``check`` returns once that is true; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            found = check()
            if found:
                return found
        time.sleep(0.02)
    raise AssertionError('waited in vain')


class Running:
    """A server process, its log and ways to talk to it."""

    def __init__(self, command, port, log, env):
        self.port = port
        self.log = log
        with open(log, 'w') as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, env=env,
                start_new_session=True)

    @property
    def pid(self):
        return self.process.pid

    def connect(self):
        sock = socket.create_connection(('127.0.0.1', self.port))
        sock.settimeout(30)
        return sock

    def wait_until_up(self):
        def up():
            assert self.process.poll() is None, self.output()
            return 'parent:ready' in self.output()
        wait_for(up)
        return self

    def send(self, data):
        """A connection on which ``data`` has been sent."""
        sock = self.connect()
        sock.sendall(data)
        return sock

    def ask(self, data):
        """Everything that comes back for ``data`` until the end."""
        with self.send(data) as sock:
            return read_all(sock)

    def output(self):
        return self.log.read_text()

    def children(self):
        path = f'/proc/{self.pid}/task/{self.pid}/children'
        return [int(pid) for pid in pathlib.Path(path).read_text().split()]

    def stop(self):
        # The group is this server's alone (start_new_session).
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


def read_all(sock):
    answer = b''
    while block := sock.recv(65536):
        answer += block
    return answer


def environment(**extra):
    return os.environ | {'PYTHONPATH': f'{ROOT}:{HERE}',
                         'PYTHONWARNINGS': 'error::UserWarning'} | extra


@contextlib.contextmanager
def starting(directory):
    """Gives a function that starts our server; its keywords are options."""
    running = []

    def start_one(env=None, wait=True, port=None, **options):
        port = port or free_port()
        config = directory / f'api-{len(running)}.conf'
        lines = ['[DEFAULT]', f'bind_port = {port}']
        lines += [f'{name} = {value}' for name, value in options.items()]
        config.write_text('\n'.join(lines) + '\n')
        server = Running(
            [sys.executable, str(HERE / 'server_run.py'), '--config-file',
             str(config)], port, directory / f'log-{len(running)}',
            environment(**(env or {})))
        running.append(server)
        server.config = config
        return server.wait_until_up() if wait else server

    try:
        yield start_one
    finally:
        for server in running:
            server.stop()
