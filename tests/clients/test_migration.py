"""One database, two services: Glance's images under ours, and back."""

import os

import pytest

from tests import environments
from tests import glance as glances
from tests import service as services

pytest_plugins = ('tests.servers',)
DATA = os.urandom(200_000)
OWNER, MEMBER = services.MEMBER, services.OTHER
V21 = 'application/openstack-images-v2.1-json-patch'
# What differs by configuration, not by the image.
OF_THE_SERVICE = {'stores', 'os_glance_stage_host'}


@pytest.fixture(scope='session')
def glance_environment(cache):
    return environments.make('glance', cache)


@pytest.fixture(params=['sqlite', 'postgresql'])
def pair(request, glance_environment, tmp_path):
    """A Glance and a service of ours, neither of them running."""
    state = tmp_path / 'state'
    state.mkdir(mode=0o700)
    database = (f'sqlite:///{state}/glance.sqlite'
                if request.param == 'sqlite'
                else request.getfixturevalue('postgresql').create())
    ours = services.Service(tmp_path, options={
        'DEFAULT': {'node_staging_uri': f"file://{tmp_path / 'our-staging'}"},
        'database': {'connection': database.replace('%', '%%')},
        'paste_deploy': {'flavor': 'fakeauth'}})
    ours.staging = tmp_path / 'our-staging'
    (tmp_path / 'glance').mkdir()
    glance = glances.Glance(
        glance_environment, tmp_path / 'glance', database=database +
        ('?timeout=60' if request.param == 'sqlite' else ''),
        images=ours.images, staging=tmp_path / 'their-staging')
    yield glance, ours
    ours.kill()
    glance.kill()


def comparable(image):
    return {name: sorted(value) if name == 'tags' else value
            for name, value in image.items() if name not in OF_THE_SERVICE}


def make_images(service):
    """Images of every kind; their ids by kind."""
    made = {
        'queued': service.create(OWNER, colour='red', tags=['a', 'b']),
        'bare': service.create(OWNER, name=None, disk_format=None,
                               container_format=None),
        'hidden': service.create(OWNER, os_hidden=True, min_ram=3),
        'public': service.create(services.ADMIN, visibility='public'),
        'lent': service.create(OWNER),
        'imported': service.create(OWNER, protected=True),
    }
    for member, status in (('blue', 'accepted'), ('green', None)):
        path = f"/v2/images/{made['lent']}/members"
        assert service.request('POST', path, {'member': member}, token=OWNER
                               ).status == 200
        if status:
            assert service.request('PUT', f'{path}/{member}',
                                   {'status': status}, token=MEMBER
                                   ).status == 200
    assert service.stage(made['imported'], DATA, token=OWNER).status == 204
    assert service.start_import(made['imported'], OWNER).status == 202
    service.wait_status(made['imported'], 'active', token=OWNER)
    path = f"/v2/images/{made['queued']}"
    assert service.request('PATCH', path, [
        {'op': 'remove', 'path': '/colour'},
        {'op': 'add', 'path': '/shade', 'value': 'dark'}],
        {'Content-Type': V21}, token=OWNER).status == 200
    return made


def look(service, made):
    """Everything the API says of the images."""
    seen = {kind: comparable(service.show(image_id, services.ADMIN))
            for kind, image_id in made.items()}
    for token in (OWNER, MEMBER, services.ADMIN):
        for query in ('', 'os_hidden=true', 'tag=a', 'shade=dark',
                      # Not by name: Glance sorts one that is unset first or
                      # last as the server does, ours always first.
                      'visibility=public', 'sort=status:asc,id:desc'):
            page = service.request('GET', f'/v2/images?{query}', token=token)
            assert page.status == 200, page
            seen[token, query] = [each['id'] for each
                                  in page.json['images']]
    seen['members'] = service.request(
        'GET', f"/v2/images/{made['lent']}/members", token=OWNER).json
    seen['data'] = service.download(made['imported'], OWNER)
    return seen


