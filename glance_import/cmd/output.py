"""How the commands of glance-import-manage print what they found.

``table`` has a line a row under the names of the columns, ``json`` a list of
objects, ``value`` the values alone, a tab between them, for other programs.
Touches the standard output.
"""

from __future__ import annotations

import collections.abc
import json
import typing

from oslo_config import cfg

from glance_import import errors

TABLE, JSON, VALUE = 'table', 'json', 'value'
FORMAT = (('--format', '-f'), {
    'choices': (TABLE, JSON, VALUE), 'default': None,
    'help': 'table: for people; json; value: only values, a tab between '
            'them'})
# What there was before --format.
AS_JSON = (('--json',), {
    'action': 'store_const', 'const': JSON, 'dest': 'format',
    'help': 'the same as --format json'})

Row = collections.abc.Mapping[str, typing.Any]


def chosen(conf: cfg.ConfigOpts) -> str | None:
    """The format that was asked for; None for the command's own."""
    return getattr(conf.command, 'format', None)


def rows(conf: cfg.ConfigOpts, found: collections.abc.Sequence[Row]) -> None:
    """Print rows, all of the same columns, as asked for; else as a table."""
    kind = chosen(conf) or TABLE
    if kind == JSON:
        print(json.dumps([dict(row) for row in found], indent=2))
        return
    lines = [[_text(value, kind) for value in row.values()] for row in found]
    if kind == VALUE:
        for line in lines:
            print('\t'.join(line))
    elif found:
        _table([list(found[0]), *lines])


def each(conf: cfg.ConfigOpts, wanted: collections.abc.Iterable[str],
         do: collections.abc.Callable[
             [str], str | collections.abc.Iterable[str]]) -> int:
    """Do something to each of these and say what came of it.

    :param do: what was done, in lines; raises errors.DomainError
    :returns: exit status: 1 when one of them was refused
    """
    said: list[Row] = []
    for name in wanted:
        try:
            lines = do(name)
            for line in [lines] if isinstance(lines, str) else lines:
                said.append({'of': name, 'done': True, 'result': line})
                if chosen(conf) is None:
                    print(line)
        except errors.DomainError as failure:
            said.append({'of': name, 'done': False, 'result': str(failure)})
            if chosen(conf) is None:
                print(failure)
    if chosen(conf) is not None:
        rows(conf, said)
    return 0 if all(row['done'] for row in said) else 1


def _table(lines: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print('  '.join(text.ljust(width) for text, width
                        in zip(line, widths, strict=True)).rstrip())


def _text(value: typing.Any, kind: str) -> str:
    if value is None:
        return '-' if kind == TABLE else ''
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:.1f}'
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    # A cell is one word of one line, whatever was written into it.
    return ' '.join(str(value).split())
