"""The table of statuses is the only place that spells them."""

import ast
import pathlib

import pytest

from glance_import import states

PACKAGE = pathlib.Path(states.__file__).parent
STATUSES = frozenset({value for name, value in vars(states).items()
                      if name.isupper() and isinstance(value, str)})
# Columns and options have these names too: statuses where they are compared
# with one, given as one or returned.
AMBIGUOUS = {states.DELETED, states.FAILURE, states.OPEN, states.COMPLETE}
# What was true when it was written stays as it is.
FROZEN = PACKAGE / 'db' / 'migrations' / 'versions'


def is_status(node):
    """Whether an expression is named as statuses are."""
    if isinstance(node, ast.Attribute):
        return node.attr in ('status', 'state')
    if isinstance(node, ast.Subscript):
        return is_status(node.slice)
    return (isinstance(node, ast.Constant)
            and node.value in ('status', 'state'))


def uses(tree):
    """What is taken for a status, as expressions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in ('status', 'state'):
            yield node.value
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(map(is_status, sides)):
                yield from sides
        elif isinstance(node, ast.Assign) and any(
                map(is_status, node.targets)):
            yield node.value
        elif isinstance(node, ast.Dict):
            yield from (value for key, value in zip(node.keys, node.values)
                        if key is not None and is_status(key))
        elif isinstance(node, ast.Return) and node.value is not None:
            yield node.value


def values(expression):
    """The constants that an expression may be."""
    if isinstance(expression, ast.Constant):
        yield expression
    parts = {ast.IfExp: ('body', 'orelse'), ast.BoolOp: ('values',),
             ast.Tuple: ('elts',), ast.List: ('elts',), ast.Set: ('elts',)}
    for name in parts.get(type(expression), ()):
        found = getattr(expression, name)
        for each in found if isinstance(found, list) else [found]:
            yield from values(each)


def literals(source):
    """(line, status) of each status that a source spells."""
    tree = ast.parse(source)
    found = {(node.lineno, node.value) for node in ast.walk(tree)
             if isinstance(node, ast.Constant)
             and node.value in STATUSES - AMBIGUOUS}
    for expression in uses(tree):
        found |= {(node.lineno, node.value) for node in values(expression)
                  if node.value in AMBIGUOUS}
    return sorted(found)


def test_no_status_is_spelled_elsewhere():
    modules = [path for path in PACKAGE.rglob('*.py')
               if path != PACKAGE / 'states.py'
               and FROZEN not in path.parents]
    assert {str(path): found for path in modules
            if (found := literals(path.read_text()))} == {}


@pytest.mark.parametrize('source, found', [
    ("x = 'active'", [(1, 'active')]),
    ("update(status='deleted')", [(1, 'deleted')]),
    ("update(status=('a', 'deleted'))", [(1, 'deleted')]),
    ("row.status == 'deleted'", [(1, 'deleted')]),
    ("row['status'] in ('deleted', 'x')", [(1, 'deleted')]),
    ("row['status'] = 'failure'", [(1, 'failure')]),
    ("{'state': 'open'}", [(1, 'open')]),
    ("def f():\n    return 'deleted' if x else y", [(2, 'deleted')]),
    ("Column('deleted')", []),
    ("{'deleted': True}", []),
    ("failure_policy != 'open'", []),
])
def test_what_is_taken_for_a_status(source, found):
    assert literals(source) == found


def test_a_move_leads_to_a_status_of_the_table():
    assert {wanted for moves in states.MOVES.values()
            for wanted in moves} <= set(states.MOVES)
