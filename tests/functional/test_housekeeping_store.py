"""What housekeeping removes from the store, and what it must not."""

import os
import uuid

from glance_import import conf as configuration
from glance_import import housekeeping
from glance_import import startup

DATA = os.urandom(50_000)


def test_strays(make_service):
    service = make_service(options={
        'taskflow_executor': {'embedded_conductor': False}}).start()
    active, waiting, failed = (service.create() for _ in range(3))
    for image_id in (active, waiting):
        service.stage(image_id, DATA)
    service.start_import(waiting)
    answer = service.request(
        'PUT', f'/v2/images/{failed}/file', DATA,
        {'Content-Type': 'application/octet-stream'})
    assert answer.status == 204
    recorded = set(service.stored())
    unknown = str(uuid.uuid4())
    gone = {f'{failed}.7', f'.{failed}.3.part', f'{active}.2'}
    kept = {f'{waiting}.1', f'.{waiting}.1.part', f'{unknown}.4',
            f'.{unknown}.4.part', f'{waiting}', 'notes.txt', f'{failed}.x',
            f'.{active}.probe'}
    young = {f'{failed}.9'}
    for name in gone | kept | young:
        path = service.images / name
        path.write_bytes(b'x')
        if name not in young:
            os.utime(path, (1, 1))
    box = startup.open_all(
        configuration.load(['--config-dir', str(service.conf)]),
        accepting=False)
    housekeeping.clean(box)
    box.close()
    assert set(service.stored()) == recorded | kept | young
