"""qemu-img's opinion of an image: whether it sees anything outside of it.

Asked with formats that are named, and with none, so that it looks for one by
itself; all at once, and never opening what it sees. Runs inside a sandbox,
where the image is the only file of anybody's. ``ctx.options`` has ``program``
(qemu-img), ``source`` (the path in here) and ``formats`` (qemu's names).
Standard library only, few modules of it: its imports are a good part of what
an opinion costs.
"""

import os

from glance_import.plugin import contract


def _scanner():
    """A function (text, start) -> (value, end), which may raise ValueError.

    json's own, without the rest of json: that, and the regular expressions
    it loads, would be a fifth of what an opinion costs.
    """
    try:
        from _json import make_scanner
        return make_scanner(_Json)  # type: ignore[arg-type]
    except (ImportError, AttributeError, TypeError):
        import json
        return json.JSONDecoder().raw_decode


class _Json:
    """How the scanner is to read: as json does by default."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict = {}


_scan = _scanner()
# The most that a sane answer has, in bytes.
_MOST = 1 << 20
# Keys under which an answer names another file.
_NAMES = ('backing-filename', 'full-backing-filename', 'data-file')
# VMDK types whose data is in the file itself.
_WHOLE = ('monolithicSparse', 'streamOptimized')
# What qemu-img says of what it looked for elsewhere and did not find, and of
# a descriptor of other files that it cannot read; in small letters.
_ELSEWHERE = (
    'could not open', 'connect', 'protocol', 'backing', 'data file',
    'data-file', 'data_file', 'extent line', 'extent type', 'vmdk extent',
    'image type', 'relative path', 'parent', 'link uuid', 'json')
_OUR_FAULT = ('allocate memory', 'Input/output error', 'Too many open files',
              'Permission denied', 'Resource temporarily unavailable')


class Unreadable(Exception):
    """An answer that says neither yes nor no."""


class Opinion(contract.ImagePlugin):
    """One object a run."""

    api = 1

    def inspect(self, ctx):
        """Reject what refers to the outside, fail without an opinion."""
        options = ctx.options
        running = [_start(options.program, options.source, name, number)
                   for number, name in enumerate((None, *options.formats))]
        for name, pid, out, err in running:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            seen = outside(status, _said(out), _said(err), options.source)
            if seen:
                how = f'as {name}' if name else 'looking by itself'
                return self.reject(f'{seen}, {how}')
        return self.accept()


def _start(program, source, name, number):
    """A qemu-img that writes into files; a format of None is to be found."""
    out, err = f'{number}.out', f'{number}.err'
    words = [program, 'info', '-U', '--output=json',
             *(('-f', name) if name else ()), source]
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    pid = os.posix_spawnp(program, words, os.environ, file_actions=[
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, out, flags, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, err, flags, 0o600)])
    return name, pid, out, err


def _said(path):
    with open(path, 'rb') as file:
        said = file.read(_MOST + 1)
    if len(said) > _MOST:
        raise Unreadable(f'it wrote more than {_MOST} bytes')
    return said


def outside(status, out, err, source):
    """What qemu-img sees outside of the file, None when that is nothing.

    :param status: its exit status, negative for a signal
    :param out: bytes of its standard output, ``err`` of the other
    :param source: the path it was given
    :raises Unreadable: it does not say
    """
    if status == 0:
        return _named(_parsed(out), source)
    text = err.decode('utf-8', 'replace').strip()
    begins = f"qemu-img: Could not open '{source}'"
    # A driver may have said more before.
    if status != 1 or not any(
            line.startswith(begins) for line in text.split('\n')):
        raise Unreadable(f'it ended with status {status}: {text[-500:]}')
    reason = text.replace(f"Could not open '{source}'", '')
    if any(fault in reason for fault in _OUR_FAULT):
        raise Unreadable(reason[:500])
    reason = reason.lower()
    if any(words in reason for words in _ELSEWHERE):
        return 'something'
    # It is not of that format, or damaged: nothing is seen in it.
    return None


def _parsed(out):
    text = out.decode('utf-8', 'replace').strip()
    try:
        found, end = _scan(text, 0)
        if end != len(text):
            raise ValueError('more than one value')
    except (ValueError, StopIteration, RecursionError) as failure:
        raise Unreadable('its answer is no JSON') from failure
    if not isinstance(found, dict) or not isinstance(
            found.get('format'), str) or 'filename' not in found:
        raise Unreadable('its answer is not about an image')
    return found


def _named(found, source):
    """The kind of name in an answer that is not the file's own."""
    pending = [found]
    while pending:
        each = pending.pop()
        if isinstance(each, list):
            pending += each
        if not isinstance(each, dict):
            continue
        for key, value in each.items():
            if key in _NAMES and value:
                return f'a {key}'
            if key == 'filename' and value != source:
                return 'another file'
            if key == 'create-type' and value not in _WHOLE:
                return f'a VMDK of the type {value[:40]}'
            pending.append(value)
    return None
