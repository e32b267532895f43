"""Tokens of every scope from a real Keystone, and what they may do."""

from __future__ import annotations

from oslo_policy import policy as oslo_policy
import pytest
import webob

from glance_import.api.middleware import identity
from glance_import import conf as configuration
from glance_import.policies import enforce
from glance_import.policies import rules_file
from glance_import import services as boxes

ROLES = ('admin', 'member', 'reader')
V21 = 'application/openstack-images-v2.1-json-patch'


@pytest.fixture(scope='module')
def domain(keystone):
    """The id of a customer's domain, with a project and users of each kind.
    """
    made = keystone.add_domain('customer')
    keystone.add_project('inner', made)
    for role in ROLES:
        # What an administrator has includes the other two.
        had = ROLES[ROLES.index(role):]
        for name, where in ((f'domain-{role}', f'domains/{made}'),
                            (f'system-{role}', 'system'),
                            (f'project-{role}',
                             f'projects/{keystone.projects["inner"]}')):
            keystone.add_user_of(name, made)
            for each in had:
                keystone.grant(where, name, each)
    keystone.add_user_of('nobody', made)
    return made


@pytest.fixture(scope='module')
def persona(keystone, domain):
    """A token of, say, domain-admin."""
    def token(name):
        kind = name.partition('-')[0]
        scope = {'domain': {'domain': {'id': domain}},
                 'system': {'system': {'all': True}},
                 'project': {'project': {
                     'id': keystone.projects['inner']}},
                 'nobody': None}[kind]
        return keystone.scoped_token(name, scope, domain)
    return token


@pytest.fixture
def service(authenticated):
    return authenticated.service


SCOPED = [f'{scope}-{role}' for scope in ('domain', 'system')
          for role in ROLES] + ['nobody']


@pytest.mark.parametrize('name', SCOPED)
def test_no_images_for_other_scopes(authenticated, service, persona, name):
    """As in Glance 2023.1 and later: 403, and 404 for an image."""
    token = persona(name)
    root = authenticated.tokens['root']
    private = service.create(authenticated.tokens['ann'],
                             visibility='private')
    public = service.create(root, visibility='public')
    requests = [('GET', '/v2/images', None, 403),
                ('POST', '/v2/images', {'name': 'x'}, 403),
                ('POST', '/v2/images', {'owner': 'x'}, 403),
                ('POST', '/v2/images', {'visibility': 'public'}, 403),
                ('GET', '/v2/tasks', None, 403),
                ('POST', '/v2/tasks', {'type': 'import', 'input': {}}, 403),
                ('GET', '/v2/info/import', None, 200),
                ('GET', '/v2/schemas/image', None, 200)]
    for image_id in (private, public):
        path = f'/v2/images/{image_id}'
        requests += [
            ('GET', path, None, 404), ('DELETE', path, None, 404),
            ('PATCH', path, [{'op': 'replace', 'path': '/name',
                              'value': 'mine'}], 404),
            ('GET', f'{path}/file', None, 404),
            ('GET', f'{path}/tasks', None, 404),
            ('GET', f'{path}/members', None, 404),
            ('PUT', f'{path}/tags/x', None, 404),
            ('PUT', f'{path}/stage', b'x', 404),
            ('POST', f'{path}/import',
             {'method': {'name': 'glance-direct'}}, 404),
            ('POST', f'{path}/actions/deactivate', None, 404)]
    for method, path, body, wanted in requests:
        types = {'PATCH': V21, 'PUT': 'application/octet-stream'}
        answer = service.request(
            method, path, body,
            {'Content-Type': types[method]} if method in types else {},
            token=token)
        assert answer.status == wanted, (method, path, answer)
        if wanted == 403 and name != 'nobody' and method == 'GET':
            assert f"for the {name.partition('-')[0]}" in answer.message
    for image_id in (private, public):
        assert service.show(image_id, root)['name'] == 'test'


def test_a_project_of_any_domain(service, persona, keystone):
    owner = keystone.projects['inner']
    for role, create, tasks in (('admin', 201, 200), ('member', 201, 403),
                                ('reader', 403, 403)):
        token = persona(f'project-{role}')
        answer = service.request('POST', '/v2/images', {}, token=token)
        assert answer.status == create, (role, answer)
        if create == 201:
            assert answer.json['owner'] == owner
        assert service.request('GET', '/v2/images', token=token
                               ).status == 200
        assert service.request('GET', '/v2/tasks', token=token
                               ).status == tasks


