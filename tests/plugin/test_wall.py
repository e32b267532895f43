"""The wall around contract plugins, tried from inside by hostile ones.

Each test runs as root (where the tests do) and as an ordinary user, by the
same driver.
"""

import hashlib
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid

import pytest

import glance_import.plugin
from glance_import.plugin import host
from glance_import.plugin import sandbox
from tests import servers
from tests import service as services

DATA = bytes(range(256)) * 4096
HEAD = '''
import os, sys, time, errno
from glance_import.plugin import ImagePlugin

class Evil(ImagePlugin):
    api = 1
    def inspect(self, image, data, ctx):
'''


def _as_user(name):
    return ['setpriv', '--reuid', name, '--regid',
            str(pwd.getpwnam(name).pw_gid), '--clear-groups']


def _python_for(name, versions=((3, 11), (3, 99))):
    """A Python that an ordinary user can run, between two versions."""
    lowest, highest = versions
    for python in (sandbox.interpreter(), '/usr/bin/python3'):
        if os.path.exists(python) and subprocess.run(
                [*_as_user(name), 'sh', '-c',
                 f'{python} -c "import sys; sys.exit(not '
                 f'{lowest} <= sys.version_info[:2] <= {highest})"'],
                capture_output=True).returncode == 0:
            return python
    servers.missing('no Python that an ordinary user can run')


class Prison:
    """A directory of one user's, with the data and what surrounds it."""

    def __init__(self, user):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix='wall-'))
        self.secret = self.directory / 'secret'
        self.secret.write_text('secret')
        self.data = self.directory / 'data'
        self.data.write_bytes(DATA)
        self.data.chmod(0o600)
        package = self.directory / 'lib' / 'glance_import'
        source = pathlib.Path(glance_import.plugin.__file__).parent
        package.mkdir(parents=True)
        shutil.copy(source.parent / '__init__.py', package)
        shutil.copytree(source, package / 'plugin')
        shutil.copy(pathlib.Path(__file__).with_name('wall_driver.py'),
                    self.directory)
        self.command = [sys.executable]
        if user == 'ordinary' and os.geteuid() == 0:
            name = 'nobody'
            self.command = [*_as_user(name), _python_for(name)]
            for path in (self.directory, *self.directory.rglob('*')):
                shutil.chown(path, name)
        self.identity = self._identity()

    def _identity(self):
        found = os.stat(self.data)
        return (hashlib.sha256(self.data.read_bytes()).digest(),
                found.st_mtime_ns, found.st_ctime_ns, found.st_size)

    def plugin(self, body, head=HEAD):
        path = self.directory / 'evil.py'
        path.write_text(head + textwrap.indent(textwrap.dedent(body), ' ' * 8))
        path.chmod(0o644)
        return ['file', str(path), 'Evil']

    def start(self, body, **order):
        order = {'plugin': self.plugin(body), 'data': str(self.data),
                 'options': {'secret': str(self.secret),
                             **order.pop('options', {})}, **order}
        process = subprocess.Popen(
            [*self.command, str(self.directory / 'wall_driver.py')],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, cwd=self.directory,
            env={'PATH': os.environ['PATH'], 'PYTHONDONTWRITEBYTECODE': '1',
                 'SECRET': 'of the service',
                 'PYTHONPATH': str(self.directory / 'lib')})
        process.stdin.write(json.dumps(order))
        process.stdin.close()
        process.stdin = None
        return process

    def judge(self, body, **order):
        """The record of one run; the data is as it was."""
        process = self.start(body, **order)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert self._identity() == self.identity
        return json.loads(out)

    def close(self):
        shutil.rmtree(self.directory)


@pytest.fixture(params=['root', 'ordinary'])
def prison(request, bwrap):
    if request.param == 'root' and os.geteuid() != 0:
        pytest.skip('the tests do not run as root')
    made = Prison(request.param)
    yield made
    made.close()


def running(word):
    """Pids of processes with ``word`` on their command line."""
    found = []
    for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
        try:
            words = path.read_bytes().split(b'\0')
        except OSError:
            continue
        if word.encode() in words:
            found.append(int(path.parent.name))
    return found


def test_an_honest_plugin_passes(prison):
    found = prison.judge('''
        import hashlib
        digest = hashlib.sha256()
        for block in data:
            digest.update(block)
        ctx.log(digest.hexdigest())
        return self.accept()
    ''')
    assert found["verdict"] == "accept", json.dumps(found)
    assert found['log'] == [hashlib.sha256(DATA).hexdigest()]
    assert found['bytes_read'] == len(DATA)


