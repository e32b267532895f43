"""What every kind of test may use."""

import pytest

from tests import service as services


def pytest_addoption(parser):
    parser.addoption(
        '--kills', type=int, default=30,
        help='how often the fault tests kill something (200: the long form)')


def pytest_collection_modifyitems(items):
    """What shares a server stays in one process (--dist loadgroup).

    That is a file; and all of tests/clients, which share a Keystone.
    """
    for item in items:
        place = item.path.parent if item.path.parent.name == 'clients' \
            else item.path
        item.add_marker(pytest.mark.xdist_group(str(place)))


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
