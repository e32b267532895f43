"""Whether a class keeps the contract: every fault, in words for its author.

Used where the class is loaded (inside the sandbox), so it asks for as little
as the contract itself: the standard library, and few modules of it.
"""

from __future__ import annotations

from glance_import.plugin import contract

TYPE_CHECKING = False
if TYPE_CHECKING:
    import collections.abc
    from typing import Any

_GENERATOR = 0x20
_COROUTINES = 0x80 | 0x100 | 0x200
# Names of settings that every plugin's section has.
RESERVED_OPTIONS = frozenset({
    'failure_policy', 'enforcement', 'allowed_properties', 'timeout',
    'idle_timeout', 'cpu_limit', 'memory_limit', 'tmp_limit',
    'tmp_files_limit', 'open_files_limit', 'process_limit', 'output_limit',
    'log_limit', 'read_paths', 'sockets',
})


def methods_of(cls: type) -> list[str]:
    """Which of the contract's methods a class defines."""
    return [name for name in contract.ARGUMENTS
            if callable(getattr(cls, name, None))]


def problems(cls: Any) -> list[str]:
    """What keeps ``cls`` from being a plugin; empty when nothing does."""
    if not isinstance(cls, type) or not issubclass(
            cls, contract.ImagePlugin):
        return [f'it is not a class derived from ImagePlugin, but '
                f'{_kind(cls)}']
    found = _version_problems(cls)
    if cls is contract.ImagePlugin or not methods_of(cls):
        found.append('it defines none of the methods '
                     + ', '.join(contract.ARGUMENTS))
    for name in contract.ARGUMENTS:
        if getattr(cls, name, None) is not None:
            found += _method_problems(cls, name)
    found += _option_problems(cls.options)
    found += _constructor_problems(cls)
    return found


def arguments(function: Any, given: collections.abc.Mapping[str, Any]
              ) -> dict[str, Any]:
    """Those of ``given`` that a method names; all of them for ``**kw``."""
    code = _code(function)
    if code is None or code.co_flags & 0x08:
        return dict(given)
    named = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
    return {name: value for name, value in given.items() if name in named}


def describe(cls: type[contract.ImagePlugin]) -> dict[str, Any]:
    """What the service must know of a class that has no problems."""
    return {
        'api': cls.api,
        'version': str(cls.version),
        'methods': methods_of(cls),
        'summary': ((cls.__doc__ or '').strip().splitlines() or [''])[0]
        if '__doc__' in cls.__dict__ else '',
        'options': [{'name': option.name, 'type': option.type.__name__,
                     'default': option.default, 'help': option.help,
                     'required': option.required, 'secret': option.secret}
                    for option in cls.options],
    }


def _kind(thing: Any) -> str:
    if isinstance(thing, type):
        return f'the class {thing.__name__}'
    return f'a {type(thing).__name__}'


def _version_problems(cls: type[contract.ImagePlugin]) -> list[str]:
    if cls.api is None:
        return [f'it does not say its contract version (api = '
                f'{contract.API})']
    if cls.api is True or not isinstance(cls.api, int):
        return [f'its contract version is not an integer: api = {cls.api!r}']
    if cls.api != contract.API:
        return [f'it asks for contract version {cls.api}; this service '
                f'offers {contract.API}']
    return []


def _code(function: Any) -> Any:
    while hasattr(function, '__wrapped__'):
        function = function.__wrapped__
    function = getattr(function, '__func__', function)
    return getattr(function, '__code__', None)


def _method_problems(cls: type, name: str) -> list[str]:
    function = cls.__dict__.get(name, getattr(cls, name))
    known = contract.ARGUMENTS[name]
    static = isinstance(function, staticmethod)
    code = _code(function)
    if code is None:
        return [f'{name} is not a method'] if not callable(function) else []
    if code.co_flags & _COROUTINES:
        return [f'{name} is a coroutine; it has to be a plain method']
    if code.co_flags & _GENERATOR:
        return [f'{name} is a generator (it has a yield); it has to return '
                'a verdict']
    if getattr(code, 'co_posonlyargcount', 0) > (0 if static else 1):
        return [f'{name} has positional-only arguments; they are given by '
                'name']
    names = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
    if not static:
        if not code.co_argcount:
            return [f'{name} lacks the argument self']
        names = names[1:]
    defaults = set(_defaulted(function, code))
    return [f'{name} takes the argument {each!r}, which does not exist; it '
            f'may take {", ".join(known)}'
            for each in names if each not in known and each not in defaults]


def _defaulted(function: Any, code: Any) -> list[str]:
    function = getattr(function, '__func__', function)
    count = len(getattr(function, '__defaults__', None) or ())
    positional = code.co_varnames[:code.co_argcount]
    return (list(positional[len(positional) - count:] if count else ())
            + list(getattr(function, '__kwdefaults__', None) or ()))


def _option_problems(options: Any) -> list[str]:
    if isinstance(options, (str, bytes)) or not hasattr(options, '__iter__'):
        return ['options is not a list of Option']
    found = []
    seen: set[str] = set()
    for option in options:
        if not isinstance(option, contract.Option):
            found.append(f'options has {option!r}, which is no Option')
            continue
        found += _one_option(option, seen)
        seen.add(str(option.name))
    return found


def _one_option(option: contract.Option, seen: set[str]) -> list[str]:
    name = option.name
    if not isinstance(name, str) or not name.isidentifier() \
            or name != name.lower() or name.startswith('_'):
        return [f'the option name {name!r} is not a lower-case identifier']
    if name in RESERVED_OPTIONS:
        return [f'the option {name!r} has the name of a setting that every '
                'plugin has']
    if name in seen:
        return [f'the option {name!r} is declared twice']
    if option.type not in contract.Option.TYPES.values():
        return [f'the option {name!r} has the type {option.type!r}; it may '
                f'be {", ".join(contract.Option.TYPES)}']
    if option.default is not None and not _fits(option.default, option.type):
        return [f'the default of the option {name!r}, {option.default!r}, '
                f'is not of its type {option.type.__name__}']
    return []


def _fits(value: Any, wanted: type) -> bool:
    if wanted is list:
        return isinstance(value, (list, tuple)) and all(
            isinstance(each, str) for each in value)
    if wanted is float:
        return isinstance(value, (int, float)) and value is not True
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, wanted)


def _constructor_problems(cls: type) -> list[str]:
    function = getattr(cls, '__init__', None)
    code = _code(function)
    if code is None:
        return []
    required = [name for name
                in code.co_varnames[1:code.co_argcount
                                    + code.co_kwonlyargcount]
                if name not in _defaulted(function, code)]
    if required:
        return ['__init__ needs the arguments ' + ', '.join(required)
                + '; it is called without any']
    return []
