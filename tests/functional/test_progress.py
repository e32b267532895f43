"""Progress of an import that copies, as users read it."""

import os
import re

from tests import mounts
from tests import service as services

# Much enough that the copy cannot be over before it is told of.
SIZE = 1 << 30


def test_copy_to_another_filesystem(make_service):
    service = make_service()
    with mounts.memory(service.images, '1100M'):
        service.start()
        image_id = service.create()
        block = os.urandom(1 << 20)
        assert service.stage(image_id, chunks=(
            block for _ in range(SIZE >> 20))).status == 204
        assert service.start_import(image_id).status == 202
        seen = []

        def ended():
            task, = service.tasks(image_id)
            if 'progress' in task:
                seen.append(task['progress'])
            return task if task['status'] != 'pending' and (
                task['status'] != 'processing') else None
        task = services.wait_for(ended)
        assert task['status'] == 'success'
        assert 'progress' not in task
        told = [each for each in seen if each['step'] == 'ImportToStore']
        assert told
        fractions = [each['fraction'] for each in told]
        assert fractions == sorted(fractions)
        for each in told:
            assert set(each) == {'fraction', 'bytes_done', 'bytes_total',
                                 'step', 'started_at', 'estimated_end'}
            assert each['bytes_total'] == SIZE
            assert each['bytes_done'] <= SIZE
            assert re.match(r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$',
                            each['started_at'])
