"""CephFS mounted twice, as by two nodes: an MDS on the tests' Ceph."""

from __future__ import annotations

import collections.abc
import contextlib
import os
import pathlib
import subprocess
import typing

import pytest

from tests import ceph as cephs
from tests.ceph import ceph  # noqa: F401
from tests import servers
from tests import service as services

POOLS = ('fs_meta', 'fs_data')


@contextlib.contextmanager
def _process(directory: pathlib.Path, *words: str
             ) -> collections.abc.Iterator[subprocess.Popen]:
    """A program of Ceph's that stays in front, ended with its output."""
    with open(directory / f'{words[0]}.out', 'ab') as out:
        process = subprocess.Popen(
            [servers.program('setpriv'), '--pdeathsig=KILL',
             servers.program(words[0], '/usr/sbin'), *words[1:]],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait(cephs.SECONDS)


@contextlib.contextmanager
def _mounted(directory: pathlib.Path, place: pathlib.Path, conf: str
             ) -> collections.abc.Iterator[pathlib.Path]:
    place.mkdir()
    with _process(directory, 'ceph-fuse', '-c', conf, '-f', str(place)) as it:
        def is_up() -> bool:
            assert it.poll() is None, (
                directory / 'ceph-fuse.out').read_text()[-3000:]
            return os.path.ismount(place)
        services.wait_for(is_up)
        try:
            yield place
        finally:
            # Lazily: a process that is still ending may hold a file of it.
            subprocess.run(['umount', '--lazy', place], check=True)


@contextlib.contextmanager
def mounted_twice(known: cephs.Ceph, directory: pathlib.Path
                  ) -> collections.abc.Iterator[
                      tuple[pathlib.Path, pathlib.Path]]:
    """One file system, empty, at two places with nothing in common."""
    for name in ('ceph-mds', 'ceph-fuse'):
        servers.program(name, '/usr/sbin')
    if os.geteuid() != 0 or not os.access('/dev/fuse', os.R_OK | os.W_OK):
        servers.missing('only root mounts, and by /dev/fuse')
    for pool in POOLS:
        known.command('osd pool create', pool=pool)
    known.command('fs new', fs_name='fs', metadata=POOLS[0], data=POOLS[1])
    (directory / 'mds').mkdir()
    try:
        with _process(directory, 'ceph-mds', '-c', known.conf, '-i', 'a',
                      '--mds_data', str(directory / 'mds'), '-f'):
            def is_active() -> typing.Any:
                return 'up:active' in str(known.command('mds stat'))
            services.wait_for(is_active)
            with _mounted(directory, directory / 'one', known.conf) as one, \
                    _mounted(directory, directory / 'two', known.conf) as two:
                yield one, two
    finally:
        known.command('fs fail', fs_name='fs')
        known.command('fs rm', fs_name='fs', yes_i_really_mean_it=True)
        for pool in POOLS:
            known.command('osd pool delete', pool=pool, pool2=pool,
                          yes_i_really_really_mean_it=True)


@pytest.fixture(scope='module')
def cephfs(ceph, tmp_path_factory):  # noqa: F811
    with ceph.alone(), mounted_twice(
            ceph, tmp_path_factory.mktemp('cephfs')) as places:
        yield places
