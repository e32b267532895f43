"""Horizon in Chromium: its direct upload, and the forms of definitions.

With its own Keystone, Horizon as the package index has it, and the default
[cors] options but for the name of its origin.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess

import pytest
import requests

from tests import compute
from tests import environments
from tests import keystone as keystones
from tests import servers
from tests import service as services

WALKS = pathlib.Path(__file__).parent / 'walks'
WALK = WALKS / 'walk_horizon.py'
DIALOGS = ('create-image', 'edit-image', 'update-metadata', 'launch-instance')
DATA = os.urandom(300_000)
SETTINGS = '''
DEBUG = True
ALLOWED_HOSTS = ['127.0.0.1']
SECRET_KEY = 'of this test'
OPENSTACK_KEYSTONE_URL = {keystone!r}
SESSION_ENGINE = 'django.contrib.sessions.backends.signed_cookies'
CACHES = {{'default': {{
    'BACKEND': 'django.core.cache.backends.locmem.LocMemCache'}}}}
HORIZON_IMAGES_UPLOAD_MODE = 'direct'
STATIC_ROOT = {static!r}
'''

pytestmark = pytest.mark.skipif(not os.environ.get('LONG_TESTS'),
                                reason='the long form: LONG_TESTS=1')


@pytest.fixture
def keystone(cache, tmp_path):
    directory = tmp_path / 'keystone'
    directory.mkdir()
    running = keystones.Keystone(environments.make('keystone', cache),
                                 directory)
    running.prepare()
    running.start()
    try:
        for project in ('service', 'red'):
            running.add_project(project)
        running.add_user('glance', 'service', 'admin', 'service')
        running.add_user('ann', 'red', 'member', 'reader')
        running.add_user('root', 'red', 'admin', 'member', 'reader')
        yield running
    finally:
        running.stop()


@contextlib.contextmanager
def serving(horizon, keystone, directory, port):
    """Horizon's own settings, with ours as its file local_settings.py."""
    (directory / 'local').mkdir(parents=True)
    (directory / 'local' / '__init__.py').touch()
    (directory / 'local' / 'local_settings.py').write_text(SETTINGS.format(
        keystone=keystone.url, static=str(directory / 'static')))
    with open(directory / 'log', 'ab') as log:
        process = subprocess.Popen(
            [horizon.python, '-m', 'django', 'runserver', '--noreload',
             f'127.0.0.1:{port}'], cwd=directory, stdout=log, stderr=log,
            env={**os.environ, 'PYTHONPATH': str(directory),
                 'DJANGO_SETTINGS_MODULE': 'openstack_dashboard.settings'},
            start_new_session=True)

    def answers():
        assert process.poll() is None, (directory / 'log').read_text()
        with contextlib.suppress(requests.RequestException):
            return requests.get(f'http://127.0.0.1:{port}/auth/login/',
                                timeout=120)
    try:
        services.wait_for(answers, 180)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def begin(make_service, keystone, origin):
    """Ours, as the clients of the cloud find it."""
    service = make_service(options={
        'paste_deploy': {'flavor': 'keystone'},
        'keystone_authtoken': keystone.middleware(),
        'image_import_opts': {'image_import_plugins': '[no_op]'},
        'cors': {'allowed_origin': origin}}).start()
    service.token = keystone.token('ann', 'red')
    keystone.add_endpoint('image', 'glance',
                          f'http://127.0.0.1:{service.port}')
    return service


def test_direct_upload(cache, keystone, make_service, tmp_path):
    chromium = servers.program('chromium')
    horizon = environments.make('horizon', cache)
    port = servers.free_port()
    origin = f'http://127.0.0.1:{port}'
    service = begin(make_service, keystone, origin)
    images = f'http://127.0.0.1:{service.port}'
    (tmp_path / 'disk.raw').write_bytes(DATA)
    screenshot = tmp_path / 'images.png'
    with serving(horizon, keystone, tmp_path / 'horizon', port):
        done = subprocess.run(
            [horizon.python, str(WALK), chromium, origin, images,
             str(tmp_path / 'disk.raw'), str(screenshot)],
            env={**os.environ, 'HOME': str(tmp_path)}, text=True,
            capture_output=True, timeout=600)
    keystone.remove_endpoints(images)
    assert done.returncode == 0, (done.stderr, service.text()[-3000:])
    image, = service.request('GET', '/v2/images').json['images']
    assert (image['name'], image['status']) == ('from-horizon', 'active')
    assert service.download(image['id']) == DATA
    # The browser itself has sent it.
    assert ['PUT', 204, f'/v2/images/{image["id"]}/file'] in json.loads(
        done.stdout)
    assert screenshot.read_bytes().startswith(b'\x89PNG')
    print('the screenshot:', screenshot)


def test_dialogs_of_definitions(cache, keystone, make_service, tmp_path):
    """None of the forms that read them shows a red message."""
    chromium = servers.program('chromium')
    horizon = environments.make('horizon', cache)
    port, nova, neutron = (servers.free_port() for _ in range(3))
    origin = f'http://127.0.0.1:{port}'
    service = begin(make_service, keystone, origin)
    keystone.add_endpoint('compute', 'nova', f'http://127.0.0.1:{nova}/v2.1')
    keystone.add_endpoint('network', 'neutron', f'http://127.0.0.1:{neutron}')
    done = service.run('manage', 'db', 'load-metadefs', str(
        environments.make('glance', cache).directory / 'etc' / 'glance'
        / 'metadefs'))
    assert done.returncode == 0, done
    # One that can be edited and launched.
    image_id = service.create(name='one')
    assert service.request(
        'PUT', f'/v2/images/{image_id}/file', DATA,
        {'Content-Type': 'application/octet-stream'}).status == 204
    with serving(horizon, keystone, tmp_path / 'horizon', port), \
            compute.serving('nova', nova) as of_nova, \
            compute.serving('neutron', neutron) as of_neutron:
        done = subprocess.run(
            [horizon.python, str(WALKS / 'walk_horizon_metadefs.py'),
             chromium, origin, str(tmp_path)],
            env={**os.environ, 'HOME': str(tmp_path)}, text=True,
            capture_output=True, timeout=600)
    assert done.returncode == 0, (done.stderr, service.text()[-3000:])
    assert json.loads(done.stdout) == dict.fromkeys(DIALOGS, [])
    assert (of_nova, of_neutron) == ([], [])
    for name in DIALOGS:
        screenshot = tmp_path / f'{name}.png'
        assert screenshot.read_bytes().startswith(b'\x89PNG')
        print('the screenshot:', screenshot)
