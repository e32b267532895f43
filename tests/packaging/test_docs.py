"""What the documentation shows is what the code does."""

import contextlib
import importlib.util
import pathlib
import re

from taskflow import engines
from taskflow.patterns import linear_flow

from glance_import import states

DOC = pathlib.Path(__file__).resolve().parents[2] / 'doc' / 'source'


def moves_shown():
    text = (DOC / 'contributor' / 'architecture.rst').read_text()
    table = text.split('from                to\n')[1].split('\n\n')[0]
    found, current = {}, None
    for line in table.splitlines():
        names = re.findall(r'``(\w+)``', line)
        if not names:
            continue
        if line.startswith('``'):
            current = names.pop(0)
            found[current] = set()
        found[current].update(names)
    return found


def test_the_life_of_an_image_is_the_table_of_the_code():
    assert moves_shown() == {name: set(moves)
                             for name, moves in states.MOVES.items() if moves}


def test_every_folder_of_the_house_exists():
    text = (DOC / 'contributor' / 'architecture.rst').read_text()
    table = text.split('The house')[1].split('Beside it')[0]
    package = DOC.parents[1] / 'glance_import'
    names = re.findall(r'^``([\w/.]+)``', table, re.M)
    assert len(names) > 10
    assert [name for name in names if not (package / name).exists()] == []
    rooms = {path.name + '/' for path in package.iterdir()
             if (path / '__init__.py').exists()}
    assert rooms - set(names) == set()


class Action:
    def __init__(self):
        self.properties = {}

    def set_image_extra_properties(self, properties):
        self.properties.update(properties)


def test_the_example_plugin_runs(tmp_path):
    spec = importlib.util.spec_from_file_location(
        'fred_mertz', DOC / 'admin' / 'fred_mertz.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    staged = tmp_path / 'a b'
    staged.write_bytes(b'x' * 1234)
    action = Action()
    flow = module.get_flow(task_id='t', task_type='api_image_import',
                           action_wrapper=contextlib.nullcontext(action),
                           backend=[None])
    assert isinstance(flow, linear_flow.Flow)
    engines.run(flow, store={'file_path': f'file://{staged}'})
    assert action.properties == {'fred_mertz_size': '1234'}
