"""Decisions that are remembered are those that rules make."""

import pytest

from glance_import import conf as configuration
from glance_import import context
from glance_import import policies
from glance_import.policies import decisions
from glance_import.policies import enforce


@pytest.fixture
def policy(tmp_path):
    conf = configuration.load([])
    conf.set_override('policy_file', str(tmp_path / 'policy.yaml'),
                      'oslo_policy')
    (tmp_path / 'policy.yaml').write_text('{}')

    def write(text):
        (tmp_path / 'policy.yaml').write_text(text)
        made.reload()
    made = enforce.Policy(policies.new_enforcer(conf))
    made.write = write
    return made


def ctx(project='red', roles=('member', 'reader'), user='ann'):
    return context.RequestContext(user_id=user, project_id=project,
                                  roles=roles)


def target(owner='red', visibility='private'):
    return {'project_id': owner, 'owner': owner, 'member_id': None,
            'visibility': visibility, 'image_id': 'x'}


class Counting:
    """An enforcer that counts what it is asked."""

    def __init__(self, enforcer):
        self._enforcer = enforcer
        self.asked = 0

    def enforce(self, *words):
        self.asked += 1
        return self._enforcer.enforce(*words)

    def __getattr__(self, name):
        return getattr(self._enforcer, name)


def counted(policy):
    found = Counting(policy._enforcer)
    policy._decisions = decisions.Decisions(found)
    return found


def test_the_same_as_without(policy):
    for rule in ('get_image', 'modify_image', 'add_image', 'deactivate',
                 'tasks_api_access', 'download_image', 'no_such_rule'):
        for owner in ('red', 'blue'):
            for visibility in ('private', 'public', 'community', 'shared'):
                for who in (ctx(), ctx('blue'), ctx(roles=('reader',)),
                            ctx(roles=('admin',)), ctx(None, ())):
                    place = target(owner, visibility)
                    said = bool(policy._enforcer.enforce(
                        rule, place, who.to_policy_values()))
                    for _ in range(2):
                        assert policy.allows(who, rule, place) == said


def test_asked_once_for_the_same(policy):
    enforcer = counted(policy)
    for _ in range(5):
        assert policy.allows(ctx(), 'modify_image', target())
        # Another image and another user of the project are the same.
        assert policy.allows(ctx(user='eve'), 'modify_image',
                             {**target(), 'image_id': 'y'})
    assert enforcer.asked == 1
    assert not policy.allows(ctx('blue'), 'modify_image', target())
    assert enforcer.asked == 2


def test_rules_that_look_at_more(policy):
    policy.write('modify_image: "user_id:%(image_id)s"\n')
    assert policy.allows(ctx(user='x'), 'modify_image', target())
    assert not policy.allows(ctx(user='y'), 'modify_image', target())
    # Each of these may say something else the next time.
    for rule in ('http://127.0.0.1:9/%(owner)s', 'token.project.id:red',
                 'unheard_of:x', 'rule:modify_image and unheard_of:x'):
        policy.write(f'get_image: "{rule}"\n')
        enforcer = counted(policy)
        for _ in range(3):
            policy._decisions._asked_by(policy._decisions._asked,
                                        'get_image', ctx().policy_values)
            if not rule.startswith('http'):
                policy.allows(ctx(), 'get_image', target())
        assert policy._decisions._asked['get_image'] is None
        assert enforcer.asked == (0 if rule.startswith('http') else 3)


def test_a_file_that_changes_is_noticed(policy, tmp_path):
    assert policy.allows(ctx(), 'modify_image', target())
    (tmp_path / 'policy.yaml').write_text('modify_image: "!"\n')
    policy._decisions._look_at = 0.0
    assert not policy.allows(ctx(), 'modify_image', target())
