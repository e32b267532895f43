"""inject_image_metadata: properties of the operator's on each image.

[inject_metadata_properties] says which, and whose imports are left alone: it
goes by the roles of who asked for the import, not of who owns the image.
"""

from oslo_log import log
from taskflow.patterns import linear_flow
from taskflow import task

from glance_import.domain import images
from glance_import.imports import runtime

LOG = log.getLogger(__name__)


class _InjectMetadataProperties(task.Task):

    def __init__(self, options, context, action_wrapper, task_id, task_type):
        self.options = options
        self.roles = {role.lower() for role in context.roles}
        self.action_wrapper = action_wrapper
        super().__init__(
            name=f'{task_type}-InjectMetadataProperties-{task_id}')

    def execute(self):
        ignored = {role.lower() for role in self.options.ignore_user_roles}
        if self.roles & ignored:
            LOG.debug('no metadata is injected for a user with the role %s',
                      ', '.join(sorted(self.roles & ignored)))
            return
        wanted = {}
        for name, value in self.options.inject.items():
            if name.startswith(images.RESERVED_PREFIX) or name in (
                    images.READ_ONLY | images.RESERVED):
                LOG.warning('inject: %s is a name of the service and is left '
                            'out', name)
            else:
                wanted[name] = value
        with self.action_wrapper as action:
            action.set_image_extra_properties(wanted)


def get_flow(**kwargs):
    """A flow of one task.

    :param context: who asked for the import
    :param action_wrapper: how the image is changed
    """
    task_id = kwargs.get('task_id')
    conf = runtime.current().services.conf
    return linear_flow.Flow(f'inject_image_metadata-{task_id}').add(
        _InjectMetadataProperties(
            conf.inject_metadata_properties, kwargs.get('context'),
            kwargs.get('action_wrapper'), task_id, kwargs.get('task_type')))
