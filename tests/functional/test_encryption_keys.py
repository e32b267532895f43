"""The key of an encrypted volume goes with the image that Cinder made of it.
"""

import json
import os
import uuid

import pytest

from glance_import import conf as configuration
from glance_import import housekeeping
from glance_import import startup
from tests import barbican as barbicans
from tests import environments
from tests import service as services

POLICY = 'cinder_encryption_key_deletion_policy'
KEY = 'cinder_encryption_key_id'


@pytest.fixture(scope='module')
def barbican():
    running = barbicans.Barbican()
    yield running
    running.close()


@pytest.fixture(scope='module')
def service(barbican, tmp_path_factory):
    keystone = barbican.url + '/v3'
    running = services.Service(tmp_path_factory.mktemp('service'), options={
        'paste_deploy': {'flavor': 'keystone'},
        'taskflow_executor': {'embedded_conductor': False},
        'keystone_authtoken': {
            'auth_type': 'password', 'auth_url': keystone,
            'www_authenticate_uri': keystone, 'username': 'glance',
            'password': 'secret', 'project_name': 'service',
            'user_domain_id': 'default', 'project_domain_id': 'default'},
        'key_manager': {'backend': 'barbican'},
        'barbican': {'auth_endpoint': keystone}},
        token=barbican.token('ann'))
    running.start()
    yield running
    running.kill()


@pytest.fixture(autouse=True)
def fresh(service, barbican):
    barbican.trouble = None
    barbican.asked.clear()
    service.execute('DELETE FROM import_deletions')


def encrypted(service, key, **others):
    return service.create(**{
        KEY: key, POLICY: 'on_image_deletion', **others})


def delete(service, image_id):
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204
    assert service.request('GET', f'/v2/images/{image_id}').status == 404


def waiting(service):
    return service.execute(
        'SELECT image_id, kind, attempts, next_at, payload, message '
        'FROM import_deletions')


def keep_house(service):
    """A round of the conductor's housekeeping, later."""
    service.execute('UPDATE import_deletions SET next_at = 1 '
                    'WHERE next_at IS NOT NULL')
    box = startup.open_all(
        configuration.load(['--config-dir', str(service.conf)]),
        accepting=False)
    housekeeping.clean(box)
    box.close()


def test_the_key_goes_with_the_image(service, barbican):
    key = barbican.secret()
    image_id = encrypted(service, key)
    assert key in barbican.secrets
    delete(service, image_id)
    assert key not in barbican.secrets
    # By the token of who deleted the image, never as somebody else.
    assert barbican.asked == [('ann', key)]
    assert waiting(service) == []


@pytest.mark.parametrize('properties', (
    {}, {POLICY: 'on_volume_deletion'}, {POLICY: ''}))
def test_the_key_that_stays(service, barbican, properties):
    key = barbican.secret()
    delete(service, service.create(**{KEY: key, **properties}))
    assert key in barbican.secrets and not barbican.asked
    assert waiting(service) == []


def test_what_is_no_key(service, barbican):
    for key in ('', '../orders/x', 'x' * 60, str(uuid.uuid4())):
        delete(service, encrypted(service, key))
        assert waiting(service) == [], key
    delete(service, service.create(**{POLICY: 'on_image_deletion'}))
    assert not barbican.asked and not waiting(service)


def test_an_image_that_is_not_deleted_keeps_its_key(service, barbican):
    key = barbican.secret()
    image_id = encrypted(service, key, protected=True)
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 403
    assert key in barbican.secrets and not waiting(service)


def test_a_key_manager_that_is_away(service, barbican):
    key = barbican.secret()
    image_id = encrypted(service, key)
    barbican.trouble = 503
    delete(service, image_id)
    (image, kind, attempts, due, payload, message), = waiting(service)
    assert (image, kind, attempts) == (image_id, 'encryption_key', 1)
    assert key in message
    # What the token is, nobody reads there.
    assert json.loads(payload)['key'] == key
    assert service.token not in payload
    keep_house(service)
    (*_, later, _payload, _message), = waiting(service)
    assert waiting(service)[0][2] == 2
    assert later > due and key in barbican.secrets
    barbican.trouble = None
    keep_house(service)
    assert key not in barbican.secrets
    assert waiting(service) == []
    assert service.token not in service.text()


def test_a_secret_of_another_project(service, barbican):
    """The service has no more right to it than who asked."""
    key = barbican.secret('blue')
    delete(service, encrypted(service, key))
    assert waiting(service)[0][2] == 1
    keep_house(service)
    assert key in barbican.secrets
    # Until nobody tries any more; the row is the operator's.
    service.execute('UPDATE import_deletions SET attempts = 77')
    keep_house(service)
    assert waiting(service)[0][3] is None
    asked = len(barbican.asked)
    keep_house(service)
    assert len(barbican.asked) == asked and key in barbican.secrets


def test_no_key_manager(make_service, barbican):
    service = make_service(options={
        'taskflow_executor': {'embedded_conductor': False}}).start()
    key = barbican.secret()
    delete(service, encrypted(service, key))
    assert f'goes without its key {key}' in service.text()
    assert waiting(service) == [] and not barbican.asked


@pytest.mark.skipif(not os.environ.get('LONG_TESTS'),
                    reason='installs Barbican: LONG_TESTS')
def test_barbican_itself(service, barbican, request, tmp_path):
    cache = request.config.cache.mkdir('environments')
    real = barbicans.RealBarbican(
        environments.make('barbican', cache), tmp_path, barbican)
    real.start()
    try:
        keys = [real.secret(service.token) for _ in range(2)]
        foreign = real.secret(barbican.token('bob', 'blue'))
        delete(service, encrypted(service, keys[0]))
        assert not real.has(service.token, keys[0])
        assert waiting(service) == []
        delete(service, encrypted(service, foreign))
        image_id = encrypted(service, keys[1])
        real.stop()
        delete(service, image_id)
        keep_house(service)
        assert len(waiting(service)) == 2
        real.start()
        assert real.has(service.token, keys[1])
        keep_house(service)
        assert not real.has(service.token, keys[1])
        assert real.has(barbican.token('bob', 'blue'), foreign)
        assert len(waiting(service)) == 1
    finally:
        real.stop()
        barbican.key_manager = barbican.url


def test_who_deletes_cannot_be_kept(service):
    """The image goes all the same, and the log says what is left."""
    path = service.staging / '.token_key'
    kept = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    path.write_text('a bad restore')
    try:
        key = str(uuid.uuid4())
        delete(service, encrypted(service, key))
        assert f'its key {key} stays' in service.text()
        (_, kind, _, _, payload, _), = waiting(service)
        assert kind == 'encryption_key' and json.loads(payload) == {
            'key': key, 'caller': None}
    finally:
        path.unlink()
        if kept is not None:
            path.write_bytes(kept)
            path.chmod(0o600)
