"""Tasks of the type import: the older way of importing from a URL.

The task makes an image and has it fetched by web-download, with its rules,
its limits and the site's plugins. What is wrong with the request is said at
once.
"""

from __future__ import annotations

import typing

from glance_import import context
from glance_import.db import engine
from glance_import.db import tasks as db_tasks
from glance_import.domain import images
from glance_import.domain import telling
from glance_import import errors
from glance_import.imports import admission
from glance_import.imports import methods

if typing.TYPE_CHECKING:
    from glance_import import services

TASK_TYPE = 'import'
METHOD = 'web-download'
_NEEDED = (('import_from', str), ('import_from_format', str),
           ('image_properties', dict))


def image_wanted(services: services.Services, given: dict[str, typing.Any]
                 ) -> dict[str, typing.Any]:
    """The image that the input of a task asks for.

    :raises errors.Invalid: the input is not one to work with
    """
    if METHOD not in services.methods:
        raise errors.Invalid(
            'Tasks of the type import cannot be created here: the import '
            f'method {METHOD} is not enabled.')
    for name, kind in _NEEDED:
        if not isinstance(given.get(name), kind) or not given[name] and (
                kind is str):
            raise errors.Invalid(
                f"The input of an import task needs '{name}', "
                f"{'a string' if kind is str else 'an object'}.")
    wanted = dict(given['image_properties'])
    found = given['import_from_format']
    if wanted.setdefault('disk_format', found) != found:
        raise errors.Invalid(
            f"'import_from_format' is {found[:20]}, but the disk_format in "
            "'image_properties' is another one; to convert images is up to "
            'the operator (the plugin image_conversion).')
    wanted.setdefault('container_format', 'bare')
    return wanted


def request(services: services.Services, ctx: context.RequestContext,
            given: dict[str, typing.Any], wanted: dict[str, typing.Any]
            ) -> db_tasks.Task:
    """Make the image and commit its import; the task.

    :raises errors.DomainError: why there is neither
    """
    method = methods.find(METHOD)
    asked = {'name': METHOD, 'uri': given['import_from']}
    image = images.create(services, ctx, wanted)
    try:
        admission.check_importable(services, ctx, image, method, asked)
        judged_by = services.judged_by(plugins=method.plugins)

        @engine.retried
        def commit() -> db_tasks.Task | None:
            with services.db.write() as conn:
                return db_tasks.get(conn, admission.post(
                    services, conn, ctx, image.id, method, {'method': asked},
                    task_type=TASK_TYPE, judged_by=judged_by, task_input={
                        name: given[name] for name, _kind in _NEEDED}))
        task = commit()
    except BaseException:
        # Asked for as protected or not: it was never anybody's.
        images.delete(services, image._replace(protected=False))
        raise
    services.wake()
    assert task is not None
    telling.accepted(services, task.id)
    return task