def test_sees_nothing_of_the_host(prison):
    found = prison.judge('''
        for path in (ctx.options.secret, os.path.dirname(ctx.options.secret),
                     '/etc/passwd', '/etc/shadow', '/var', '/home', '/run',
                     '/sys', '/dev/shm', '/dev/kmsg'):
            try:
                os.stat(path)
                ctx.log('seen ' + path)
            except OSError:
                pass
        for name in os.listdir('/proc'):
            if name.isdigit() and int(name) > 20:
                ctx.log('process ' + name)
        ctx.log('environment %s' % sorted(os.environ))
        return self.accept()
    ''')
    assert found["verdict"] == "accept", json.dumps(found)
    assert found['log'] == [
        "environment ['HOME', 'LANG', 'PATH', 'PWD', 'TMPDIR']"]


def test_has_no_rights(prison):
    found = prison.judge('''
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        status = open('/proc/self/status').read()
        for line in status.splitlines():
            if line.startswith(('CapPrm', 'CapEff', 'CapAmb')):
                assert int(line.split()[1], 16) == 0, line
        assert 'NoNewPrivs:\\t1' in status
        for name in ('setuid', 'setgid'):
            try:
                getattr(os, name)(0)
                ctx.log(name)
            except OSError:
                pass
        for flag in (0x10000000, 0x00020000, 0x40000000):
            if libc.unshare(flag) == 0:
                ctx.log('unshare')
        if libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0:
            ctx.log('mount')
        if libc.ptrace(0, 0, 0, 0) == 0:
            ctx.log('ptrace')
        return self.accept()
    ''')
    assert (found['verdict'], found['log']) == ('accept', []), found


SEEN = r'''
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status |
    tr '\t' ' '
cat /proc/self/limits
cut -d ' ' -f 4-6 /proc/self/mountinfo | grep -v /glance/
cd /proc/self/fd && for fd in ?*; do readlink $fd; done | grep ^/
cd; pwd; ls -a / /dev /tmp; env | grep -v ^_= | sort; hostname
grep -c : /proc/net/dev; ls -l /proc/self/fd | grep -c '^lr.*pipe' || true
'''


def test_a_command_of_the_services_own_has_the_same_walls(prison):
    """Where no runner takes its rights away before it begins."""
    limits = {'memory': 3 << 28, 'cpu': 77, 'files': 55, 'processes': 44}
    plugin = prison.judge('''
        import subprocess
        out = subprocess.run(['sh', '-c', ctx.options.seen],
                             stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        for line in out.stdout.decode().splitlines():
            ctx.log(line)
        return self.accept()
    ''', options={'seen': SEEN}, limits=limits)
    command = prison.judge('', words=[
        'sh', '-c', 'echo \'{"t": "hello"}\'; eval "$1"', 'sh', SEEN],
        limits=limits)
    # Every run is a user of its own.
    first, second = (
        [line for line in said if not line.startswith(('Uid', 'Gid'))]
        for said in (plugin['log'], command['said'].splitlines()))
    assert second == first
    uids = [line.split()[1:] for line in command['said'].splitlines()
            if line.startswith(('Uid', 'Gid'))]
    assert '0' not in uids[0] + uids[1]
    assert 'Seccomp: 2' in second
    # What bwrap tells the service, nobody else reads.
    assert second[-1] == '0'


def test_connects_nowhere(prison):
    with socket.create_server(('127.0.0.1', 0)) as listening, \
            socket.socket(socket.AF_UNIX) as abstract:
        name = f'\0wall-{uuid.uuid4().hex}'
        abstract.bind(name)
        abstract.listen()
        found = prison.judge('''
            import socket
            tries = [
                (socket.AF_INET, ('127.0.0.1', ctx.options.port)),
                (socket.AF_INET, ('203.0.113.1', 80)),
                (socket.AF_INET6, ('::1', ctx.options.port)),
                (socket.AF_UNIX, ctx.options.abstract),
                (40, (2, 22)),
            ]
            for family, address in tries:
                try:
                    with socket.socket(family) as sock:
                        sock.settimeout(5)
                        sock.connect(address)
                    ctx.log('connected to %s' % (address,))
                except OSError:
                    pass
            for family in (16, 17, 38, 40):
                try:
                    socket.socket(family, socket.SOCK_RAW).close()
                    ctx.log('family %d' % family)
                except OSError as failure:
                    if failure.errno != errno.EAFNOSUPPORT:
                        ctx.log(str(failure))
            return self.accept()
        ''', options={'port': listening.getsockname()[1], 'abstract': name})
    assert (found['verdict'], found['log']) == ('accept', []), found


