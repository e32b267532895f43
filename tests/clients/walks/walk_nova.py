"""A walk of Nova's own image code: what a snapshot does, and a boot.

Arguments: where images are, and the project of the token in OS_TOKEN.
"""

import hashlib
import io
import os
import sys
import uuid

from glanceclient import exc as glance_exc
from nova import conf
from nova import context
from nova import exception
from nova.image import glance

endpoint, project = sys.argv[1:]
conf.CONF([], project='nova')
conf.CONF.set_override('endpoint_override', endpoint, 'glance')
ctx = context.RequestContext(
    user_id='ann', project_id=project, auth_token=os.environ['OS_TOKEN'],
    service_catalog=[])
api = glance.API()
DATA = os.urandom(300_000)


def create(disk_format, data):
    # libvirt's snapshot: a record first, its data later.
    made = api.create(ctx, {
        'name': 'snapshot', 'is_public': False, 'disk_format': disk_format,
        'container_format': 'bare',
        'properties': {'image_type': 'snapshot', 'base_image_ref': ''}})
    return made['id'], lambda: api.update(
        ctx, made['id'], {'name': 'snapshot', 'disk_format': disk_format,
                          'container_format': 'bare', 'properties': {}},
        data=io.BytesIO(data), purge_props=False)


image_id, upload = create('raw', DATA)
upload()
shown = api.get(ctx, image_id)
assert (shown['status'], shown['size']) == ('active', len(DATA)), shown
assert shown['checksum'] == hashlib.md5(DATA).hexdigest()
assert b''.join(api.download(ctx, image_id)) == DATA

refused, upload = create('qcow2', DATA)
try:
    upload()
except glance_exc.HTTPException as failure:
    assert 'refused.format' in str(failure), failure
else:
    raise AssertionError('data that is no qcow2 was taken for one')
assert api.get(ctx, refused)['status'] != 'active'

for each in (image_id, refused):
    api.delete(ctx, each)
try:
    api.get(ctx, str(uuid.uuid4()))
except exception.ImageNotFound:
    print('walked')
