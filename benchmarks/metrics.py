"""What metrics cost: the CPU of a GET with them and without, in one run.

    python -m benchmarks.metrics [--turns N]

Two services on SQLite with one worker each answer the same request, one of
them with ``[metrics] bind_port``. They take turns of a second, so that load
from elsewhere falls on both; of the ratios of neighbouring turns the middle
one is printed. Metrics are asked for once in each turn, as Prometheus would
do far more seldom. Also printed: the CPU of one scrape, and the memory of the
process that serves them.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import sys
import tempfile
import urllib.request

from benchmarks import __main__ as table
from benchmarks import api
from tests import cpu as cpus
from tests import servers
from tests import service as services

TURNS = 20
CONNECTIONS = 4
MAX_RATIO = 1.03
SCRAPES = 50


def _worker(service: services.Service) -> int:
    return next(pid for pid, words in service.children().items()
                if 'cmd.api' in words)


def _request(service: services.Service) -> bytes:
    return (f'GET /v2/images/{service.create()} HTTP/1.1\r\n'
            'Host: localhost\r\nAccept: application/json\r\n'
            f'X-Auth-Token: {service.token}\r\n\r\n').encode()


def _scrape(port: int) -> int:
    with urllib.request.urlopen(f'http://127.0.0.1:{port}/metrics') as answer:
        return len(answer.read())


def main() -> int:
    parser = argparse.ArgumentParser(prog='benchmarks.metrics')
    parser.add_argument('--turns', type=int, default=TURNS)
    options = parser.parse_args()
    cpus.adopt()
    port = servers.free_port()
    with tempfile.TemporaryDirectory() as name:
        top = pathlib.Path(name)
        for each in ('without', 'with'):
            (top / each).mkdir()
        both = [api.ours(top / 'without'),
                api.ours(top / 'with', metrics={'bind_port': port})]
        for service in both:
            service.is_cold = True
        try:
            for service in both:
                service.start()
            services.wait_for(lambda: _served(port))
            return _measure(both, port, options.turns)
        finally:
            for service in both:
                service.stop()


def _served(port: int) -> bool:
    try:
        return bool(_scrape(port))
    except OSError:
        return False


def _measure(both: list[services.Service], port: int, turns: int) -> int:
    requests = [_request(service) for service in both]
    used: list[tuple[float, float]] = []
    for number in range(turns + 1):
        # Each is first as often as the other.
        order = (0, 1) if number % 2 else (1, 0)
        found = {}
        for which in order:
            found[which] = api._turn(both[which], requests[which],
                                     CONNECTIONS)[0]
        _scrape(port)
        if number:
            used.append((found[0], found[1]))
    ratio = statistics.median(more / less for less, more in used)
    less, more = (1000 * statistics.median(each) for each in zip(*used))
    print(f'GET image: {less:.4f} ms CPU without metrics, {more:.4f} ms with '
          f'them; {100 * (ratio - 1):+.1f} % (the middle of {turns} turns, '
          f'goal: {100 * (MAX_RATIO - 1):+.0f} %)')
    exporter = next(pid for pid, words in both[1].children().items()
                    if 'cmd.exporter' in words)
    before = cpus.of([exporter])
    size = sum(_scrape(port) for _ in range(SCRAPES)) // SCRAPES
    print(f'one scrape: {1000 * (cpus.of([exporter]) - before) / SCRAPES:.1f}'
          f' ms CPU, {size} bytes; the process that serves them: '
          f'{table.pss(exporter)} MiB (Pss)')
    return 0 if ratio <= MAX_RATIO else 1


if __name__ == '__main__':
    sys.exit(main())