def test_fork_bomb(prison):
    found = prison.judge('''
        count = 0
        try:
            while count < 500:
                if os.fork() == 0:
                    while True:
                        try:
                            os.fork()
                        except OSError:
                            time.sleep(0.01)
                count += 1
        except OSError as failure:
            ctx.log('stopped at %d' % count)
            raise
        return self.accept()
    ''', limits={'processes': 8})
    assert found['verdict'] == 'error'
    assert found['reason'] == 'it failed (BlockingIOError)'
    assert int(found['log'][0].split()[-1]) < 8


def test_threads_count_too(prison):
    found = prison.judge('''
        import threading
        threading.stack_size(65536)
        for count in range(500):
            threading.Thread(target=time.sleep, args=(60,),
                             daemon=True).start()
        return self.accept()
    ''', limits={'processes': 8})
    assert found['reason'] == 'it failed (RuntimeError)', found


def test_allocates_without_end(prison):
    found = prison.judge('''
        kept = []
        while True:
            kept.append(bytearray(16 << 20))
    ''', limits={'memory': 256 << 20})
    assert found['verdict'] == 'error'
    assert found['reason'] == ('it needs more memory than it may have '
                               '(MemoryError)')


def test_processes_share_the_memory(prison):
    found = prison.judge('''
        for _ in range(6):
            if os.fork() == 0:
                kept = bytearray(os.urandom(1) * (100 << 20))
                time.sleep(60)
                os._exit(0)
        while True:
            time.sleep(0.1)
            ctx.progress()
    ''', limits={'memory': 256 << 20})
    assert found['verdict'] == 'error'
    assert found['reason'] == ('its processes together use more than 256 MiB '
                               'of memory')


@pytest.mark.parametrize('place', ['/tmp/one', '/tmp/many', '/', '/dev',
                                   '/glance', '/proc', '/usr'])
def test_writes_without_end(prison, place):
    found = prison.judge('''
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        written, number = 0, 0
        place = ctx.options.place
        try:
            while written < 1 << 30:
                name = place if place.endswith('one') else (
                    '%s%s%d' % (place, '' if 'many' in place else '/x',
                                number))
                number += 1
                with open(name, 'ab') as out:
                    for _ in range(4):
                        out.write(bytes(1 << 20))
                        out.flush()
                        written += 1 << 20
        except OSError as failure:
            ctx.log('%d' % written)
            raise
        return self.accept()
    ''', options={'place': place}, limits={'tmp': 16 << 20})
    assert found['verdict'] == 'error', found
    assert found['reason'].startswith('it failed (')
    written = int(found['log'][0])
    assert written <= (16 << 20 if place.startswith('/tmp') else 0)


def test_hangs(prison):
    found = prison.judge('''
        time.sleep(3600)
    ''', limits={'idle_timeout': 1.0})
    assert (found['verdict'], found['reason']) == (
        'error', 'it did nothing for 1 s, its idle limit')


def test_never_ends(prison):
    found = prison.judge('''
        while True:
            time.sleep(0.01)
            ctx.progress()
    ''', limits={'timeout': 2.0})
    assert (found['verdict'], found['reason']) == (
        'error', 'it took longer than its time limit of 2 s')


def test_burns_processor_time(prison):
    found = prison.judge('''
        while True:
            pass
    ''', limits={'cpu': 1})
    assert found['verdict'] == 'error'
    assert 'SIGKILL' in found['reason'] or 'SIGXCPU' in found['reason']


STUBBORN = '''
    import signal, subprocess
    for number in range(1, 32):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv('/bin/sleep', ['sleep', ctx.options.mark])
        os._exit(0)
    ctx.log('started')
    while True:
        time.sleep(0.05)
        ctx.progress()
'''


def test_ignores_signals_and_leaves_children(prison):
    mark = f'9{uuid.uuid4().int % 10 ** 9:09}'
    found = prison.judge(STUBBORN, options={'mark': mark},
                         limits={'timeout': 2.0})
    assert found['reason'] == 'it took longer than its time limit of 2 s'
    assert running(mark) == []


def test_ends_with_the_service(prison):
    mark = f'9{uuid.uuid4().int % 10 ** 9:09}'
    process = prison.start(STUBBORN, options={'mark': mark}, announce=True)
    assert process.stdout.readline() == 'started\n'
    services.wait_for(lambda: running(mark))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    services.wait_for(lambda: not running(mark))


def test_a_verdict_does_not_free_its_children(prison):
    mark = f'9{uuid.uuid4().int % 10 ** 9:09}'
    found = prison.judge('''
        if os.fork() == 0:
            os.setsid()
            os.execv('/bin/sleep', ['sleep', ctx.options.mark])
        return self.accept()
    ''', options={'mark': mark})
    assert found['verdict'] == 'accept'
    assert running(mark) == []


