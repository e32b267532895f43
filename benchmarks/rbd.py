"""What storing in RBD costs, beside ``rbd import`` of the same file.

    python -m benchmarks.rbd [--mib 1024] [--rounds 3] [--kind memstore]
        [--glance DIRECTORY] [--sparse GIB] [--directory DIR]

One cluster of the tests' (one OSD; ``--kind bluestore`` keeps its data in
DIR). Uses the store as the service does, without the service; ``--glance``
is a virtual environment with glance_store, whose driver is run beside it.
Each is run in turn; of the rounds the best of each counts, and the CPU time
of the clients alone. ``--sparse``: raw files of that many GiB with 100 and
800 MiB of data, and dense ones of the same data. Ends with 1 when a bound is
not kept.
"""

from __future__ import annotations

import argparse
import collections.abc
import hashlib
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import typing

from benchmarks import stores as benchmark
from glance_import import conf as configuration
from glance_import import staging
from glance_import.stores import configured as registry
from glance_import.stores import rbd
from tests import ceph

MIB = 1 << 20
# Run by Glance's Python: its driver, as Glance calls it.
GLANCE = '''
import sys, uuid
from oslo_config import cfg
from glance_store._drivers import rbd
conf_file, path, size, link = sys.argv[1:]
from glance_store import backend, location
conf = cfg.ConfigOpts()
backend.register_opts(conf)
conf([], default_config_files=[])
conf.set_override('stores', ['rbd'], 'glance_store')
conf.set_override('rbd_store_ceph_conf', conf_file, 'glance_store')
conf.set_override('rbd_store_user', 'glance', 'glance_store')
conf.set_override('rbd_thin_provisioning', True, 'glance_store')
store = rbd.Store(conf)
store.configure(re_raise_bsc=True)
with open(path, 'rb') as file:
    store.add(link, file, int(size), 'sha512')
'''


class Run(typing.NamedTuple):
    seconds: float
    cpu: float


def timed(call: collections.abc.Callable[[], object], who: int) -> Run:
    def cpu() -> float:
        used = resource.getrusage(who)
        return used.ru_utime + used.ru_stime
    before, began = cpu(), time.perf_counter()
    call()
    return Run(time.perf_counter() - began, cpu() - before)


class Bench:
    """The ways to bring a file into the pool."""

    def __init__(self, keeper: ceph.Keeper, glance: str | None) -> None:
        self._conf = keeper.conf
        self._glance = glance
        conf = configuration.new()
        conf([], default_config_files=[])
        conf.set_override('enabled_backends', {'ceph': 'rbd'})
        conf.set_override('default_backend', 'ceph', 'glance_store')
        registry.register(conf)
        conf.set_override('rbd_store_user', 'glance', 'ceph')
        conf.set_override('rbd_store_ceph_conf', keeper.conf, 'ceph')
        self.store = typing.cast(rbd.RbdStore, registry.build(conf).default)

    def _rbd(self, *words: str) -> None:
        subprocess.run(['rbd', '-c', self._conf, '--id', 'glance', *words,
                        '--no-progress'], check=True)

    def by_rbd(self, path: pathlib.Path) -> Run:
        run = timed(lambda: self._rbd('import', str(path), 'images/floor'),
                    resource.RUSAGE_CHILDREN)
        self._rbd('rm', 'images/floor')
        return run

    def by_us(self, path: pathlib.Path, known: staging.Staged) -> Run:
        took: list[float] = []
        run = timed(lambda: took.append(
            benchmark.store([self.store], path, known)[0]),
            resource.RUSAGE_SELF)
        return Run(took[0], run.cpu)

    def by_glance(self, path: pathlib.Path) -> Run:
        assert self._glance is not None
        run = timed(lambda: subprocess.run(
            [f'{self._glance}/bin/python', '-c', GLANCE, self._conf,
             str(path), str(path.stat().st_size), 'glance'], check=True),
            resource.RUSAGE_CHILDREN)
        self.store.delete(self.store.uri('glance'))
        return run

    def compare(self, what: str, path: pathlib.Path, known: staging.Staged,
                rounds: int, least: float) -> tuple[bool, Run]:
        found: dict[str, list[Run]] = {'rbd import': [], 'store': []}
        for _ in range(rounds):
            found['rbd import'].append(self.by_rbd(path))
            found['store'].append(self.by_us(path, known))
            if self._glance is not None:
                found.setdefault('glance_store', []).append(
                    self.by_glance(path))
        best = {name: min(runs) for name, runs in found.items()}
        ratio = best['rbd import'].seconds / best['store'].seconds
        print(f'{what}: ' + '; '.join(
            f'{name} {run.seconds:.2f} s, {run.cpu:.2f} s of CPU'
            for name, run in best.items())
            + f': {ratio:.2f} of the speed of rbd import (at least {least})',
            flush=True)
        return ratio >= least, best['store']


def sparse(path: pathlib.Path, size: int, mib: int) -> staging.Staged:
    """A raw file of ``size`` bytes with ``mib`` MiB of data, in pieces."""
    known = hashlib.sha512()
    block = os.urandom(MIB)
    with open(path, 'wb') as file:
        for number in range(mib):
            file.seek(size // mib * number)
            file.write(block)
        file.truncate(size)
        file.flush()
        os.fsync(file.fileno())
    identity = staging.Identity.of_path(str(path))
    assert identity is not None
    # What the digest says is not looked at again.
    return staging.Staged(size, None, 'sha512', known.hexdigest(), identity)


def sparse_files(bench: Bench, options: argparse.Namespace,
                 directory: pathlib.Path) -> bool:
    kept = []
    for mib in (100, 800):
        path = directory / 'sparse'
        dense = benchmark.make_source(path, mib)
        ok, whole = bench.compare(f'{mib} MiB dense', path, dense,
                                  options.rounds, 0)
        known = sparse(path, options.sparse << 30, mib)
        ok, thin = bench.compare(
            f'{mib} MiB in {options.sparse} GiB', path, known,
            options.rounds, 0.9)
        print(f'   {thin.seconds / whole.seconds:.2f} times as long as '
              'dense (at most 1.3)', flush=True)
        kept += [ok, thin.seconds <= 1.3 * whole.seconds]
    return all(kept)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--mib', type=int, default=1024)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--kind', choices=['memstore', 'bluestore'],
                        default='memstore')
    parser.add_argument('--sparse', type=int, default=10)
    parser.add_argument('--glance')
    parser.add_argument('--directory', type=pathlib.Path)
    options = parser.parse_args()
    ceph.link_modules()
    if options.glance:
        ceph.link_modules(*pathlib.Path(options.glance).glob(
            'lib/python*/site-packages'))
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        top = pathlib.Path(name, 'ceph')
        top.mkdir()
        keeper = ceph.Keeper(top, kind=options.kind,
                             size=(3 * options.mib + 2048) * MIB)
        try:
            keeper.start()
            bench = Bench(keeper, options.glance)
            source = pathlib.Path(name, 'source')
            known = benchmark.make_source(source, options.mib)
            print(f'one OSD, {options.kind}', flush=True)
            kept = [bench.compare(f'{options.mib} MiB', source, known,
                                  options.rounds, 0.9)[0]]
            source.unlink()
            if options.sparse:
                kept.append(sparse_files(bench, options, pathlib.Path(name)))
        finally:
            keeper.stop()
            shutil.rmtree(top, ignore_errors=True)
    return 0 if all(kept) else 1


if __name__ == '__main__':
    sys.exit(main())
