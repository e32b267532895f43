"""Notifications of what happens to images, sent through oslo.messaging.

Their names and payloads are Glance's (its notifier, release 2024.1 and
later); those of imports, ``image.import.*``, are this service's own. A thread
of each process sends them from a bounded queue: nobody waits for the bus.
oslo.messaging is imported when a driver is configured. Touches the bus.
"""

from __future__ import annotations

import collections.abc
import contextlib
import datetime
import importlib.util
import os
import queue
import threading
import time
import typing

from oslo_config import cfg
from oslo_log import log
from oslo_utils import timeutils

from glance_import import conf as configuration
from glance_import.observe import events
from glance_import import states

LOG = log.getLogger(__name__)
GROUP = 'oslo_messaging_notifications'
DRIVERS = 'oslo.messaging.notify.drivers'
# Seconds that the end of a process waits for what is still to be sent.
PATIENCE = 2.0

Payload = dict[str, typing.Any]


class Misconfigured(Exception):
    """Notifications cannot be sent as configured; one line.

    :ivar option: at fault, in ``group``
    """

    def __init__(self, option: str, group: str | None, reason: str) -> None:
        super().__init__(reason)
        self.option = option
        self.group = group


def drivers(conf: cfg.ConfigOpts) -> list[str]:
    """What the files name, whether oslo.messaging is there or not."""
    said = configuration.sections(conf).get(GROUP, {})
    return [each for each in said.get('driver', ()) if each]


def are_on(conf: cfg.ConfigOpts) -> bool:
    """Whether any notification is to be sent."""
    return any(each != 'noop' for each in drivers(conf))


def check(conf: cfg.ConfigOpts) -> None:
    """:raises Misconfigured: they are wanted, and cannot be sent like that
    """
    if not are_on(conf):
        return
    if importlib.util.find_spec('oslo_messaging') is None:
        raise Misconfigured(
            'driver', GROUP, 'needs the Python module oslo_messaging; try: '
            "pip install 'glance-import[notifications]'")
    from stevedore import extension

    known = extension.ExtensionManager(DRIVERS).names()
    for each in drivers(conf):
        if each not in known:
            raise Misconfigured(
                'driver', GROUP, f"there is no driver '{each}'; those of "
                f'oslo.messaging are {", ".join(sorted(known))}')
    try:
        _transport(conf)
    except Exception as failure:
        # Its text may hold the URL, with a password in it.
        raise Misconfigured(
            'transport_url', GROUP, 'cannot be used: '
            f'{type(failure).__name__}') from failure


def _transport(conf: cfg.ConfigOpts) -> typing.Any:
    import oslo_messaging

    oslo_messaging.set_transport_defaults('glance')
    return oslo_messaging.get_notification_transport(conf)


