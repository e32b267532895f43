"""Notifications: what Glance sends of the same things, to a real RabbitMQ."""

import json
import socket
import threading
import time
import types

import kombu
import pytest

from glance_import import conf as configuration
from glance_import.observe import events
from glance_import.observe import notifications
from tests.observe import scraping
from tests.rabbitmq import rabbitmq  # noqa: F401
from tests import servers
from tests import service as services

DATA = b'data' * 1000
# What Glance's notifier has in each of these.
IMAGE = {'id', 'name', 'status', 'created_at', 'updated_at', 'min_disk',
         'min_ram', 'protected', 'checksum', 'owner', 'disk_format',
         'container_format', 'size', 'virtual_size', 'is_public',
         'visibility', 'properties', 'tags', 'deleted', 'deleted_at'}
LISTS = {'os_glance_importing_to_stores', 'os_glance_failed_import'}
MEMBER = {'image_id', 'member_id', 'status', 'created_at', 'updated_at',
          'deleted', 'deleted_at'}
TASK = {'id', 'type', 'status', 'result', 'owner', 'message', 'expires_at',
        'created_at', 'updated_at', 'deleted', 'deleted_at'}
SEND = {'bytes_sent', 'image_id', 'owner_id', 'receiver_tenant_id',
        'receiver_user_id'}
IMPORT = IMAGE | {'task_id', 'method', 'stores', 'queue_seconds',
                  'run_seconds'}


class Listener:
    """Reads what comes, from before anything is sent."""

    def __init__(self, server):
        self.found = []
        self._connection = kombu.Connection(
            server.transport.replace('rabbit://', 'amqp://'))
        exchange = kombu.Exchange('glance', 'topic', durable=False)
        queues = [kombu.Queue(
            f'notifications.{level}', exchange, durable=False,
            routing_key=f'notifications.{level}')
            for level in ('info', 'error')]
        self._consumer = kombu.Consumer(
            self._connection.channel(), queues, callbacks=[self._take])
        self._consumer.consume()

    def _take(self, body, message):
        message.ack()
        if isinstance(body, (str, bytes)):
            body = json.loads(body)
        self.found.append(json.loads(body['oslo.message']))

    def wait(self, *wanted):
        """The notifications so far, once there is one of each kind."""
        deadline = time.monotonic() + services.DEADLINE
        while not set(wanted) <= {each['event_type'] for each in self.found}:
            assert time.monotonic() < deadline, [
                each['event_type'] for each in self.found]
            try:
                self._connection.drain_events(timeout=1)
            except socket.timeout:
                continue
        return self.of()

    def of(self, kind=None):
        return [each for each in self.found
                if kind in (None, each['event_type'])]


def test_what_is_sent_and_what_a_bus_that_is_away_costs(
        make_service, rabbitmq):  # noqa: F811
    listener, port = Listener(rabbitmq), servers.free_port()
    service = make_service(options={
        'DEFAULT': {'default_publisher_id': 'image.here',
                    'notification_queue_size': 15},
        'oslo_messaging_notifications': {
            'driver': 'messagingv2', 'transport_url': rabbitmq.transport},
        'metrics': {'bind_port': port}}).start()
    lived(service)
    sent = listener.wait('image.delete', 'image.send', 'task.failure',
                         'image.import.success', 'image.import.error')
    assert all(each['publisher_id'] == 'image.here' for each in sent)
    as_glance_has_them(listener)
    found = scraping.until(port, lambda each: each.total(
        'notifications_total', result='sent') >= len(sent))
    assert found.total('notifications_total', result='failed') == 0

    rabbitmq.kill()
    for _ in range(40):
        service.create()
    image_id = service.ask(DATA)
    service.wait_status(image_id, 'active')
    scraping.until(port, lambda each: each.total(
        'notifications_total', result='dropped') > 0)
    text = service.text()
    assert text.count('notifications are dropped') <= 2
    assert rabbitmq.password not in text
    assert service.stop() == 0


def lived(service):
    """All that can become of images, once."""
    image_id = service.create()
    service.stage(image_id, DATA)
    service.start_import(image_id)
    service.wait_status(image_id, 'active')
    service.download(image_id)
    answer = service.request(
        'PATCH', f'/v2/images/{image_id}',
        [{'op': 'replace', 'path': '/name', 'value': 'other'}],
        {'Content-Type':
         'application/openstack-images-v2.1-json-patch'})
    assert answer.status == 200, answer
    members = f'/v2/images/{image_id}/members'
    assert service.request('POST', members, {'member': 'friend'}).status == (
        200)
    assert service.request('DELETE', f'{members}/friend').status == 204
    put = service.create(id='11111111-2222-4333-8444-555555555555')
    assert service.request(
        'PUT', f'/v2/images/{put}/file', DATA,
        {'Content-Type': 'application/octet-stream'}).status == 204
    bad = service.create()
    service.stage(bad, b'QFI\xfb' + bytes(1000))
    service.start_import(bad)
    service.wait_status(bad, 'uploading')
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204


