"""The plugin that does nothing: an example to copy.

A get_flow plugin is a module with a function ``get_flow`` that returns a
taskflow task inside a linear flow. Names of tasks must be unique in the whole
import, so they hold the task id.
"""

from oslo_log import log
from taskflow.patterns import linear_flow
from taskflow import task

LOG = log.getLogger(__name__)


class _NoOp(task.Task):

    def __init__(self, task_id, task_type):
        self.task_id = task_id
        super().__init__(name=f'{task_type}-NoOp-{task_id}')

    def execute(self, **kwargs):
        LOG.debug('No_op plugin: nothing to do for task %s', self.task_id)

    def revert(self, result, **kwargs):
        LOG.debug('No_op plugin: nothing to undo for task %s', self.task_id)


def get_flow(**kwargs):
    """A flow of one task that changes nothing.

    :param task_id: id of the import's task
    :param task_type: type of the import's task
    """
    task_id = kwargs.get('task_id')
    task_type = kwargs.get('task_type')
    return linear_flow.Flow(f'no_op-{task_id}').add(
        _NoOp(task_id, task_type))
