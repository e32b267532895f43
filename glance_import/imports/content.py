"""The step that looks at the bytes once more, before any store has them."""

from __future__ import annotations

from glance_import.imports import life
from glance_import.imports import steps
from glance_import.stores import base as stores

_SCHEME = 'file://'


class CheckContent(steps.Step):
    """The bytes are what the image is declared to be, and safe."""

    label = 'CheckContent'
    default_provides = 'virtual_size'

    def execute(self, file_path: str) -> int | None:
        size = life.check_content(
            self.rt.services, self.image_id,
            file_path.removeprefix(_SCHEME), self.rt.stopped.is_set)
        if self.rt.stopped.is_set():
            raise stores.Cancelled('the import was stopped')
        return size
