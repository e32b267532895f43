"""Two services that write to one image through two nodes of Galera.

No node knows the locks of another: of two transactions that wrote the same
row the later is rolled back at its commit (error 1213), and is done again.
With ``LONG_TESTS`` for a minute, and a node is killed and comes back.
"""

import os
import threading
import time

import pytest

from tests import galera
from tests import service as services

LONG = bool(os.environ.get('LONG_TESTS'))
SECONDS = 60 if LONG else 4
WRITERS = 3
PATCH = {'Content-Type': 'application/openstack-images-v2.1-json-patch'}
# What two who change the same thing at once may be told.
EXPECTED = {200, 201, 202, 204, 404, 409}


@pytest.fixture(scope='module')
def cluster():
    with galera.running() as nodes:
        yield nodes


@pytest.fixture(scope='module')
def pair(cluster, tmp_path_factory):
    """A service on the first node and one on the second, which share all else.
    """
    made, name = [], cluster[0].create().rpartition('/')[2]
    common = tmp_path_factory.mktemp('common')
    for number, node in enumerate(cluster[:2]):
        made.append(services.Service(
            tmp_path_factory.mktemp(f'service{number}'), options={
                'DEFAULT': {'image_tag_quota': 10,
                            'node_staging_uri': f'file://{common}/staging'},
                'glance_store': {
                    'filesystem_store_datadir': common / 'images'},
                'database': {'connection': node.url(name),
                             'mysql_wsrep_sync_wait': 1},
                'paste_deploy': {'flavor': 'fakeauth'}},
            token=services.MEMBER))
    galera.joined(cluster)
    done = made[0].run('manage', 'db', 'sync')
    assert done.returncode == 0, done
    for each in made:
        each.start()
    yield made
    for each in made:
        each.kill()


class Writers:
    """Threads that ask both services at once, and count the answers."""

    def __init__(self, pair):
        self.pair = pair
        self.answers = {}
        self._threads = []

    def go(self, name, ask):
        """``ask(service, number)`` until the time is over."""
        ends = time.monotonic() + SECONDS

        def work(number):
            turn = 0
            while time.monotonic() < ends:
                answer = ask(self.pair[number % 2], turn * WRITERS + number)
                turn += 1
                self.answers.setdefault((name, answer.status), []).append(
                    answer)
        for number in range(WRITERS * 2):
            thread = threading.Thread(target=work, args=(number,))
            thread.start()
            self._threads.append(thread)

    def wait(self):
        for each in self._threads:
            each.join()
        statuses = {status for _name, status in self.answers}
        assert statuses <= EXPECTED, {
            key: (len(found), found[0]) for key, found in
            self.answers.items() if key[1] not in EXPECTED}

    def count(self, name, status):
        return len(self.answers.get((name, status), ()))


def patch(service, image_id, *operations):
    return service.request('PATCH', f'/v2/images/{image_id}', [
        dict(zip(('op', 'path', 'value'), each)) for each in operations],
        PATCH)


def conflicts(cluster):
    return sum(int(each.status(name)) for each in cluster
               for name in ('local_cert_failures', 'local_bf_aborts'))


