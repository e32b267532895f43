"""What a plugin says of itself, judged like all else that it says.

A class is described by the runner, a program in its own words; either way it
comes out of a sandbox and is data of a stranger. Touches nothing.
"""

from __future__ import annotations

import typing

from glance_import.plugin import check
from glance_import.plugin import contract
from glance_import.plugin import verdicts

_TEXT = 2000
_NAME = 64


def problem(said: typing.Any) -> str | None:
    """What is wrong with a description; None when nothing is.

    What is absent and need not be there is put in.
    """
    if not isinstance(said, dict):
        return 'it is no object'
    api = said.get('api')
    if type(api) is not int or api != contract.API:
        return (f'it asks for contract version {ascii(api)[:_NAME]}; this '
                f'service offers {contract.API}')
    methods = said.get('methods')
    if not isinstance(methods, list) or not methods or not all(
            isinstance(each, str) and each in contract.ARGUMENTS
            for each in methods):
        return ('"methods" is not a list of '
                + ', '.join(contract.ARGUMENTS))
    for name in ('version', 'summary'):
        text = '' if said.get(name) is None else said[name]
        if not _is(text, 'str'):
            return f'"{name}" is no text'
        said[name] = verdicts.one_line(text)[:100]
    options = said.setdefault('options', [])
    if not isinstance(options, list):
        return '"options" is not a list'
    seen: set[str] = set()
    for option in options:
        found = _option_problem(option, seen)
        if found:
            return found
    return None


def _option_problem(option: typing.Any, seen: set[str]) -> str | None:
    if not isinstance(option, dict):
        return f'{ascii(option)[:_NAME]} is no option'
    name, kind = option.get('name'), option.get('type')
    if not isinstance(name, str) or not name.isidentifier() \
            or len(name) > _NAME or name.startswith('_'):
        return f'{ascii(name)[:_NAME]} is no name of an option'
    if name in check.RESERVED_OPTIONS:
        return f'the option {name} is one that every plugin has'
    if name in seen:
        return f'the option {name} is there twice'
    seen.add(name)
    if not isinstance(kind, str) or kind not in contract.Option.TYPES:
        return (f'the option {name} is of no type that there is ('
                + ', '.join(contract.Option.TYPES) + ')')
    default = option.setdefault('default', None)
    if default is not None and not _is(default, kind):
        return f'the default of the option {name} is no {kind}'
    if not _is(option.setdefault('help', ''), 'str'):
        return f'the help of the option {name} is no text'
    option['help'] = option['help'][:_TEXT]
    for flag in ('required', 'secret'):
        if not isinstance(option.setdefault(flag, False), bool):
            return f'"{flag}" of the option {name} is neither true nor false'
    return None


def _is(value: typing.Any, kind: str) -> bool:
    """Whether a value is of a type; lists are of texts."""
    if kind == 'list':
        return isinstance(value, list) and all(
            _is(each, 'str') for each in value)
    if kind == 'str':
        return isinstance(value, str) and verdicts.is_text(value)
    if kind == 'float':
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is contract.Option.TYPES[kind]
