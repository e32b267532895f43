"""Records as JSON, in the shapes of the Image API v2."""

from __future__ import annotations

import datetime
import operator
import typing

from glance_import.domain import images
from glance_import.domain import members
from glance_import.domain import tasks
from glance_import import states

_DIRECT = ('id', 'name', 'status', 'visibility', 'owner', 'disk_format',
           'container_format', 'size', 'virtual_size', 'checksum',
           'os_hash_algo', 'os_hash_value', 'min_disk', 'min_ram',
           'protected', 'os_hidden')
_direct = operator.attrgetter(*_DIRECT)


def when(moment: datetime.datetime | None) -> str | None:
    """UTC with a Z, to the second."""
    if moment is None:
        return None
    return moment.isoformat(timespec='seconds') + 'Z'


def image(record: images.Image,
          properties: dict[str, str | None] | None = None
          ) -> dict[str, typing.Any]:
    """One image. A custom property without a value is an empty string.

    ``properties`` are those the reader may see, all of them if not given.
    """
    if properties is None:
        properties = record.properties
    view: dict[str, typing.Any] = {
        name: value or '' for name, value in properties.items()
        if name not in images.HIDDEN}
    view.update(zip(_DIRECT, _direct(record)))
    path = f'/v2/images/{record.id}'
    view |= {
        'tags': list(record.tags),
        'created_at': when(record.created_at),
        'updated_at': when(record.updated_at),
        'self': path,
        'file': f'{path}/file',
        'schema': '/v2/schemas/image',
    }
    return view


def places(record: images.Image, *, direct: bool, every: bool
           ) -> dict[str, typing.Any]:
    """Where stores have the data, for those who may know."""
    active = [location for location in record.locations
              if location.status == states.ACTIVE]
    view: dict[str, typing.Any] = {}
    if direct and active:
        view['direct_url'] = images.public_url(active[0])
    if every:
        view['locations'] = [place(location) for location in active]
    return view


def place(location: images.Location) -> dict[str, typing.Any]:
    """Where data is, without what a store or web server lets somebody in by.
    """
    return {'url': images.public_url(location), 'metadata': location.metadata}


def member(record: members.Member) -> dict[str, typing.Any]:
    """One project that an image is shared with."""
    return {
        'member_id': record.member, 'image_id': record.image_id,
        'status': record.status, 'created_at': when(record.created_at),
        'updated_at': when(record.updated_at),
        'schema': '/v2/schemas/member',
    }


def task_stub(record: tasks.Task) -> dict[str, typing.Any]:
    """A task in a list."""
    view = {
        'id': record.id, 'type': record.type, 'status': record.status,
        'owner': record.owner, 'created_at': when(record.created_at),
        'updated_at': when(record.updated_at),
        'self': f'/v2/tasks/{record.id}', 'schema': '/v2/schemas/task',
    }
    if record.expires_at is not None:
        view['expires_at'] = when(record.expires_at)
    return view


def progress(found: tasks.Progress) -> dict[str, typing.Any]:
    """How far an import is; unknown numbers are null.

    ``retries`` and ``trouble`` are there while a step meets a fault that may
    pass and is tried again.
    """
    done, total = found.bytes_done, found.bytes_total
    fraction = estimated = None
    if done is not None and total:
        fraction = round(done / total, 4)
        if done:
            seconds = (found.now - found.started_at) * total / done
            estimated = _moment(found.started_at + seconds)
    view = {'fraction': fraction, 'bytes_done': done, 'bytes_total': total,
            'step': found.step, 'started_at': _moment(found.started_at),
            'estimated_end': estimated}
    if found.retries:
        view |= {'retries': found.retries, 'trouble': found.message}
    return view


def _moment(seconds: float) -> str | None:
    return when(datetime.datetime.fromtimestamp(
        seconds, datetime.UTC).replace(tzinfo=None))


def task(record: tasks.Task, running: tasks.Progress | None = None
         ) -> dict[str, typing.Any]:
    """One task in full; also each row of an image's tasks."""
    view = task_stub(record) | {
        'input': record.input, 'result': record.result,
        'message': record.message}
    for name in ('image_id', 'request_id', 'user_id'):
        if getattr(record, name) is not None:
            view[name] = getattr(record, name)
    if running is not None:
        view['progress'] = progress(running)
    return view
