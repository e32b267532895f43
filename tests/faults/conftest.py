"""Fault tests: short in the ordinary run, long by option.

``pytest tests/faults --kills 200`` is the long form.
"""

import pytest

from tests import service as services


@pytest.fixture
def make_service(tmp_path):
    """Make services of a test's own; all are ended with it."""
    made = []

    def make(**kwargs):
        directory = tmp_path / f'service{len(made)}'
        directory.mkdir()
        made.append(services.Service(directory, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.kill()


@pytest.fixture
def kills(request):
    """How often to kill something."""
    return request.config.getoption('--kills')
