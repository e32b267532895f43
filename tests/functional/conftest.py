"""Services for the tests here."""

import pytest

from tests import service as services


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    """The embedded defaults, with one user for each test module."""
    running = services.Service(tmp_path_factory.mktemp('service'))
    running.start()
    yield running
    running.kill()


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
