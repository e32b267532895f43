"""The walk of somebody with python-openstackclient."""

import hashlib
import json
import os

import pytest

DATA = os.urandom(300_000)


@pytest.fixture
def cloud(authenticated):
    return authenticated


@pytest.fixture
def openstack(cloud):
    """Run ``openstack`` and read its JSON."""
    def run(*arguments, form=True, **kwargs):
        words = [*arguments, *(['-f', 'json'] if form else [])]
        out = cloud.run('openstack', *words, **kwargs).stdout
        return json.loads(out) if form else out
    return run


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'image.raw'
    path.write_bytes(DATA)
    return str(path)


def wait_active(cloud, image_id):
    image = cloud.service.wait_status(image_id, 'active', 'uploading',
                                      'queued')
    assert image['status'] == 'active', image


def test_import_of_a_file(cloud, openstack, file, tmp_path):
    made = openstack('image', 'create', '--import', '--file', file,
                     '--disk-format', 'raw', '--container-format', 'bare',
                     '--property', 'colour=red', '--tag', 'x', 'walked')
    image_id = made['id']
    wait_active(cloud, image_id)
    shown = openstack('image', 'show', 'walked')
    assert shown['id'] == image_id
    assert shown['checksum'] == hashlib.md5(DATA).hexdigest()
    assert shown['properties']['colour'] == 'red'
    saved = tmp_path / 'saved'
    openstack('image', 'save', '--file', str(saved), 'walked', form=False)
    assert saved.read_bytes() == DATA
    assert 'walked' in [each['Name'] for each in openstack('image', 'list')]
    openstack('image', 'delete', image_id, form=False)
    assert cloud.run('openstack', 'image', 'show', 'walked', check=False
                     ).returncode != 0


def test_upload_where_a_plugin_is_listed(cloud, openstack, file, tmp_path):
    image_id = openstack(
        'image', 'create', '--file', file, '--disk-format', 'raw',
        '--container-format', 'bare', 'uploaded')['id']
    assert openstack('image', 'show', image_id)['status'] == 'active'
    task, = cloud.service.tasks(image_id)
    assert (task['type'], task['status']) == ('api_image_import', 'success')
    saved = tmp_path / 'saved'
    openstack('image', 'save', '--file', str(saved), image_id, form=False)
    assert saved.read_bytes() == DATA


def test_step_by_step(cloud, openstack, file):
    image_id = openstack(
        'image', 'create', '--disk-format', 'raw', '--container-format',
        'bare', 'steps')['id']
    info = openstack('image', 'import', 'info')
    assert 'glance-direct' in json.dumps(info)
    openstack('image', 'stage', '--file', file, 'steps', form=False)
    assert openstack('image', 'show', 'steps')['status'] == 'uploading'
    openstack('image', 'import', '--method', 'glance-direct', 'steps')
    wait_active(cloud, image_id)
    openstack('image', 'set', '--property', 'a.b=c', '--tag', 't', '--name',
              'renamed', '--hidden', '--min-ram', '7', '--protected',
              'steps', form=False)
    shown = openstack('image', 'show', image_id)
    assert (shown['name'], shown['min_ram'], shown['protected']) == (
        'renamed', 7, True)
    assert shown['tags'] == ['t']
    # Found by its name although it is hidden.
    openstack('image', 'set', '--unprotected', '--unhidden', 'renamed',
              form=False)
    openstack('image', 'unset', '--property', 'a.b', '--tag', 't', image_id,
              form=False)
    shown = openstack('image', 'show', image_id)
    assert 'a.b' not in shown['properties']
    assert shown['tags'] == []
    openstack('image', 'set', '--deactivate', image_id, form=False)
    assert openstack('image', 'show', image_id)['status'] == 'deactivated'
    openstack('image', 'set', '--activate', image_id, form=False)
    assert openstack('image', 'show', image_id)['status'] == 'active'
    tasks = openstack('image', 'task', 'list', user='root')
    task = [each for each in tasks if each['Type'] == 'api_image_import']
    found = openstack('image', 'task', 'show', task[0]['ID'], user='root')
    assert found['status'] == 'success'
    assert cloud.run('openstack', 'image', 'stores', 'list', check=False
                     ).returncode != 0
    openstack('image', 'delete', image_id, form=False)


def test_sharing(cloud, openstack):
    project = cloud.projects['blue']
    image_id = openstack('image', 'create', '--shared', 'lent')['id']
    added = openstack('image', 'add', 'project', image_id, project)
    assert added['member_id'] == project
    listed = openstack('image', 'member', 'list', image_id)
    assert [each['Member ID'] for each in listed] == [project]
    openstack('image', 'set', '--accept', image_id, '--project', project,
              form=False, user='bob')
    assert image_id in [each['ID'] for each in openstack(
        'image', 'list', '--shared', user='bob')]
    openstack('image', 'remove', 'project', image_id, project, form=False)
    assert image_id not in [each['ID'] for each in openstack(
        'image', 'list', '--shared', user='bob')]
    openstack('image', 'delete', image_id, form=False)


def test_list_options(cloud, openstack):
    image_id = openstack('image', 'create', '--private', '--tag', 'lo',
                         '--property', 'lo=1', 'listed')['id']
    for options in (['--private', '--tag', 'lo', '--property', 'lo=1'],
                    ['--name', 'listed', '--status', 'queued', '--long'],
                    ['--sort', 'name:asc', '--limit', '1000'],
                    ['--all', '--member-status', 'all']):
        assert image_id in [each['ID'] for each in openstack(
            'image', 'list', *options)], options
    openstack('image', 'delete', image_id, form=False)