def test_prints_without_end(prison):
    found = prison.judge('''
        while True:
            print('x' * 1000)
    ''', limits={'log': 10_000})
    assert found['verdict'] == 'error'
    assert found['reason'].endswith(
        'bytes of log and answers, more than a plugin may')
    assert sum(map(len, found['log'])) <= 10_000 + 300
    assert found['log'][-2].endswith('more lines were not logged)')


def test_logs_without_end(prison):
    found = prison.judge('''
        while True:
            ctx.log('two\\nlines \\x1b[31m' + 'x' * 5000)
    ''', limits={'log': 10_000})
    assert found['reason'].endswith('more than a plugin may')
    assert sum(map(len, found['log'])) <= 10_000 + 300
    assert all(line.isprintable() and len(line) <= 1000
               for line in found['log'])


def test_ten_megabytes_of_reason(prison):
    found = prison.judge('''
        return self.reject('because ' * 1_250_000, code='y' * 100_000)
    ''')
    assert found['verdict'] == 'reject'
    assert found['reason'].startswith('because because')
    assert len(found['reason']) <= 1000
    assert len(found['code']) <= 100


@pytest.mark.parametrize('junk', [
    "b'x' * 10_000_000", "b'no json\\n'", "b'[]\\n'", "b'{}\\n'",
    "b'[' * 100_000 + b'\\n'", "b'\\0\\xff\\n'"])
def test_junk_in_the_channel_of_answers(prison, junk):
    found = prison.judge(f'''
        for fd in range(3, 20):
            try:
                os.write(fd, {junk})
            except OSError:
                pass
        time.sleep(60)
    ''', limits={'timeout': 20.0})
    assert found['verdict'] == 'error'
    assert 'answer' in found['reason'], found


@pytest.mark.parametrize('name,said', [
    ('other_x', 'allowed_properties does not allow'),
    ('os_glance_x', 'belongs to the service'),
    ('os_glance_import_task', 'belongs to the service'),
    ('status', 'belongs to the service'),
    ('acme_' + 'x' * 300, 'a property named')])
def test_properties_that_are_not_its_own(prison, name, said):
    found = prison.judge('return self.accept(properties={ctx.options.name: '
                         '"x"})', options={'name': name},
                         allowed=['acme_', 'status'])
    assert found['verdict'] == 'error'
    assert found['blocks'] and found['properties'] == {}
    assert said in found['reason']


def test_changes_the_bytes(prison):
    found = prison.judge('''
        import ctypes, fcntl, mmap
        fds = [fd for fd in range(3, 30) if os.path.exists(
            '/proc/self/fd/%d' % fd)]
        names = ['/glance/data'] + ['/proc/self/fd/%d' % fd for fd in fds]
        names += ['/proc/1/%s/glance/data' % top for top in (
            'root', 'cwd/..')]
        for name in names:
            for flags in (os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_TRUNC,
                          os.O_WRONLY | os.O_APPEND):
                try:
                    fd = os.open(name, flags)
                except OSError:
                    continue
                if os.fstat(fd).st_size == data.size:
                    ctx.log('opened %s' % name)
                    os.write(fd, b'changed')
        for name in names:
            for change in (lambda: os.truncate(name, 1),
                           lambda: os.chmod(name, 0o777),
                           lambda: os.utime(name, (1, 1)),
                           lambda: os.setxattr(name, 'user.x', b'x'),
                           lambda: os.unlink(name),
                           lambda: os.rename(name, '/tmp/x'),
                           lambda: os.link(name, '/tmp/y')):
                try:
                    change()
                except OSError:
                    pass
        for fd in fds:
            for change in (lambda: os.ftruncate(fd, 1),
                           lambda: os.pwrite(fd, b'changed', 0),
                           lambda: os.fchmod(fd, 0o777),
                           lambda: mmap.mmap(fd, 4096, mmap.MAP_SHARED,
                                             mmap.PROT_WRITE)):
                try:
                    if os.fstat(fd).st_size == data.size:
                        change()
                        ctx.log('changed')
                except (OSError, ValueError):
                    pass
        return self.accept()
    ''')
    assert (found['verdict'], found['log']) == ('accept', []), found


