"""An image goes from one store to another: a copy, and then a deletion.

Each step looks at what is so, and does what is next, so that whoever is
interrupted begins again with the same call. Touches the database, and asks
the store for the deletion.
"""

from __future__ import annotations

import collections.abc
import typing
import uuid

from glance_import import context
from glance_import.db import images as db_images
from glance_import.db import tasks as db_tasks
from glance_import.domain import images
from glance_import.domain import placement
from glance_import.domain import rejudging
from glance_import.domain import removal
from glance_import import errors
from glance_import.imports import admission
from glance_import.imports import methods
from glance_import import states

if typing.TYPE_CHECKING:
    from glance_import import services


def located(services: services.Services, store_id: str
            ) -> collections.abc.Iterator[str]:
    """Ids of the images that are in a store."""
    for status in (states.ACTIVE, states.DEACTIVATED):
        for image in rejudging.after(services, status, None):
            if store_id in placement.located(services, image):
                yield image.id


class Move:
    """One image from one store to another; ``step`` until it is there."""

    def __init__(self, services: services.Services, image_id: str,
                 source: str, target: str) -> None:
        self._services = services
        self._image_id = image_id
        self._source = source
        self._target = target
        # The copy that was asked for here.
        self._task_id: str | None = None

    def step(self) -> bool:
        """Do what is next; whether the image is moved.

        :raises errors.DomainError: it cannot be, or its copy has failed
        """
        with self._services.db.read() as conn:
            image = db_images.get(conn, self._image_id, db_images.EVERYTHING)
        if image is None:
            raise errors.no_image(self._image_id)
        if images.LOCK in image.properties:
            # Its copy, or another import that ends some time.
            return False
        there = placement.located(self._services, image)
        if self._target in there:
            if self._source in there:
                # A protected image stays one: its data only moves.
                removal.take_out(self._services,
                                 image._replace(protected=False),
                                 self._source)
            return True
        if self._source not in there:
            raise errors.Conflict(
                f'image {image.id} is neither in {self._source} nor in '
                f'{self._target}')
        if self._task_id is not None:
            raise errors.Unavailable(
                f'image {image.id} was not copied to {self._target}: '
                + self._reason())
        self._task_id = self._copy(image)
        return False

    def _reason(self) -> str:
        assert self._task_id is not None
        with self._services.db.read() as conn:
            task = db_tasks.get(conn, self._task_id)
        return (task and task.message) or 'its task does not say why'

    def _copy(self, image: db_images.Image) -> str:
        ctx = context.RequestContext(
            project_id=image.owner, request_id=f'req-{uuid.uuid4()}',
            is_admin=True)
        method = methods.find('copy-image')
        body: dict[str, typing.Any] = {'method': {'name': method.name},
                                       'stores': [self._target]}
        admission.check_importable(self._services, ctx, image, method,
                                   body['method'])
        return admission.request(
            self._services, ctx, image, method, body,
            placement.targets(self._services, image, body, None,
                              copying=True))
