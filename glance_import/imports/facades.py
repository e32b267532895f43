"""What get_flow plugins are given: repositories with nothing dangerous in.

The names and shapes are those that plugins written for Glance expect, see
doc/source/admin/specifying-plugins.rst. Behind them is the domain: saving
writes only what the plugin changed, under the lease of the import, and what a
plugin must not decide - status, locations, digests, owner, the service's own
properties - is refused with the plugin named. No token is handed out:
``context`` is made again from what the task remembers.
"""

from __future__ import annotations

import collections.abc
import contextlib
import copy
import threading
import typing

from glance_import.db import images as db_images
from glance_import.db import leases
from glance_import.db import tasks as db_tasks
from glance_import.domain import images
from glance_import import errors
from glance_import.imports import changes
from glance_import.imports import outcome
from glance_import.imports import runtime

_READABLE = ('status', 'checksum', 'os_hash_algo', 'os_hash_value', 'owner',
             'visibility', 'protected', 'os_hidden', 'created_at',
             'updated_at', 'tags', 'locations')


class Forbidden(outcome.PluginFailed):
    """A plugin tried to change what is not a plugin's to change."""

    code = 'plugin.forbidden'

    def __init__(self, reason: str) -> None:
        super().__init__(None, reason)


class ImageFacade:
    """One image as a plugin sees it: plain attributes and a dictionary.

    Nothing is written before it is saved through its repository.
    """

    def __init__(self, image: db_images.Image) -> None:
        self.image_id = image.id
        self._was = {name: getattr(image, name)
                     for name in (*changes.CHANGEABLE, *_READABLE)}
        self._was_properties = dict(image.properties)
        for name, value in self._was.items():
            setattr(self, name, copy.copy(value))
        self.extra_properties: dict[str, typing.Any] = dict(image.properties)

    def changed(self) -> set[str]:
        """Names of the attributes that are no longer what was loaded."""
        return {name for name, was in self._was.items()
                if getattr(self, name) != was}

    def properties_changed(self) -> tuple[dict[str, typing.Any], set[str]]:
        """(written, removed) custom properties."""
        written = {name: value
                   for name, value in self.extra_properties.items()
                   if name not in self._was_properties
                   or self._was_properties[name] != value}
        removed = set(self._was_properties) - set(self.extra_properties)
        return written, removed


class _Guard:
    """Reads and writes one import's image on behalf of one plugin."""

    def __init__(self, rt: runtime.Runtime, plugin: str) -> None:
        self._rt = rt
        self.plugin = plugin
        self.image_id = rt.job.image_id

    def load(self) -> ImageFacade:
        with self._rt.services.db.read() as conn:
            image = db_images.get(conn, self.image_id,
                                  db_images.Scope(None, True))
        if image is None:
            raise errors.ImageGone()
        return ImageFacade(image)

    def refuse(self, what: str) -> typing.NoReturn:
        raise Forbidden(
            f'the plugin {self.plugin} tried to {what}, which is not a '
            "plugin's to do")

    def save(self, image: ImageFacade) -> None:
        changed = image.changed()
        for name in sorted(changed - set(changes.CHANGEABLE)):
            self.refuse(f'change the image attribute {name!r}')
        written, removed = image.properties_changed()
        for name in sorted({*written, *removed}):
            self._check_property(name)
        changes.write(
            self._rt.services, self._rt.lease, self.image_id,
            base={name: getattr(image, name) for name in changed},
            properties={name: None if value is None else str(value)
                        for name, value in written.items()},
            removed=removed)

    def _check_property(self, name: str) -> None:
        if not isinstance(name, str) or not 0 < len(name) <= 255:
            self.refuse(f'write a property named {name!r}')
        if name.startswith(images.RESERVED_PREFIX):
            self.refuse(f'write the reserved property {name!r}')
        if name in images.READ_ONLY or name in images.RESERVED:
            self.refuse(f'write a property named {name!r}')


class ImageRepo:
    """image_repo: the image of this import, and no other."""

    def __init__(self, guard: _Guard) -> None:
        self._guard = guard

    def get(self, image_id: str) -> ImageFacade:
        """The image; only this import's own can be read."""
        if image_id != self._guard.image_id:
            self._guard.refuse(f'read the image {image_id}')
        return self._guard.load()

    def save(self, image: ImageFacade, from_state: str | None = None) -> None:
        """Write what was changed since ``get``."""
        self._guard.save(image)

    def list(self, *args: typing.Any, **kwargs: typing.Any) -> typing.NoReturn:
        self._guard.refuse('list images')

    def add(self, image: typing.Any) -> typing.NoReturn:
        self._guard.refuse('add an image')

    def remove(self, image: typing.Any) -> typing.NoReturn:
        self._guard.refuse('remove an image')


