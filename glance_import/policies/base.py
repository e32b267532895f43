"""Check strings the resources share.

The defaults are those of Glance's later releases: a reader sees what the
project may see, a member changes what the project owns, an administrator does
both everywhere.

Every rule is for tokens of a project, as in Glance since 2023.1: whoever is
an administrator of a domain or of the system has a role of the same name
there, and oslo.policy refuses those tokens before it looks at roles.
"""

from oslo_policy import policy

ADMIN = 'rule:context_is_admin'
PROJECT_MEMBER = 'role:member and project_id:%(project_id)s'
PROJECT_READER = 'role:reader and project_id:%(project_id)s'
ADMIN_OR_PROJECT_MEMBER = f'{ADMIN} or ({PROJECT_MEMBER})'
ADMIN_OR_PROJECT_READER = f'{ADMIN} or ({PROJECT_READER})'
SERVICE = 'rule:service_api'
SERVICE_OR_PROJECT_MEMBER = f'{SERVICE} or ({PROJECT_MEMBER})'
_SEEN = ("(project_id:%(project_id)s or project_id:%(member_id)s or "
         "'community':%(visibility)s or 'public':%(visibility)s or "
         "'shared':%(visibility)s)")
ADMIN_OR_MAY_SEE = f'{ADMIN} or (role:reader and {_SEEN})'
ADMIN_OR_MAY_READ_DATA = f'{ADMIN} or (role:member and {_SEEN})'
ADMIN_OR_READER_OF_SHARED = (
    f'{ADMIN} or (role:reader and (project_id:%(project_id)s or '
    'project_id:%(member_id)s))')
# member_id is the project that a membership is about.
ADMIN_OR_MEMBER_OF_SHARED = (
    f'{ADMIN} or (role:member and project_id:%(member_id)s)')

_SCOPES = ['project']


def rule(name: str, check: str, description: str,
         *operations: tuple[str, str]) -> policy.DocumentedRuleDefault:
    """A rule that is asked by these requests, as (method, path)."""
    return policy.DocumentedRuleDefault(
        name, check, description,
        [{'method': method, 'path': path} for method, path in operations],
        scope_types=_SCOPES)


RULES = (
    policy.RuleDefault('context_is_admin', 'role:admin',
                       'Who is an administrator.', scope_types=_SCOPES),
    policy.RuleDefault('service_api', 'role:service',
                       'Who is another service of the cloud.',
                       scope_types=_SCOPES),
    policy.RuleDefault('default', '',
                       'Used by a rule of a policy file that is not defined '
                       'anywhere.', scope_types=_SCOPES),
)
