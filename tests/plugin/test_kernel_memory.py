"""What a plugin makes the kernel keep is bounded too; tried from inside."""

import pytest

from glance_import.plugin import descriptions
from glance_import.plugin import kernel_memory
from glance_import.plugin import seccomp
from glance_import.plugin import verdicts
from tests.plugin.test_wall import prison  # noqa: F401

MAKERS = {
    'directories': 'os.mkdir("/tmp/d%d" % number)',
    'deep': 'os.mkdir("x"); os.chdir("x")',
    'files': 'open("/tmp/f%d" % number, "w").close()',
    'symlinks': 'os.symlink("x", "/tmp/s%d" % number)',
    'fifos': 'os.mkfifo("/tmp/p%d" % number)',
}


@pytest.mark.parametrize('kind', MAKERS)
def test_files_without_end(prison, kind):  # noqa: F811
    found = prison.judge(f'''
        os.chdir('/tmp')
        number = 0
        while True:
            {MAKERS[kind]}
            number += 1
    ''', limits={'tmp_files': 500})
    assert found['verdict'] == 'error'
    assert found['reason'] == ('it made more than 500 files in its '
                               'temporary directory'), found


def test_as_many_files_as_it_may(prison):  # noqa: F811
    found = prison.judge('''
        for number in range(490):
            open(f'/tmp/{number}', 'w').close()
        time.sleep(1)
        return self.accept()
    ''', limits={'tmp_files': 500})
    assert found['verdict'] == 'accept', found


def test_without_a_wall(prison):  # noqa: F811
    found = prison.judge('''
        number = 0
        while True:
            os.mkdir(ctx.tmp + "/d%d" % number)
            number += 1
    ''', isolation='process', limits={'tmp_files': 300})
    assert 'more than 300 files' in found['reason'], found


def test_locks_without_end(prison):  # noqa: F811
    found = prison.judge('''
        import fcntl
        for number in range(100):
            with open('/tmp/%d' % number, 'w+b') as file:
                if os.fork() == 0:
                    for place in range(200):
                        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1,
                                    2 * place)
                    time.sleep(60)
        while True:
            time.sleep(0.1)
            ctx.progress()
    ''', limits={'processes': 120, 'memory': 4 << 30})
    assert found['reason'] == (
        f'it took more than {kernel_memory.LOCKS} locks on files'), found


def test_no_sockets_but_unix(prison):  # noqa: F811
    found = prison.judge('''
        import socket
        for family in range(1, 46):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM,
                         socket.SOCK_RAW):
                for make in (socket.socket, socket.socketpair):
                    try:
                        made = make(family, kind)
                    except (OSError, ValueError):
                        continue
                    ctx.log('%d' % family)
                    for each in made if isinstance(made, tuple) else (made,):
                        each.close()
        return self.accept()
    ''')
    assert found['verdict'] == 'accept', found
    assert set(found['log']) == {'1'}, found


def test_sockets_have_their_usual_buffers(prison):  # noqa: F811
    found = prison.judge('''
        import socket
        a, b = socket.socketpair()
        usual = a.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        for option in (7, 8, 32, 33):
            a.setsockopt(socket.SOL_SOCKET, option, 1 << 30)
        if a.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) != usual:
            ctx.log('enlarged')
        a.settimeout(1)
        a.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        if not a.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED):
            ctx.log('other options do not work')
        a.sendall(b'x')
        assert b.recv(1) == b'x'
        return self.accept()
    ''')
    assert (found['verdict'], found['log']) == ('accept', []), found


def test_what_waits_in_sockets_counts_as_memory(prison):  # noqa: F811
    found = prison.judge('''
        import socket
        kept = []
        for _ in range(8):
            if os.fork() == 0:
                try:
                    while True:
                        kept.append(socket.socketpair())
                except OSError:
                    time.sleep(60)
                os._exit(0)
        while True:
            time.sleep(0.1)
            ctx.progress()
    ''', limits={'memory': 128 << 20, 'files': 256})
    assert found['reason'] == ('its processes together use more than 128 MiB '
                               'of memory'), found


@pytest.mark.parametrize('machine', ['x86_64', 'aarch64'])
def test_every_jump_of_the_filter_stays_inside(machine):
    code = seccomp.instructions(machine)
    for place, (operation, yes, no, _value) in enumerate(code):
        if operation in (0x15, 0x35, 0x45):
            assert place + 1 + max(yes, no) < len(code)
    assert code[-1][0] == 0x06


