"""The first program inside a sandbox: takes its orders, then runs a plugin.

Run as ``python -I -S runner.py ANSWER_FD``. Orders come on stdin (8 bytes of
length, then marshal, written by the service); answers go out as lines of
JSON. It opens what the plugin is given, gives up what it was started with
(user, limits), and only then lets a line of the plugin run. Standard library
only, few modules of it: its imports are most of what a plugin costs.
"""

from __future__ import annotations

import marshal
import os
import resource
import select
import sys
import time

try:
    # json's own, without the rest of json: that is a third of the start.
    from _json import encode_basestring_ascii as _quote
except ImportError:
    from json.encoder import py_encode_basestring_ascii as _quote

BEAT_SECONDS = 0.5
REASON_CHARACTERS = 1000
LOG_CHARACTERS = 2000
EXEC_API = '1'


class Answers:
    """Lines of JSON to the service; what cannot be sent is lost."""

    def __init__(self, fd):
        self.fd = fd
        self._next_beat = 0.0
        self.data = None

    def send(self, kind, **values):
        rest = encode({'t': kind, **values}).encode('ascii') + b'\n'
        while rest:
            rest = rest[os.write(self.fd, rest):]

    def log(self, text):
        self.send('log', text=text[:LOG_CHARACTERS])

    def beat(self, percent=None):
        """Say that the plugin is alive, now and then."""
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + BEAT_SECONDS
            self.send('beat', bytes=self.data.bytes_read if self.data else 0)


def encode(value):
    """JSON of plain values; of anything else, what it says of itself."""
    if value is None:
        return 'null'
    if value is True or value is False:
        return 'true' if value else 'false'
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float) and value - value == 0:
        return float.__repr__(value)
    if isinstance(value, dict):
        return '{' + ', '.join(f'{_quote(str(name))}: {encode(each)}'
                               for name, each in value.items()) + '}'
    if isinstance(value, (list, tuple)):
        return '[' + ', '.join(map(encode, value)) + ']'
    return _quote(str(value))


def main():
    answers = Answers(int(sys.argv[1]))
    order = _read_order()
    opened = _open_all(order)
    _give_up_user(order.get('uid'), order.get('groups', []))
    if order.get('sink'):
        # This file is the plugin's own.
        opened['sink'] = os.open(order['sink'], os.O_WRONLY | os.O_CLOEXEC)
    _limit(order['limits'])
    os.chdir(order['tmp'])
    answers.send('hello', uid=os.getuid())
    sys.path[:0] = order['path']
    sys.dont_write_bytecode = True
    if order['kind'] == 'exec':
        _exec(order, opened, answers)
        return 0
    try:
        _run(order, opened, answers)
    except MemoryError:
        answers.send('error', text='it needs more memory than it may have '
                     '(MemoryError)', trace='')
    except BaseException as failure:
        _report(answers, failure, order.get('walled'))
    return 0


def _read_order():
    """The order; what is left of stdin is how the service cancels."""
    header = _read_exactly(8)
    packed = _read_exactly(int.from_bytes(header, 'big'))
    return marshal.loads(packed)  # nosec B302: the service wrote it


def _read_exactly(count):
    parts = b''
    while len(parts) < count:
        part = os.read(0, count - len(parts))
        if not part:
            sys.exit(3)
        parts += part
    return parts


def _open_all(order):
    """Descriptors and texts that the plugin's user could not open."""
    opened: dict = {}
    if order.get('data'):
        opened['data'] = os.open(order['data'], os.O_RDONLY | os.O_CLOEXEC)
    if order['kind'] == 'file':
        with open(order['source'], 'rb') as source:
            opened['source'] = source.read()
    return opened


def _give_up_user(uid, groups):
    """Become a user that owns nothing; never to return."""
    if uid is None:
        return
    os.setgroups(groups)
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid):
        sys.exit(4)


def _limit(limits):
    for name, value in limits.items():
        which = getattr(resource, f'RLIMIT_{name}')
        _soft, hard = resource.getrlimit(which)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(which, (value, value))


def _load(order, opened):
    """The class that an order names."""
    if order['kind'] == 'file':
        # A module of its own name, so that what it defines can be pickled
        # and its line numbers are those of the file.
        module = type(sys)(order['module'])
        module.__file__ = order['shown']
        sys.modules[order['module']] = module
        code = compile(opened['source'], order['shown'], 'exec')
        # This is what the sandbox around us is for.
        exec(code, module.__dict__)  # nosec B102
    else:
        __import__(order['module'])
        module = sys.modules[order['module']]
    found = module
    for name in order['attribute'].split('.'):
        if not hasattr(found, name):
            raise AttributeError(
                f'{order["module"]} has no {order["attribute"]}')
        found = getattr(found, name)
    return found


