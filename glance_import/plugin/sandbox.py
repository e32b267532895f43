"""How a plugin's process is started: walled in by bubblewrap, or bare.

``strict`` is the wall: its own user, mount, pid, network, ipc and uts
namespaces, a root directory that holds only what is bound into it, no
capabilities, a seccomp filter. A service that runs as root starts it without
a user namespace and has the runner become a user that owns nothing, because
the kernel does not count root's processes and would let root's plugin open
root's files. ``process`` is a process of its own with limits, and no wall.
Nothing here waits for a process; see ``host``.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import os
import resource
import secrets
import shutil
import subprocess  # nosec B404
import sys
import tempfile

from glance_import.plugin import seccomp

STRICT = 'strict'
PROCESS = 'process'

LIBRARY = '/glance/lib'
PLUGIN = '/glance/plugin'
DATA = '/glance/data'
SINK = '/glance/sink'
TMP = '/tmp'  # nosec B108: the sandbox's own

_HERE = os.path.dirname(os.path.abspath(__file__))
# Above every range that distributions, systemd and containers give out.
_UIDS = (1879048192, 2147483647)
# The group of runs that may open the data by name, where the service is
# root's: the staging area gives its files to it.
READERS = 1879048191
_NOBODY = 65534
_SYSTEM = ('/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64')
_OPTIONAL = ('/etc/ld.so.cache', '/etc/alternatives', '/etc/localtime')
_DEVICES = ('/dev/null', '/dev/zero', '/dev/full', '/dev/random',
            '/dev/urandom')
ENVIRONMENT = {'PATH': '/usr/local/bin:/usr/bin:/bin', 'LANG': 'C.UTF-8',
               'HOME': TMP, 'TMPDIR': TMP}


class SandboxError(Exception):
    """No plugin can be started here; the text is one line."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What one start needs from the outside; paths are the host's.

    ``read`` are (source, destination) pairs, bound read-only; ``tmp_bytes``
    bounds the temporary directory. ``words`` are a command of the service's
    own that is run in place of a plugin, under ``limits`` (setrlimit).
    """

    data: str | None = None
    sink: str | None = None
    read: tuple[tuple[str, str], ...] = ()
    tmp_bytes: int = 64 << 20
    words: tuple[str, ...] = ()
    limits: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Started:
    """What the host starts: a command, and what the runner is told."""

    command: list[str]
    descriptors: list[int]
    order: dict[str, object]
    # Called when all of it has ended.
    clean: collections.abc.Callable[[], None]
    # Whether the end of pid ``status`` is the end of everything inside.
    status_fd: int | None = None


def interpreter() -> str:
    """The Python itself, not the link of a virtual environment to it."""
    return os.path.realpath(
        getattr(sys, '_base_executable', None) or sys.executable)


def site_directories() -> list[str]:
    """Where this process finds installed packages."""
    return [path for path in dict.fromkeys(sys.path)
            if os.path.basename(path.rstrip('/')) in (
                'site-packages', 'dist-packages') and os.path.isdir(path)]


def _runner(directory: str) -> list[str]:
    return [interpreter(), '-I', '-S', os.path.join(directory, 'runner.py')]


class Process:
    """A process of its own, with limits; the same user, the same files."""

    name = PROCESS
    # A user's processes are counted together outside of a wall.
    counts_processes = False

    def describe(self) -> str:
        return ('process: limits only, no wall around the plugins; files '
                'in the temporary directory counted')

    def path(self, source: str, _destination: str) -> str:
        """Where the plugin finds what lies at ``source``."""
        return source

    def library(self) -> str:
        """A directory in which the plugin finds the contract."""
        return os.path.dirname(os.path.dirname(_HERE))

    def start(self, job: Job, answer_fd: int) -> Started:
        """What to run; it is made, not started."""
        if job.words:
            raise SandboxError('there is no wall around a command here')
        tmp = tempfile.mkdtemp(prefix='glance-import-plugin-')
        return Started(
            [*_runner(_HERE), str(answer_fd)], [answer_fd],
            {'uid': None, 'tmp': tmp, 'data': job.data, 'sink': job.sink},
            functools.partial(shutil.rmtree, tmp, ignore_errors=True))


class Strict:
    """The wall.

    :param hide: directories of the service that no plugin may see, even if
        they lie below something that is bound
    :raises SandboxError: bubblewrap or a filter for this machine is missing
    """

    name = STRICT
    counts_processes = True

    def __init__(self, hide: collections.abc.Iterable[str] = ()) -> None:
        found = shutil.which('bwrap')
        if found is None:
            raise SandboxError(
                'bubblewrap is not installed (the program bwrap, of the '
                'package bubblewrap)')
        if not seccomp.supported():
            raise SandboxError(
                'there is no system call filter for this kind of processor')
        self._bwrap = found
        self._as_root = os.geteuid() == 0
        self._hide = [os.path.realpath(path) for path in hide]
        self._fixed = self._fixed_arguments()

    def describe(self) -> str:
        how = ('a user of its own for each plugin' if self._as_root
               else 'a user namespace')
        return (f'strict: bubblewrap with {how}, own mount, pid, network, '
                'ipc and uts namespaces, a system call filter (no sockets '
                'but unix, no larger buffers), no capabilities; files, locks '
                'and sockets counted from outside')

    def trial(self) -> list[str]:
        """A command that ends with 0 where such a wall can be had."""
        return [self._bwrap, *self._namespaces(), '--die-with-parent',
                '--new-session', '--hostname', 'plugin', '--ro-bind', '/',
                '/', '--proc', '/proc', '--tmpfs', TMP, 'true']

    def path(self, _source: str, destination: str) -> str:
        """Where the plugin finds what lies at ``source``."""
        return destination

    def library(self) -> str:
        """A directory in which the plugin finds the contract."""
        return LIBRARY

    def start(self, job: Job, answer_fd: int) -> Started:
        """What to run; it is made, not started."""
        filter_fd = _memory_file('glance-import-seccomp', seccomp.program())
        read_status, write_status = os.pipe2(os.O_CLOEXEC)
        other_reader = os.dup(read_status)
        uid = _new_uid() if self._as_root else None
        arguments = _Arguments()
        arguments.add('--size', str(max(job.tmp_bytes, 4096)))
        arguments.add('--perms', '1777', '--tmpfs', TMP)
        arguments.extend(self._fixed)
        for source, destination in job.read:
            arguments.bind(source, destination)
        if job.data is not None:
            arguments.bind(job.data, DATA)
        if job.sink is not None:
            if uid is not None:
                os.chown(job.sink, uid, -1)
            arguments.bind(job.sink, SINK, '--bind')
        self._mask(arguments)
        inside = ([*self._becoming(uid, job), *_limiting(job.limits),
                   *job.words] if job.words else
                  [*_runner(f'{LIBRARY}/glance_import/plugin'),
                   str(answer_fd)])
        command = [
            self._bwrap, *self._namespaces(), '--die-with-parent',
            '--new-session', '--hostname', 'plugin', '--seccomp',
            str(filter_fd),
            '--json-status-fd', str(write_status),
            # Also read by the first process inside: a bwrap that found no
            # reader, as when the service was killed, would die between
            # making that process and letting it begin, which then waits for
            # ever. Its sync descriptor is handed to nobody else.
            '--sync-fd', str(other_reader), *arguments.words,
            '--remount-ro', '/', '--chdir', TMP, *inside]

        def clean() -> None:
            os.close(read_status)
            if job.sink is not None and uid is not None:
                os.chown(job.sink, os.geteuid(), -1)

        return Started(
            command, [answer_fd, filter_fd, write_status, other_reader],
            {'uid': uid, 'walled': True, 'groups': self._groups(job),
             'tmp': TMP,
             'data': DATA if job.data is not None else None,
             'sink': SINK if job.sink is not None else None},
            clean, read_status)

    def _becoming(self, uid: int | None, job: Job) -> list[str]:
        """What the runner would do itself, for a command: another user."""
        if uid is None:
            return []
        groups = ','.join(map(str, self._groups(job)))
        return ['setpriv', '--reuid', str(uid), '--regid', str(uid),
                f'--groups={groups}' if groups else '--clear-groups']

    def _groups(self, job: Job) -> list[int]:
        """Those that let the run open the data by name."""
        if not (self._as_root and job.data is not None):
            return []
        found = os.stat(job.data)
        return [READERS] if found.st_gid == READERS else []

    def _namespaces(self) -> list[str]:
        words = ['--unshare-ipc', '--unshare-pid', '--unshare-net',
                 '--unshare-uts', '--unshare-cgroup-try', '--cap-drop', 'ALL']
        if self._as_root:
            # Until the runner has opened what it is given, and is no longer
            # root: whoever the data belongs to, it is read.
            return [*words, '--cap-add', 'CAP_SETUID',
                    '--cap-add', 'CAP_SETGID',
                    '--cap-add', 'CAP_DAC_READ_SEARCH']
        return [*words, '--unshare-user', '--disable-userns',
                '--uid', str(_NOBODY), '--gid', str(_NOBODY)]

    def _fixed_arguments(self) -> list[tuple[str, str, str]]:
        """(flag, source, destination) of what every plugin is given."""
        found = []
        for path in _SYSTEM:
            if os.path.islink(path):
                found.append(('--symlink', os.readlink(path), path))
            elif os.path.isdir(path):
                found.append(('--ro-bind', path, path))
        found += [('--ro-bind', path, path) for path in _OPTIONAL
                  if os.path.exists(path)]
        found += [('--dev-bind', path, path) for path in _DEVICES]
        found.append(('--proc', '', '/proc'))
        prefix = os.path.realpath(sys.base_prefix)
        if not _below(prefix, '/usr'):
            found.append(('--ro-bind', prefix, prefix))
        package = os.path.join(LIBRARY, 'glance_import')
        found.append(('--ro-bind',
                      os.path.join(_HERE, '_package.py'),
                      os.path.join(package, '__init__.py')))
        found.append(('--ro-bind', _HERE, os.path.join(package, 'plugin')))
        return found

    def _mask(self, arguments: _Arguments) -> None:
        """Cover what is the service's own with nothing."""
        for path in self._hide:
            if os.path.isdir(path) and any(
                    _below(path, shown) for shown in arguments.shown):
                arguments.add('--perms', '0000', '--tmpfs', path)
                arguments.add('--remount-ro', path)


