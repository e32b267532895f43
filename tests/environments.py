"""Virtual environments of their own, for programs the tests run beside us.

What each holds is pinned in ``tests/constraints/NAME.txt``. Made once and
kept in pytest's cache directory; another list, or another Python, makes
another. uv makes one in seconds, pip in minutes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

from tests import servers

PINS = pathlib.Path(__file__).parent / 'constraints'
SECONDS = 900


class Environment:
    """One virtual environment; ``program`` says where its programs are."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.python = directory / 'bin' / 'python'

    def program(self, name: str) -> str:
        return str(self.directory / 'bin' / name)


def make(name: str, cache: pathlib.Path) -> Environment:
    """The environment of ``tests/constraints/NAME.txt``, below ``cache``."""
    pins = PINS / f'{name}.txt'
    version = '.'.join(map(str, sys.version_info[:2]))
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()[:12]
    directory = cache / f'{name}-{version}-{digest}'
    done = directory / 'complete'
    with open(cache / f'{name}.lock', 'w') as lock:
        # Another test session may be making the same one.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)
            try:
                _install(directory, pins)
            except subprocess.SubprocessError as failure:
                output = getattr(failure, 'stdout', None) or str(failure)
                servers.missing(f'cannot install {pins.name}: '
                                f'{output[-2000:]}')
            done.touch()
    return Environment(directory)


def _install(directory: pathlib.Path, pins: pathlib.Path) -> None:
    uv = _uv()
    python = str(directory / 'bin' / 'python')
    if uv is not None:
        commands = [
            [uv, 'venv', '-q', '--python', sys.executable, str(directory)],
            [uv, 'pip', 'install', '-q', '--python', python, '-r',
             str(pins)]]
    else:
        commands = [
            [sys.executable, '-m', 'venv', str(directory)],
            [python, '-m', 'pip', 'install', '-q', '-r', str(pins)]]
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=SECONDS,
                       env={**os.environ, 'VIRTUAL_ENV': ''})


def _uv() -> str | None:
    beside = os.path.join(os.path.dirname(sys.executable), 'uv')
    return beside if os.path.exists(beside) else shutil.which('uv')
