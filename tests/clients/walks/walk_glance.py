"""Run by the clients' Python: python-glanceclient as a library."""

import hashlib
import io
import os
import sys
import time

import glanceclient
from glanceclient import exc
from keystoneauth1 import loading
from keystoneauth1 import session

DATA = os.urandom(400_000)


def connect():
    if os.environ.get('OS_AUTH_TYPE') == 'admin_token':
        return glanceclient.Client(
            '2', endpoint=os.environ['OS_ENDPOINT'],
            token=os.environ['OS_TOKEN'])
    plugin = loading.get_plugin_loader('password').load_from_options(
        auth_url=os.environ['OS_AUTH_URL'],
        username=os.environ['OS_USERNAME'],
        password=os.environ['OS_PASSWORD'],
        project_name=os.environ['OS_PROJECT_NAME'],
        user_domain_id='default', project_domain_id='default')
    # Other regions have images too.
    return glanceclient.Client('2', session=session.Session(auth=plugin),
                               region_name=os.environ['OS_REGION_NAME'])


def wait(client, image_id, wanted):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        image = client.images.get(image_id)
        if image.status == wanted:
            return image
        time.sleep(0.05)
    raise AssertionError(f'{image_id} is {image.status}')


def refused(kind, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except kind:
        return
    raise AssertionError(f'{function} was not refused')


def main(project):
    client = connect()
    assert client.images.get_import_info()['import-methods']['value']
    image = client.images.create(
        name='lib', disk_format='raw', container_format='bare', tags=['a'],
        colour='red')
    client.images.stage(image.id, io.BytesIO(DATA))
    assert client.images.get(image.id).status == 'uploading'
    client.images.image_import(image.id, 'glance-direct')
    image = wait(client, image.id, 'active')
    assert image.os_hash_value == hashlib.sha512(DATA).hexdigest()
    assert b''.join(client.images.data(image.id)) == DATA
    image = client.images.update(image.id, remove_props=['colour'],
                                 name='other', shade='dark')
    assert image.name == 'other' and image.shade == 'dark'
    assert not hasattr(image, 'colour')
    client.image_tags.update(image.id, 'tagged')
    client.image_tags.delete(image.id, 'tagged')
    refused(exc.HTTPNotFound, client.image_tags.delete, image.id, 'tagged')
    client.image_members.create(image.id, project)
    assert [each.member_id for each
            in client.image_members.list(image.id)] == [project]
    refused(exc.HTTPConflict, client.image_members.create, image.id, project)
    client.image_members.delete(image.id, project)
    client.images.deactivate(image.id)
    client.images.reactivate(image.id)
    made = [client.images.create(name=f'page {n}', tags=['pages']).id
            for n in range(5)]
    found = client.images.list(page_size=2, filters={'tag': ['pages']},
                               sort_key=['name'], sort_dir=['asc'])
    assert [each.id for each in found] == made
    found = client.images.list(limit=3, sort='name:desc',
                               filters={'tag': ['pages']})
    assert len(list(found)) == 3
    assert [each.id for each in client.images.list(
        filters={'name': 'other', 'visibility': 'shared'})] == [image.id]
    refused(exc.HTTPForbidden, lambda: list(client.tasks.list()))
    for image_id in (*made, image.id):
        client.images.delete(image_id)
    refused(exc.HTTPNotFound, client.images.get, image.id)


if __name__ == '__main__':
    main(*sys.argv[1:])
    print('walked')
