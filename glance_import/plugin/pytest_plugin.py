"""The pytest fixture for authors of plugins; pytest finds it by itself."""

import pytest

from glance_import.plugin import harness


@pytest.fixture
def image_plugin():
    """``image_plugin(Class, option=value)``: the class, ready to be tried.

    ``block=N`` sets the size of the blocks that iterating gives.
    """
    def make(cls, *, block=harness.plugin_data.BLOCK, **options):
        return harness.Harness(cls, options, block=block)
    return make
