"""One service for all the tests here; identity comes from the token."""

import pytest

from tests import service as services


@pytest.fixture(scope='session')
def api(tmp_path_factory):
    running = services.Service(
        tmp_path_factory.mktemp('api'), token=services.MEMBER,
        options={'paste_deploy': {'flavor': 'fakeauth'},
                 'DEFAULT': {'image_property_quota': 8,
                             'image_tag_quota': 4,
                             'image_member_quota': 3}})
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope='session')
def active(api):
    """Make an active image of a few bytes; its id."""
    def make(token=None, data=b'data of an image', **attributes):
        image_id = api.create(token, **attributes)
        assert api.stage(image_id, data, token=token).status == 204
        assert api.start_import(image_id, token).status == 202
        image = api.wait_status(image_id, 'active', 'uploading', token=token)
        assert image['status'] == 'active'
        return image_id
    return make