def test_one_image_from_two_nodes(pair, cluster):
    one, other = pair
    image_id = one.create(tags=['keep'], a='0', b='0')
    before = conflicts(cluster)
    writers = Writers(pair)
    # Both properties in one request: never one of them alone.
    writers.go('patch', lambda service, number: patch(
        service, image_id, ('replace', '/a', str(number)),
        ('replace', '/b', str(number))))
    writers.go('tag', lambda service, number: service.request(
        'PUT' if number % 3 else 'DELETE',
        f'/v2/images/{image_id}/tags/t{number % 4}'))
    writers.go('member', lambda service, number: service.request(
        'POST', f'/v2/images/{image_id}/members', {'member': 'blue'})
        if number % 3 else service.request(
            'DELETE', f'/v2/images/{image_id}/members/blue'))
    seen = []
    while any(each.is_alive() for each in writers._threads):
        image = other.show(image_id)
        seen.append(image['a'] == image['b'])
        members = other.request(
            'GET', f'/v2/images/{image_id}/members').json['members']
        assert len(members) <= 1, members
        assert len(image['tags']) == len(set(image['tags']))
    writers.wait()
    assert seen and all(seen)
    assert writers.count('patch', 200) and writers.count('tag', 204)
    # There was something to be done again, or nothing was tried.
    assert conflicts(cluster) > before
    assert one.show(image_id) == other.show(image_id)
    assert service_rolled_back(pair)
    assert other.request('DELETE', f'/v2/images/{image_id}').status == 204
    assert one.request('GET', f'/v2/images/{image_id}').status == 404


def service_rolled_back(pair):
    return any('was rolled back, trying again' in each.text()
               for each in pair)


def test_one_of_two_wins(pair):
    """The same image, import and deletion, asked for at the same moment."""
    image_id = '9e6f7bd4-7a25-4c8d-9a33-6f0d1c1b6a01'

    def at_once(ask):
        found, barrier = [], threading.Barrier(2)

        def work(service):
            barrier.wait()
            found.append(ask(service).status)
        threads = [threading.Thread(target=work, args=(each,))
                   for each in pair]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return sorted(found)
    assert at_once(lambda service: service.request(
        'POST', '/v2/images', {'id': image_id, 'name': 'x', 'x': 'y',
                               'disk_format': 'raw',
                               'container_format': 'bare'})) == [201, 409]
    for round_ in range(20 if LONG else 3):
        image_id = pair[0].create()
        assert pair[0].stage(image_id, b'data').status == 204
        # The second has other staged data, so that it may say so, too.
        assert at_once(lambda service: service.start_import(image_id)
                       ) == [202, 409]
        assert at_once(lambda service: service.request(
            'DELETE', f'/v2/images/{image_id}')) == [204, 404]
    assert not any('unexpected error' in each.text() for each in pair)


def test_imports_while_others_write(pair):
    """Conductors of both nodes, and users that change the images meanwhile.
    """
    one, other = pair
    made = [one.create() for _ in range(30 if LONG else 4)]
    for each in made:
        assert one.stage(each, b'data').status == 204
    for number, each in enumerate(made):
        assert pair[number % 2].start_import(each).status == 202
    running = list(made)
    turn = 0
    while running:
        turn += 1
        for each in list(running):
            answer = patch(other, each, ('add', '/turn', str(turn)),
                           ('replace', '/name', str(turn)))
            assert answer.status == 200, answer
            if answer.json['status'] == 'active':
                running.remove(each)
            assert answer.json['status'] in ('importing', 'active')
    for each in made:
        image = other.show(each)
        assert image['name'] == image['turn']
        task, = other.tasks(each)
        assert task['status'] == 'success', task
        assert other.download(each) == b'data'
        assert 'os_glance_import_task' not in image
    assert not any('unexpected error' in each.text() for each in pair)


@pytest.mark.skipif(not LONG, reason='takes half a minute: LONG_TESTS')
def test_a_node_that_dies(pair, cluster):
    """Its service says 503 until it is back; the other one goes on."""
    one, other = pair
    image_id = one.create(a='0')
    cluster[1].kill()
    answer = other.request('GET', f'/v2/images/{image_id}')
    assert answer.status == 503 and 'retry-after' in answer.headers
    services.wait_for(lambda: patch(
        one, image_id, ('replace', '/a', '1')).status == 200)
    cluster[1].start()
    image = services.wait_for(lambda: (found := other.request(
        'GET', f'/v2/images/{image_id}')).status == 200 and found.json)
    assert image['a'] == '1'
    assert patch(other, image_id, ('replace', '/a', '2')).status == 200
    assert one.show(image_id)['a'] == '2'
