"""What metrics cost: the CPU of a GET with them and without, in one run.

    python -m benchmarks.metrics [--blocks N]

Two applications on SQLite in this process answer the same request, one of
them with ``[metrics] bind_port``. They take turns of some milliseconds, so
that whatever else the machine does falls on both; of all turns the middle one
counts. The server in front of them is left out: it would make the request
dearer, and metrics look cheaper. Also printed: the CPU of one scrape, and the
memory of the process that serves them.
"""

from __future__ import annotations

import argparse
import io
import os
import pathlib
import statistics
import sys
import tempfile
import time
import typing
import urllib.request

from benchmarks import __main__ as table
from benchmarks import api
from glance_import.api import deploy
from glance_import import conf as configuration
from glance_import import services as all_services
from tests import cpu as cpus
from tests import servers
from tests import service as services

BLOCKS = 300
REQUESTS = 25
MAX_RATIO = 1.03
SCRAPES = 50


class Application:
    """The pipeline of a service, and the image that it is asked for."""

    def __init__(self, service: services.Service) -> None:
        service.start()
        self._image = service.create()
        self._token = service.token
        service.stop()
        conf = configuration.load(['--config-dir', str(service.conf)])
        self._app = deploy.load(all_services.build(conf))

    def ask(self) -> None:
        environ = {
            'REQUEST_METHOD': 'GET', 'SCRIPT_NAME': '',
            'PATH_INFO': f'/v2/images/{self._image}', 'QUERY_STRING': '',
            'SERVER_NAME': 'localhost', 'SERVER_PORT': '80',
            'SERVER_PROTOCOL': 'HTTP/1.1', 'REMOTE_ADDR': '127.0.0.1',
            'HTTP_ACCEPT': 'application/json',
            'HTTP_X_AUTH_TOKEN': self._token, 'wsgi.input': io.BytesIO(),
            'wsgi.errors': sys.stderr, 'wsgi.url_scheme': 'http'}
        status: list[str] = []
        body = b''.join(self._app(environ, lambda line, headers, exc=None:
                                  status.append(line)))
        assert status[0].startswith('200') and body, status

    def block(self) -> float:
        """Microseconds of CPU for one request, of a block of them."""
        begun = time.process_time()
        for _ in range(REQUESTS):
            self.ask()
        return 1e6 * (time.process_time() - begun) / REQUESTS


def compare(top: pathlib.Path, blocks: int) -> bool:
    """Whether a request is as cheap as it should be."""
    both = []
    for name, more in (('without', {}), ('with', {
            'metrics': {'bind_port': servers.free_port()}})):
        (top / name).mkdir()
        both.append(Application(api.ours(top / name, **more)))
    for each in both:
        each.block()
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(blocks):
        # Each is first as often as the other.
        for which in (0, 1) if number % 2 else (1, 0):
            found[which].append(both[which].block())
    less, more = map(statistics.median, found)
    print(f'GET image: {less:.1f} us CPU without metrics, {more:.1f} us with '
          f'them, {100 * (more / less - 1):+.1f} % (the middle of {blocks} '
          f'blocks; goal: at most {100 * (MAX_RATIO - 1):+.0f} %; the '
          f'cheapest blocks: {min(found[0]):.1f} and {min(found[1]):.1f} us)')
    return more / less <= MAX_RATIO


def scrapes(top: pathlib.Path) -> None:
    port = servers.free_port()

    def scrape() -> int:
        try:
            with urllib.request.urlopen(
                    f'http://127.0.0.1:{port}/metrics') as answer:
                return len(answer.read())
        except OSError:
            return 0

    service = api.ours(top, metrics={'bind_port': port})
    service.is_cold = True
    try:
        service.start()
        services.wait_for(scrape)
        exporter = next(pid for pid, words in service.children().items()
                        if 'cmd.exporter' in words)
        before = cpus.of([exporter])
        size = sum(scrape() for _ in range(SCRAPES)) // SCRAPES
        used = 1000 * (cpus.of([exporter]) - before) / SCRAPES
        print(f'one scrape: {used:.1f} ms CPU, {size} bytes; the process '
              f'that serves them: {table.pss(exporter)} MiB (Pss)')
    finally:
        service.stop()


def main(arguments: typing.Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='benchmarks.metrics')
    parser.add_argument('--blocks', type=int, default=BLOCKS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        top = pathlib.Path(name)
        good = compare(top, options.blocks)
        os.mkdir(top / 'scrapes')
        scrapes(top / 'scrapes')
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
