"""The server is a package of its own."""

import ast
import pathlib

from glance_import import server

HERE = pathlib.Path(server.__file__).parent


def imports(path):
    """What a module imports, wherever in it that is."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            yield from (f'{node.module}.{each.name}' for each in node.names)


GRAPH = {path.stem: set(imports(path)) for path in HERE.glob('*.py')}


def test_it_imports_nothing_of_the_rest():
    for module, names in GRAPH.items():
        for name in names:
            assert not name.startswith('glance_import.') or name.startswith(
                'glance_import.server.'), (module, name)


def test_one_module_names_eventlet():
    assert [module for module, names in GRAPH.items() if any(
        name.split('.')[0] in ('eventlet', 'greenlet')
        for name in names)] == ['loop']


def test_no_module_imports_itself_in_a_circle():
    left = {module: {name.rpartition('.')[2] for name in names
                     if name.startswith('glance_import.server.')}
            for module, names in GRAPH.items()}
    while left:
        free = [module for module, names in left.items()
                if not names & left.keys()]
        assert free, left
        for module in free:
            del left[module]
