"""The parts that uploads work on, opened in this process."""

import pytest

from glance_import import conf as configuration
from glance_import import context
from glance_import.domain import images
from glance_import import startup
from tests import service as services


@pytest.fixture(scope='module')
def opened(tmp_path_factory):
    """Database, staging area and store of a service that does not run."""
    made = services.Service(tmp_path_factory.mktemp('opened'))
    found = startup.open_all(configuration.load(
        ['--config-dir', str(made.conf)]), accepting=False)
    yield found
    found.close()


@pytest.fixture
def ctx():
    return context.RequestContext(project_id='red', roles=['member'])


@pytest.fixture
def image_id(opened, ctx):
    """Of a queued image."""
    return images.create(opened, ctx, {
        'name': 'test', 'disk_format': 'raw', 'container_format': 'bare'}).id
