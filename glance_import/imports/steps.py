"""What every step of ours has: its runtime, its image, Glance's names."""

from __future__ import annotations

import typing

from taskflow import task

from glance_import.imports import runtime


class Step(task.Task):
    """A step of ours, named as Glance names them."""

    label = ''
    # Whether it costs so much that its result is written at once, and not
    # with the next one: see persistence.Record.
    kept = False

    def __init__(self, rt: runtime.Runtime, task_id: str, task_type: str,
                 image_id: str, **kwargs: typing.Any) -> None:
        self.rt = rt
        self.image_id = image_id
        super().__init__(name=f'{task_type}-{self.label}-{task_id}',
                         **kwargs)
