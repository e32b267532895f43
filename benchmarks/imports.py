"""What small imports cost: rate, CPU of each process, and of doing nothing.

    tox -e bench-imports [-- --images 200 --clients 8 --size 65536
                          --fsync 3 --glance VENV]

Starts the embedded default (SQLite, file store, one conductor) on a directory
of its own; every client creates an image, stages it, asks for the import and
waits until it is active. CPU is what the operating system counted for the
processes and their children, user and system; the conductor's is the engine's
overhead, the data's and the second opinion's together. With real Glance
(GLANCE_VENV) the same clients do the same there, in the same run.

``--fsync`` does the same once more where each fsync takes so many
milliseconds, as it does on disks that are reached over a network, and compares
the rate with what the commits allow: they come one after the other.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import pathlib
import tempfile
import time

from benchmarks import fsyncs
from benchmarks import glance as glances
from tests import cpu as cpus
from tests import service as services


# Transactions that write: the image, PUT stage, POST import, claim to end
# (python -m benchmarks.journeys prints them).
COMMITS = 1 + 2 + 1 + 4


def one(service: services.Service, data: bytes) -> None:
    image_id = service.create()
    assert service.stage(image_id, data).status == 204
    assert service.start_import(image_id).status == 202
    while service.show(image_id)['status'] != 'active':
        time.sleep(0.02)


def measure(service: services.Service, images: int, clients: int,
            data: bytes) -> dict[str, float]:
    """Seconds of CPU and of the clock, for so many imports."""
    assert service.process is not None
    everybody = {service.process.pid, *service.children()}
    pids = {'conductor': set[int](), 'api': everybody}
    if not isinstance(service, glances.Glance):
        pids['conductor'] = {service.conductor_pid()}
        pids['api'] = everybody - pids['conductor']
    adopted = cpus.adopted()
    before = {name: cpus.of(group) for name, group in pids.items()}
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(one, service, data)
                     for _ in range(images)]:
            done.result()
    seconds = time.monotonic() - begun
    spent = {name: cpus.of(group) - before[name]
             for name, group in pids.items()}
    # Nobody else has these counted: the first processes of sandboxes.
    spent['conductor'] += cpus.adopted() - adopted
    return {'seconds': seconds, **spent}


def without_opinion(words: argparse.Namespace, data: bytes
                    ) -> dict[str, float]:
    """The same where qemu-img is not asked."""
    with tempfile.TemporaryDirectory() as top:
        service = services.Service(pathlib.Path(top), options={
            'taskflow_executor': {'poll_interval': 1.0},
            'image_format': {'second_opinion': 'off'}})
        service.start()
        try:
            measure(service, 10, 2, data)
            return measure(service, words.images, words.clients, data)
        finally:
            service.kill()


def with_slow_disk(words: argparse.Namespace, data: bytes,
                   clients: int) -> float:
    """Imports a second where each fsync takes ``words.fsync`` ms."""
    with tempfile.TemporaryDirectory() as top:
        service = services.Service(pathlib.Path(top), options={
            'taskflow_executor': {'poll_interval': 1.0}})
        service.environment.update(
            fsyncs.Fsyncs(pathlib.Path(top), words.fsync).environment)
        service.start()
        try:
            measure(service, 10, 2, data)
            images = max(words.images // 2, 4 * clients)
            return images / measure(service, images, clients, data)['seconds']
        finally:
            service.kill()


def of_glance(environment: str, words: argparse.Namespace,
              data: bytes) -> dict[str, float]:
    """The same of real Glance."""
    with tempfile.TemporaryDirectory() as top:
        glance = glances.Glance(pathlib.Path(top), environment)
        glance.start()
        try:
            measure(glance, 4, 2, data)
            return measure(glance, words.images // 4, words.clients, data)
        finally:
            glance.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, default=200)
    parser.add_argument('--clients', type=int, default=8)
    parser.add_argument('--size', type=int, default=65536)
    parser.add_argument('--idle', type=float, default=20.0,
                        help='seconds to watch an idle conductor')
    parser.add_argument('--fsync', type=float, metavar='MS',
                        help='the same with fsyncs that take so long')
    parser.add_argument('--glance', help='virtual environment with Glance',
                        default=os.environ.get('GLANCE_VENV'))
    words = parser.parse_args()
    data = os.urandom(words.size)
    cpus.adopt()
    alone = without_opinion(words, data)
    with tempfile.TemporaryDirectory() as top:
        service = services.Service(pathlib.Path(top), options={
            'taskflow_executor': {'poll_interval': 1.0}})
        service.start()
        try:
            measure(service, 10, 2, data)
            found = measure(service, words.images, words.clients, data)
            time.sleep(2)
            conductor = service.conductor_pid()
            before = cpus.of([conductor])
            time.sleep(words.idle)
            idle = cpus.of([conductor]) - before
        finally:
            service.kill()
    rate = words.images / found['seconds']
    print(f'{words.images} images of {words.size} bytes, {words.clients} '
          f'clients: {rate:.1f} imports a second')
    for name in ('conductor', 'api'):
        print(f'CPU of the {name}: '
              f'{found[name] / words.images * 1000:.1f} ms an import')
    more = found['conductor'] - alone['conductor']
    print('of which the second opinion of qemu-img: '
          f'{more / words.images * 1000:.1f} ms '
          f'(without it {words.images / alone["seconds"]:.1f} a second)')
    print(f'CPU of an idle conductor: {idle / words.idle * 100:.2f} % of a '
          'core')
    if words.fsync:
        allowed = 1000 / (COMMITS * words.fsync)
        for clients in (8, 32):
            slow = with_slow_disk(words, data, clients)
            print(f'fsync of {words.fsync:g} ms, {clients} clients: '
                  f'{slow:.1f} imports a second, {slow / allowed:.2f} of '
                  f'what {COMMITS} commits a round allow ({allowed:.1f})')
    if words.glance:
        other = of_glance(words.glance, words, data)
        slow = words.images // 4 / other['seconds']
        print(f'Glance: {slow:.1f} imports a second, CPU '
              f'{other["api"] / (words.images // 4) * 1000:.1f} ms an '
              f'import; ours {rate / slow:.1f} x its rate (goal: 3)')


if __name__ == '__main__':
    main()