def as_glance_has_them(listener):
    for kind, fields in {
            'image.create': IMAGE, 'image.update': IMAGE,
            'image.prepare': IMAGE | LISTS, 'image.upload': IMAGE | LISTS,
            'image.activate': IMAGE, 'image.delete': IMAGE,
            'image.send': SEND, 'image.member.create': MEMBER,
            'image.member.delete': MEMBER, 'task.create': TASK,
            'task.run': TASK, 'task.processing': TASK,
            'task.success': TASK, 'task.failure': TASK,
            'image.import.start': IMAGE | {'task_id', 'method'},
            'image.import.success': IMPORT,
            'image.import.error': IMPORT | {'code', 'reason', 'plugin'},
    }.items():
        found = listener.of(kind)
        assert found, kind
        for each in found:
            assert set(each['payload']) == fields, (kind, each)
            assert each['priority'] == (
                'ERROR' if kind == 'image.import.error' else 'INFO')
    assert len(listener.of('image.create')) == 3
    uploaded = listener.of('image.activate')
    assert len(uploaded) == len(listener.of('image.upload')) == 2
    assert {each['payload']['status'] for each in uploaded} == {'active'}
    assert {each['payload']['size'] for each in uploaded} == {len(DATA)}
    sent, = listener.of('image.send')
    assert sent['payload']['bytes_sent'] == len(DATA)
    assert sent['payload']['receiver_user_id'] == 'local'
    deleted, = listener.of('image.delete')
    assert deleted['payload']['deleted'] is True
    assert deleted['payload']['deleted_at'].endswith('Z')
    assert deleted['payload']['status'] == 'deleted'
    error, = listener.of('image.import.error')
    assert error['payload']['code'] == 'refused.format'
    assert error['payload']['status'] == 'uploading'
    assert 'file://' not in json.dumps(listener.found)


# -- what is sent, and what not ---------------------------------------------

def configured(tmp_path, **groups):
    service = services.Service(tmp_path, options=groups)
    return configuration.load(['--config-dir', str(service.conf)])


def test_off_by_default(tmp_path):
    assert not notifications.are_on(configured(tmp_path))
    assert not notifications.are_on(configured(
        tmp_path, oslo_messaging_notifications={'driver': 'noop'}))


@pytest.mark.parametrize('options, said', [
    ({'driver': 'pigeon'}, "there is no driver 'pigeon'"),
    ({'driver': 'messagingv2', 'transport_url': 'pigeon://a:secret@b/'},
     'cannot be used')])
def test_what_cannot_be_sent_is_said_at_the_start(make_service, options,
                                                  said):
    service = make_service(options={'oslo_messaging_notifications': options})
    done = service.run('api')
    assert done.returncode == 1
    assert said in done.stderr
    assert 'oslo_messaging_notifications' in done.stderr
    assert 'secret' not in done.stderr + done.stdout


def test_without_oslo_messaging(tmp_path, monkeypatch):
    conf = configured(tmp_path,
                      oslo_messaging_notifications={'driver': 'messagingv2'})
    find = notifications.importlib.util.find_spec
    monkeypatch.setattr(
        notifications.importlib.util, 'find_spec',
        lambda name: None if name == 'oslo_messaging' else find(name))
    with pytest.raises(notifications.Misconfigured,
                       match=r"pip install 'glance-import\[notifications\]'"):
        notifications.check(conf)


class Kept:
    def __init__(self):
        self.sent = []

    def send(self, level, kind, payload):
        self.sent.append(kind)


@pytest.mark.parametrize('disabled, sent', [
    ('', ['task.create', 'image.upload']),
    ('task', ['image.upload']),
    ('image.upload', ['task.create']),
    ('image, task.create', [])])
def test_disabled_notifications(tmp_path, disabled, sent):
    conf = configured(tmp_path, DEFAULT={'disabled_notifications': disabled})
    kept = Kept()
    listeners = notifications.Notifier(conf, kept).listeners()
    moment = notifications.timeutils.utcnow()
    task = types.SimpleNamespace(
        id='1', type='x', status='pending', owner='p', expires_at=None,
        created_at=moment, updated_at=moment)
    listeners[events.ImportAccepted](events.ImportAccepted('1', task))
    listeners[events.ImageChanged](
        events.ImageChanged('upload', None, 'Cannot save data: no room'))
    assert kept.sent == sent


def test_a_bus_that_hangs_keeps_nobody_waiting(tmp_path, monkeypatch):
    """Nor does it keep the process from ending."""
    conf = configured(tmp_path, DEFAULT={'notification_queue_size': 2})
    told, hang = [], threading.Event()

    class Hanging:
        def info(self, *_given):
            hang.wait(60)

    sender = notifications.Sender(conf, lambda event: told.append(
        event.result))
    monkeypatch.setattr(sender, '_notifier', Hanging)
    monkeypatch.setattr(notifications, 'PATIENCE', 0.1)
    for _ in range(10):
        sender.send('info', 'image.create', {})
    # One is being sent, or not taken yet, and two wait.
    assert told.count('dropped') >= 7
    sender.close()
    hang.set()
    services.wait_for(lambda: 'sent' in told)
