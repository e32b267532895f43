"""Commands of the service as users that own nothing else.

Needs root. The Python of the tests may lie where others cannot read it; then
that of the system runs the same packages, if it is of the same release.
"""

from __future__ import annotations

import atexit
import collections.abc
import contextlib
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile

from tests import servers

TOP = pathlib.Path(__file__).resolve().parents[1]
API, CONDUCTOR, GROUP = 4711, 4712, 4713


@functools.cache
def python() -> str:
    """An interpreter that everybody may run."""
    if os.geteuid() != 0:
        servers.missing('only root can be somebody else')
    if _readable(sys.base_prefix) and _readable(sys.prefix):
        return sys.executable
    system = '/usr/bin/python3'
    version = f'{sys.version_info.major}.{sys.version_info.minor}'
    done = subprocess.run(
        [system, '-c', 'import sys; print("%d.%d" % sys.version_info[:2])'],
        capture_output=True, text=True)
    if done.stdout.strip() != version:
        servers.missing(f'{sys.base_prefix} is root\'s alone, and there is '
                        f'no {system} {version}')
    # An environment of its own, without what Debian has beside it.
    place = pathlib.Path(tempfile.mkdtemp(prefix='glance-import-test-'))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    place.chmod(0o755)
    subprocess.run([system, '-m', 'venv', '--without-pip', str(place)],
                   check=True)
    return str(place / 'bin/python3')


def environment(**more: str) -> dict[str, str]:
    """In which that interpreter finds what the tests run with."""
    kept = {name: value for name, value in os.environ.items()
            if name in ('PATH', 'LANG', 'TMPDIR')}
    return {**kept, 'PYTHONDONTWRITEBYTECODE': '1', 'HOME': '/', 'PYTHONPATH':
            f'{TOP}{os.pathsep}{sysconfig.get_paths()["purelib"]}', **more}


def command(name: str, *words: str, user: int | None = None,
            capabilities: str = '') -> list[str]:
    """The command line of ``glance_import.cmd.NAME``.

    :param user: who runs it; None for root
    :param capabilities: ambient ones, as setpriv names them
    """
    line = [python(), '-m', f'glance_import.cmd.{name}', *words]
    if user is None:
        return line
    kept = capabilities.split(',') if capabilities else []
    chosen = ','.join(f'+{each}' for each in kept)
    prefix = [servers.program('setpriv'), f'--reuid={user}',
              f'--regid={GROUP}', '--clear-groups', '--no-new-privs']
    if chosen:
        prefix += [f'--inh-caps={chosen}', f'--ambient-caps={chosen}']
    return [*prefix, f'--bounding-set=-all{"," + chosen if chosen else ""}',
            *line]


@contextlib.contextmanager
def directory() -> collections.abc.Iterator[pathlib.Path]:
    """One that others may pass, unlike those that pytest makes."""
    made = pathlib.Path(tempfile.mkdtemp(prefix='glance-import-test-'))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


def _readable(path: str) -> bool:
    return all(each.stat().st_mode & 0o005 == 0o005 for each in
               (pathlib.Path(path), *pathlib.Path(path).parents))