def _run(order, opened, answers):
    from glance_import.plugin import check

    cls = _load(order, opened)
    found = check.problems(cls)
    if found:
        answers.send('broken', problems=found)
    elif order['hook'] == 'describe':
        answers.send('described', **check.describe(cls))
    else:
        _call_hook(order, opened, answers, cls)


def _call_hook(order, opened, answers, cls):
    from glance_import.plugin import check
    from glance_import.plugin import contract
    from glance_import.plugin import data as plugin_data

    data = sink = None
    if 'data' in opened:
        data = plugin_data.Data(opened['data'],
                                os.fstat(opened['data']).st_size,
                                beat=answers.beat, path=_named(order))
        answers.data = data
    if 'sink' in opened:
        sink = plugin_data.Sink(opened['sink'], order['sink_limit'],
                                beat=answers.beat)
    ctx = contract.Context(order['options'], order['tmp'],
                           order['deadline'], answers.log, answers.beat,
                           _cancelled)
    plugin = cls()
    method = getattr(plugin, order['hook'])
    verdict = method(**check.arguments(method, {
        'image': contract.Image(**order['image']), 'ctx': ctx,
        'data': data, 'source': data, 'sink': sink}))
    problem = _verdict_problem(verdict, contract.Verdict)
    if problem:
        answers.send('error', text=f'{order["do"]} {problem}', trace='')
        return
    if sink is not None:
        os.fsync(opened['sink'])
    answers.send(
        'end', verdict=verdict.kind,
        reason=(verdict.reason or '')[:REASON_CHARACTERS],
        code=verdict.code, properties=verdict.properties,
        bytes=data.bytes_read if data is not None else 0,
        written=sink.written if sink is not None else None)


def _named(order):
    """A name of the data in here; None without a wall around."""
    path = order['data'] if order.get('walled') else None
    return path if path and os.access(path, os.R_OK) else None


def _verdict_problem(verdict, kind):
    if not isinstance(verdict, kind):
        return (f'returned {type(verdict).__name__}, not a verdict; end it '
                'with "return self.accept()" or its kin')
    if verdict.kind != 'accept' and not (
            isinstance(verdict.reason, str) and verdict.reason.strip()):
        return f'returned the verdict {verdict.kind!r} without a reason'
    if verdict.code is not None and not isinstance(verdict.code, str):
        return 'returned a code that is not a string'
    for name, value in verdict.properties.items():
        if not isinstance(name, str) or not isinstance(value, str):
            return (f'returned the property {name!r}, whose name or value '
                    'is not a string')
    return None


def _cancelled():
    """The service closes our stdin when it wants us to end."""
    ready, _, _ = select.select([0], [], [], 0)
    return bool(ready)


def _report(answers, failure, walled):
    import traceback

    # What it says may hold what no user should read: that is for the log.
    trace = ''.join(traceback.format_exception(failure))
    why = _blocked(failure) if walled else ''
    answers.send('error', text=f'it failed ({type(failure).__name__}{why})',
                 trace=trace[-6000:])


def _blocked(failure):
    """What of the sandbox may be the reason; no path of the host."""
    import errno

    number = failure.errno if isinstance(failure, OSError) else None
    if number in (errno.ENOENT, errno.EACCES):
        return (', a file or socket that the sandbox does not show: it is '
                'not in read_paths or sockets of its section, or not there')
    if number in (errno.EPERM, errno.EAFNOSUPPORT, errno.ENETUNREACH,
                  errno.EROFS):
        return ', which the sandbox does not allow'
    return ''


def _exec(order, opened, answers):
    """Become the operator's program; its stdout is the answer."""
    environment = dict(os.environ)
    environment.update({
        'GLANCE_IMPORT_API': EXEC_API,
        'GLANCE_IMPORT_IMAGE': os.path.join(order['tmp'], 'image.json'),
    })
    with open(environment['GLANCE_IMPORT_IMAGE'], 'w') as image:
        image.write(encode({'image': order.get('image', {}),
                            'options': order.get('options', {}),
                            'deadline': order.get('deadline')}))
    if 'data' in opened:
        os.dup2(opened['data'], 0)
        # Under a user of its own the program can open by name only what was
        # given to the group of readers.
        if os.access(order['data'], os.R_OK):
            environment['GLANCE_IMPORT_DATA'] = order['data']
    else:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
    if 'sink' in opened:
        environment['GLANCE_IMPORT_SINK'] = order['sink']
    os.dup2(answers.fd, 1)
    os.set_inheritable(1, True)
    try:
        os.execve(  # nosec B606
            order['source'], [order['shown'], order['hook']], environment)
    except OSError as failure:
        answers.send('error', trace='', text=f'{order["shown"]} cannot be '
                     f'run: {failure.strerror}')


if __name__ == '__main__':
    sys.exit(main())
