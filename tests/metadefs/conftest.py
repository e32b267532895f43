"""One service for the tests here; identity comes from the token."""

import pytest

from tests import environments
from tests import service as services


@pytest.fixture(scope='session')
def glance(request):
    """An environment with a real Glance."""
    return environments.make(
        'glance', request.config.cache.mkdir('environments'))


@pytest.fixture(scope='session')
def shipped(glance):
    """The directory of definitions that Glance's package brings."""
    return glance.directory / 'etc' / 'glance' / 'metadefs'


@pytest.fixture(scope='module')
def api(tmp_path_factory):
    running = services.Service(
        tmp_path_factory.mktemp('metadefs'), token=services.ADMIN,
        options={'paste_deploy': {'flavor': 'fakeauth'},
                 'taskflow_executor': {'embedded_conductor': False}})
    running.start()
    yield running
    running.kill()


@pytest.fixture
def clean(api):
    """The service without any namespace."""
    for each in api.request('GET', '/v2/metadefs/namespaces').json[
            'namespaces']:
        if each['protected']:
            api.request('PUT', each['self'], {
                'namespace': each['namespace']})
        assert api.request('DELETE', each['self']).status == 204
    return api