def test_bounded_sink(prison):
    sink = prison.directory / 'sink'
    head = HEAD.replace('def inspect(self, image, data, ctx)',
                        'def transform(self, source, sink, ctx)')
    body = '''
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            while True:
                sink.write(bytes(1 << 20))
        except OSError as failure:
            ctx.log(type(failure).__name__)
        try:
            while True:
                os.write(sink._fd, bytes(1 << 20))
        except OSError as failure:
            ctx.log(errno.errorcode[failure.errno])
        return self.accept()
    '''
    plugin = prison.plugin
    prison.plugin = lambda text: plugin(text, head)
    found = prison.judge(body, do='transform', sink=str(sink),
                         limits={'output': 8 << 20, 'tmp': 1 << 20})
    assert found['log'] == ['SinkFull', 'EFBIG'], found
    assert sink.stat().st_size == 8 << 20


def test_the_services_own_directories_are_covered(prison):
    """Even where they lie below something the plugin may read."""
    prison.directory.chmod(0o755)
    found = prison.judge('''
        top = os.path.dirname(ctx.options.secret)
        ctx.log(' '.join(sorted(os.listdir(top))))
        try:
            ctx.log(' '.join(os.listdir(top + '/lib')))
        except OSError as failure:
            ctx.log(errno.errorcode[failure.errno])
        return self.accept()
    ''', read=[str(prison.directory)], hide=[str(prison.directory / 'lib')])
    assert found["verdict"] == "accept", json.dumps(found)
    assert 'secret' in found['log'][0]
    assert found['log'][1] in ('EACCES', '')


def test_ended_while_it_begins(bwrap):
    """At whatever moment: nothing of it goes on with nobody to end it."""
    mark = f'9{uuid.uuid4().int % 10 ** 9:09}'
    wall = sandbox.Strict()
    target = host.Target('late', 'command', words=('sleep', mark))
    for moment in range(40):
        found = host.ask(wall, target, limits=host.Limits(
            timeout=moment * 0.0002))
        assert 'time limit' in found.reason
    assert running(mark) == []


def test_a_service_that_is_killed_as_it_begins(bwrap):
    """Nobody reads any more what bwrap says: it does not stop half-way."""
    mark = f'9{uuid.uuid4().int % 10 ** 9:09}'
    read, write = os.pipe()
    started = sandbox.Strict().start(
        sandbox.Job(words=('echo', mark)), write)
    os.close(started.status_fd)
    process = subprocess.Popen(started.command, stdout=subprocess.DEVNULL,
                               pass_fds=started.descriptors)
    for fd in (read, *started.descriptors):
        os.close(fd)
    process.wait(60)
    services.wait_for(lambda: not running(mark))


@pytest.mark.parametrize('isolation', ['strict', 'process'])
@pytest.mark.parametrize('polite', [True, False])
def test_called_off(tmp_path, bwrap, isolation, polite):
    path = tmp_path / 'waits.py'
    path.write_text(HEAD.replace('def inspect(self, image, data, ctx)',
                                 'def inspect(self, ctx)') + f'''
        ctx.log('waiting')
        while not ({polite} and ctx.cancelled):
            time.sleep(0.01)
        ctx.log('heard of it')
''')
    said = []
    found = host.run(
        sandbox.make(isolation),
        host.Target('waits', 'file', 'waits', 'Evil', source=str(path)),
        'inspect', log=said.append, cancelled=lambda: bool(said))
    assert found.verdict == host.CANCELLED
    assert said == ['waiting', 'heard of it'][:1 + polite]


def test_limits_without_a_wall(tmp_path):
    """isolation = process: bounded, cleaned, but the same user."""
    path = tmp_path / 'greedy.py'
    path.write_text(HEAD.replace('def inspect(self, image, data, ctx)',
                                 'def inspect(self, ctx)') + '''
        ctx.log(' '.join(sorted(os.environ)))
        ctx.log(ctx.tmp)
        kept = []
        while True:
            kept.append(bytearray(16 << 20))
''')
    said = []
    found = host.run(
        sandbox.make('process'),
        host.Target('greedy', 'file', 'greedy', 'Evil', source=str(path)),
        'inspect', log=said.append, limits=host.Limits(memory=256 << 20))
    assert 'more memory than it may have' in found.reason
    assert set(said[0].split()) <= {'HOME', 'LANG', 'LC_CTYPE', 'PATH', 'PWD',
                                    'TMPDIR'}
    assert not os.path.exists(said[1])


def test_without_bubblewrap_there_is_no_strict(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(sandbox.SandboxError, match='is not installed'):
        sandbox.make('strict')


def test_time_is_not_measured_by_output(prison):
    """A program that floods is ended long before its time is over."""
    begun = time.monotonic()
    found = prison.judge('''
        block = b'x' * 65536
        while True:
            os.write(1, block)
    ''', limits={'timeout': 60.0})
    assert 'bytes of log' in found['reason']
    assert time.monotonic() - begun < 60
