"""The test application under a real server in processes of its own."""

import pytest

import server_harness


@pytest.fixture
def start(tmp_path):
    """A function that starts our server; its keywords are options."""
    with server_harness.starting(tmp_path) as start_one:
        yield start_one


@pytest.fixture
def server(start):
    """A server for one test that does something to it."""
    return start()


@pytest.fixture(scope='session')
def shared(tmp_path_factory):
    """A server for all tests that only talk to it."""
    directory = tmp_path_factory.mktemp('shared')
    with server_harness.starting(directory) as start_one:
        yield start_one()