class Sender:
    """Sends in a thread of its own; it may be carried over a fork.

    :param tell: told of each notification what became of it
    """

    def __init__(self, conf: cfg.ConfigOpts,
                 tell: collections.abc.Callable[
                     [events.NotificationEnded], None]) -> None:
        self._conf = conf
        self._tell = tell
        self._forked()
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._queue: queue.Queue = queue.Queue(
            self._conf.notification_queue_size)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._dropped = 0

    def send(self, level: str, kind: str, payload: typing.Any) -> None:
        """Have it sent, or drop it when too many wait.

        :param level: ``info`` or ``error``
        """
        if self._thread is None:
            self._start()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait((level, kind, payload))
            return
        self._drop()

    def close(self) -> None:
        """Wait a little for what is to be sent; then it is lost."""
        thread = self._thread
        if thread is None:
            return
        deadline = time.monotonic() + PATIENCE
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=PATIENCE)
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            LOG.warning('about %d notifications are lost: the message bus '
                        'does not take them', self._queue.qsize())

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, daemon=True, name='notifications')
                self._thread.start()

    def _drop(self) -> None:
        self._tell(events.NotificationEnded('dropped'))
        with self._lock:
            self._dropped += 1
            first = self._dropped == 1
        if first:
            LOG.warning('notifications are dropped: %d wait for the message '
                        'bus (notification_queue_size)',
                        self._queue.maxsize)

    def _run(self) -> None:
        notifier: typing.Any = None
        while (item := self._queue.get()) is not None:
            level, kind, payload = item
            try:
                if notifier is None:
                    notifier = self._notifier()
                getattr(notifier, level)({}, kind, payload)
                self._tell(events.NotificationEnded('sent'))
            except Exception as failure:
                self._tell(events.NotificationEnded('failed'))
                LOG.warning('a notification is not sent: %s: %s', kind,
                            type(failure).__name__)
            self._note_room()

    def _notifier(self) -> typing.Any:
        import oslo_messaging

        return oslo_messaging.Notifier(
            _transport(self._conf),
            publisher_id=self._conf.default_publisher_id)

    def _note_room(self) -> None:
        if not self._dropped or self._queue.qsize() > (
                self._queue.maxsize // 2):
            return
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        LOG.info('notifications are sent again; %d were dropped', dropped)


class Notifier:
    """What notifications each event is, and what they hold."""

    def __init__(self, conf: cfg.ConfigOpts, sender: Sender) -> None:
        self._disabled = frozenset(conf.disabled_notifications)
        self._sender = sender

    def listeners(self) -> dict[type, collections.abc.Callable]:
        """For the channel."""
        return {events.ImageChanged: self._image,
                events.MemberChanged: self._member,
                events.DataSent: self._sent,
                events.ImportAccepted: self._accepted,
                events.ImportBegun: self._begun,
                events.ImportEnded: self._ended}

    def _send(self, kind: str, payload: typing.Any,
              level: str = 'info') -> None:
        if kind in self._disabled or kind.split('.', 1)[0] in self._disabled:
            return
        self._sender.send(level, kind, payload)

    def _image(self, event: events.ImageChanged) -> None:
        if event.trouble is not None:
            # As Glance has it: a sentence alone.
            self._send('image.upload', event.trouble, 'error')
            return
        more: Payload = {}
        if event.what == 'delete':
            more = {'status': states.DELETED, **_deleted()}
        elif event.what in ('prepare', 'upload'):
            more = _stores(event.image)
        self._send(f'image.{event.what}', {**image(event.image), **more})

    def _member(self, event: events.MemberChanged) -> None:
        found = event.member
        payload = {
            'image_id': found.image_id, 'member_id': found.member,
            'status': found.status, 'created_at': _time(found.created_at),
            'updated_at': _time(found.updated_at), 'deleted': False,
            'deleted_at': None}
        if event.what == 'delete':
            payload |= _deleted()
        self._send(f'image.member.{event.what}', payload)

    def _sent(self, event: events.DataSent) -> None:
        self._send('image.send', {
            'bytes_sent': event.size, 'image_id': event.image.id,
            'owner_id': event.image.owner,
            'receiver_tenant_id': event.project,
            'receiver_user_id': event.user_id,
        }, 'info' if event.size == event.expected else 'error')

    def _accepted(self, event: events.ImportAccepted) -> None:
        if event.task is not None:
            self._send('task.create', task(event.task))

    def _begun(self, event: events.ImportBegun) -> None:
        if event.task is not None:
            self._send('task.run', task(event.task))
            self._send('task.processing', task(event.task))
        if event.image is not None:
            self._send('image.prepare', {**image(event.image),
                                         **_stores(event.image)})
            self._send('image.import.start', {
                **image(event.image), 'task_id': event.job_id,
                'method': event.method})

    def _ended(self, event: events.ImportEnded) -> None:
        failed = event.code is not None
        if event.task is not None:
            self._send('task.failure' if failed else 'task.success',
                       task(event.task))
        if event.image is None:
            return
        payload = {
            **image(event.image), 'task_id': event.job_id,
            'method': event.method, 'stores': sorted(event.stores),
            'queue_seconds': event.waited, 'run_seconds': event.running}
        if failed:
            self._send('image.import.error', {
                **payload, 'code': event.code, 'reason': event.reason,
                'plugin': event.said_by}, 'error')
            return
        if event.stores:
            self._send('image.upload', {**image(event.image),
                                        **_stores(event.image)})
        if event.activated:
            self._send('image.activate', image(event.image))
        self._send('image.import.success', payload)


def image(found: typing.Any) -> Payload:
    """An image; never where its data is, which may hold credentials."""
    return {
        'id': found.id, 'name': found.name, 'status': found.status,
        'created_at': _time(found.created_at),
        'updated_at': _time(found.updated_at),
        'min_disk': found.min_disk, 'min_ram': found.min_ram,
        'protected': bool(found.protected), 'checksum': found.checksum,
        'owner': found.owner, 'disk_format': found.disk_format,
        'container_format': found.container_format, 'size': found.size,
        'virtual_size': found.virtual_size,
        'is_public': found.visibility == 'public',
        'visibility': found.visibility,
        'properties': dict(found.properties), 'tags': list(found.tags),
        'deleted': False, 'deleted_at': None}


def task(found: typing.Any) -> Payload:
    """A task; its input, result and message are nobody's but the user's."""
    return {
        'id': found.id, 'type': found.type, 'status': found.status,
        'result': None, 'owner': found.owner, 'message': None,
        'expires_at': _time(found.expires_at),
        'created_at': _time(found.created_at),
        'updated_at': _time(found.updated_at),
        'deleted': False, 'deleted_at': None}


def _stores(found: typing.Any) -> Payload:
    """The two lists that an image has while it goes to stores."""
    return {name: [each for each in (found.properties.get(name) or ''
                                     ).split(',') if each]
            for name in ('os_glance_importing_to_stores',
                         'os_glance_failed_import')}


def _deleted() -> Payload:
    return {'deleted': True, 'deleted_at': _time(timeutils.utcnow())}


def _time(moment: datetime.datetime | None) -> str | None:
    """As Glance writes it: UTC, whole seconds, with a Z."""
    return moment.strftime('%Y-%m-%dT%H:%M:%SZ') if moment else None
