"""What a page of images costs among few images and among very many.

  python -m benchmarks.lists [--sizes 1000,100000,1000000]
                             [--databases sqlite,postgresql,mariadb]

Makes a database of each size on each server, starts the service on it and
asks for each kind of page over a kept connection, as an ordinary user and as
an administrator. Every filter matches the same 100 images at every size.
Prints the middle of the times and the CPU time of service and database
server, both for one request, and how much CPU the largest size takes against
the smallest (times say nothing on a machine that does something else too).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import pathlib
import statistics
import sys
import tempfile
import time
import typing

from benchmarks import filling
from tests import cpu as cpus
from tests import servers
from tests import service as services

OWNER = filling.OWNER
USER = services.MEMBER
ADMIN = services.ADMIN
ROUNDS = 60


class MariaDB(servers.MariaDB):
    """With room for the tables: it does not use the system's cache."""

    def serve(self) -> list[str]:
        return [*super().serve(), '--innodb-buffer-pool-size=2G']


SERVERS: dict[str, type[servers.Server]] = {
    'postgresql': servers.PostgreSQL, 'mariadb': MariaDB}


def pages(marker: str) -> dict[str, str]:
    return {
        'first page': '', 'next page': f'marker={marker}',
        'by name': 'name=special', 'by owner': f'owner={OWNER}',
        'by rare tag': 'tag=special', 'by rare property': 'rare=special',
        # Last: a server is busy with what they leave behind for a while.
        'by common tag': 'tag=tag-8',
        'by common property': 'os_distro=distro-8',
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


def measure(roots: list[int], client: Client, path: str
            ) -> tuple[float, float]:
    """Middle of the times, and CPU time, of one request in ms."""
    began = time.perf_counter()
    client.get(path)
    # Slow ones fewer times, so that all of it ends some day.
    rounds = max(3, min(ROUNDS, int(5 / (time.perf_counter() - began))))
    times = []
    used = cpus.below(*roots)
    for _ in range(rounds):
        began = time.perf_counter()
        client.get(path)
        times.append(time.perf_counter() - began)
    used = cpus.below(*roots) - used
    return statistics.median(times) * 1000, used / rounds * 1000


def settle(roots: list[int]) -> None:
    """Wait until the servers have put away what was written to them."""
    for _ in range(60):
        before = cpus.of(roots)
        time.sleep(1)
        if cpus.of(roots) - before < 0.01:
            return


def run(number: int, directory: pathlib.Path,
        server: servers.Server | None
        ) -> dict[tuple[str, str], tuple[float, float]]:
    """Name of page and user -> what ``measure`` found."""
    url = (server.create() if server is not None
           else f'sqlite:///{directory}/state/glance.sqlite')
    service = services.Service(
        directory, token=USER, options={
            'database': {'connection': url},
            'paste_deploy': {'flavor': 'fakeauth'},
            'taskflow_executor': {'embedded_conductor': False}})
    service.state.mkdir(parents=True)
    done = service.run('manage', 'db', 'sync', timeout=600)
    assert done.returncode == 0, done.stderr
    filling.fill(url, number)
    found = {}
    service.start()
    assert service.process is not None
    roots = [service.process.pid]
    if server is not None and server.process is not None:
        roots.append(server.process.pid)
    try:
        for user, token in (('user', USER), ('admin', ADMIN)):
            settle(roots)
            client = Client(service, token)
            for _ in range(20):
                first = client.get('/v2/images')
            marker = first['images'][-1]['id']
            found['image by id', user] = measure(
                roots, client, f'/v2/images/{marker}')
            for name, query in pages(marker).items():
                found[name, user] = measure(
                    roots, client, f'/v2/images?{query}')
            client.close()
    finally:
        service.kill()
    return found


def run_all(sizes: list[int], database: str) -> list[
        dict[tuple[str, str], tuple[float, float]]]:
    """What ``run`` finds for each size, on one kind of database."""
    kind = SERVERS.get(database)
    results = []
    with (servers.running(kind) if kind is not None
          else contextlib.nullcontext()) as server:
        for number in sizes:
            with tempfile.TemporaryDirectory(prefix='lists-') as top:
                results.append(run(number, pathlib.Path(top), server))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(prog='benchmarks.lists')
    parser.add_argument('--sizes', default='1000,100000,1000000')
    parser.add_argument('--databases', default='sqlite,postgresql,mariadb')
    options = parser.parse_args()
    cpus.adopt()
    sizes = [int(word) for word in options.sizes.split(',')]
    print('ms for one request, in brackets CPU ms of the servers')
    for database in options.databases.split(','):
        results = run_all(sizes, database)
        print(f'\n{database:20} {"as":6}' + ''.join(
            f'{number:>18,}' for number in sizes) + '   times')
        for name, user in results[0]:
            row = [result[name, user] for result in results]
            print(f'{name:20} {user:6}' + ''.join(
                f'{middle:10.2f} ({used:5.1f})' for middle, used in row)
                + f'{row[-1][1] / row[0][1]:8.2f}', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
