"""glance-import-plugin: write, try and judge a plugin without the service.

For authors; reads no configuration and needs no service. ``run`` uses the
same host as the service does.
"""

from __future__ import annotations

import argparse
import ast
import collections.abc
import json
import os
import pathlib
import sys
import tempfile
import typing

from glance_import import plugin as public
from glance_import.plugin import chain
from glance_import.plugin import contract
from glance_import.plugin import descriptions
from glance_import.plugin import host
from glance_import.plugin import sandbox
from glance_import.plugin import skeleton
from glance_import.plugin import verdicts

PROG = 'glance-import-plugin'
ACCEPTED, REJECTED, USAGE, FAILED, HELD = 0, 1, 2, 3, 4
_WORDS = {'yes': True, 'true': True, 'on': True, '1': True,
          'no': False, 'false': False, 'off': False, '0': False}
_NUMBERS = ('size', 'virtual_size', 'min_disk', 'min_ram')


class Unusable(Exception):
    """The command line names what cannot be used; one line."""


def main(argv: collections.abc.Sequence[str] | None = None) -> int:
    """Run one command; its exit status.

    0: accepted, or nothing wrong; 1: rejected, or something is; 2: the
    command line cannot be understood; 3: the plugin failed.
    """
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except (Unusable, sandbox.SandboxError) as failure:
        print(f'{PROG}: {failure}', file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROG, description=main.__doc__)
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    new = commands.add_parser('new', help='write a package to begin with')
    new.add_argument('name')
    new.add_argument('--directory', help='where (default: the name)')
    new.set_defaults(run=_new)

    run = commands.add_parser('run', help='judge one file with a plugin')
    run.add_argument('plugin', metavar='FILE:CLASS',
                     help='or exec:PROGRAM')
    run.add_argument('--image', required=True, help='the file to judge')
    run.add_argument('--meta', action='append', default=[], metavar='K=V',
                     help='metadata; what is no field is a property')
    run.add_argument('--set', action='append', default=[], metavar='OPT=V',
                     help='an option of the plugin')
    run.add_argument('--strict', action='store_true',
                     help='in the sandbox that the service uses')
    run.add_argument('--output', help='where a transform writes')
    run.add_argument('--timeout', type=float, default=3600.0)
    run.add_argument('--read', action='append', default=[], metavar='PATH',
                     help='what the operator would grant (read_paths, '
                          'sockets)')
    run.add_argument('--json', action='store_true')
    run.set_defaults(run=_run)

    lint = commands.add_parser(
        'lint', help='hold a plugin against the contract')
    lint.add_argument('plugin', metavar='FILE:CLASS')
    lint.set_defaults(run=_lint)
    return parser


# -- new

def _new(arguments: argparse.Namespace) -> int:
    directory = pathlib.Path(arguments.directory or arguments.name)
    try:
        for path in skeleton.write(arguments.name, directory):
            print(path)
    except ValueError as failure:
        raise Unusable(failure) from failure
    except FileExistsError as failure:
        raise Unusable(f'{directory} is there already') from failure
    except OSError as failure:
        raise Unusable(f'{directory}: {failure.strerror}') from failure
    return 0


# -- run

def target_of(text: str, read: collections.abc.Iterable[str] = ()
              ) -> host.Target:
    """The plugin that FILE:CLASS or exec:PROGRAM names.

    :raises Unusable: there is no such file
    """
    kind = 'exec' if text.startswith('exec:') else 'file'
    path, attribute = ((text[5:], '') if kind == 'exec'
                       else text.rpartition(':')[::2])
    if not path:
        raise Unusable(f'{text!r} is not FILE:CLASS')
    source = os.path.realpath(path)
    if not os.path.isfile(source):
        raise Unusable(f'there is no file {path}')
    stem = os.path.splitext(os.path.basename(source))[0]
    sites = tuple(sandbox.site_directories()) if kind == 'file' else ()
    return host.Target(text, kind, f'plugin_{stem}', attribute,
                       source=source, path=sites,
                       read=(*sites, *map(os.path.abspath, read)))


