"""Fault tests: short in the ordinary run, long by option.

``pytest tests/faults --kills 200`` is the long form, and so is what
``LONG_TESTS=1`` asks for.
"""

import os

import pytest

from tests.boards import etcd  # noqa: F401
from tests.boards import redis  # noqa: F401
from tests.boards import zookeeper  # noqa: F401
from tests.faults import deployment
from tests.servers import mariadb  # noqa: F401
from tests.servers import postgresql  # noqa: F401

LONG = bool(os.environ.get('LONG_TESTS'))


@pytest.fixture
def kills(request):
    """How often to kill something."""
    asked = request.config.getoption('--kills')
    return max(asked, 200) if LONG else asked


@pytest.fixture
def deploy(tmp_path, request):
    """Make deployments on a database and a board; removed at the end."""
    made = []

    def make(database='sqlite', board='sql', **options):
        url = None
        if database != 'sqlite':
            url = request.getfixturevalue(database).create()
        terms = {}
        if board != 'sql':
            terms = request.getfixturevalue(board).options()
        directory = tmp_path / f'deployment{len(made)}'
        directory.mkdir()
        made.append(deployment.Deployment(
            directory, database=url, board=terms, **options))
        return made[-1].start()

    yield make
    for each in made:
        each.remove()
