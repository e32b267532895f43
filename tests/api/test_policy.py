"""The default rules as a table: role x relation to the image x request.

Every cell is asked of a running service. What one may not see is 404, what
one sees but may not change is 403.
"""

import subprocess
import sys

import pytest

from tests import service as services

V21 = 'application/openstack-images-v2.1-json-patch'
# The project of the owner, of a member that accepted, of nobody concerned.
PROJECTS = {'own': 'own', 'member': 'lent', 'other': 'far'}
ROLES = ('none', 'reader', 'member', 'service', 'admin')


def token(role, relation):
    roles = {'none': 'odd', 'member': 'member,reader',
             'admin': 'admin,member,reader'}.get(role, role)
    return f'{role}:{PROJECTS[relation]}:{roles}'


OWNER = token('member', 'own')


def patched(name, value):
    return ('PATCH', '', [{'op': 'replace', 'path': f'/{name}',
                           'value': value}])


REQUESTS = {
    'show': ('GET', '', None),
    'download': ('GET', '/file', None),
    'change': patched('name', 'x'),
    'publish': patched('visibility', 'public'),
    'tag': ('PUT', '/tags/t', None),
    'stage': ('PUT', '/stage', b'x'),
    'import': ('POST', '/import', {'method': {'name': 'glance-direct'}}),
    'share': ('POST', '/members', {'member': 'new'}),
    'members': ('GET', '/members', None),
    'tasks': ('GET', '/tasks', None),
    'deactivate': ('POST', '/actions/deactivate', None),
    'delete': ('DELETE', '', None),
}
DONE = {'show': 200, 'download': 204, 'change': 200, 'publish': 200,
        'tag': 204, 'stage': 204, 'import': 409, 'share': 200,
        'members': 200, 'tasks': 200, 'deactivate': 403, 'delete': 204}

# (visibility, relation) -> role -> what it may do; '' is nothing, and then
# everything is 404, since the image is not even seen. An administrator may
# do everything.
READ = 'show members tasks'
READ_DATA = READ + ' download'
WRITE = READ_DATA + (' change tag stage import share deactivate delete')
NO_MEMBERS = str.maketrans('', '')
MAY = {
    ('shared', 'own'): {'reader': READ, 'member': WRITE},
    ('private', 'own'): {'reader': READ, 'member': WRITE},
    ('community', 'own'): {'reader': READ, 'member': WRITE},
    ('public', 'own'): {'reader': READ, 'member': WRITE},
    ('shared', 'member'): {'reader': READ, 'member': READ_DATA},
    ('private', 'member'): {},
    ('community', 'member'): {'reader': READ, 'member': READ_DATA},
    ('public', 'member'): {'reader': READ, 'member': READ_DATA},
    ('shared', 'other'): {},
    ('private', 'other'): {},
    ('community', 'other'): {'reader': READ, 'member': READ_DATA},
    ('public', 'other'): {'reader': READ, 'member': READ_DATA},
}


def expected(visibility, relation, role, name):
    if role == 'admin':
        allowed = ' '.join(REQUESTS)
    else:
        allowed = MAY[visibility, relation].get(role, '')
    # Only shared images have members.
    if name in ('share', 'members') and visibility != 'shared' and allowed:
        return 403
    if name == 'publish' and visibility == 'public':
        # It is already, so this asks for no more than a change.
        name = 'change'
    if name in allowed.split():
        return DONE[name]
    return 403 if allowed else 404


CASES = [(visibility, relation, role) for visibility, relation in MAY
         for role in ROLES]


@pytest.mark.parametrize('visibility, relation, role', CASES)
def test_cells(api, visibility, relation, role):
    asking = token(role, relation)
    for name, (method, tail, body) in REQUESTS.items():
        image_id = api.create(
            services.ADMIN if visibility == 'public' else OWNER,
            visibility=visibility, owner='own')
        if visibility == 'shared' and relation == 'member':
            api.request('POST', f'/v2/images/{image_id}/members',
                        {'member': 'lent'}, token=OWNER)
        media = {'PATCH': V21, 'PUT': 'application/octet-stream'}
        answer = api.request(
            method, f'/v2/images/{image_id}{tail}', body,
            {'Content-Type': media[method]} if method in media else {},
            token=asking)
        wanted = expected(visibility, relation, role, name)
        assert answer.status == wanted, (name, answer)


@pytest.mark.parametrize('role, create, listed, owner, tasks', [
    ('none', 403, 403, 403, 403), ('reader', 403, 200, 403, 403),
    ('member', 201, 200, 403, 403), ('service', 403, 403, 403, 403),
    ('admin', 201, 200, 201, 200)])
def test_without_an_image(api, role, create, listed, owner, tasks):
    asking = token(role, 'own')
    for method, path, body, wanted in (
            ('POST', '/v2/images', {}, create),
            ('GET', '/v2/images', None, listed),
            ('POST', '/v2/images', {'owner': 'far'}, owner),
            ('POST', '/v2/images', {'visibility': 'public'},
             201 if role == 'admin' else 403),
            ('POST', '/v2/images', {'visibility': 'community'}, create),
            ('GET', '/v2/tasks', None, tasks),
            ('GET', '/v2/info/import', None, 200),
            ('GET', '/v2/schemas/image', None, 200)):
        answer = api.request(method, path, body, token=asking)
        assert answer.status == wanted, (method, path, body, answer)


def test_nobody(api):
    for method, path in (('GET', '/v2/images'), ('POST', '/v2/images'),
                         ('PUT', '/v2/images/x/stage'), ('GET', '/v2/x')):
        assert api.request(method, path, token='nonsense').status == 401


def test_oslopolicy_checker_reads_the_rules(tmp_path):
    """oslopolicy's own programs know our rules by the namespace."""
    out = subprocess.run(
        [sys.executable, '-c', 'import sys; from oslo_policy import generator'
         '; sys.exit(generator.generate_sample(sys.argv[1:]))',
         '--namespace', 'glance_import', '--output-file',
         str(tmp_path / 'policy.yaml')], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    sample = (tmp_path / 'policy.yaml').read_text()
    for rule in ('add_image', 'modify_member', 'tasks_api_access',
                 'communitize_image'):
        assert f'"{rule}":' in sample
