"""What a page of images costs among few images and among very many.

  python -m benchmarks.lists [--sizes 1000,100000,1000000]

Makes an SQLite database of each size, starts the service on it and asks for
each kind of page over a kept connection, as an ordinary user and as an
administrator. Every filter matches the same 100 images at every size. Prints
the middle of the times and the CPU time of the server, both for one request,
and how much CPU the largest size takes against the smallest (times say
nothing on a machine that does something else too).
"""

from __future__ import annotations

import argparse
import http.client
import json
import pathlib
import random
import sqlite3
import statistics
import sys
import tempfile
import time
import typing
import uuid

from tests import service as services

MATCHES = 100
OWNER = 'red'
USER = services.MEMBER
ADMIN = services.ADMIN
ROUNDS = 60
VISIBILITIES = ('shared', 'shared', 'private', 'public', 'community')


def fill(path: pathlib.Path, number: int) -> None:
    """Put ``number`` images into the database, with what hangs on them.

    Three properties and two tags each, a member on every tenth. 100 of them,
    spread evenly, are public and have the special name, tag and property;
    100 others belong to the user's project.
    """
    chance = random.Random(1)
    connection = sqlite3.connect(path)
    connection.execute('PRAGMA synchronous = OFF')
    special = number // MATCHES
    images, properties, tags, members = [], [], [], []

    def flush() -> None:
        connection.executemany(
            'INSERT INTO images (id, name, status, visibility, owner, '
            'created_at, updated_at, deleted, min_disk, min_ram, protected, '
            'os_hidden, disk_format, container_format, size) VALUES (?, ?, '
            "'active', ?, ?, ?, ?, 0, 0, 0, 0, 0, 'raw', 'bare', ?)", images)
        connection.executemany(
            'INSERT INTO image_properties (image_id, name, value, '
            'created_at, deleted) VALUES (?, ?, ?, ?, 0)', properties)
        connection.executemany(
            'INSERT INTO image_tags (image_id, value, created_at, deleted) '
            'VALUES (?, ?, ?, 0)', tags)
        connection.executemany(
            'INSERT INTO image_members (image_id, member, status, '
            'can_share, created_at, deleted) '
            "VALUES (?, ?, 'accepted', 0, ?, 0)", members)
        for rows in (images, properties, tags, members):
            rows.clear()

    with connection:
        for n in range(number):
            image_id = str(uuid.UUID(int=chance.getrandbits(128)))
            moment = time.strftime('%Y-%m-%d %H:%M:%S.000000',
                                   time.gmtime(1.6e9 + n * 30))
            chosen, own = n % special == 0, n % special == 1
            images.append((
                image_id, 'special' if chosen else f'image {n}',
                'public' if chosen else VISIBILITIES[n % 5],
                OWNER if own else f'project-{n % 997}', moment, moment, n))
            properties += [
                (image_id, 'os_distro', f'distro-{n % 50}', moment),
                (image_id, 'serial', f'{n}', moment),
                (image_id, 'rare', 'special' if chosen else f'x{n}',
                 moment)]
            tags += [(image_id, f'tag-{n % 50}', moment),
                     (image_id, 'special' if chosen else f'only-{n}',
                      moment)]
            if n % 10 == 0:
                members.append((image_id, f'project-{n % 991}', moment))
            if len(images) == 20000:
                flush()
        flush()
    connection.close()


def pages(marker: str) -> dict[str, str]:
    return {
        'first page': '', 'next page': f'marker={marker}',
        'by name': 'name=special', 'by owner': f'owner={OWNER}',
        'by rare tag': 'tag=special', 'by common tag': 'tag=tag-7',
        'by rare property': 'rare=special',
        'by common property': 'os_distro=distro-7',
        'limit 1000': 'limit=1000',
    }


class Client:
    """One kept connection."""

    def __init__(self, service: services.Service, token: str) -> None:
        self._connection = http.client.HTTPConnection(
            '127.0.0.1', service.port, timeout=300)
        self._headers = {'X-Auth-Token': token, 'Accept': 'application/json'}

    def get(self, path: str) -> typing.Any:
        self._connection.request('GET', path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return json.loads(body)

    def close(self) -> None:
        self._connection.close()


def cpu(service: services.Service) -> float:
    """CPU seconds the service's processes have used, to the microsecond."""
    assert service.process is not None
    used = 0
    for pid in (service.process.pid, *service.children()):
        for task in pathlib.Path(f'/proc/{pid}/task').iterdir():
            used += int((task / 'schedstat').read_text().split()[0])
    return used / 1e9


def measure(service: services.Service, client: Client, path: str
            ) -> tuple[float, float]:
    """Middle of the times, and CPU time, of one request in ms."""
    began = time.perf_counter()
    client.get(path)
    # Slow ones fewer times, so that all of it ends some day.
    rounds = max(3, min(ROUNDS, int(5 / (time.perf_counter() - began))))
    times = []
    used = cpu(service)
    for _ in range(rounds):
        began = time.perf_counter()
        client.get(path)
        times.append(time.perf_counter() - began)
    used = cpu(service) - used
    return statistics.median(times) * 1000, used / rounds * 1000


def run(number: int, directory: pathlib.Path
        ) -> dict[tuple[str, str], tuple[float, float]]:
    service = services.Service(
        directory, token=USER, options={
            'paste_deploy': {'flavor': 'fakeauth'},
            'taskflow_executor': {'embedded_conductor': False}})
    done = service.run('manage', 'db', 'sync', timeout=600)
    assert done.returncode == 0, done.stderr
    fill(service.state / 'glance.sqlite', number)
    found = {}
    service.start()
    try:
        for user, token in (('user', USER), ('admin', ADMIN)):
            client = Client(service, token)
            for _ in range(20):
                first = client.get('/v2/images')
            marker = first['images'][-1]['id']
            found['image by id', user] = measure(
                service, client, f'/v2/images/{marker}')
            for name, query in pages(marker).items():
                found[name, user] = measure(
                    service, client, f'/v2/images?{query}')
            client.close()
    finally:
        service.kill()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--sizes', default='1000,100000,1000000')
    sizes = [int(word) for word in parser.parse_args().sizes.split(',')]
    results = []
    for number in sizes:
        with tempfile.TemporaryDirectory(prefix='lists-') as top:
            results.append(run(number, pathlib.Path(top)))
    print('ms for one request, in brackets CPU ms of the server')
    print(f'{"page":20} {"as":6}' + ''.join(
        f'{number:>18,}' for number in sizes) + '   times')
    for name, user in results[0]:
        row = [result[name, user] for result in results]
        print(f'{name:20} {user:6}' + ''.join(
            f'{middle:10.2f} ({used:5.1f})' for middle, used in row)
            + f'{row[-1][1] / row[0][1]:8.2f}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
