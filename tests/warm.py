"""Commands of the service, forked from a process that has loaded them.

Loading takes a command longer than most tests take: a second of CPU, for
each of some thousand processes. What runs is the command's own ``main``, in a
process, session and environment of its own; only the reading of modules is
behind it. A command that is to be started as its users start it is started by
``subprocess`` (``Service.is_cold``).
"""

from __future__ import annotations

import collections.abc
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import typing

_CONTEXT = multiprocessing.get_context('forkserver')
# A module of its own: what it loads is not to be read in command lines.
_CONTEXT.set_forkserver_preload(['tests.loaded'])


def suits(environment: collections.abc.Mapping[str, str]) -> bool:
    """Whether nothing in it is read before a program's first line."""
    customized = any(
        os.path.exists(os.path.join(path, 'sitecustomize.py'))
        for path in environment.get('PYTHONPATH', '').split(os.pathsep)
        if path)
    return not customized and all(
        environment.get(name) == os.environ.get(name)
        for name in environment.keys() | os.environ.keys()
        if name.startswith(('LD_', 'PYTHON', 'MALLOC', 'COV_'))
        and name != 'PYTHONPATH')


class Process:
    """What the tests use of ``subprocess.Popen``."""

    def __init__(self, module: str, arguments: list[str], *,
                 environment: dict[str, str], directory: str,
                 out: str, err: str) -> None:
        self.args = [sys.executable, '-m', module, *arguments]
        self._process = _CONTEXT.Process(
            target=_run, daemon=True,
            args=(module, arguments, environment, directory, out, err))
        self._process.start()

    @property
    def pid(self) -> int:
        """It exists from the start of this object on."""
        pid = self._process.pid
        assert pid is not None
        return pid

    @property
    def returncode(self) -> int | None:
        """None while it runs, negative for a signal."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """:raises subprocess.TimeoutExpired: it still runs"""
        self._process.join(timeout)
        if self.returncode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(module: str, arguments: list[str], *, environment: dict[str, str],
        directory: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """A command to its end, and what it printed.

    :raises subprocess.TimeoutExpired: it was killed after ``timeout`` s
    """
    with tempfile.TemporaryDirectory() as top:
        out, err = (os.path.join(top, name) for name in ('out', 'err'))
        process = Process(module, arguments, environment=environment,
                          directory=directory, out=out, err=err)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        said = []
        for path in (out, err):
            with open(path, encoding='utf-8') as file:
                said.append(file.read())
    return subprocess.CompletedProcess(process.args, status, *said)


def _run(module: str, arguments: list[str], environment: dict[str, str],
         directory: str, out: str, err: str) -> typing.NoReturn:
    """In the child: as if it had just been started."""
    os.setsid()
    for fd, path, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, out, os.O_WRONLY | os.O_APPEND | os.O_CREAT),
            (2, err, os.O_WRONLY | os.O_APPEND | os.O_CREAT)):
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, fd)
        os.close(opened)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    path = filter(None, environment.get('PYTHONPATH', '').split(os.pathsep))
    sys.path[:] = list(dict.fromkeys([directory, *path, *sys.path]))
    importlib.invalidate_caches()
    command = importlib.import_module(module)
    sys.argv = [str(command.__file__), *arguments]
    # What a conductor begins itself again with.
    sys.orig_argv = [sys.executable, '-m', module, *arguments]
    sys.exit(command.main())