class _Arguments:
    """bwrap's arguments in their order, with the directories in between.

    bwrap would make those itself, with a mode that another user cannot pass.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        # Host directories that can be seen inside, where they are outside.
        self.shown: list[str] = []
        self._made = {'/', TMP}

    def add(self, *words: str) -> None:
        self.words += words

    def extend(self, binds: collections.abc.Iterable[tuple[str, str, str]]
               ) -> None:
        for flag, source, destination in binds:
            self.bind(source, destination, flag)

    def bind(self, source: str, destination: str,
             flag: str = '--ro-bind') -> None:
        if source == destination and any(
                _below(source, shown) for shown in self.shown):
            return
        self._parents(destination)
        if flag in ('--proc',):
            self.add(flag, destination)
        else:
            self.add(flag, source, destination)
        if source == destination:
            self.shown.append(source)

    def _parents(self, path: str) -> None:
        parent = os.path.dirname(path)
        if parent in self._made or any(
                _below(parent, shown) for shown in self.shown):
            return
        self._parents(parent)
        self._made.add(parent)
        self.add('--perms', '0755', '--dir', parent)


Sandbox = Strict | Process


def make(isolation: str, hide: collections.abc.Iterable[str] = ()
         ) -> Sandbox:
    """How plugins are started, as the operator chose.

    :raises SandboxError: it cannot be had; there is no other instead
    """
    return Strict(hide) if isolation == STRICT else Process()


def kill_leftovers(process: subprocess.Popen) -> None:
    """End what a bare plugin started, as far as it can be found."""
    try:
        os.killpg(process.pid, 9)
    except (ProcessLookupError, PermissionError):
        pass


def _limiting(limits: dict[str, int]) -> list[str]:
    """Words before a command that is to have these limits."""
    words = ['prlimit']
    for name, value in limits.items():
        hard = resource.getrlimit(getattr(resource, f'RLIMIT_{name}'))[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        words.append(f'--{name.lower()}={value}:{value}')
    return words


def _new_uid() -> int:
    first, last = _UIDS
    return first + secrets.randbelow(last - first + 1)


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip('/') + '/')


def _memory_file(name: str, content: bytes) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
