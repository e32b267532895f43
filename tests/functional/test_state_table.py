"""Every (state, request) pair has one expected answer: a table, walked.

A conductor runs only where a state needs one, so ``importing`` stays.
"""

import contextlib
import uuid

import pytest

from glance_import import conf as configuration
from glance_import.db import engine
from glance_import.db import images as db_images
from glance_import import states
from tests import service as services

DATA = b'some image data' * 1000
FAILING = '''
from taskflow.patterns import linear_flow
from taskflow import task


class _Fail(task.Task):
    def execute(self):
        raise RuntimeError('not this one')


def get_flow(task_id, **kwargs):
    return linear_flow.Flow('failing').add(_Fail(f'failing-{task_id}'))
'''


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    top = tmp_path_factory.mktemp('states')
    plugins = services.write_distribution(
        top / 'plugins', 'failing', {'failing': FAILING},
        {'glance.image_import.plugins': {'failing': 'failing:get_flow'}})
    running = services.Service(
        top, path=[plugins],
        options={'taskflow_executor': {'embedded_conductor': False}})
    running.plugins = plugins
    running.start()
    yield running
    running.kill()


@contextlib.contextmanager
def conductor(service):
    """A conductor on its own, beside the API, for a while."""
    process = service.spawn('conductor')
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0


def absent(service):
    return str(uuid.uuid4())


def queued(service):
    return service.create()


def cut(service):
    """Uploading, but the client went away in the middle."""
    image_id = service.create()
    with service.stage_by_hand(image_id, len(DATA)) as sock:
        sock.sendall(DATA[:100])
        services.wait_for(lambda: service.staged().count(f'{image_id}.part'))
    services.wait_for(lambda: f'cut {image_id}' in service.text()
                      or not _live(service, image_id))
    return image_id


