"""The table of the data path: limits, ours, bare loops, real Glance.

    python -m benchmarks [--size MIB] [--rounds N] [--glance VENV]
                         [--large] [--keep] [--directory DIR]

Everything that is compared is run in turn, in one run, on one file system.
Of the rounds the best of each side counts, of downloads the middle.
``--keep`` writes the table to
benchmarks/results/ with the date. Rows that the machine cannot do (loop
mounts need root, mkfs.xfs and mkfs.btrfs; Glance needs a virtual
environment with it) say so.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import typing

from benchmarks import bare
from benchmarks import glance as glances
from tests import cpu as cpus
from tests import service as services

MIB = 1 << 20
DOWNLOADS = 7
HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass
class Row:
    what: str
    goal: str
    ours: str
    other: str = ''
    met: bool | None = None


def mbs(size: int, seconds: float) -> str:
    return f'{size / seconds / 1e6:.0f} MB/s'


# -- what is measured of a service -----------------------------------------

def pids(service: services.Service) -> list[int]:
    assert service.process is not None
    return [service.process.pid, *service.children()]


def cpu(service: services.Service) -> float:
    """CPU seconds of all its processes so far, also of those that ended."""
    assert service.process is not None
    return cpus.below(service.process.pid)


def pss(pid: int) -> int:
    """MiB."""
    for line in pathlib.Path(f'/proc/{pid}/smaps_rollup').open():
        if line.startswith('Pss:'):
            return int(line.split()[1]) // 1024
    return 0


def identity(service: services.Service) -> str:
    """Lines of a request's head that say who asks."""
    if not isinstance(service, glances.Glance):
        return ''
    return ''.join(f'{name}: {value}\r\n'
                   for name, value in glances.IDENTITY.items())


def put(service: services.Service, path: str, size: int,
        chunk: int = 0) -> subprocess.Popen:
    length = ('Transfer-Encoding: chunked' if chunk
              else f'Content-Length: {size}')
    return bare.send(service.port, (
        f'PUT {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n'
        f'{identity(service)}Content-Type: application/octet-stream\r\n'
        '\r\n').encode(), size, chunk=chunk)


def stage(service: services.Service, size: int, chunk: int = 0,
          sync: bool = False) -> tuple[str, float, float]:
    """Image id, seconds, CPU seconds."""
    image_id = service.create()
    before = cpu(service)
    begun = time.monotonic()
    took = bare.seconds_of(put(
        service, f'/v2/images/{image_id}/stage', size, chunk))
    if sync:
        fd = os.open(service.staging / image_id, os.O_RDONLY)
        os.fdatasync(fd)
        os.close(fd)
        took = time.monotonic() - begun
    return image_id, took, cpu(service) - before


def to_active(service: services.Service, image_id: str
              ) -> tuple[float, float]:
    """From the request to active: seconds, CPU seconds."""
    before, begun = cpu(service), time.monotonic()
    answer = service.start_import(image_id)
    assert answer.status == 202, answer
    while True:
        image = service.show(image_id)
        if image['status'] == 'active':
            break
        assert image['status'] in ('importing', 'uploading'), image
        time.sleep(0.005)
    took = time.monotonic() - begun
    time.sleep(0.3)
    return took, cpu(service) - before


def download(service: services.Service, image_id: str) -> float:
    return bare.seconds_of(bare.receiver(service.port, (
        f'GET /v2/images/{image_id}/file HTTP/1.1\r\nHost: localhost\r\n'
        f'{identity(service)}Connection: close\r\n\r\n').encode()))


def delete(service: services.Service, image_id: str) -> None:
    service.request('DELETE', f'/v2/images/{image_id}')


