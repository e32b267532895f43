"""Progress of an import that copies, as users read it."""

import os
import re
import subprocess

import pytest

from tests import service as services

# Much enough that the copy cannot be over before it is told of.
SIZE = 1 << 30


def test_copy_to_another_filesystem(make_service):
    service = make_service()
    service.images.mkdir()
    done = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=1100M,mode=0700', 'tmpfs',
         service.images], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f'cannot mount another filesystem: {done.stderr}')
    try:
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
    finally:
        service.kill()
        subprocess.run(['umount', '-l', service.images], check=True)
