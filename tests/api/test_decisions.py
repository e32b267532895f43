"""Decisions that are remembered are those that rules make."""

import os

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
            policy._decisions._inputs_of(policy._decisions._inputs,
                                         'get_image', ctx().policy_values)
            if not rule.startswith('http'):
                policy.allows(ctx(), 'get_image', target())
        assert policy._decisions._inputs['get_image'] is None
        assert enforcer.asked == (0 if rule.startswith('http') else 3)


def test_a_file_that_changes_is_noticed(policy, tmp_path):
    assert policy.allows(ctx(), 'modify_image', target())
    (tmp_path / 'policy.yaml').write_text('modify_image: "!"\n')
    policy._decisions._refresh_at = 0.0
    assert not policy.allows(ctx(), 'modify_image', target())


@pytest.mark.parametrize('rule, good, others', [
    # What a conversion makes of a value is not the value.
    ('"\'red\'":%(owner)r', {'owner': 'red'}, [{'owner': "'red'"}]),
    ('"red":%(owner).3s', {'owner': 'reddish'}, [{'owner': 'rusty'}]),
    ('"red":%(owner)3s', {'owner': 'red'}, [{'owner': 're'}]),
    ('user_id:%(image_id).3s', {'image_id': 'annabel'},
     [{'image_id': 'anbel'}, {'image_id': 'eve'}]),
    ('role:%(owner)s', {'owner': 'member'}, [{'owner': 'other'}]),
    ('role:mem%(owner).3s', {'owner': 'berlin'}, [{'owner': 'ber'[::-1]}]),
    # None and a name that is absent are not alike, nor are 1 and True.
    ('"None":%(member_id)s', {'member_id': None}, [{'member_id': 'x'}, ()]),
    ('"True":%(protected)s', {'protected': True}, [{'protected': 1}]),
    ('"1":%(size)s', {'size': 1}, [{'size': True}, {'size': 1.0}]),
    ("not 'x':%(owner)s", {'owner': 'y'}, [{'owner': 'x'}]),
    ('(not rule:other) and "a":%(owner)s', {'owner': 'a'},
     [{'owner': 'b'}]),
    ('"100%%":%(owner)s', {'owner': '100%%'}, [{'owner': '100%'}]),
    ('"%%(owner)s":%(owner)s', {'owner': '%%(owner)s'},
     [{'owner': '%(owner)s'}]),
    ('roles:%(owner)s', {'owner': 'member'}, [{'owner': 'Member'}]),
    ('is_admin_project:%(owner)s', {'owner': 'True'}, [{'owner': 'true'}]),
])
def test_targets_of_any_form(policy, rule, good, others):
    """Said twice, in any order, it is what oslo.policy says."""
    policy.write('get_image: ' + repr(rule).replace("\\'", "''") + '\n'
                 'other: "!"\n')
    places = [good, *others]
    for place in places + places[::-1]:
        place = dict(place)
        said = bool(policy._enforcer.enforce('get_image', place,
                                             ctx().policy_values))
        assert policy.allows(ctx(), 'get_image', place) == said, place
    assert policy.allows(ctx(), 'get_image', dict(good))


def test_only_classes_of_the_library_are_remembered(policy):
    from oslo_policy import _checks

    class Odd(_checks.RoleCheck):
        """A check that somebody registered, under a known name."""

        said = False

        def __call__(self, target, creds, enforcer, current_rule=None):
            Odd.said = not Odd.said
            return Odd.said

    for rule in (Odd('role', 'member'),
                 _checks.AndCheck([_checks.TrueCheck(), Odd('x', 'y')]),
                 _checks.NotCheck(Odd('user_id', '%(owner)s')),
                 _checks.OrCheck([_checks.FalseCheck(), Odd('x', 'y')]),
                 _checks.OrCheck([_checks.FalseCheck(), _checks.NotCheck(
                     _checks.RuleCheck('rule', 'odd'))])):
        policy._enforcer.rules['get_image'] = rule
        policy._enforcer.rules['odd'] = Odd('role', 'x')
        policy._decisions.forget()
        said = [policy.allows(ctx(), 'get_image', target())
                for _ in range(4)]
        assert said in ([True, False] * 2, [False, True] * 2), rule


