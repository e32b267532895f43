"""Rules about tasks: the five of the admin guide.

The first four are asked while an import is being accepted, so they must stay
open to whoever may import. What users see of the Tasks API itself is the
fifth's to say.
"""

from glance_import.policies import base

_rule = base.rule
_IMPORT = ('POST', '/v2/images/{image_id}/import')

RULES = (
    _rule('get_task', '', 'Read a task. Also asked of whoever imports.',
          ('GET', '/v2/tasks/{task_id}'), _IMPORT),
    _rule('get_tasks', '', 'List tasks.', ('GET', '/v2/tasks')),
    _rule('add_task', '', 'Create a task. Also asked of whoever imports.',
          ('POST', '/v2/tasks'), _IMPORT),
    _rule('modify_task', '', 'Change a task. Asked of whoever imports: the '
          'import changes its task as it goes on.', _IMPORT),
    _rule('tasks_api_access', 'role:admin',
          'Use the Tasks API at all. Importing does not need it.',
          ('GET', '/v2/tasks'), ('GET', '/v2/tasks/{task_id}'),
          ('POST', '/v2/tasks'), ('DELETE', '/v2/tasks/{task_id}')),
)