def _live(service, image_id):
    """Whether the part file is locked by somebody."""
    import fcntl
    with open(service.staging / f'{image_id}.part') as part:
        try:
            fcntl.flock(part, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


_held = []


def live(service):
    """Uploading at this moment: the connection stays open."""
    image_id = service.create()
    sock = service.stage_by_hand(image_id, len(DATA))
    sock.sendall(DATA[:100])
    services.wait_for(
        lambda: service.show(image_id)['status'] == 'uploading')
    _held.append(sock)
    return image_id


def staged(service):
    image_id = service.create()
    assert service.stage(image_id, DATA).status == 204
    return image_id


def unformatted(service):
    image_id = service.create(disk_format=None, container_format=None)
    assert service.stage(image_id, DATA).status == 204
    return image_id


def importing(service):
    image_id = staged(service)
    assert service.start_import(image_id).status == 202
    return image_id


def returned(service):
    """An import failed; the bytes are intact."""
    image_id = importing(service)
    service.execute(
        "UPDATE import_jobs SET plugins = '[\"failing\"]', snapshot = ? "
        'WHERE image_id = ?', services.judged_by(
            ['failing'], service.plugins).text, image_id)
    with conductor(service):
        image = service.wait_status(image_id, 'uploading', 'active')
    assert image['status'] == 'uploading'
    return image_id


def active(service):
    image_id = importing(service)
    with conductor(service):
        service.wait_status(image_id, 'active')
    return image_id


def protected(service):
    return service.create(protected=True)


def _forced(service, status):
    """States that only a Glance beside us leaves an image in."""
    image_id = service.create()
    service.execute('UPDATE images SET status = ? WHERE id = ?',
                    status, image_id)
    return image_id


def saving(service):
    return _forced(service, 'saving')


def killed(service):
    return _forced(service, 'killed')


def gone_soon(service):
    return _forced(service, 'pending_delete')


def deleted(service):
    image_id = service.create()
    service.request('DELETE', f'/v2/images/{image_id}')
    return image_id


def deactivated(service):
    image_id = active(service)
    assert service.request('POST', f'/v2/images/{image_id}/actions/'
                           'deactivate').status == 204
    return image_id


REQUESTS = {
    'stage': lambda s, i: s.stage(i, DATA),
    'import': lambda s, i: s.start_import(i),
    'show': lambda s, i: s.request('GET', f'/v2/images/{i}'),
    'file': lambda s, i: s.request('GET', f'/v2/images/{i}/file'),
    'tasks': lambda s, i: s.request('GET', f'/v2/images/{i}/tasks'),
    'delete': lambda s, i: s.request('DELETE', f'/v2/images/{i}'),
}

# For each request the status and, behind it, the image's state afterwards
# (None: no record can be read).
TABLE = {
    #                   stage               import              file  delete
    absent:            ((404, None),        (404, None),        404, 404),
    deleted:           ((404, None),        (404, None),        404, 404),
    queued:            ((204, 'uploading'), (409, 'queued'),    204, 204),
    cut:               ((204, 'uploading'), (409, 'uploading'), 204, 204),
    live:              ((409, 'uploading'), (409, 'uploading'), 204, 204),
    staged:            ((409, 'uploading'), (202, 'importing'), 204, 204),
    unformatted:       ((409, 'uploading'), (409, 'uploading'), 204, 204),
    returned:          ((204, 'uploading'), (202, 'importing'), 204, 204),
    importing:         ((409, 'importing'), (409, 'importing'), 204, 204),
    active:            ((409, 'active'),    (409, 'active'),    200, 204),
    deactivated:       ((409, 'deactivated'), (409, 'deactivated'),
                        200, 204),
    protected:         ((204, 'uploading'), (409, 'queued'),    204, 403),
    saving:            ((409, 'saving'),    (409, 'saving'),    204, 204),
    killed:            ((409, 'killed'),    (409, 'killed'),    204, 204),
    gone_soon:         ((409, 'pending_delete'), (409, 'pending_delete'),
                        204, 204),
}


def _cases():
    for name, (make, (stage, start, data, delete)) in zip(
            (make.__name__ for make in TABLE), TABLE.items()):
        rest = None if make in (absent, deleted) else 'same'
        read = 404 if rest is None else 200
        for request, wanted in (
                ('stage', stage), ('import', start), ('show', (read, rest)),
                ('file', (data, rest)), ('tasks', (read, rest)),
                ('delete', (delete,
                            None if delete in (204, 404) else rest))):
            yield pytest.param(make, request, *wanted,
                               id=f'{name}-{request}')


@pytest.mark.parametrize('make, request_name, status, after',
                         list(_cases()))
def test_table(service, make, request_name, status, after):
    image_id = make(service)
    before = service.request('GET', f'/v2/images/{image_id}')
    answer = REQUESTS[request_name](service, image_id)
    assert answer.status == status, answer
    found = service.request('GET', f'/v2/images/{image_id}')
    if after is None:
        assert found.status == 404
        assert not [name for name in service.staged()
                    if name.startswith(image_id)]
    elif after == 'same':
        assert found.json['status'] == before.json['status']
    else:
        assert found.json['status'] == after
    if status >= 400:
        # An answer a user can act on: it names the image or what is wrong.
        assert len(answer.json['message']) > 40, answer
        assert answer.json['code'].startswith(str(status))
    while _held:
        _held.pop().close()


def test_incomplete_upload_tells_both_numbers(service):
    image_id = cut(service)
    answer = service.start_import(image_id)
    assert answer.status == 409
    assert '100 of 15000 bytes' in answer.message


def test_a_move_that_the_table_does_not_have(service):
    """Nobody can make it, whatever the image's status is."""
    image_id = active(service)
    database = engine.Database(configuration.load(
        ['--config-dir', str(service.conf)]))
    try:
        for found in states.ALL:
            for wanted in set(states.ALL) - set(states.MOVES[found]):
                with pytest.raises(states.NoSuchMove), \
                        database.write() as conn:
                    db_images.move(conn, image_id, found, wanted)
    finally:
        database.dispose()
    assert service.show(image_id)['status'] == 'active'
