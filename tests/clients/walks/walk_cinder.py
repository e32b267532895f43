"""A walk of Cinder's own image code: a volume becomes an image.

Arguments: where images are, and the project of the token in OS_TOKEN.
"""

import hashlib
import io
import os
import sys

from cinder import context
# First: alone, glance imports itself in a circle.
from cinder.image import image_utils  # noqa: F401
from cinder.image import glance  # noqa: H306
from glanceclient import exc as glance_exc

endpoint, project = sys.argv[1:]
glance.CONF([], project='cinder')
glance.CONF.set_override('glance_api_servers', [endpoint])
ctx = context.RequestContext(
    user_id='ann', project_id=project, auth_token=os.environ['OS_TOKEN'],
    service_catalog=[])
service = glance.get_default_image_service()
DATA = os.urandom(300_000)


def create(disk_format, data):
    # Upload of a volume: a record first, the data with an update.
    made = service.create(ctx, {
        'name': 'volume', 'disk_format': disk_format,
        'container_format': 'bare', 'visibility': 'shared'})
    return made['id'], lambda: service.update(
        ctx, made['id'], {}, io.BytesIO(data))


image_id, upload = create('raw', DATA)
upload()
shown = service.show(ctx, image_id)
assert (shown['status'], shown['size']) == ('active', len(DATA)), shown
assert shown['checksum'] == hashlib.md5(DATA).hexdigest()
sink = io.BytesIO()
service.download(ctx, image_id, sink)
assert sink.getvalue() == DATA

refused, upload = create('qcow2', DATA)
try:
    upload()
except glance_exc.HTTPException as failure:
    assert 'refused.format' in str(failure), failure
else:
    raise AssertionError('data that is no qcow2 was taken for one')
assert service.show(ctx, refused)['status'] != 'active'
for each in (image_id, refused):
    service.delete(ctx, each)
print('walked')
