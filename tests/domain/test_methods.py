"""The table of import methods agrees with what else is said of them."""

import pytest

from glance_import.imports import methods
from glance_import.plugin import entry_points
from glance_import import states


@pytest.mark.parametrize('method', methods.TABLE.values(),
                         ids=methods.TABLE)
def test_the_moves_of_a_method_are_allowed(method):
    for found, wanted in ((method.needs, method.running),
                          (method.running, states.ACTIVE),
                          (method.running, method.failed)):
        if found != wanted:
            states.check([found], wanted)


@pytest.mark.parametrize('name', methods.TABLE)
def test_each_method_has_an_entry_point(name):
    assert callable(entry_points.load_method(name))
