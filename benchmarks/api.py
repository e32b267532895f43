"""What requests cost, beside real Glance on the same kind of database.

    python -m benchmarks.api [--glance VENV] [--only PART ...] [--keep]

Parts: ``requests`` (CPU seconds of the server for one request, at 1,000
images), ``clients`` (64 connections at once, also beside 50 uploaders of
1 MB/s each), ``connections`` (CPU and voluntary context switches of a
request, and requests a second, with 1, 16 and 64 kept connections, also
beside two busy loops), ``start`` (first answer and idle memory). Both
services run on SQLite with one process each, and get the same requests in one
run. Pages among very many images are ``benchmarks.lists``.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import typing

from benchmarks import __main__ as table
from benchmarks import glance as glances
from tests import cpu as cpus
from tests import service as services

HERE = pathlib.Path(__file__).resolve().parent
IMAGES = 1000
ROUNDS = 400
RECORD = {'name': 'bench', 'disk_format': 'qcow2', 'container_format': 'bare',
          'visibility': 'private', 'tags': ['one', 'two'],
          'os_distro': 'debian', 'os_version': '12', 'hw_disk_bus': 'virtio'}
UPLOADERS = 50
UPLOAD_RATE = 1_000_000
CLIENTS = 64
CONNECTIONS = (1, 16, 64)
# The connections take turns, so that load from elsewhere falls on all.
TURNS = 3
TURN_SECONDS = 2
MAX_CPU_RATIO = 1.2
MAX_SWITCHES = 4


class Connection:
    """One kept connection to either service."""

    def __init__(self, service: services.Service) -> None:
        self._http = http.client.HTTPConnection('127.0.0.1', service.port,
                                                timeout=120)
        self._headers = {'Accept': 'application/json',
                         'Content-Type': 'application/json'}
        if isinstance(service, glances.Glance):
            self._headers |= glances.IDENTITY
        elif service.token:
            self._headers['X-Auth-Token'] = service.token

    def ask(self, method: str, path: str, body: typing.Any = None) -> bytes:
        self._http.request(
            method, path, None if body is None else json.dumps(body),
            self._headers)
        answer = self._http.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise AssertionError((method, path, answer.status, data[:300]))
        return data

    def close(self) -> None:
        self._http.close()


def ours(top: pathlib.Path, **options: typing.Any) -> services.Service:
    return services.Service(
        top, token='bench:bench:admin,member,reader', options={
            'paste_deploy': {'flavor': 'fakeauth'}, **options})


def processes(service: services.Service) -> list[int]:
    assert service.process is not None
    return cpus.family(service.process.pid)


def cost(service: services.Service, connection: Connection,
         ask: typing.Callable[[Connection], object], rounds: int
         ) -> tuple[float, float]:
    """CPU milliseconds of the service, and the middle of the times in ms."""
    for _ in range(rounds // 10):
        ask(connection)
    times = []
    assert service.process is not None
    used = cpus.below(service.process.pid)
    for _ in range(rounds):
        begun = time.perf_counter()
        ask(connection)
        times.append(time.perf_counter() - begun)
    used = cpus.below(service.process.pid) - used
    return 1000 * used / rounds, 1000 * statistics.median(times)


class Bench:
    def __init__(self, options: argparse.Namespace,
                 top: pathlib.Path) -> None:
        self.options = options
        self.top = top
        self.rows: list[table.Row] = []

    def add(self, what: str, goal: str, ours: str, other: str = '',
            met: bool | None = None) -> None:
        self.rows.append(table.Row(what, goal, ours, other, met))
        said = {True: 'met', False: 'MISSED', None: '-'}[met]
        print(f'{what} | {goal} | {ours} | {other} | {said}', flush=True)

    # -- CPU for one request

    def requests(self) -> None:
        found: list[dict[str, tuple[float, float]]] = []
        makers = [lambda: ours(self.top / 'ours')]
        if self.options.glance:
            makers.append(lambda: glances.Glance(
                self.top / 'glance', self.options.glance))
        for make in makers:
            service = make()
            service.start()
            try:
                found.append(self._requests(service))
            finally:
                service.stop()
        for name, (used, took) in found[0].items():
            beside, met = '', None
            if len(found) > 1:
                other, slow = found[1][name]
                beside = (f'Glance {other:.2f} ms CPU, {slow:.1f} ms; '
                          f'{used / other:.3f} of it')
                met = used <= other / 10
            self.add(name, 'CPU <= 1/10 of Glance',
                     f'{used:.2f} ms CPU, {took:.2f} ms', beside, met)

    def _requests(self, service: services.Service
                  ) -> dict[str, tuple[float, float]]:
        connection = Connection(service)
        for _ in range(IMAGES):
            made = json.loads(connection.ask('POST', '/v2/images', RECORD))
        path = f'/v2/images/{made["id"]}'
        kinds: dict[str, tuple[typing.Callable, int]] = {
            'GET /v2/images/{id}': (lambda c: c.ask('GET', path), ROUNDS),
            'GET /v2/images?limit=25': (
                lambda c: c.ask('GET', '/v2/images?limit=25'), ROUNDS // 4),
            'POST /v2/images': (
                lambda c: c.ask('POST', '/v2/images', RECORD), ROUNDS // 2)}
        found = {name: cost(service, connection, ask, rounds)
                 for name, (ask, rounds) in kinds.items()}
        connection.close()
        return found

    # -- many clients

    def clients(self) -> None:
        service = ours(self.top / 'clients')
        service.start()
        try:
            ids = [service.create() for _ in range(CLIENTS)]
            times = self._crowd(service, ids, 5.0)
            p50, p99 = _quantiles(times)
            self.add(f'{CLIENTS} clients, GET image',
                     'no errors, p99 under 10 x p50',
                     f'p50 {p50:.1f} ms, p99 {p99:.1f} ms',
                     f'{len(times) / 5:.0f} requests/s, none failed',
                     p99 < 10 * p50)
            self._uploaders(service, ids[0])
        finally:
            service.stop()

    def _crowd(self, service: services.Service, ids: list[str],
               seconds: float) -> list[float]:
        """Times of requests by as many clients as there are ids.

        The clients are two processes' threads: one process of Python would
        be slower than the service.
        """
        context = concurrent.futures.ProcessPoolExecutor(2)
        with context:
            halves = [context.submit(_crowd, service.port, service.token,
                                     part, seconds)
                      for part in (ids[::2], ids[1::2])]
            return [each for half in halves for each in half.result()]

    def _uploaders(self, service: services.Service, image_id: str) -> None:
        stop = threading.Event()
        threads = [threading.Thread(target=_upload, args=(
            service, service.create(), stop)) for _ in range(UPLOADERS)]
        for thread in threads:
            thread.start()
        connection = Connection(service)
        times = []
        deadline = time.monotonic() + 10
        time.sleep(1)
        while time.monotonic() < deadline:
            begun = time.perf_counter()
            connection.ask('GET', f'/v2/images/{image_id}')
            times.append(time.perf_counter() - begun)
            time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
        p50, p99 = _quantiles(times)
        self.add(f'GET image beside {UPLOADERS} uploaders of 1 MB/s',
                 'p99 < 50 ms', f'p50 {p50:.1f} ms, p99 {p99:.1f} ms',
                 f'{len(times)} requests', p99 < 50)

    # -- as many connections as there may be

    def connections(self) -> None:
        service = ours(self.top / 'connections')
        service.start()
        loops: list[subprocess.Popen] = []
        try:
            request = (f'GET /v2/images/{service.create()} HTTP/1.1\r\n'
                       'Host: localhost\r\nAccept: application/json\r\n'
                       f'X-Auth-Token: {service.token}\r\n\r\n').encode()
            self._connections(service, request, 'quiet')
            loops += [subprocess.Popen([sys.executable, '-c',
                                        'while True: pass'])
                      for _ in range(2)]
            self._connections(service, request, 'beside two busy loops')
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
            service.stop()

    def _connections(self, service: services.Service, request: bytes,
                     where: str) -> None:
        found: dict[int, list[tuple[float, float, float]]] = {
            count: [] for count in CONNECTIONS}
        for _ in range(TURNS):
            for count in CONNECTIONS:
                found[count].append(_turn(service, request, count))
        alone: tuple[float, ...] = ()
        for count, turns in found.items():
            used, switches, rate = map(statistics.median,
                                       zip(*turns, strict=True))
            alone = alone or (used, switches, rate)
            self.add(
                f'GET image, {count} kept connections, {where}',
                f'CPU <= {MAX_CPU_RATIO} x that of one, at most '
                f'{MAX_SWITCHES} switches, no fewer requests/s',
                f'{1000 * used:.3f} ms CPU ({used / alone[0]:.2f} x), '
                f'{switches:.2f} voluntary switches, {rate:.0f} requests/s',
                '', used <= MAX_CPU_RATIO * alone[0]
                and switches <= MAX_SWITCHES and rate >= 0.97 * alone[2])

    # -- start and memory

    def start(self) -> None:
        service = ours(self.top / 'start')
        took = []
        for _ in range(3):
            begun = time.monotonic()
            service.start()
            took.append(time.monotonic() - begun)
            service.conductor_pid()
            worker = next(pid for pid, words in service.children().items()
                          if 'cmd.api' in words)
            time.sleep(1)
            idle = table.pss(worker)
            whole = sum(map(table.pss, processes(service)))
            service.stop()
        self.add('first answer after start', '< 2 s',
                 f'{min(took):.2f} s', f'the others {sorted(took)[1]:.2f}, '
                 f'{max(took):.2f}', min(took) < 2)
        self.add('Pss of an idle API process', '< 150 MiB', f'{idle} MiB',
                 '', idle < 150)
        other = ''
        if self.options.glance:
            glance = glances.Glance(self.top / 'glance-start',
                                    self.options.glance)
            glance.start()
            other = ('Glance with one process '
                     f'{sum(map(table.pss, processes(glance)))} MiB')
            glance.stop()
        self.add('Pss of the whole embedded service', '< 250 MiB',
                 f'{whole} MiB', other, whole < 250)


def _turn(service: services.Service, request: bytes, connections: int
          ) -> tuple[float, float, float]:
    """CPU seconds and voluntary switches of a request, requests a second."""
    worker = next(pid for pid, words in service.children().items()
                  if 'cmd.api' in words)
    used, switches = cpus.of([worker]), _switches(worker)
    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.crowd', str(service.port),
         str(connections), str(TURN_SECONDS)], input=request,
        stdout=subprocess.PIPE, check=True)
    count, seconds = map(float, done.stdout.split())
    return ((cpus.of([worker]) - used) / count,
            (_switches(worker) - switches) / count, count / seconds)


def _switches(pid: int) -> int:
    """Voluntary context switches of the threads of a process so far."""
    total = 0
    for status in pathlib.Path(f'/proc/{pid}/task').glob('*/status'):
        for line in status.read_text().splitlines():
            if line.startswith('voluntary_ctxt_switches:'):
                total += int(line.split()[1])
    return total


def _crowd(port: int, token: str, ids: list[str], seconds: float
           ) -> list[float]:
    def one(image_id: str) -> list[float]:
        connection = http.client.HTTPConnection('127.0.0.1', port,
                                                timeout=60)
        times = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            begun = time.perf_counter()
            connection.request('GET', f'/v2/images/{image_id}', headers={
                'X-Auth-Token': token})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            times.append(time.perf_counter() - begun)
        return times
    with concurrent.futures.ThreadPoolExecutor(len(ids)) as pool:
        return [each for times in pool.map(one, ids) for each in times]


def _upload(service: services.Service, image_id: str,
            stop: threading.Event) -> None:
    sock = service.raw()
    sock.sendall((
        f'PUT /v2/images/{image_id}/stage HTTP/1.1\r\nHost: localhost\r\n'
        f'X-Auth-Token: {service.token}\r\n'
        'Content-Type: application/octet-stream\r\n'
        'Content-Length: 1000000000\r\n\r\n').encode())
    part = os.urandom(UPLOAD_RATE // 10)
    while not stop.is_set():
        begun = time.monotonic()
        sock.sendall(part)
        stop.wait(max(0.0, 0.1 - (time.monotonic() - begun)))
    sock.close()


def _quantiles(times: list[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    ordered = sorted(times)
    return (1000 * ordered[len(ordered) // 2],
            1000 * ordered[int(len(ordered) * 0.99)])


def main() -> int:
    parser = argparse.ArgumentParser(prog='benchmarks.api')
    parser.add_argument('--glance', help='virtual environment with Glance',
                        default=os.environ.get('GLANCE_VENV'))
    parser.add_argument('--only', nargs='*', help='parts to measure')
    parser.add_argument('--keep', action='store_true',
                        help='write the table to benchmarks/results/')
    options = parser.parse_args()
    cpus.adopt()
    now = datetime.datetime.now()
    with tempfile.TemporaryDirectory() as name:
        top = pathlib.Path(name)
        about = f'{now:%Y-%m-%d %H:%M}, {table.machine(top)}'
        print(about, flush=True)
        for each in ('ours', 'glance', 'clients', 'connections', 'start',
                     'glance-start'):
            (top / each).mkdir()
        bench = Bench(options, top)
        for part in ('requests', 'clients', 'connections', 'start'):
            if not options.only or part in options.only:
                getattr(bench, part)()
    text = table.table(about, bench.rows)
    print('\n' + text)
    if options.keep:
        target = HERE / 'results' / f'{now:%Y-%m-%d}-api.md'
        target.write_text(text)
        print(f'written to {target}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