class ImageFactory:
    """image_factory: there for the name; a plugin makes no images."""

    def __init__(self, guard: _Guard) -> None:
        self._guard = guard

    def new_image(self, **kwargs: typing.Any) -> typing.NoReturn:
        self._guard.refuse('create an image')


class TaskRepo:
    """task_repo: the task of this import, to read."""

    def __init__(self, guard: _Guard, rt: runtime.Runtime) -> None:
        self._guard = guard
        self._rt = rt

    def get(self, task_id: str) -> db_tasks.Task:
        """The task as it is now."""
        if task_id != self._rt.job.id:
            self._guard.refuse(f'read the task {task_id}')
        with self._rt.services.db.read() as conn:
            task = db_tasks.get(conn, task_id)
        if task is None:
            raise errors.ImportFailed('The task of this import is gone.')
        return task

    def save(self, task: typing.Any) -> typing.NoReturn:
        self._guard.refuse('change a task')

    add = remove = save


class Actions:
    """What ``with action_wrapper as action`` gives: a few safe setters."""

    def __init__(self, guard: _Guard, image: ImageFacade) -> None:
        self._guard = guard
        self._image = image

    @property
    def image_id(self) -> str:
        return self._image.image_id

    @property
    def image_size(self) -> int | None:
        return self._image.size  # type: ignore[attr-defined]

    @property
    def image_status(self) -> str:
        return self._image.status  # type: ignore[attr-defined]

    @property
    def image_disk_format(self) -> str | None:
        return self._image.disk_format  # type: ignore[attr-defined]

    @property
    def image_container_format(self) -> str | None:
        return self._image.container_format  # type: ignore[attr-defined]

    @property
    def image_extra_properties(self) -> dict[str, typing.Any]:
        return dict(self._image.extra_properties)

    @property
    def image_locations(self) -> list[typing.Any]:
        return list(self._image.locations)  # type: ignore[attr-defined]

    def set_image_attribute(self, **attributes: typing.Any) -> None:
        """disk_format, container_format, virtual_size and size."""
        for name, value in attributes.items():
            if name not in ('disk_format', 'container_format',
                            'virtual_size', 'size'):
                self._guard.refuse(f'change the image attribute {name!r}')
            setattr(self._image, name, value)

    def set_image_extra_properties(
            self, properties: collections.abc.Mapping[str, typing.Any]
            ) -> None:
        """Merge custom properties; the reserved ones are refused."""
        self._image.extra_properties.update(properties)

    def pop_extra_property(self, name: str) -> None:
        """Remove a custom property; one that is not there is fine."""
        self._image.extra_properties.pop(name, None)

    def _not_for_plugins(self, *args: typing.Any,
                         **kwargs: typing.Any) -> typing.NoReturn:
        self._guard.refuse("change the image's stores or its data")

    set_image_data = remove_location_for_store = _not_for_plugins
    add_importing_stores = remove_importing_stores = _not_for_plugins
    add_failed_stores = remove_failed_stores = _not_for_plugins
    merge_store_list = _not_for_plugins


class ActionWrapper(contextlib.AbstractContextManager):
    """action_wrapper: load at the beginning, save once at the end.

    One object serves every ``with`` of a plugin; each thread has its own.
    """

    def __init__(self, guard: _Guard) -> None:
        self._guard = guard
        self._local = threading.local()

    @property
    def image_id(self) -> str:
        return self._guard.image_id

    def __enter__(self) -> Actions:
        image = self._guard.load()
        self._local.__dict__.setdefault('open', []).append(image)
        return Actions(self._guard, image)

    def __exit__(self, kind: typing.Any, value: typing.Any,
                 trace: typing.Any) -> None:
        image = self._local.open.pop()
        if kind is None:
            self._guard.save(image)

    def assert_task_lock(self) -> None:
        """Whether this import still owns its image.

        :raises errors.LeaseLost: it does not
        """
        with leases.writing(self._guard._rt.services.db,
                            self._guard._rt.lease):
            pass

    def drop_lock_for_task(self) -> typing.NoReturn:
        self._guard.refuse('drop the import lock')


def plugin_arguments(rt: runtime.Runtime, **ids: typing.Any
                     ) -> collections.abc.Callable[
                         [str], dict[str, typing.Any]]:
    """A function from a plugin's name to what its get_flow is called with.

    :param ids: task_id, task_type, image_id, import_req, backend
    """

    def given(plugin: str) -> dict[str, typing.Any]:
        guard = _Guard(rt, plugin)
        return {
            **copy.deepcopy(ids),
            'context': rt.context,
            'image_repo': ImageRepo(guard),
            'image_factory': ImageFactory(guard),
            'task_repo': TaskRepo(guard, rt),
            'action_wrapper': ActionWrapper(guard),
        }

    return given
