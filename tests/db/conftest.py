"""Databases for the tests: an SQLite file each, servers once a session."""

import pytest

from glance_import import conf as configuration
from glance_import.db import engine
from glance_import.db import upgrade
from tests.servers import mariadb
from tests.servers import postgresql

__all__ = ['mariadb', 'postgresql']

DIALECTS = ('sqlite', 'postgresql', 'mysql')


def make_database(url: str, **options) -> engine.Database:
    conf = configuration.load(['--config-file', '/dev/null'])
    conf.set_override('connection', url, 'database')
    for name, value in options.items():
        conf.set_override(name, value, 'database')
    return engine.Database(conf)


@pytest.fixture
def connect():
    """Make a Database from a URL; closed when the test ends."""
    made = []

    def make(url: str, **options) -> engine.Database:
        made.append(make_database(url, **options))
        return made[-1]

    yield make
    for database in made:
        database.dispose()


def empty_url(request, directory) -> str:
    """Of an empty database of the kind that the parameter names."""
    if request.param == 'sqlite':
        return f'sqlite:///{directory}/glance.sqlite'
    name = {'mysql': 'mariadb'}.get(request.param, request.param)
    return request.getfixturevalue(name).create()


@pytest.fixture(params=DIALECTS)
def url(request, tmp_path) -> str:
    """An empty database, on each kind of server in turn."""
    return empty_url(request, tmp_path)


@pytest.fixture(scope='module', params=DIALECTS)
def shared(request, tmp_path_factory):
    """A database at head that the tests of a file share, of each kind."""
    database = make_database(empty_url(
        request, tmp_path_factory.mktemp('shared')))
    upgrade.sync(database)
    yield database
    database.dispose()


@pytest.fixture
def empty(connect, url) -> engine.Database:
    return connect(url)


@pytest.fixture
def synced(empty) -> engine.Database:
    """A database at head, on each kind of server in turn."""
    upgrade.sync(empty)
    return empty


@pytest.fixture
def sqlite(connect, tmp_path) -> engine.Database:
    """An SQLite database at head."""
    database = connect(f'sqlite:///{tmp_path}/glance.sqlite')
    upgrade.ensure(database)
    return database
