"""The walk of somebody with python-glanceclient's command."""

import hashlib
import os
import re

import pytest

DATA = os.urandom(300_000)


@pytest.fixture
def cloud(authenticated):
    return authenticated


@pytest.fixture
def glance(cloud):
    def run(*arguments, **kwargs):
        return cloud.run('glance', *arguments, **kwargs).stdout
    return run


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'image.raw'
    path.write_bytes(DATA)
    return str(path)


def row(output, name):
    """The value of one row of a table."""
    return re.search(rf'^\| {name} +\| (.*?) +\|$', output, re.M).group(1)


def wait_active(cloud, image_id):
    image = cloud.service.wait_status(image_id, 'active', 'uploading',
                                      'queued')
    assert image['status'] == 'active', image


FORMATS = ('--disk-format', 'raw', '--container-format', 'bare')


def test_create_via_import(cloud, glance, file, tmp_path):
    out = glance('image-create-via-import', '--file', file, *FORMATS,
                 '--name', 'via', '--tag', 'a', '--property', 'colour=red')
    image_id = row(out, 'id')
    wait_active(cloud, image_id)
    out = glance('image-show', image_id)
    assert row(out, 'checksum') == hashlib.md5(DATA).hexdigest()
    assert row(out, 'os_hash_value').startswith(
        hashlib.sha512(DATA).hexdigest()[:32])
    saved = tmp_path / 'saved'
    glance('image-download', '--file', str(saved), image_id)
    assert saved.read_bytes() == DATA
    assert image_id in glance('image-list')
    assert image_id in glance('image-list', '--property-filter',
                              'colour=red', '--tag', 'a')
    out = glance('image-tasks', image_id)
    assert 'success' in out
    glance('image-delete', image_id)
    assert cloud.run('glance', 'image-show', image_id, check=False
                     ).returncode != 0


def test_step_by_step(cloud, glance, file):
    assert 'Import methods available' in glance('import-info')
    image_id = row(glance('image-create', '--name', 'steps', *FORMATS), 'id')
    glance('image-stage', '--file', file, image_id)
    assert row(glance('image-show', image_id), 'status') == 'uploading'
    glance('image-import', '--import-method', 'glance-direct', image_id)
    wait_active(cloud, image_id)
    out = glance('image-update', '--property', 'a=b', '--name', 'other',
                 '--hidden', 'true', '--protected', 'true', image_id)
    assert (row(out, 'a'), row(out, 'name')) == ('b', 'other')
    assert row(out, 'os_hidden') == 'True'
    glance('image-update', '--remove-property', 'a', '--protected', 'false',
           '--hidden', 'false', image_id)
    glance('image-tag-update', image_id, 'tagged')
    assert 'tagged' in glance('image-show', image_id)
    glance('image-tag-delete', image_id, 'tagged')
    glance('image-deactivate', image_id)
    assert row(glance('image-show', image_id), 'status') == 'deactivated'
    glance('image-reactivate', image_id)
    out = glance('task-list', user='root')
    task_id = re.search(r'^\| ([0-9a-f-]{36}) \| api_image_import', out,
                        re.M).group(1)
    assert row(glance('task-show', task_id, user='root'), 'status'
               ) == 'success'
    glance('image-delete', image_id)


def test_sharing(cloud, glance):
    project = cloud.projects['blue']
    image_id = row(glance('image-create', '--name', 'lent'), 'id')
    assert 'pending' in glance('member-create', image_id, project)
    assert 'accepted' in glance('member-update', image_id, project,
                                'accepted', user='bob')
    assert project in glance('member-list', '--image-id', image_id)
    assert image_id in glance('image-list', user='bob')
    glance('member-delete', image_id, project)
    assert image_id not in glance('image-list', user='bob')
    glance('image-delete', image_id)


def test_schemas(glance):
    assert 'container_format' in glance('explain', 'image')
    assert 'member_id' in glance('explain', 'member')
    assert 'expires_at' in glance('explain', 'task')