# -- what a plugin answers is data of a stranger

END = {'t': 'end', 'verdict': 'accept'}


@pytest.mark.parametrize('said', [
    {'verdict': 5}, {'verdict': ['accept']}, {'verdict': {}},
    {'verdict': None}, {'verdict': 'reject', 'reason': 7},
    {'verdict': 'reject', 'reason': ''}, {'verdict': 'accept', 'reason': []},
    {'verdict': 'reject', 'reason': '\ud800'}, {'code': 5}, {'code': ['x']},
    {'properties': []}, {'properties': 5}, {'properties': 'x'},
    {'properties': {'a': 1}}, {'properties': {'a': '\ud800'}},
    {'properties': {'\ud800': 'a'}}, {'properties': {'a': ['b']}},
    {'t': 'error', 'text': ['\ud800']}, {'t': 5}, {'t': ['end']},
    {'t': 'error', 'text': None, 'trace': '\udcff'}])
def test_answers_of_a_wrong_type(said):
    found = verdicts.of_answer({**END, **said}, bytes_read=None, tail='')
    assert found.verdict == verdicts.ERROR
    for text in (found.reason, found.code or '', found.detail):
        text.encode()


@pytest.mark.parametrize('said', [
    {'bytes': value, 'written': value}
    for value in (True, -1, 1.5, '5', [], None)])
def test_numbers_that_are_none(said):
    found = verdicts.of_answer({**END, **said}, bytes_read=None, tail='')
    assert (found.verdict, found.bytes_read, found.written) == (
        'accept', None, None)


@pytest.mark.parametrize('wrote', [
    b'5', b'"x"', b'[]', b'NaN', b'{"t": NaN}', b'{"t": -Infinity}',
    b'{"t": 1e999}', b'{"t": [1e999]}', b'{"t": ' + b'9' * 5000 + b'}',
    b'{"t": ' + b'9' * 30 + b'}', b'\xff\xfe{\0}\0', b'{"a": "\xed\xa0\x80"}',
    b'[' * 100_000, b'{"a":' * 50_000])
def test_what_is_no_answer(wrote):
    with pytest.raises(ValueError):
        verdicts.parse(wrote)
    assert verdicts.of_program(0, wrote, 'inspect')['t'] == 'error'


GOOD = {'api': 1, 'methods': ['inspect'], 'options': [
    {'name': 'marker', 'type': 'str'}]}


def described(**changes):
    return descriptions.problem({**GOOD, **changes})


def test_a_good_description():
    assert described() is None
    assert described(options=[
        {'name': 'a', 'type': 'list', 'default': ['b'], 'secret': True},
        {'name': 'b', 'type': 'float', 'default': 1}]) is None


@pytest.mark.parametrize('changes', [
    {'api': True}, {'api': '1'}, {'api': [1]}, {'api': 1.0},
    {'methods': [['inspect']]}, {'methods': {'inspect': 1}},
    {'methods': 'inspect'}, {'version': 5}, {'version': '\ud800'},
    {'summary': []}, {'options': {}}, {'options': ['marker']},
    *({'options': [{'name': 'x', 'type': 'str', **option}]} for option in (
        {'type': 'bytes'}, {'type': ['str']}, {'type': None}, {'name': ''},
        {'name': 5}, {'name': 'a b'}, {'name': '\ud800'}, {'name': '_x'},
        {'name': 'timeout'}, {'name': 'tmp_files_limit'}, {'name': 'x' * 99},
        {'default': 5}, {'default': '\ud800'}, {'type': 'int',
                                                'default': '5'},
        {'type': 'int', 'default': True}, {'type': 'list', 'default': [5]},
        {'help': 5}, {'help': '\ud800'}, {'required': 'yes'},
        {'secret': 1})),
    {'options': [{'name': 'x', 'type': 'str'}] * 2}])
def test_descriptions_of_a_wrong_form(changes):
    problem = described(**changes)
    assert problem
    problem.encode()


def test_a_plugin_may_log_half_a_character(prison):  # noqa: F811
    found = prison.judge(r'''
        ctx.log('half: \ud800')
        return self.reject('half: \ud800')
    ''')
    assert (found['verdict'], found['log']) == ('reject', ['half: ?']), found
    found['reason'].encode()
