"""qemu-img's word on an image: how it is asked, and what its answer means.

Asked inside a sandbox where the image is the only file of anybody's: once so
that it looks for a format by itself, then with each format that is named. A
shell asks, since starting Python would cost three times as much as all the
rest. What comes out is data of a stranger. Touches nothing.
"""

from __future__ import annotations

import collections.abc
import json
import typing

# $1 ends each part of the answer: no image can hold it.
_SCRIPT = """
mark=$1 program=$2 source=$3
shift 3
echo '{"t": "hello"}'
for format in "" "$@"; do
    "$program" info -U --output=json ${format:+-f "$format"} "$source" 2>err
    status=$?
    printf '\\n%s %d\\n' "$mark" $status
    [ $status = 0 ] || cat err
    printf '\\n%s\\n' "$mark"
done
"""
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


def command(mark: str, program: str, source: str,
            formats: collections.abc.Sequence[str]) -> tuple[str, ...]:
    """What to run in the sandbox.

    :param mark: a new random word
    :param source: the image, as it is called there
    :param formats: qemu's names
    """
    return ('sh', '-c', _SCRIPT, 'sh', mark, program, source, *formats)


def seen_outside(said: bytes, mark: str, source: str,
                 formats: collections.abc.Sequence[str]) -> str | None:
    """What it sees outside of the file, and how; None when that is nothing.

    :param said: what the command wrote
    :raises Unreadable: it does not say
    """
    parts = said.split(f'\n{mark}'.encode())
    if len(parts) != 2 * len(formats) + 3:
        raise Unreadable('its answer is not whole')
    for number, name in enumerate((None, *formats)):
        status, _end, err = parts[2 * number + 1].partition(b'\n')
        if not status.strip().isdigit():
            raise Unreadable('its answer is not whole')
        seen = outside(int(status), parts[2 * number], err, source)
        if seen:
            how = f'as {name}' if name else 'looking by itself'
            return f'{seen}, {how}'
    return None


def outside(status: int, out: bytes, err: bytes, source: str
            ) -> str | None:
    """What qemu-img sees outside of the file, None when that is nothing.

    :param status: its exit status; 128 and more for a signal
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


def _parsed(out: bytes) -> dict[str, typing.Any]:
    text = out.decode('utf-8', 'replace').strip()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise Unreadable('its answer is no JSON') from failure
    if not isinstance(found, dict) or not isinstance(
            found.get('format'), str) or 'filename' not in found:
        raise Unreadable('its answer is not about an image')
    return found


def _named(found: dict[str, typing.Any], source: str) -> str | None:
    """The kind of name in an answer that is not the file's own."""
    pending: list[typing.Any] = [found]
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