def test_a_service_token_lends_no_scope(service, persona, keystone, domain):
    """Whatever comes beside it, the user's token says what it is for."""
    helper = keystone.token('glance', 'service')
    for name in ('system-admin', 'domain-admin', 'nobody'):
        token = persona(name)
        for other in (helper, persona('project-admin'), token):
            answer = service.request(
                'GET', '/v2/images', token=token,
                headers={'X-Service-Token': other})
            assert answer.status in (401, 403), (name, answer)
    # And takes none away.
    keystone.grant_system('glance', 'service')
    whole = keystone.scoped_token('glance', {'system': {'all': True}})
    for other in (helper, whole):
        assert service.request(
            'GET', '/v2/images', token=persona('project-reader'),
            headers={'X-Service-Token': other}).status == 200


@pytest.fixture
def seen(behind_keystone):
    """The context that a request with some tokens is given."""
    conf = configuration.load(['--config-dir', str(behind_keystone.conf)])
    box = boxes.build(conf)
    contexts = []

    def application(environ, start_response):
        contexts.append(environ['glance_import.context'])
        return webob.Response()(environ, start_response)

    app = identity.keystone(identity.ContextFilter(application, box), box)

    def ask(token, **headers):
        request = webob.Request.blank('/v2/images', headers={
            'X-Auth-Token': token, **{name.replace('_', '-'): value
                                      for name, value in headers.items()}})
        assert request.get_response(app).status_int == 200
        return contexts[-1]

    yield ask, conf
    box.close()


def test_rules_see_what_the_token_has(seen, tmp_path, keystone, persona,
                                      domain):
    ask, conf = seen
    inner = keystone.projects['inner']
    tokens = {'member': ask(persona('project-member')),
              'domain': ask(persona('domain-member')),
              'system': ask(persona('system-reader')),
              'unscoped': ask(persona('nobody')),
              'admin': ask(keystone.token()),
              'helped': ask(persona('project-reader'),
                            X_Service_Token=keystone.token(
                                'glance', 'service'))}
    helper = tokens['helped'].service_user_id
    assert helper
    # One rule for each value: which tokens it is true of.
    expected = {
        'is_admin_project:True': {'admin'} | {
            # Keystone says it of tokens of a project only.
            name for name in ('domain', 'system', 'unscoped')
            if tokens[name].is_admin_project},
        'system_scope:all': {'system'},
        f'domain_id:{domain}': {'domain'},
        f'user_domain_id:{domain}': {'member', 'domain', 'system',
                                     'unscoped', 'helped'},
        'user_domain_id:default': {'admin'},
        f'project_domain_id:{domain}': {'member', 'helped'},
        'project_domain_id:default': {'admin'},
        f'project_id:{inner}': {'member', 'helped'},
        'role:member': {'member', 'domain', 'admin'},
        'service_roles:service': {'helped'},
        f'service_user_id:{helper}': {'helped'},
        f"service_project_id:{keystone.projects['service']}": {'helped'},
        'service_project_domain_id:default': {'helped'},
        'service_user_domain_id:default': {'helped'},
    }
    assert not tokens['member'].is_admin_project
    enforcer = rules_file.Enforcer(conf, [
        oslo_policy.RuleDefault(rule, rule) for rule in expected])
    policy = enforce.Policy(enforcer)
    for rule, wanted in expected.items():
        for _ in range(2):
            found = {name for name, ctx in tokens.items()
                     if policy.allows(ctx, rule, {})}
            assert found == wanted, rule
    for name, ctx in tokens.items():
        assert ctx.auth_token is None and ctx.service_token is None
        assert ctx.is_admin == (name == 'admin'), name


def test_headers_of_a_client_are_not_believed(seen, persona):
    """Whatever oslo.context would read is Keystone's word or nobody's."""
    ask, _conf = seen
    plain = ask(persona('project-reader'))
    claimed = {
        name: 'forged' for name in (
            'X-User-Id', 'X-User', 'X-User-Name', 'X-Tenant', 'X-Tenant-Id',
            'X-Tenant-Name', 'X-Project-Id', 'X-Project-Name', 'X-Domain-Id',
            'X-Domain-Name', 'X-User-Domain-Id', 'X-User-Domain-Name',
            'X-Project-Domain-Id', 'X-Project-Domain-Name',
            'X-Service-User-Id', 'X-Service-User-Name',
            'X-Service-User-Domain-Id', 'X-Service-User-Domain-Name',
            'X-Service-Project-Id', 'X-Service-Project-Name',
            'X-Service-Project-Domain-Id', 'X-Service-Project-Domain-Name',
            'X-Service-Roles', 'X-Roles', 'X-Role', 'OpenStack-System-Scope',
            'X-Is-Admin-Project')}
    forged = ask(persona('project-reader'), **claimed)
    assert forged.policy_values == plain.policy_values
    assert 'forged' not in repr(vars(forged))
