"""Notes the size of the staged data as a property of the image."""

import os

from taskflow.patterns import linear_flow
from taskflow import task


class NoteSize(task.Task):

    def __init__(self, task_id, task_type, action_wrapper):
        # The name of an atom must be unique in the whole import.
        super().__init__(name=f'{task_type}-FredMertz-{task_id}')
        self.action_wrapper = action_wrapper

    def execute(self, file_path):
        path = file_path.removeprefix('file://')
        with self.action_wrapper as action:
            action.set_image_extra_properties(
                {'fred_mertz_size': str(os.path.getsize(path))})

    def revert(self, result, **kwargs):
        """Undo what execute did, when a later step fails: nothing here."""


def get_flow(**kwargs):
    return linear_flow.Flow('fred_mertz').add(
        NoteSize(kwargs['task_id'], kwargs['task_type'],
                 kwargs['action_wrapper']))
