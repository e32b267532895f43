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
