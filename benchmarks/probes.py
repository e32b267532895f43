"""What health probes cost: CPU of the service for each.

    python -m benchmarks.probes [--seconds N]

A service on SQLite, its conductor off, is asked once a second, so that each
probe looks at everything anew, and then as fast as it answers, when most are
told what was just seen. What it uses while nobody asks is taken off.
"""

from __future__ import annotations

import argparse
import http.client
import pathlib
import sys
import tempfile
import time
import typing

from benchmarks import api
from tests import cpu as cpus

SECONDS = 20
PATHS = ('/healthcheck/live', '/healthcheck/ready')
AT_ONCE = 500


def main(arguments: typing.Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='benchmarks.probes')
    parser.add_argument('--seconds', type=int, default=SECONDS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        service = api.ours(pathlib.Path(name), taskflow_executor={
            'embedded_conductor': False})
        service.is_cold = True
        try:
            measure(service.start(), options.seconds)
        finally:
            service.stop()
    return 0


def measure(service, seconds: int) -> None:
    pids = [service.process.pid, *service.children()]
    client = http.client.HTTPConnection('127.0.0.1', service.port)

    def ask(path: str) -> None:
        client.request('GET', path)
        answer = client.getresponse()
        answer.read()
        assert answer.status == 200, answer.status

    def used(path: str | None, count: int, pause: float) -> float:
        """Milliseconds of CPU."""
        before = cpus.of(pids)
        for _ in range(count):
            if path:
                ask(path)
            time.sleep(pause)
        return 1000 * (cpus.of(pids) - before)

    for path in PATHS:
        ask(path)
    idle = used(None, seconds, 1)
    for path in PATHS:
        slow = (used(path, seconds, 1) - idle) / seconds
        fast = used(path, AT_ONCE, 0) / AT_ONCE
        print(f'GET {path}: {slow:.2f} ms CPU each when asked once a second '
              f'(idle: {idle / seconds:.2f} ms a second), {fast:.2f} ms at '
              f'full speed, {AT_ONCE} times')


if __name__ == '__main__':
    sys.exit(main())
