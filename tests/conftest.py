"""What every kind of test may use."""

import pytest

from tests import service as services


def pytest_addoption(parser):
    parser.addoption(
        '--kills', type=int, default=30,
        help='how often the fault tests kill something (200: the long form)')


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