class Pings:
    """GET image every few milliseconds: how long each took."""

    def __init__(self, service: services.Service) -> None:
        self._path = f'/v2/images/{service.create()}'
        self._service = service
        self._stop = threading.Event()
        self.seconds: list[float] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Pings:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            self._service.request('GET', self._path)
            self.seconds.append(time.monotonic() - begun)
            time.sleep(0.01)

    @property
    def p99(self) -> float:
        """Milliseconds."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[int(len(ordered) * 0.99)]


# -- the rows ---------------------------------------------------------------

class Bench:
    def __init__(self, options: argparse.Namespace,
                 top: pathlib.Path) -> None:
        self.options = options
        self.size = options.size * MIB
        self.top = top
        self.rows: list[Row] = []
        self.ours = services.Service(top / 'ours')
        self.ours.start()
        self.ours.conductor_pid()
        self.glance: glances.Glance | None = None
        if options.glance:
            self.glance = glances.Glance(top / 'glance', options.glance)
            self.glance.start()

    def close(self) -> None:
        self.ours.stop()
        if self.glance is not None:
            self.glance.stop()

    def add(self, what: str, goal: str, ours: str, other: str = '',
            met: bool | None = None) -> None:
        self.rows.append(Row(what, goal, ours, other, met))
        said = {True: 'met', False: 'MISSED', None: '-'}[met]
        print(f'{what} | {goal} | {ours} | {other} | {said}', flush=True)

    def uploads(self) -> None:
        """Stage, import and download, each beside the floor and Glance."""
        size, path = self.size, str(self.top / 'bare')
        ways = {'Content-Length': 0, 'chunked, 64 KiB': 64 << 10}
        floor: list[tuple[float, float]] = []
        mine: dict[str, list[tuple[float, float]]] = {n: [] for n in ways}
        imports, both, theirs = [], [], []
        for _ in range(self.options.rounds):
            floor.append(bare.stage(path, size))
            for name, chunk in ways.items():
                image_id, took, used = stage(self.ours, size, chunk)
                mine[name].append((took, used))
                seconds, more = to_active(self.ours, image_id)
                imports.append(seconds)
                both.append(used + more)
                delete(self.ours, image_id)
        best = min(floor)[0]
        slow = None
        if self.glance is not None:
            image_id, took, used = stage(self.glance, size, sync=True)
            seconds, more = to_active(self.glance, image_id)
            theirs = [took, seconds, used + more]
            slow = image_id
        for name in ways:
            took = min(mine[name])[0]
            beside = f'floor {mbs(size, best)}: {best / took:.2f} of it'
            met = best / took >= 0.85
            if theirs:
                beside += (f'; Glance {mbs(size, theirs[0])}: '
                           f'{theirs[0] / took:.1f} x')
                met = met and theirs[0] / took >= 2
            self.add(f'stage {self.options.size} MiB, {name}',
                     '>= 0.85 of the floor, >= 2 x Glance',
                     mbs(size, took), beside, met)
        per_gib = min(both) * 1024 / self.options.size
        floor_cpu = min(c for _, c in floor) * 1024 / self.options.size
        if theirs:
            glance_cpu = theirs[2] * 1024 / self.options.size
            self.add('stage + import, CPU seconds per GiB',
                     '<= 0.4 of Glance', f'{per_gib:.2f}',
                     f'Glance {glance_cpu:.2f}: {per_gib / glance_cpu:.2f}; '
                     f'floor of staging alone {floor_cpu:.2f}',
                     per_gib <= 0.4 * glance_cpu)
            self.add(f'import {self.options.size} MiB to active',
                     '>= 50 x Glance', f'{1000 * min(imports):.0f} ms',
                     f'Glance {theirs[1]:.1f} s: '
                     f'{theirs[1] / min(imports):.0f} x',
                     theirs[1] / min(imports) >= 50)
        else:
            self.add('stage + import, CPU seconds per GiB',
                     '<= 0.4 of Glance', f'{per_gib:.2f}',
                     f'floor of staging alone {floor_cpu:.2f}; no Glance')
        self.downloads(slow)

    def downloads(self, slow: str | None) -> None:
        image_id, *_ = stage(self.ours, self.size)
        to_active(self.ours, image_id)
        source = str(self.ours.images / image_id)
        # By turns, and the middle of each: the same loop is three times as
        # fast when the scheduler happens to place client and server well.
        found: dict[str, list[float]] = {'bare': [], 'ours': [], 'glance': []}
        for _ in range(DOWNLOADS):
            found['bare'].append(bare.download(source))
            found['ours'].append(download(self.ours, image_id))
            if self.glance is not None and slow is not None:
                found['glance'].append(download(self.glance, slow))
        floor, took = (statistics.median(found[name])
                       for name in ('bare', 'ours'))
        beside = f'floor {mbs(self.size, floor)}: {floor / took:.2f} of it'
        met = floor / took >= 0.8
        if self.glance is not None and slow is not None:
            delete(self.glance, slow)
            theirs = statistics.median(found['glance'])
            beside += (f'; Glance {mbs(self.size, theirs)}: '
                       f'{theirs / took:.1f} x')
            met = met and theirs / took >= 2
        beside += '; fastest ' + ', '.join(
            mbs(self.size, min(times)) for times in found.values() if times)
        self.add(f'download {self.options.size} MiB, middle of {DOWNLOADS}',
                 '>= 0.8 of sendfile, >= 2 x Glance',
                 mbs(self.size, took), beside, met)
        delete(self.ours, image_id)

    def several(self) -> None:
        size = self.size // 4
        alone, took = [], []
        for _ in range(self.options.rounds):
            image_id, seconds, _used = stage(self.ours, self.size)
            delete(self.ours, image_id)
            alone.append(seconds)
            ids = [self.ours.create() for _ in range(4)]
            took.append(bare.seconds_of(*[
                put(self.ours, f'/v2/images/{image_id}/stage', size)
                for image_id in ids]))
            for image_id in ids:
                delete(self.ours, image_id)
        self.add('4 uploads at once, total', '>= one upload alone',
                 mbs(4 * size, min(took)),
                 f'one alone {mbs(self.size, min(alone))}',
                 4 * size / min(took) >= self.size / min(alone))

    def latency(self) -> None:
        with Pings(self.ours) as quiet:
            time.sleep(2)
        image_id, *_ = stage(self.ours, self.size)
        with Pings(self.ours) as pings:
            other, *_ = stage(self.ours, self.size)
            to_active(self.ours, image_id)
        self.add('GET image while a stage and an import run, p99',
                 '< 25 ms', f'{pings.p99:.1f} ms',
                 f'{quiet.p99:.1f} ms when nothing runs; '
                 f'{len(pings.seconds)} requests', pings.p99 < 25)
        delete(self.ours, image_id)
        delete(self.ours, other)

    def memory(self) -> None:
        def worker() -> int:
            return next(pid for pid, words in self.ours.children().items()
                        if 'cmd.api' in words)
        self.ours.stop()
        self.ours.start()
        self.ours.conductor_pid()
        idle = pss(worker())
        peak = [0]
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                peak[0] = max(peak[0], pss(worker()))
                time.sleep(0.05)
        watcher = threading.Thread(target=watch)
        watcher.start()
        clients = [put(self.ours, f'/v2/images/{self.ours.create()}/stage',
                       self.size // 4) for _ in range(8)]
        for client in clients:
            bare.seconds_of(client)
        done.set()
        watcher.join()
        self.add('Pss of an API process, idle', '< 150 MiB',
                 f'{idle} MiB', '', idle < 150)
        self.add('Pss of an API process, 8 uploads', '< 250 MiB',
                 f'{peak[0]} MiB', '', peak[0] < 250)
        self.slow(worker())

    def slow(self, pid: int) -> None:
        before = pss(pid)
        clients = []
        for _ in range(200):
            sock = self.ours.raw()
            sock.sendall((
                f'PUT /v2/images/{self.ours.create()}/stage HTTP/1.1\r\n'
                'Host: localhost\r\nContent-Type: application/octet-stream\r\n'
                'Content-Length: 1000000000\r\n\r\n').encode()
                + bytes(70_000))
            clients.append(sock)
        with Pings(self.ours) as pings:
            for _ in range(20):
                for sock in clients:
                    sock.sendall(bytes(1000))
                time.sleep(0.1)
        more = pss(pid) - before
        self.add('200 slow uploaders: Pss more',
                 'a buffer of 64 KiB each, and a thread',
                 f'{more} MiB: {more * 1024 / 200:.0f} KiB each')
        self.add('200 slow uploaders: GET image p99', 'nobody is held up',
                 f'{pings.p99:.1f} ms', f'{len(pings.seconds)} requests',
                 pings.p99 < 100)
        for sock in clients:
            sock.close()

    # -- import by reference, on several file systems

    def references(self) -> None:
        sizes = [1, self.options.size]
        if self.options.large:
            sizes.append(8192)
        self._reference('ext4 or what lies below', self.top, sizes)
        for kind, tool in (('xfs', 'mkfs.xfs'), ('btrfs', 'mkfs.btrfs')):
            if shutil.which(tool) is None or os.geteuid():
                self.add(f'import to active, {kind}', '< 150 ms',
                         f'not tried: needs root and {tool}')
                continue
            with loop_mount(self.top, kind, 3 * sizes[-1] + 1024) as place:
                self._reference(kind, place, sizes)

    def _reference(self, name: str, place: pathlib.Path,
                   sizes: list[int]) -> None:
        service = services.Service(place / 'by-reference')
        service.start()
        service.conductor_pid()
        try:
            best = {}
            for size in sizes:
                found = []
                for _ in range(5 if size < 2048 else 3):
                    image_id, *_ = stage(service, size * MIB)
                    # Freeing the one before is not this import's work.
                    os.sync()
                    found.append(to_active(service, image_id)[0])
                    delete(service, image_id)
                best[size] = min(found)
        finally:
            service.stop()
            shutil.rmtree(place / 'by-reference')
        low, high = min(best.values()), max(best.values())
        self.add(f'import to active, {name}',
                 '< 150 ms, within 2 x from the least to the largest',
                 ', '.join(f'{size} MiB {1000 * took:.0f} ms'
                           for size, took in best.items()),
                 f'{high / low:.1f} x', high < 0.15 and high <= 2 * low)

    def across(self) -> None:
        """From the file system under test to one in memory."""
        place = pathlib.Path(tempfile.mkdtemp(dir='/dev/shm'))
        service = services.Service(self.top / 'across', options={
            'glance_store': {'filesystem_store_datadir': place}})
        service.start()
        service.conductor_pid()
        try:
            floor, mine = [], []
            for _ in range(self.options.rounds):
                image_id, *_ = stage(service, self.size)
                floor.append(bare.copy_and_hash(
                    str(service.staging / image_id), str(place / 'bare')))
                mine.append(to_active(service, image_id)[0])
                delete(service, image_id)
            self.add('import to another file system',
                     '>= 0.85 of cp + parallel hashing',
                     mbs(self.size, min(mine)),
                     f'floor {mbs(self.size, min(floor))}: '
                     f'{min(floor) / min(mine):.2f} of it',
                     min(floor) / min(mine) >= 0.85)
        finally:
            service.stop()
            shutil.rmtree(place)


@contextlib.contextmanager
def loop_mount(top: pathlib.Path, kind: str, size: int
               ) -> typing.Iterator[pathlib.Path]:
    """A file system of ``size`` MiB in a file."""
    image, place = top / f'{kind}.img', top / kind
    with open(image, 'wb') as file:
        file.truncate(size * MIB)
    place.mkdir()
    subprocess.run([f'mkfs.{kind}', '-q', image], check=True)
    subprocess.run(['mount', '-o', 'loop', image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(['umount', place], check=True)
        image.unlink()


def machine(top: pathlib.Path) -> str:
    model = 'unknown processor'
    for line in pathlib.Path('/proc/cpuinfo').open():
        if line.startswith('model name'):
            model = line.split(':')[1].strip()
            break
    below = subprocess.run(['df', '--output=fstype', str(top)],
                           capture_output=True, text=True).stdout.split()[-1]
    load = os.getloadavg()[0]
    return (f'{len(os.sched_getaffinity(0))} cores of {model}, '
            f'Linux {platform.release()}, CPython '
            f'{platform.python_version()}, {below}; load {load:.1f} at the '
            'start')


def table(about: str, rows: list[Row]) -> str:
    lines = [about, '', '| what | goal | ours | beside it | goal met |',
             '|---|---|---|---|---|']
    for row in rows:
        met = {True: 'yes', False: 'NO', None: '-'}[row.met]
        lines.append(f'| {row.what} | {row.goal} | {row.ours} | {row.other} '
                     f'| {met} |')
    return '\n'.join(lines) + '\n'


def main() -> int:
    parser = argparse.ArgumentParser(prog='benchmarks')
    parser.add_argument('--size', type=int, default=1024, help='MiB')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--glance', help='virtual environment with Glance',
                        default=os.environ.get('GLANCE_VENV'))
    parser.add_argument('--large', action='store_true',
                        help='also import 8 GiB by reference')
    parser.add_argument('--keep', action='store_true',
                        help='write the table to benchmarks/results/')
    parser.add_argument('--directory', help='where to work',
                        default=tempfile.gettempdir())
    parser.add_argument('--only', nargs='*', help='rows to measure')
    options = parser.parse_args()
    cpus.adopt()
    now = datetime.datetime.now()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        top = pathlib.Path(name)
        about = f'{now:%Y-%m-%d %H:%M}, {machine(top)}'
        print(about, flush=True)
        for each in ('ours', 'glance', 'across'):
            (top / each).mkdir()
        bench = Bench(options, top)
        try:
            for part in ('uploads', 'several', 'latency', 'memory',
                         'references', 'across'):
                if not options.only or part in options.only:
                    getattr(bench, part)()
        finally:
            bench.close()
    text = table(about, bench.rows)
    print('\n' + text)
    if options.keep:
        target = HERE / 'results' / f'{now:%Y-%m-%d}.md'
        target.write_text(text)
        print(f'written to {target}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
