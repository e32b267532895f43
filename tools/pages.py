"""Write the parts of the documentation that the code knows, or check them.

What each module is for, the table of statuses, the steps of an import and
the codes of outcomes are printed from where they are decided. ``--check``
prints which of them are not what the code says. Touches doc/source and
nothing else.
"""

import ast
import collections.abc
import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
SOURCE = TOP / 'doc' / 'source'
PACKAGE = TOP / 'glance_import'
_SENTENCE = re.compile(r'(?<=[.!?])\s')


def first_sentence(path: pathlib.Path) -> str:
    """What the docstring of a module says first."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ''
    return _SENTENCE.split(' '.join(text.split()), maxsplit=1)[0]


def _table(rows: collections.abc.Iterable[tuple[str, str]], heads: tuple[
        str, str]) -> str:
    lines = ['.. list-table::', '   :header-rows: 1', '   :widths: 30 70',
             '']
    for left, right in (heads, *rows):
        lines += [f'   * - {left}']
        lines += _wrapped(right, '     - ', '       ')
    return '\n'.join(lines) + '\n'


def _wrapped(text: str, first: str, then: str) -> list[str]:
    lines, line = [], first
    for word in text.split():
        if len(line) + len(word) > 78 and line.strip() != '-':
            lines.append(line.rstrip())
            line = then
        line += word + ' '
    return [*lines, line.rstrip()]


def modules() -> str:
    """Every module, by the first sentence of its docstring."""
    parts = []
    folders = sorted({path.parent for path in PACKAGE.rglob('*.py')
                      if 'versions' not in path.parts})
    for folder in folders:
        name = (f'{folder.relative_to(TOP)}/').replace('glance_import//',
                                                       'glance_import/')
        parts.append(f'``{name}``\n{"-" * (len(name) + 4)}\n')
        package = folder / '__init__.py'
        if package.exists() and first_sentence(package):
            parts.append('\n'.join(_wrapped(
                first_sentence(package), '', '')) + '\n')
        found = [path for path in sorted(folder.glob('*.py'))
                 if path != package]
        if found:
            parts.append(_table(
                [(f'``{path.name}``', first_sentence(path))
                 for path in found], ('module', 'what it is for')))
    return '\n'.join(parts)


def statuses() -> str:
    """Which status may follow which."""
    from glance_import import states
    rows = [(f'``{status}``', ', '.join(
        f'``{each}``' for each in after) or 'none')
            for status, after in states.MOVES.items()]
    return _table(rows, ('from', 'to'))


def codes() -> str:
    """How an import may end."""
    from glance_import.imports import outcome
    return _table([(f'``{code}``', meaning) for code, meaning
                   in sorted(outcome.CODES.items())],
                  ('code', 'what has happened'))


def metrics() -> str:
    """Every metric, with its type, labels and what it says."""
    from glance_import.exposition import gauges
    from glance_import.observe import series

    rows = [(name, 'counter', labels, text)
            for name, (text, labels) in series.COUNTERS.items()]
    rows += [(name, 'histogram', labels, text) for name, (
        text, labels, _buckets) in series.HISTOGRAMS.items()]
    rows += [(name, 'gauge', labels, text)
             for name, (text, labels) in gauges.GAUGES.items()]
    return _table([
        (f'``{series.PREFIX}{name}``', f'({kind}'
         + (f' by {", ".join(labels)}' if labels else '') + f') {text}')
        for name, kind, labels, text in rows],
        ('metric', 'what it says'))


PAGES = {
    'admin/metrics.inc': metrics,
    'contributor/modules.inc': modules,
    'contributor/statuses.inc': statuses,
    'api/import-codes.inc': codes,
}


def main(words: list[str]) -> int:
    """Write the pages, or check them; the exit status."""
    wrong = 0
    for name, make in PAGES.items():
        path = SOURCE / name
        if '--check' not in words:
            path.write_text(make())
        elif not path.exists() or path.read_text() != make():
            print(f'doc/source/{name} is not what the code says; '
                  'tox -e genpages writes it', file=sys.stderr)
            wrong = 1
    return wrong


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
