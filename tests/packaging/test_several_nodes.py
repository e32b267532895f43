"""The three-node deployment of the documentation, command by command."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.boards import redis  # noqa: F401
from tests import servers
from tests.servers import postgresql  # noqa: F401
from tests import service as services

PAGE = (pathlib.Path(__file__).parents[2]
        / 'doc/source/admin/several-nodes.rst')


def blocks():
    """The commands of the step-by-step part."""
    text = PAGE.read_text()
    part = text[text.index('step by step\n==='):text.index('Tuning\n===')]
    return [re.sub('^    ', '', block, flags=re.MULTILINE)
            for block in re.findall(r'::\n\n((?:    .*\n|\n)+)', part)]


class Machine:
    """Three nodes on one, with directories and ports of the test's own."""

    def __init__(self, top, replaced):
        self.top = top
        self.replaced = replaced
        self.started = []
        self.environment = {
            **os.environ,
            'PATH': os.pathsep.join([os.path.dirname(sys.executable),
                                     os.environ['PATH']])}

    def _script(self, block):
        for old, new in self.replaced.items():
            assert old in PAGE.read_text(), old
            block = block.replace(old, new)
        return ['bash', '-euc', block]

    def run(self, block, **values):
        done = subprocess.run(
            self._script(block), env={**self.environment, **values},
            cwd=self.top, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (block, done)
        return done.stdout

    def start(self, block, **values):
        with open(self.top / 'log', 'ab') as log:
            self.started.append(subprocess.Popen(
                self._script('exec ' + block),
                env={**self.environment, **values}, cwd=self.top,
                stdout=log, stderr=log, start_new_session=True))
        return self.started[-1]

    def end(self):
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


@pytest.fixture
def machine(tmp_path, postgresql, redis):  # noqa: F811
    url = postgresql.create()
    ports = {name: str(servers.free_port()) for name in 'ab'}
    made = Machine(tmp_path, {
        '/srv/glance': str(tmp_path / 'shared'),
        '/var/lib/glance-': str(tmp_path / 'lib-'),
        'postgresql+psycopg2://glance:secret@127.0.0.1:5432/glance': url,
        'jobboard_port = 6379': (
            f'jobboard_port = {redis.port}\n'
            f'jobboard_password = {redis.password}'),
        ':9292': ':' + ports['a'], ' B=http://127.0.0.1:9293':
            ' B=http://127.0.0.1:' + ports['b']})
    made.ports = ports
    yield made
    made.end()


def answers(port):
    with contextlib.suppress(OSError):
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/versions'):
            return True


def test_the_documented_deployment(machine, tmp_path):
    (_pip, _psql, configure, node, api, conductor, walk, queue) = blocks()
    machine.run(configure)
    nodes = {'a': machine.ports['a'], 'b': machine.ports['b'], 'c': '1'}
    running = {}
    for name, port in nodes.items():
        values = {'NODE': name, 'PORT': port}
        machine.run(node, **values)
        running[name] = machine.start(
            conductor if name == 'c' else api, **values)
    for name in 'ab':
        services.wait_for(lambda: answers(nodes[name]))
    (tmp_path / 'disk.raw').write_bytes(os.urandom(2_000_000))
    out = machine.run(walk)
    assert '202' in out
    task = json.loads(out[out.rindex('{"tasks"'):])['tasks'][0]
    image = f'http://127.0.0.1:{nodes["a"]}/v2/images/{task["image_id"]}'

    def status():
        with urllib.request.urlopen(image) as answer:
            return json.load(answer)['status']
    services.wait_for(lambda: status() == 'active')
    assert '0 waiting; 0 running' in machine.run(queue, NODE='c')
    # A node is taken out; the others still do all there is to do.
    os.kill(running['a'].pid, signal.SIGTERM)
    running['a'].wait(30)
    time.sleep(0.5)
    machine.replaced[':9292'] = ':' + nodes['b']
    out = machine.run(walk)
    image = image.replace(nodes['a'], nodes['b']).rpartition('/')[0] + (
        '/' + json.loads(out[out.rindex('{"tasks"'):])['tasks'][0][
            'image_id'])
    services.wait_for(lambda: status() == 'active')
