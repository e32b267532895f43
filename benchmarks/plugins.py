"""What contract plugins cost: set-up, reading, and two at a time.

    python -m benchmarks.plugins [--mib 1024] [--directory DIR]

Uses the host and the sandbox as the service does, without the service.
Prints the best of several runs, and the bound that each figure shall keep.
"""

from __future__ import annotations

import argparse
import collections.abc
import dataclasses
import os
import pathlib
import sys
import tempfile
import time

from glance_import import conf as configuration
from glance_import.plugin import chain
from glance_import.plugin import host
from glance_import.plugin import sandbox
from glance_import.plugin import second_opinion
from glance_import import staging
from tests import cpu

NOTHING = '''
from glance_import.plugin import ImagePlugin
class Nothing(ImagePlugin):
    api = 1
    def inspect(self):
        return self.accept()
'''
READER = '''
from glance_import.plugin import ImagePlugin
class Reader(ImagePlugin):
    api = 1
    def inspect(self, data):
        for block in data:
            pass
        return self.accept()
'''
HASHER = '''
from glance_import.plugin import ImagePlugin
import hashlib
class Hasher(ImagePlugin):
    api = 1
    def inspect(self, data):
        digest = hashlib.sha256()
        for block in data:
            digest.update(block)
        return self.accept()
'''


def plugin(directory: pathlib.Path, source: str, name: str) -> chain.Plugin:
    path = directory / f'{name}.py'
    path.write_text(source)
    return chain.Plugin(
        name=name, section=name, kind='file', version='',
        methods=('inspect',), summary='', settings=chain.Settings(),
        target=host.Target(name, 'file', name, name.title(),
                           source=str(path)))


@dataclasses.dataclass(frozen=True, order=True)
class Taken:
    """Seconds of the clock, and of the CPU with that of all children."""

    clock: float
    cpu: float


def best(times: int, *actions: collections.abc.Callable[[], object]
         ) -> list[Taken]:
    """Each action at its best, taken in turns.

    The least is what the code costs; the rest is what else the machine does.
    """
    taken: list[list[Taken]] = [[] for _ in actions]
    for round_ in range(times + 1):
        for action, results in zip(actions, taken):
            begun, used = time.perf_counter(), cpu.here()
            action()
            # The first round only fills caches.
            if round_:
                results.append(Taken(time.perf_counter() - begun,
                                     cpu.here() - used))
    return [min(results) for results in taken]


def read_once(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    while os.read(fd, 256 * 1024):
        pass
    os.close(fd)


def judge(way, plugins: list[chain.Plugin], path: str) -> None:
    for record in chain.inspect(way, plugins, 'inspect', image={'id': 'x'},
                                data=path, log=lambda plugin, text: None):
        if record.verdict != 'accept':
            sys.exit(f'{record.plugin}: {record.reason} {record.detail}')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--mib', type=int, default=1024)
    parser.add_argument('--times', type=int, default=7)
    parser.add_argument('--directory', default=None)
    arguments = parser.parse_args()
    cpu.adopt()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as scratch:
        directory = pathlib.Path(scratch)
        path = directory / 'image'
        with open(path, 'wb') as image:
            for _ in range(arguments.mib):
                image.write(os.urandom(1 << 20))
        measure(directory, str(path), arguments)
    return 0


def measure(directory: pathlib.Path, path: str,
            arguments: argparse.Namespace) -> None:
    nothing = plugin(directory, NOTHING, 'nothing')
    reader = plugin(directory, READER, 'reader')
    hasher = plugin(directory, HASHER, 'hasher')
    other = plugin(directory, HASHER.replace('Hasher', 'Other'), 'other')
    twin = plugin(directory, READER.replace('Reader', 'Twin'), 'twin')
    times = arguments.times
    for isolation in ('strict', 'process'):
        way = sandbox.make(isolation)
        once, setup, one, two, hashed, both = best(
            times, lambda: read_once(path),
            lambda: judge(way, [nothing], path),
            lambda: judge(way, [reader], path),
            lambda: judge(way, [reader, twin], path),
            lambda: judge(way, [hasher], path),
            lambda: judge(way, [hasher, other], path))
        print(isolation)
        say(f'read {arguments.mib} MiB once', once)
        say('set-up of one inspector', setup, 'at most 0.080 s')
        # Its set-up has a bound of its own, and is the same for any size.
        say('an inspector that only reads', one,
            f'{(one.clock - setup.clock) / once.clock:.2f} x reading once, '
            f'at most 1.25 ({one.clock / once.clock:.2f} x with its set-up)')
        say('two that only read', two,
            f'{two.clock / one.clock:.2f} x one, at most 1.3')
        say('one that hashes', hashed)
        say('two that hash', both, f'{both.clock / hashed.clock:.2f} x one')
    opinion(directory, path, times)


def opinion(directory: pathlib.Path, path: str, times: int) -> None:
    """What qemu-img's say costs, of a large image and of a small one."""
    (directory / 'glance-api.conf').write_text(
        f'[DEFAULT]\nstate_path = {directory}\n')
    conf = configuration.load(['--config-dir', str(directory)],
                              prog='benchmarks')
    area = staging.Area.open(f'file://{directory}/area',
                             readers=sandbox.READERS)
    adviser = second_opinion.Adviser(conf, area, sandbox.Strict)
    with area.scratch() as small, area.scratch() as large:
        for file, source in ((small, b'x' * 65536),
                             (large, pathlib.Path(path).read_bytes())):
            file.write(source, 0)
        one, other, named = best(
            times,
            lambda: adviser.check(small.path, (), host.never),
            lambda: adviser.check(large.path, (), host.never),
            lambda: adviser.check(small.path, ('qcow2',), host.never))
    print('second opinion of qemu-img')
    say('of 64 KiB, format to be found', one)
    say('of the whole file', other, f'{other.cpu / one.cpu:.2f} x its CPU, '
        'at most 1.3')
    say('of 64 KiB, as qcow2 too', named)


def say(what: str, taken: Taken, bound: str = '') -> None:
    print(f'  {what:32} {taken.clock:8.3f} s  CPU {taken.cpu:7.3f} s   '
          f'{bound}', flush=True)


if __name__ == '__main__':
    sys.exit(main())
