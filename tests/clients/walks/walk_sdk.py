"""Run by the clients' Python: openstacksdk's image proxy, start to end."""

import hashlib
import io
import os
import sys
import tempfile

import openstack
from openstack import exceptions
from openstack import resource

DATA = os.urandom(400_000)


def connect():
    if os.environ.get('OS_AUTH_TYPE') == 'admin_token':
        return openstack.connection.Connection(
            auth_type='admin_token', auth={
                'endpoint': os.environ['OS_ENDPOINT'],
                'token': os.environ['OS_TOKEN']})
    return openstack.connect(load_yaml_config=False)


def wait(cloud, image, status):
    return resource.wait_for_status(
        cloud.image, image, status, ['queued', 'uploading'], 0.1, 60)


def main(project):
    cloud = connect()
    with tempfile.NamedTemporaryFile() as file:
        file.write(DATA)
        file.flush()
        image = cloud.image.create_image(
            'sdk', filename=file.name, disk_format='raw',
            container_format='bare', use_import=True, wait=True, timeout=60,
            colour='red', tags=['a'], validate_checksum=True)
    image = wait(cloud, image, 'active')
    assert image.checksum == hashlib.md5(DATA).hexdigest()
    assert image.hash_value == hashlib.sha512(DATA).hexdigest()
    assert image.properties['owner_specified.openstack.object'].endswith(
        '/sdk')
    assert cloud.image.find_image('sdk').id == image.id
    assert cloud.get_image('sdk').id == image.id
    out = io.BytesIO()
    cloud.image.download_image(image, output=out)
    assert out.getvalue() == DATA
    assert b''.join(cloud.image.download_image(image, stream=True
                                               ).iter_content(65536)) == DATA
    changed = cloud.image.update_image(
        image, name='renamed', min_ram=64, is_hidden=True, shade='dark')
    assert (changed.name, changed.min_ram) == ('renamed', 64)
    assert cloud.image.find_image('renamed').id == image.id
    cloud.image.add_tag(image, 'tagged')
    assert 'tagged' in cloud.image.get_image(image).tags
    cloud.image.remove_tag(image, 'tagged')
    assert 'tagged' not in cloud.image.get_image(image).tags
    cloud.image.deactivate_image(image)
    assert cloud.image.get_image(image).status == 'deactivated'
    cloud.image.reactivate_image(image)
    member = cloud.image.add_member(image, member_id=project)
    assert member.status == 'pending'
    assert [each.member_id for each in cloud.image.members(image)] == [
        project]
    assert cloud.image.find_member(project, image).member_id == project
    cloud.image.remove_member(member, image)
    try:
        list(cloud.image.tasks())
    except exceptions.ForbiddenException:
        pass
    else:
        raise AssertionError('the Tasks API is for administrators')
    cloud.image.delete_image(image)
    assert cloud.image.find_image(image.id) is None

    steps = cloud.image.create_image('steps', disk_format='raw',
                                     container_format='bare')
    cloud.image.stage_image(steps, data=io.BytesIO(DATA))
    assert cloud.image.get_image(steps).status == 'uploading'
    info = cloud.image.get_import_info()
    assert 'glance-direct' in info.import_methods['value']
    cloud.image.import_image(steps, method='glance-direct')
    wait(cloud, steps, 'active')
    names = [each.name for each in cloud.image.images(limit=1)]
    assert 'steps' in names
    for query in ({'name': 'steps'}, {'status': 'active'},
                  {'visibility': 'shared'}, {'owner': steps.owner},
                  {'size_min': 1}, {'sort': 'name:asc'}):
        assert steps.id in [each.id for each in cloud.image.images(**query)
                            ], query
    assert cloud.image.get_image_schema().properties['status']
    assert cloud.image.get_images_schema() and cloud.image.get_member_schema()
    assert cloud.image.get_task_schema() and cloud.image.get_tasks_schema()
    cloud.image.delete_image(steps)


if __name__ == '__main__':
    main(*sys.argv[1:])
    print('walked')
