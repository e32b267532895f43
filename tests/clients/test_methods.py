"""Each method of bringing data, as people ask for it with real commands."""

import json
import os

import pytest

from tests import origins

DATA = os.urandom(700_001)


@pytest.fixture(scope='module')
def origin():
    with origins.Origin(origins.serve(DATA)) as found:
        yield found


def check_active(cloud, image_id):
    image = cloud.service.wait_status(image_id, 'active', 'queued')
    assert image['status'] == 'active', image
    assert cloud.service.download(image_id) == DATA
    return image


def openstack(cloud, *arguments):
    done = cloud.run('openstack', *arguments, '-f', 'json')
    return json.loads(done.stdout)


def test_glance_lists_the_methods(authenticated):
    said = authenticated.run('glance', 'import-info').stdout
    assert 'web-download' in said and 'glance-download' in said


def test_web_download_by_glance(authenticated, origin):
    done = authenticated.run(
        'glance', 'image-create-via-import', '--disk-format', 'raw',
        '--container-format', 'bare', '--name', 'by glance',
        '--import-method', 'web-download', '--uri', origin.url())
    image_id = next(line.split('|')[2].strip() for line in
                    done.stdout.splitlines() if line.startswith('| id '))
    check_active(authenticated, image_id)


def test_web_download_by_openstack(authenticated, origin):
    image = authenticated.service.create(name='by-openstack')
    authenticated.run('openstack', 'image', 'import', image, '--method',
                      'web-download', '--uri', origin.url())
    check_active(authenticated, image)


def test_a_refused_url_is_told_at_once(authenticated):
    image_id = authenticated.service.create(name='refused')
    done = authenticated.run(
        'glance', 'image-import', image_id, '--import-method',
        'web-download', '--uri', 'http://169.254.169.254/latest/meta-data',
        check=False)
    assert done.returncode != 0
    assert 'link-local' in done.stdout + done.stderr
    assert authenticated.service.show(image_id)['status'] == 'queued'


def test_the_reason_of_a_failure_is_shown(authenticated):
    with origins.Origin(lambda handler: handler.begin(
            404, Content_Length=0)) as missing:
        image_id = authenticated.service.create(name='missing')
        authenticated.run(
            'openstack', 'image', 'import', image_id, '--method',
            'web-download', '--uri', missing.url())
        authenticated.service.wait_status(image_id, 'queued')
    shown = openstack(authenticated, 'image', 'show', image_id)
    assert '404 Not Found' in json.dumps(shown)


def test_glance_download_by_openstack(authenticated):
    """From this very service, as the other region."""
    there = authenticated.service.create(name='there', os_distro='debian')
    assert authenticated.service.request(
        'PUT', f'/v2/images/{there}/file', DATA,
        {'Content-Type': 'application/octet-stream'}).status == 204
    here = authenticated.service.create(name='here')
    authenticated.run(
        'openstack', 'image', 'import', here, '--method', 'glance-download',
        '--remote-region', 'RegionOne', '--remote-image', there,
        '--remote-service-interface', 'public')
    assert check_active(authenticated, here)['os_distro'] == 'debian'


def test_the_older_import_task(authenticated, origin):
    given = json.dumps({
        'import_from': origin.url(), 'import_from_format': 'raw',
        'image_properties': {'name': 'older'}})
    done = authenticated.run('glance', 'task-create', '--type', 'import',
                             '--input', given, user='root')
    assert 'pending' in done.stdout
    found = authenticated.service.request(
        'GET', '/v2/images?name=older',
        token=authenticated.tokens['root']).json['images']
    image = authenticated.service.wait_status(
        found[0]['id'], 'active', token=authenticated.tokens['root'])
    assert image['size'] == len(DATA)