def _run(arguments: argparse.Namespace) -> int:
    isolation = sandbox.make('strict' if arguments.strict else 'process')
    target = target_of(arguments.plugin, arguments.read)
    if not os.path.isfile(arguments.image):
        raise Unusable(f'there is no file {arguments.image}')
    described = host.run(isolation, target, 'describe', log=_log)
    if described.described is None:
        return _broken(arguments, described)
    plugin = chain.Plugin(
        name=arguments.plugin, section='plugin', kind=target.kind,
        version=str(described.described.get('version') or ''),
        methods=tuple(described.described['methods']), summary='',
        target=target, settings=chain.Settings(
            allowed_properties=('',),
            options=_options(described.described.get('options', []),
                             arguments.set),
            limits=host.Limits(timeout=arguments.timeout)))
    records = _run_hooks(isolation, plugin, arguments)
    return _show(arguments, records)


def _run_hooks(isolation: sandbox.Sandbox, plugin: chain.Plugin,
               arguments: argparse.Namespace) -> list[verdicts.Result]:
    """Each of its methods, until one does not let the image pass."""
    path = os.path.abspath(arguments.image)
    image = _image(arguments.meta, path)
    records: list[verdicts.Result] = []
    for hook in contract.ARGUMENTS:
        if hook not in plugin.methods:
            continue
        with _sink(arguments.output) as sink:
            record = chain.run(
                isolation, plugin, hook, image=image,
                data=None if hook == chain.PRECHECK else path,
                sink=(lambda: sink) if hook == chain.TRANSFORM else None,
                log=lambda _plugin, text: _log(text))
        records.append(record)
        if record.blocks:
            break
    return records


class _sink:
    """A file for what a transform writes, kept if it has a name."""

    def __init__(self, path: str | None) -> None:
        self._path = path

    def __enter__(self) -> str:
        if self._path is None:
            fd, self.path = tempfile.mkstemp(prefix='plugin-output-')
            os.close(fd)
        else:
            self.path = os.path.abspath(self._path)
            open(self.path, 'wb').close()
        return self.path

    def __exit__(self, *_: object) -> None:
        if self._path is None:
            os.unlink(self.path)


def _pairs(given: list[str], flag: str) -> dict[str, str]:
    found = {}
    for each in given:
        name, equals, value = each.partition('=')
        if not equals or not name:
            raise Unusable(f'{flag} {each}: not NAME=VALUE')
        found[name] = value
    return found


def _image(meta: list[str], path: str) -> dict[str, typing.Any]:
    image: dict[str, typing.Any] = {
        'id': '00000000-0000-0000-0000-000000000000',
        'name': os.path.basename(path), 'size': os.path.getsize(path),
        'properties': {}}
    for name, value in _pairs(meta, '--meta').items():
        if name in ('properties', 'tags') \
                or name not in contract.IMAGE_FIELDS:
            image['properties'][name] = value
        elif name in _NUMBERS:
            image[name] = _number(int, name, value)
        else:
            image[name] = value
    return image


def _number(kind: typing.Callable[[str], typing.Any], name: str,
            value: str) -> typing.Any:
    try:
        return kind(value)
    except ValueError as failure:
        raise Unusable(f'{name} = {value!r} is no number') from failure


def _options(declared: list[dict[str, typing.Any]], given: list[str]
             ) -> dict[str, typing.Any]:
    """Values as the service would read them from the section."""
    values = {option['name']: option.get('default') for option in declared}
    types = {option['name']: option['type'] for option in declared}
    for name, value in _pairs(given, '--set').items():
        if name not in types:
            raise Unusable(f'the plugin declares no option {name!r}')
        values[name] = _value(types[name], name, value)
    for option in declared:
        if option.get('required') and values[option['name']] is None:
            raise Unusable(f'the option {option["name"]!r} has to be set '
                           f'(--set {option["name"]}=...)')
    return values