def test_rules_that_cannot_be_evaluated_allow_nothing(policy, caplog):
    for rule in ('"x":%(owner)d', '"x":%(owner', '1a:x', 'user..id:x',
                 'user_id.name:x', 'rule:get_image'):
        caplog.clear()
        policy.write(f"get_image: '{rule}'\n")
        for _ in range(2):
            assert not policy.allows(ctx(roles=('admin',)), 'get_image',
                                     target())
        if rule != 'user..id:x':
            assert 'get_image cannot be evaluated' in caplog.text, rule


@pytest.mark.parametrize('rule', [rule.name for rule
                                  in policies.list_rules()])
def test_tokens_of_a_project_alone(policy, rule):
    for values in ({'system_scope': 'all'}, {'domain_id': 'd'}):
        who = context.RequestContext(
            user_id='x', roles=('admin', 'member', 'reader', 'service'),
            **values)
        for project in ('red', None):
            who.project_id = project
            assert not policy.allows(who, rule, target(visibility='public'))
    who = ctx(roles=('admin', 'service'))
    assert policy.allows(who, rule, target())


BROKEN = ['get_image: [', '- a', '"x"', '7', 'get_image: {}: x',
          'get_image: "role:admin and"', 'get_image: "admin"',
          'get_image: "(role:admin"', 'get_image: "role:a or admin"',
          'get_image: 7', '\x00', '{', '', ' \n']


@pytest.mark.parametrize('text', BROKEN)
def test_a_file_that_breaks(policy, tmp_path, caplog, text):
    policy.write('get_image: "role:watcher"\n')
    watcher = ctx(roles=('watcher',))
    (tmp_path / 'policy.yaml').write_text(text)
    for _ in range(3):
        policy._decisions.refresh()
        assert policy.allows(watcher, 'get_image', target())
        assert not policy.allows(ctx(roles=('admin',)), 'get_image',
                                 target())
    # Once a change, naming the file.
    said = [record for record in caplog.records
            if record.levelname == 'ERROR'
            and 'stay in force' in record.message]
    assert len(said) == 1, caplog.text
    assert 'policy.yaml' in said[0].message
    (tmp_path / 'policy.yaml').write_text('get_image: "role:other"\n')
    policy._decisions.refresh()
    assert policy.allows(ctx(roles=('other',)), 'get_image', target())


@pytest.mark.parametrize('breaks', [
    lambda path: path.unlink(),
    lambda path: (path.unlink(), path.mkdir()),
    lambda path: path.write_bytes(b'get_image: "\xff"\n'),
    lambda path: (path.unlink(), path.symlink_to('nowhere'))])
def test_a_file_that_goes(policy, tmp_path, caplog, breaks):
    policy.write('get_image: "role:watcher"\n')
    breaks(tmp_path / 'policy.yaml')
    for _ in range(2):
        policy._decisions.refresh()
        assert policy.allows(ctx(roles=('watcher',)), 'get_image', target())
        assert not policy.allows(ctx(), 'get_image', target())
    assert caplog.text.count('stay in force') == 1


def test_an_older_file_is_a_change_too(policy, tmp_path):
    policy.write('get_image: "role:watcher"\n')
    (tmp_path / 'other').write_text('get_image: "role:other"\n')
    os.utime(tmp_path / 'other', (1, 1))
    (tmp_path / 'other').replace(tmp_path / 'policy.yaml')
    policy._decisions.refresh()
    assert policy.allows(ctx(roles=('other',)), 'get_image', target())
    assert not policy.allows(ctx(roles=('watcher',)), 'get_image', target())


def test_a_directory_that_cannot_be_read(policy, tmp_path, caplog):
    """Nor does what is wrong with policy_dirs fail a request."""
    (tmp_path / 'policy.d').mkdir()
    policy._enforcer.conf.set_override(
        'policy_dirs', [str(tmp_path / 'policy.d')], 'oslo_policy')
    (tmp_path / 'policy.d' / 'one.yaml').write_text(
        'get_image: "role:watcher"\n')
    policy._decisions.refresh()
    watcher = ctx(roles=('watcher',))
    assert policy.allows(watcher, 'get_image', target())
    (tmp_path / 'policy.d' / 'two.yaml').write_text('get_image: [')
    policy._decisions.refresh()
    assert policy.allows(watcher, 'get_image', target())
    assert 'stay in force' in caplog.text
    (tmp_path / 'policy.d' / 'two.yaml').unlink()
    (tmp_path / 'policy.d' / 'one.yaml').unlink()
    policy._decisions.refresh()
    assert not policy.allows(watcher, 'get_image', target())
