"""glance-import-manage images judge: what got in before it was refused."""

import contextlib
import io
import json
import os
import signal
import subprocess
import textwrap
import uuid

import pytest

from glance_import.cmd import manage
from tests.formats import corpus
from tests import servers
from tests import service as services

BAD = corpus.qcow2_header(backing=corpus.BACKING).ljust(4096, b'\0')
MARK = b'a line that a later inspector knows'


def run(service, *words):
    """The command in this process: exit status, and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out, \
            contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            status = manage.main(['--config-dir', str(service.conf),
                                  'images', 'judge', *words])
        except SystemExit as end:
            status = end.code
    return status, out.getvalue(), err.getvalue()


def judge(service, *words, status=0):
    done = run(service, *words)
    assert done[0] == status, done
    return done[1].splitlines()


def swap(service, image_id, data):
    """Have the store contain what would not get in today."""
    path = next(service.images.glob(f'{image_id}*'))
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.fixture
def service(make_service):
    """With three images, of which the second lies; ids in their order."""
    running = make_service().start()
    ids = [running.ask(b'x' * 4096, name=f'image {number}')
           for number in range(3)]
    for image_id in ids:
        running.wait_status(image_id, 'active')
    running.ids = sorted(ids)
    swap(running, running.ids[1], BAD)
    return running


def test_what_would_be_refused_is_told(service):
    first, last = judge(service, status=1)
    assert first.startswith(service.ids[1]) and 'name image' in first
    assert 'store ' in first and 'owner ' in first
    assert 'would be refused: The image is refused: ' in first
    assert 'backing file' in first
    assert last == '3 judged, 1 would be refused, 0 cannot be judged'
    assert {service.show(each)['status'] for each in service.ids} == {
        'active'}
    # And once more, from the beginning: it had come to its end.
    assert judge(service, status=1)[-1] == last


def test_it_is_deactivated_with_the_reason(service):
    lines = judge(service, '--deactivate', '--rate', '50', status=1)
    assert lines[-1].endswith('1 were deactivated')
    assert [service.show(each)['status'] for each in service.ids] == [
        'active', 'deactivated', 'active']
    image = service.show(service.ids[1])
    assert 'backing file' in image['os_glance_import_error']
    assert judge(service)[-1].startswith('2 judged, 0 would')
    assert judge(service, '--status', 'deactivated', status=1)[-1] == (
        '1 judged, 1 would be refused, 0 cannot be judged')


def test_its_owner_does_not_bring_it_back(make_service):
    service = make_service(
        token=services.MEMBER,
        options={'paste_deploy': {'flavor': 'fakeauth'}}).start()
    ids = [service.ask(b'x' * 4096) for _ in range(2)]
    for image_id in ids:
        service.wait_status(image_id, 'active')
    good, bad = ids
    swap(service, bad, BAD)
    judge(service, '--deactivate', status=1)

    def act(image_id, action, token=None):
        return service.request(
            'POST', f'/v2/images/{image_id}/actions/{action}', token=token)

    assert act(good, 'deactivate').status == 204
    assert act(good, 'reactivate').status == 204
    answer = act(bad, 'reactivate')
    assert answer.status == 403 and 'backing file' in answer.message
    assert service.show(bad)['status'] == 'deactivated'
    assert act(bad, 'reactivate', services.ADMIN).status == 204
    assert act(bad, 'reactivate').status == 204
    assert act(bad, 'deactivate').status == 204
    os.unlink(next(service.images.glob(f'{bad}*')))
    answer = act(bad, 'reactivate')
    assert answer.status == 503 and 'cannot be judged' in answer.message


def test_only_what_is_active_still(service):
    """Nothing is moved that somebody has moved meanwhile."""
    service.execute("UPDATE images SET status = 'deactivated' WHERE id = ?",
                    service.ids[1])
    assert judge(service, '--deactivate', '--status', 'deactivated',
                 status=1)[-1].endswith('0 were deactivated')


def test_it_goes_on_where_it_stopped(service):
    # The first image is read at 1 byte a millisecond or so.
    process = subprocess.Popen(
        service.command('manage', 'images', 'judge', '--rate', '0.002'),
        env=service.environment, stdout=subprocess.PIPE, text=True)
    place = service.state / 'images-judge.json'
    services.wait_for(lambda: place.exists() and place.read_text())
    # Nobody else judges the same at the same time.
    status, _, said = run(service)
    assert status == 1 and 'another run' in said
    process.send_signal(signal.SIGKILL)
    process.communicate()
    held = json.loads(place.read_text())
    assert list(held.values()) == [service.ids[0]]
    # Another question begins with the first image.
    assert judge(service, '--deactivate', status=1)[-1].startswith('3 judged')
    service.execute("UPDATE images SET status = 'active'")
    lines = judge(service, status=1)
    assert lines[0] == f'going on behind image {service.ids[0]}'
    assert lines[-1].startswith('2 judged, 1 would')
    assert judge(service, status=1)[-1].startswith('3 judged')
    place.write_text(json.dumps({'["active", false, null]':
                                 service.ids[2]}))
    assert judge(service)[-1].startswith('0 judged')
    place.write_text('{"no')
    assert judge(service, status=1)[-1].startswith('3 judged')
    place.write_text(json.dumps({'["active", false, null]':
                                 service.ids[2]}))
    assert judge(service, '--anew', status=1)[-1].startswith('3 judged')


def test_what_cannot_be_read_stays(service):
    os.unlink(next(service.images.glob(f'{service.ids[0]}*')))
    service.execute('UPDATE image_locations SET deleted = 1 '
                    'WHERE image_id = ?', service.ids[2])
    first, _second, third, last = judge(service, '--deactivate', status=1)
    assert first.startswith(service.ids[0]) and 'cannot be judged' in first
    assert 'it has no data' in third
    assert last == ('3 judged, 1 would be refused, 2 cannot be judged, '
                    '1 were deactivated')
    assert service.show(service.ids[0])['status'] == 'active'


def test_names_do_not_reach_the_terminal(service):
    service.execute('UPDATE images SET name = ? WHERE id = ?',
                    'x\x1b[2J\ny', service.ids[1])
    first, _last = judge(service, status=1)
    assert 'name x?[2J?y' in first


def test_inspectors_of_today(service, tmp_path):
    servers.program('bwrap')
    (tmp_path / 'later.py').write_text(textwrap.dedent('''
        from glance_import.plugin import ImagePlugin
        class Later(ImagePlugin):
            api = 1
            def inspect(self, image, data):
                if image.name == 'broken':
                    raise ValueError('x')
                if b'inspector knows' in data.read():
                    return self.reject('it has the mark', code='mark')
                return self.accept()
        '''))
    status, _, said = run(service, '--plugins')
    assert status == 1 and 'no plugin' in said
    service.configure(image_import_opts={
        'image_import_plugins': f'[no_op,file:{tmp_path}/later.py:Later]'})
    swap(service, service.ids[1], bytes(8 << 20))
    swap(service, service.ids[2], bytes(8 << 20) + MARK)
    # Not in what our own judge reads.
    assert judge(service)[-1].startswith('3 judged, 0 would')
    first, last = judge(service, '--plugins', '--deactivate', status=1)
    assert first.startswith(service.ids[2]) and 'it has the mark' in first
    assert last.endswith('1 were deactivated')
    assert 'later: it has the mark' in service.show(service.ids[2])[
        'os_glance_import_error']
    # A plugin that fails says nothing about the image.
    service.execute("UPDATE images SET name = 'broken' WHERE id = ?",
                    service.ids[0])
    first, last = judge(service, '--plugins', '--deactivate', status=1)
    assert first.startswith(service.ids[0]) and 'cannot be judged' in first
    assert service.show(service.ids[0])['status'] == 'active'
    assert [each for each in os.listdir(service.staging)
            if 'scratch' in each] == []


@pytest.mark.parametrize('words', [
    ('--rate', '0'), ('--rate', '-1'), ('--rate', 'fast'), ('--rate', 'inf'),
    ('--rate', 'nan'), ('--status', 'queued')])
def test_bad_words(make_service, words):
    status, _, said = run(make_service(), *words)
    assert status == 2 and words[0] in said


def test_many_images(make_service):
    """More images than a page has."""
    service = make_service().start()
    image_id = service.ask(b'x' * 100)
    service.wait_status(image_id, 'active')
    service.stop()
    with service.database() as conn:
        columns = [row[1] for row in conn.execute(
            'PRAGMA table_info(images)')]
        rest = ', '.join(columns[1:])
        url, = conn.execute('SELECT value FROM image_locations').fetchone()
        for _ in range(120):
            new = str(uuid.uuid4())
            conn.execute(f'INSERT INTO images (id, {rest}) SELECT ?, {rest} '
                         'FROM images WHERE id = ?', (new, image_id))
            conn.execute(
                'INSERT INTO image_locations (image_id, value, meta_data, '
                "status, created_at, deleted) VALUES (?, ?, '{}', 'active', "
                "'2020-01-01', 0)", (new, url))
    service.configure(image_format={'second_opinion': 'off'})
    assert judge(service)[-1] == (
        '121 judged, 0 would be refused, 0 cannot be judged')
