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
    """The table of moves as the page on the architecture shows it."""
    text = (DOC / 'contributor' / 'statuses.inc').read_text()
    rows = re.findall(r'^   \* - (.+)\n     - (.+)$', text, re.M)
    named = [(re.findall(r'``(\w+)``', before), re.findall(
        r'``(\w+)``', after)) for before, after in rows]
    return {before[0]: set(after) for before, after in named if after}


def test_the_life_of_an_image_is_the_table_of_the_code():
    page = (DOC / 'contributor' / 'architecture.rst').read_text()
    assert '.. include:: statuses.inc' in page
    assert moves_shown() == {name: set(moves)
                             for name, moves in states.MOVES.items() if moves}


def test_every_folder_of_the_house_exists():
    page = (DOC / 'contributor' / 'architecture.rst').read_text()
    assert '.. include:: modules.inc' in page
    text = (DOC / 'contributor' / 'modules.inc').read_text()
    house = DOC.parents[1]
    package = house / 'glance_import'
    names = re.findall(r'^``([\w/]+)``$', text, re.M)
    assert [name for name in names if not (house / name).is_dir()] == []
    rooms = {f'glance_import/{path.name}/' for path in package.iterdir()
             if (path / '__init__.py').exists()}
    assert rooms - set(names) == set()
    for heading, part in zip(names, re.split(r'^``[\w/]+``$', text,
                                             flags=re.M)[1:], strict=True):
        shown = set(re.findall(r'^   \* - ``(\w+\.py)``', part, re.M))
        there = {path.name for path in (house / heading).glob('*.py')}
        assert shown <= there, heading
        assert there - shown <= {'__init__.py', '__main__.py'}, heading


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
