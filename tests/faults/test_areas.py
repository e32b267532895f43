"""Staging areas: shared by nodes, or one a node."""

import os
import signal
import time

from tests import service as services

DATA = os.urandom(300_000)


def owner(made):
    found = made.execute('SELECT conductor FROM import_jobs '
                         'WHERE owner IS NOT NULL')
    return int(found[0][0].split(':')[1]) if found else None


def test_shared_staging(deploy):
    """Staged at one, begun there, finished by the other."""
    made = deploy(slow=0.6)
    made.kill_two(signal.SIGTERM)
    image_id = made.ask(DATA)
    services.wait_for(lambda: owner(made))
    services.wait_for(made.seen.exists)
    made.start_two()
    made.api.kill()
    services.wait_for(lambda: owner(made) == made.conductor.pid)
    services.wait_for(lambda: made.execute(
        'SELECT status FROM images') == [('active',)])
    made.api.start()
    assert made.api.download(image_id) == DATA
    # Not begun again by the other: the first step had been recorded, or was
    # the one that the kill interrupted.
    lines = made.seen.read_text().split('\n')[:-1]
    assert lines.count(f'{image_id} late') == 1


def test_a_staging_directory_for_each_node(deploy):
    """Only who holds the bytes imports them; the other's API still helps."""
    made = deploy(slow=0.6, shared=False)
    first, second = made.ask(DATA), made.ask(DATA[::-1])
    services.wait_for(lambda: owner(made))
    made.api.kill()
    # The other node is alive, and long past the claim still leaves them be.
    time.sleep(3)
    assert dict(made.execute('SELECT id, status FROM images')) == {
        first: 'importing', second: 'importing'}
    other = made.nodes[1]
    other.options['taskflow_executor']['embedded_conductor'] = False
    other.configure()
    other.start()
    try:
        assert other.request(
            'DELETE', f'/v2/images/{second}/import').status == 202
        third = other.create()
        assert other.stage(third, DATA).status == 204
        assert other.start_import(third).status == 202
        other.wait_status(third, 'active')
        assert other.show(first)['status'] == 'importing'
    finally:
        other.stop()
    made.api.start()
    made.api.wait_status(first, 'active')
    assert made.api.download(first) == DATA
    image = made.api.wait_status(second, 'uploading')
    assert image['os_glance_import_error'] == 'the import was cancelled'
    # Accepted by a node that has not the bytes.
    other.start()
    assert other.start_import(second).status == 202
    other.wait_status(second, 'active')
    other.stop()
    assert made.api.download(second) == DATA[::-1]
