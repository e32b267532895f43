"""What a plugin's last answer means, or that it gave none.

Whatever comes out of a sandbox is data of a stranger: it is a verdict only
when it has the form of one, within bounds. Touches nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import typing

ERROR = 'error'
REASON = 1000
CODE = 100
_PROPERTIES = 64
_NAME, _VALUE = 255, 65535


@dataclasses.dataclass
class Result:
    """How a run ended. ``seconds`` include the start of the sandbox."""

    verdict: str
    reason: str | None = None
    code: str | None = None
    properties: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    bytes_read: int | None = None
    written: int | None = None
    # For the operator alone: a stack trace, what it said last.
    detail: str = ''
    described: dict[str, typing.Any] | None = None
    problems: list[str] = dataclasses.field(default_factory=list)


def of_program(returncode: int | None, wrote: bytes, do: str
               ) -> dict[str, typing.Any] | None:
    """A program's standard output as an answer; None when it failed."""
    if returncode != 0:
        return None
    try:
        said = json.loads(wrote)
        if not isinstance(said, dict):
            raise ValueError
    except (ValueError, RecursionError):
        return {'t': 'error', 'text': 'what it wrote to its standard '
                'output is no JSON object'}
    if said.get('t') == 'error':
        return said
    if do == 'describe':
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


def judge(said: dict[str, typing.Any], *, bytes_read: int | None,
          tail: str) -> Result:
    """The result that an answer is.

    :param bytes_read: as far as beats have told
    :param tail: what it printed last
    """
    kind = said['t']
    if kind == 'described':
        return Result('described', described=said)
    if kind == 'broken':
        return Result('broken', problems=[
            str(each)[:REASON] for each in said.get('problems', [])])
    if kind == 'error':
        return Result(ERROR, one_line(str(said.get('text')))[:REASON],
                      bytes_read=bytes_read,
                      detail=str(said.get('trace') or tail))
    if kind != 'end':
        return Result(ERROR, 'it gave an unknown answer')
    return _verdict(said, bytes_read)


def _verdict(said: dict[str, typing.Any], bytes_read: int | None) -> Result:
    verdict = said.get('verdict')
    reason, code = said.get('reason'), said.get('code')
    properties = said.get('properties') or {}
    problem = None
    if verdict not in ('accept', 'reject', 'warn'):
        problem = f'it gave the unknown verdict {str(verdict)[:40]!r}'
    elif verdict != 'accept' and not (
            isinstance(reason, str) and reason.strip()):
        problem = f'it gave the verdict {verdict!r} without a reason'
    elif code is not None and not isinstance(code, str):
        problem = 'it gave a code that is not a string'
    else:
        problem = _properties_problem(properties)
    if problem:
        return Result(ERROR, problem, bytes_read=bytes_read)
    read = said.get('bytes')
    return Result(
        str(verdict), one_line(reason or '')[:REASON] or None,
        one_line(code or '')[:CODE] or None, dict(properties),
        bytes_read=read if isinstance(read, int) else None,
        written=said.get('written'))


def _properties_problem(properties: typing.Any) -> str | None:
    if not isinstance(properties, dict):
        return 'it gave properties that are no mapping'
    if len(properties) > _PROPERTIES:
        return f'it gave more than {_PROPERTIES} properties'
    for name, value in properties.items():
        if not isinstance(value, str) or len(value) > _VALUE:
            return (f'the value of its property {name[:60]!r} is not a '
                    'string, or too long')
        if not 0 < len(name) <= _NAME or not name.isprintable():
            return f'it gave a property named {name[:60]!r}'
    return None


def one_line(text: str) -> str:
    """Printable words, a blank between them."""
    return ' '.join(''.join(each if each.isprintable() else ' '
                            for each in text).split())
