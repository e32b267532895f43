"""A Glance and this service behind one address, split by path, and apart.

With the examples for nginx and HAProxy as they are. What one makes the other
shows, and afterwards Glance goes on alone.
"""

import json
import os

import pytest

from tests.clients.test_migration import DATA
from tests.clients.test_migration import glance_environment  # noqa: F401
from tests.clients.test_migration import MEMBER
from tests.clients.test_migration import OWNER
from tests.clients.test_migration import pair  # noqa: F401
from tests.clients.test_migration import V21
from tests.install import test_proxies as proxies
from tests.install.test_proxies import certificate  # noqa: F401
from tests import service as services

JSON = {'Content-Type': 'application/json', 'X-Auth-Token': OWNER}
OCTETS = {**JSON, 'Content-Type': 'application/octet-stream'}


class Front:
    """The one address, as an owner's client sees it."""

    def __init__(self, proxy):
        self._proxy = proxy

    def ask(self, method, path, status, body=None, headers=None):
        """The JSON of the answer, or its bytes."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        found, told, data = self._proxy.request(
            method, f'/v2/{path}', body, headers or JSON)
        assert found == status, (found, data)
        return (json.loads(data) if 'json' in told.get('content-type', '')
                else data)

    def create(self):
        return self.ask('POST', 'images', 201, {
            'disk_format': 'raw', 'container_format': 'bare'})['id']

    def import_(self, image_id, status=202):
        return self.ask('POST', f'images/{image_id}/import', status, {
            'method': {'name': 'glance-direct'}})

    def show(self, image_id):
        return self.ask('GET', f'images/{image_id}', 200)

    def wait(self, image_id, status):
        def look():
            image = self.show(image_id)
            return image if image['status'] == status else None
        return services.wait_for(look)


@pytest.mark.skipif(not os.environ.get('LONG_TESTS'),
                    reason='takes half a minute: LONG_TESTS')
@pytest.mark.parametrize('pair', ['sqlite'], indirect=True)
def test_side_by_side(pair, certificate, tmp_path):  # noqa: F811
    glance, ours = pair
    ours.configure(
        DEFAULT={'public_endpoint': f'https://{proxies.NAME}'},
        oslo_middleware={'enable_proxy_headers_parsing': True},
        image_import_opts={'image_import_plugins': '[no_op]'})
    glance.sync()
    glance.start()
    # Staged by Glance before the day, and not imported by then.
    left = glance.create(OWNER)
    assert glance.stage(left, DATA, token=OWNER).status == 204
    done = ours.run('manage', 'db', 'sync')
    assert done.returncode == 0, done.stderr
    ours.start()
    places = {9292: glance.port, 9393: ours.port}
    made = []
    for make in (proxies.nginx, proxies.haproxy):
        (tmp_path / make.__name__).mkdir()
        with proxies.running(make, tmp_path / make.__name__, places,
                             certificate, example='beside-glance') as proxy:
            made += use(Front(proxy), glance, ours)
            if make is proxies.nginx:
                is_staged_again(Front(proxy), left)
    ours.stop()
    for image_id in (*made, left):
        assert glance.download(image_id, OWNER) == DATA
        assert glance.request('DELETE', f'/v2/images/{image_id}',
                              token=OWNER).status == 204
        assert image_id not in ours.stored()


def use(front, glance, ours):
    """Each way to make an image; their ids."""
    imported, put = front.create(), front.create()
    assert 'glance-direct' in front.ask(
        'GET', 'info/import', 200)['import-methods']['value']
    front.ask('PUT', f'images/{imported}/stage', 204, DATA, OCTETS)
    assert [name for name in ours.staged() if name == imported]
    front.import_(imported)
    front.wait(imported, 'active')
    task, = front.ask('GET', f'images/{imported}/tasks', 200)['tasks']
    assert task['status'] == 'success'
    assert front.ask('GET', f'tasks/{task["id"]}', 200, headers={
        **JSON, 'X-Auth-Token': services.ADMIN})['id'] == task['id']
    front.ask('PUT', f'images/{put}/file', 204, DATA, OCTETS)
    # The plugins had their say: that is a task, which Glance has of none.
    assert front.ask('GET', f'images/{put}/tasks', 200)['tasks']
    for image_id in (imported, put):
        assert front.ask('GET', f'images/{image_id}/file', 200) == DATA
        # What Glance alone is asked for here.
        front.ask('PATCH', f'images/{image_id}', 200, [
            {'op': 'add', 'path': '/colour', 'value': 'red'}],
            {**JSON, 'Content-Type': V21})
        shown = [service.show(image_id, OWNER) for service in (glance, ours)]
        assert [each['colour'] for each in shown] == ['red', 'red']
        assert shown[0]['os_hash_value'] == shown[1]['os_hash_value']
        front.ask('GET', f'images/{image_id}', 404, headers={
            **JSON, 'X-Auth-Token': MEMBER})
    # Deleted by Glance while it is staged here.
    gone = front.create()
    front.ask('PUT', f'images/{gone}/stage', 204, DATA, OCTETS)
    front.ask('DELETE', f'images/{gone}', 204)
    front.import_(gone, 404)
    return [imported, put]


def is_staged_again(front, image_id):
    """What Glance has staged is not found here, which is said."""
    assert b'upload it again' in front.import_(image_id, 409)
    front.ask('PUT', f'images/{image_id}/stage', 204, DATA, OCTETS)
    front.import_(image_id)
    front.wait(image_id, 'active')
