"""What a plugin's last answer means, or that it gave none.

Whatever comes out of a sandbox is data of a stranger: it is a verdict only
when it has the form of one, within bounds. Touches nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import signal
import typing

ERROR, HOLD = 'error', 'hold'
REASON = 1000
CODE = 100
_PROPERTIES = 64
_NAME, _VALUE = 255, 65535
_LARGEST = (1 << 63) - 1
_DETAIL = 64 << 10


@dataclasses.dataclass
class Result:
    """How a run ended, and what that means to the operator.

    :ivar seconds: of all attempts, the start of their sandboxes included
    :ivar detail: for the operator alone: a stack trace, what it said last
    :ivar step: the hook that was called
    :ivar digest: of the plugin's code and options
    :ivar blocks: whether the image must not pass
    """

    verdict: str
    reason: str | None = None
    code: str | None = None
    properties: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    bytes_read: int | None = None
    written: int | None = None
    detail: str = ''
    described: dict[str, typing.Any] | None = None
    problems: list[str] = dataclasses.field(default_factory=list)
    plugin: str = ''
    version: str = ''
    digest: str = ''
    step: str = ''
    attempts: int = 0
    blocks: bool = False

    def audit(self) -> dict[str, typing.Any]:
        """What is kept of it in the task of an import.

        ``let_through``: it wanted otherwise, and the operator's section
        (enforcement, failure_policy) lets the image pass.
        """
        return {
            'let_through': not self.blocks and self.verdict in (
                'reject', HOLD, ERROR),
            'plugin': self.plugin, 'version': self.version,
            'digest': self.digest, 'step': self.step,
            'verdict': self.verdict, 'code': self.code,
            'reason': self.reason,
            'seconds': round(self.seconds, 3),
            'bytes_read': self.bytes_read, 'attempts': self.attempts,
            'properties': self.properties}


def parse(wrote: bytes) -> dict[str, typing.Any]:
    """What was written as JSON (RFC 8259), if it is an object.

    Its numbers are what every reader of JSON can read. Its texts may still
    hold halves of characters, see ``is_text``.

    :raises ValueError: it is not, or too deep
    """
    try:
        said = json.loads(wrote.decode('utf-8'), parse_constant=_no_number)
        _check_plain(said)
    except RecursionError:
        raise ValueError('it is too deep') from None
    if not isinstance(said, dict):
        raise ValueError('it is no object')
    return said


def _no_number(name: str) -> typing.NoReturn:
    raise ValueError(f'{name} is no number')


def _check_plain(value: typing.Any) -> None:
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError('a number is too large')
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError('a number is too large')
    elif isinstance(value, list):
        for each in value:
            _check_plain(each)
    elif isinstance(value, dict):
        for each in value.values():
            _check_plain(each)


def is_text(value: str) -> bool:
    """Whether UTF-8 can hold it, as a file, a database or an answer must."""
    try:
        value.encode('utf-8')
    except UnicodeEncodeError:
        return False
    return True


def of_program(returncode: int | None, wrote: bytes, hook: str
               ) -> dict[str, typing.Any] | None:
    """A program's standard output as an answer; None when it failed."""
    if returncode != 0:
        return None
    try:
        said = parse(wrote)
    except ValueError:
        return {'t': 'error', 'text': 'what it wrote to its standard '
                'output is no JSON object'}
    if said.get('t') == 'error':
        return said
    if hook == 'describe':
        return {**said, 't': 'described'}
    return {**said, 't': 'end'}


def how_it_died(status: int | None) -> str:
    """The reason why there is no answer, by its exit status."""
    if status is not None and status > 128:
        status = 128 - status
    if status is not None and status < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-status).name
            meaning = {
                'SIGXCPU': ', its limit of processor time',
                'SIGKILL': ', perhaps a limit of the kernel',
                'SIGXFSZ': ', its limit of written bytes',
            }.get(name, '')
            return f'it was ended by the signal {name}{meaning}'
    return f'it ended with status {status} and without a verdict'


def of_answer(said: dict[str, typing.Any], *, bytes_read: int | None,
              tail: str) -> Result:
    """The result that an answer is.

    :param bytes_read: as far as beats have told
    :param tail: what it printed last
    """
    kind = said['t']
    if kind == 'described':
        return Result('described', described=said)
    if kind == 'broken':
        problems = said.get('problems')
        return Result('broken', problems=[
            one_line(str(each))[:REASON] for each in problems]
            if isinstance(problems, list) else ['it does not say what'])
    if kind == 'error':
        return Result(ERROR, one_line(str(said.get('text')))[:REASON],
                      bytes_read=bytes_read,
                      detail=_detail(said.get('trace') or tail))
    if kind != 'end':
        return Result(ERROR, 'it gave an unknown answer')
    return _verdict(said, bytes_read)


def _detail(said: typing.Any) -> str:
    return str(said)[-_DETAIL:].encode('utf-8', 'replace').decode()


def _verdict(said: dict[str, typing.Any], bytes_read: int | None) -> Result:
    verdict = said.get('verdict')
    reason, code = said.get('reason'), said.get('code')
    properties = said.get('properties')
    if properties is None:
        properties = {}
    problem = None
    if not isinstance(verdict, str) or verdict not in (
            'accept', 'reject', 'warn', HOLD):
        problem = f'it gave the unknown verdict {ascii(verdict)[:40]}'
    elif verdict != 'accept' and not (
            isinstance(reason, str) and one_line(reason)):
        problem = f'it gave the verdict {verdict!r} without a reason'
    elif reason is not None and not isinstance(reason, str):
        problem = 'it gave a reason that is not a string'
    elif code is not None and not isinstance(code, str):
        problem = 'it gave a code that is not a string'
    else:
        problem = _properties_problem(properties)
    if problem:
        return Result(ERROR, problem, bytes_read=bytes_read)
    return Result(
        str(verdict), one_line(reason or '')[:REASON] or None,
        one_line(code or '')[:CODE] or None, dict(properties),
        bytes_read=count(said.get('bytes')),
        written=count(said.get('written')))


def _properties_problem(properties: typing.Any) -> str | None:
    if not isinstance(properties, dict):
        return 'it gave properties that are no mapping'
    if len(properties) > _PROPERTIES:
        return f'it gave more than {_PROPERTIES} properties'
    for name, value in properties.items():
        if not 0 < len(name) <= _NAME or not name.isprintable():
            return f'it gave a property named {ascii(name[:60])}'
        if not isinstance(value, str) or len(value) > _VALUE \
                or not is_text(value):
            return (f'the value of its property {name[:60]!r} is not a '
                    'string, or too long')
    return None


def count(value: typing.Any) -> int | None:
    """A number of bytes, if it is one."""
    return value if type(value) is int and value >= 0 else None


def one_line(text: str) -> str:
    """Printable words, a blank between them."""
    return ' '.join(''.join(each if each.isprintable() else ' '
                            for each in text).split())