def use(service, made):
    """What a user does to images that the other service made."""
    assert service.download(made['imported'], OWNER) == DATA
    path = f"/v2/images/{made['imported']}"
    for name, value in (('protected', False), ('shade', 'light')):
        assert service.request(
            'PATCH', path, [{'op': 'add', 'path': f'/{name}',
                             'value': value}],
            {'Content-Type': V21}, token=OWNER).status == 200
    assert service.request('DELETE', path, token=OWNER).status == 204
    lent = f"/v2/images/{made['lent']}"
    assert service.request('DELETE', f'{lent}/members/blue', token=OWNER
                           ).status == 204
    assert service.request('GET', lent, token=MEMBER).status == 404
    # Once more what was removed: rows that are only marked as deleted.
    assert service.request('POST', f'{lent}/members', {'member': 'blue'},
                           token=OWNER).status == 200
    queued = made['queued']
    assert service.request(
        'PATCH', f'/v2/images/{queued}', [
            {'op': 'add', 'path': '/colour', 'value': 'blue'},
            {'op': 'replace', 'path': '/tags', 'value': ['c']}],
        {'Content-Type': V21}, token=OWNER).status == 200
    assert service.stage(queued, DATA, token=OWNER).status == 204
    assert service.start_import(queued, OWNER).status == 202
    service.wait_status(queued, 'active', token=OWNER)


def test_there_and_back(pair):
    glance, ours = pair
    glance.sync()
    glance.start()
    made = make_images(glance)
    before = look(glance, made)
    glance.stop()

    done = ours.run('manage', 'db', 'sync')
    assert done.returncode == 0, done.stderr
    ours.start()
    assert look(ours, made) == before
    use(ours, made)
    assert made['imported'] not in ours.stored()
    again = make_images(ours)
    before = look(ours, again)
    ours.stop()

    glance.start()
    assert look(glance, again) == before
    assert glance.download(made['queued'], OWNER) == DATA
    use(glance, again)
    assert again['imported'] not in ours.stored()
    # Both at once: what one changes the other shows.
    ours.start()
    assert comparable(ours.show(again['queued'], OWNER)) == comparable(
        glance.show(again['queued'], OWNER))
    assert ours.download(again['queued'], OWNER) == DATA


def test_left_importing(tmp_path):
    """A Glance was killed in the middle of an import."""
    service = services.Service(tmp_path, options={
        'taskflow_executor': {'embedded_conductor': False}})
    service.start()
    left, running = service.create(), service.create()
    assert service.stage(running, DATA).status == 204
    assert service.start_import(running).status == 202
    service.execute("UPDATE images SET status = 'importing' WHERE id = ?",
                    left)
    service.execute(
        'INSERT INTO tasks (id, type, status, owner, image_id, created_at, '
        "updated_at, deleted) VALUES ('t', 'api_image_import', 'processing',"
        " 'local', ?, '2026-01-01 00:00:00', '2026-01-01 00:00:00', 0)",
        left)
    service.execute("INSERT INTO task_info (task_id, input) VALUES "
                    "('t', '{}')")
    service.execute(
        'INSERT INTO image_properties (image_id, name, value, created_at, '
        "deleted) VALUES (?, 'os_glance_import_task', 't', "
        "'2026-01-01 00:00:00', 0)", left)
    (service.staging / left).write_bytes(b'some bytes')
    assert service.start_import(left).status == 409
    out = service.run('manage', 'imports', 'stranded').stdout
    assert left in out and '10 bytes staged' in out and 'task t' in out
    assert running not in out
    refused = service.run('manage', 'imports', 'free', running)
    assert refused.returncode == 1
    assert 'not left importing' in refused.stdout
    done = service.run('manage', 'imports', 'free', '--all')
    assert (done.returncode, done.stderr) == (0, '')
    assert f'{left}  is queued again; 10 staged bytes' in done.stdout
    assert service.run('manage', 'imports', 'stranded').stdout == ''
    image = service.show(left)
    assert image['status'] == 'queued'
    assert 'operator' in image['os_glance_import_error']
    assert 'os_glance_import_task' not in image
    task, = service.tasks(left)
    assert task['status'] == 'failure'
    assert service.show(running)['status'] == 'importing'
    assert service.stage(left, DATA).status == 204
    service.kill()
