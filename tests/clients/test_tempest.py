"""OpenStack's own tests of metadata definitions, as they are published."""

import os
import re
import subprocess

import pytest

from tests import environments
from tests import keystone as keystones

CONF = '''
[DEFAULT]
log_dir = {top}
[auth]
use_dynamic_credentials = true
admin_username = admin
admin_password = {password}
admin_project_name = admin
admin_domain_name = Default
tempest_roles = member
[identity]
auth_version = v3
uri_v3 = {keystone}
[service_available]
cinder = false
glance = true
horizon = false
neutron = false
nova = false
swift = false
[oslo_concurrency]
lock_path = {top}/locks
'''
ADMIN = 'tempest.api.image.v2.admin.test_images_metadefs_'
SUITES = (*(ADMIN + name for name in (
    'namespaces', 'namespace_objects', 'namespace_properties',
    'namespace_tags', 'resource_types')),
    'tempest.api.image.v2.test_images_metadefs_schema')


pytestmark = pytest.mark.skipif(not os.environ.get('LONG_TESTS'),
                                reason='the long form: LONG_TESTS=1')


@pytest.fixture
def tempest(cache):
    return environments.make('tempest', cache)


def test_metadefs(tempest, keystone, behind_keystone, tmp_path):
    (tmp_path / 'tempest.conf').write_text(CONF.format(
        top=tmp_path, password=keystones.PASSWORD, keystone=keystone.url))
    done = subprocess.run(
        [tempest.python, '-m', 'unittest', '-v', *SUITES], cwd=tmp_path,
        env={'TEMPEST_CONFIG_DIR': str(tmp_path), 'HOME': str(tmp_path),
             'PYTHONWARNINGS': 'ignore'},
        capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stderr[-5000:],
                                  behind_keystone.text()[-2000:])
    # All of them ran, and none was passed over.
    assert re.search(r'\nOK\n', done.stderr), done.stderr[-3000:]
    assert int(re.search(r'Ran (\d+) tests', done.stderr).group(1)) >= 10