def _value(kind: str, name: str, text: str) -> typing.Any:
    if kind == 'bool':
        if text.lower() not in _WORDS:
            raise Unusable(f'{name} = {text!r} is neither yes nor no')
        return _WORDS[text.lower()]
    if kind == 'list':
        return [each.strip() for each in text.split(',') if each.strip()]
    if kind in ('int', 'float'):
        return _number(int if kind == 'int' else float, name, text)
    return text


def _log(text: str) -> None:
    print(f'log: {text}', file=sys.stderr)


def _broken(arguments: argparse.Namespace, found: verdicts.Result) -> int:
    problems = found.problems or [found.reason or 'it cannot be loaded']
    if arguments.json:
        print(json.dumps({'verdict': 'error', 'problems': problems}))
    else:
        for problem in problems:
            print(f'broken: {problem}')
    if found.detail:
        print(found.detail, file=sys.stderr)
    return FAILED


def _show(arguments: argparse.Namespace,
          records: list[verdicts.Result]) -> int:
    if arguments.json:
        print(json.dumps([record.audit() for record in records]))
    for record in records:
        if not arguments.json:
            print(describe(record))
        if record.detail:
            print(record.detail, file=sys.stderr)
    last = records[-1].verdict
    return {'accept': ACCEPTED, 'warn': ACCEPTED,
            'reject': REJECTED, verdicts.HOLD: HELD}.get(last, FAILED)


def describe(record: verdicts.Result) -> str:
    """One line on one run."""
    words = [f'{record.step}: {record.verdict}']
    if record.code:
        words.append(record.code)
    if record.reason:
        words.append(f'({record.reason})')
    words += [f'{name}={value}' for name, value
              in sorted(record.properties.items())]
    read = (f', {record.bytes_read} bytes read'
            if record.bytes_read is not None else '')
    return f"{' '.join(words)} in {record.seconds:.2f} s{read}"


# -- lint

def _lint(arguments: argparse.Namespace) -> int:
    target = target_of(arguments.plugin)
    # A program may be in any language: only what it answers counts.
    problems = [] if target.kind == 'exec' else _imports(target.source)
    found = host.run(sandbox.make('process'), target, 'describe', log=_log)
    if found.described is None:
        problems += [(0, problem) for problem in
                     found.problems or [found.reason or '']]
        if found.detail:
            print(found.detail, file=sys.stderr)
    else:
        said = descriptions.problem(found.described)
        problems += [(0, said)] if said else []
    for line, problem in sorted(problems):
        where = f'{target.source}:{line}' if line else target.source
        print(f'{where}: {problem}')
    return 1 if problems else 0


def _imports(path: str) -> list[tuple[int, str]]:
    """Imports of what is not the contract: it may change, or not be there."""
    try:
        with open(path, encoding='utf-8') as source:
            tree = ast.parse(source.read())
    except (SyntaxError, UnicodeDecodeError, ValueError) as failure:
        return [(getattr(failure, 'lineno', 0) or 0,
                 f'cannot be read: {failure}')]
    found = []
    for node in ast.walk(tree):
        for name in _imported(node):
            problem = _import_problem(name)
            if problem:
                found.append((getattr(node, 'lineno', 0), problem))
    return found


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [f'{node.module}.{alias.name}' for alias in node.names]
    return []


def _import_problem(name: str) -> str | None:
    top, _, rest = name.partition('.')
    if top in ('glance', 'taskflow', 'oslo_config', 'oslo_log'):
        return (f'imports {name}: a plugin needs nothing of the service '
                '(ctx.log and ctx.options are for that)')
    if top != 'glance_import' or name in ('glance_import.plugin',
                                          'glance_import.plugin.harness'):
        return None
    if rest.startswith('plugin.') and rest[7:] in (
            *public.__all__, '*', 'harness.Harness'):
        return None
    return (f'imports {name}, which is internal; the contract is '
            'glance_import.plugin and its names: '
            + ', '.join(public.__all__))


if __name__ == '__main__':
    sys.exit(main())
