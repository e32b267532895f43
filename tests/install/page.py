"""The commands of a page of the documentation, in a clean system.

The root is Debian's, made by mmdebstrap; its systemd runs in a container that
systemd-nspawn starts, on the host's network. Each command is run as the page
prints it.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap

from tests import servers
from tests import service as services

TOP = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 1500
# Of the root: where what was run has written.
RESULTS = 'var/lib/page'


def commands(path: pathlib.Path, prompt: str = '# ', *,
             section: str = '') -> list[str]:
    """What the blocks of a page tell to type, in order, as scripts.

    :param section: the title of the only one that is read
    """
    found: list[str] = []
    block: list[str] | None = None
    text = path.read_text()
    if section:
        _, text = text.split(f'\n{section}\n{"=" * len(section)}\n')
        text = re.split(r'\n\n[^\n]+\n={4,}\n', text)[0]
    for line in text.splitlines() + ['end']:
        if line.strip() == '.. code-block:: console':
            block = []
        elif block is not None and line and not line.startswith('   '):
            found += _of_block(textwrap.dedent('\n'.join(block)), prompt)
            block = None
        elif block is not None:
            block.append(line)
    return found


def _of_block(text: str, prompt: str) -> list[str]:
    found: list[str] = []
    for line in text.strip('\n').splitlines():
        if line.startswith(prompt):
            found.append(line.removeprefix(prompt))
        elif found:
            found[-1] += f'\n{line}'
    return found


def make_root(place: pathlib.Path, *packages: str) -> pathlib.Path:
    """A clean Debian of this machine's release, with our source in it."""
    root = place / 'root'
    release = next(
        line.partition('=')[2].strip('"') for line in
        pathlib.Path('/etc/os-release').read_text().splitlines()
        if line.startswith('VERSION_CODENAME='))
    subprocess.run(
        [servers.program('mmdebstrap'), '--quiet', '--variant=minbase',
         f'--include={",".join(("ca-certificates", *packages))}', release,
         str(root)], check=True, stdout=subprocess.DEVNULL)
    # This machine's own certificates and settings of pip and apt.
    for name in ('etc/ssl/certs/ca-certificates.crt', 'etc/pip.conf'):
        if os.path.exists(f'/{name}'):
            shutil.copyfile(f'/{name}', root / name)
    user = pathlib.Path('~/.config/pip/pip.conf').expanduser()
    if user.exists():
        target = root / 'root' / '.config/pip/pip.conf'
        target.parent.mkdir(parents=True)
        shutil.copyfile(user, target)
    copy_source(root / 'usr/src/glance-import')
    return root


def copy_source(target: pathlib.Path) -> None:
    """The files that git knows, as they are now."""
    names = subprocess.run(
        ['git', 'ls-files', '-z', '--cached', '--others',
         '--exclude-standard'], cwd=TOP, check=True, capture_output=True,
        text=True).stdout.split('\0')
    for name in filter(None, names):
        if (TOP / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, target / name)


def binds() -> list[str]:
    """Arguments of systemd-nspawn: where pip looks that is a directory."""
    told = subprocess.run(
        [sys.executable, '-m', 'pip', 'config', 'list'], capture_output=True,
        text=True).stdout
    found = {match.removesuffix('/simple') for match in re.findall(
        r"(?:file://|(?<=[\s'\"]))(/[^\s'\"]+)", told)}
    return [f'--bind-ro={path}' for path in sorted(found)
            if os.path.isdir(path)]


def environment() -> dict[str, str]:
    """What the machine tells pip, and what pbr cannot ask git for."""
    return {'PBR_VERSION': '0.0.1', 'PIP_DISABLE_PIP_VERSION_CHECK': '1',
            'PIP_ROOT_USER_ACTION': 'ignore', 'LANG': 'C.UTF-8',
            **{name: value for name, value in os.environ.items()
               if name.startswith('PIP_')}}


class Network:
    """A network of this machine's that leads nowhere else."""

    def __init__(self, prefix: str) -> None:
        """:param prefix: three numbers of its addresses"""
        self._prefix = prefix
        # Names of devices have 15 letters at most.
        self._name = f'gi{os.getpid()}'
        self._spaces: list[str] = []

    def __enter__(self) -> Network:
        _ip('link', 'add', self._name, 'type', 'bridge')
        _ip('link', 'set', self._name, 'up')
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._spaces:
            _ip('link', 'del', each)
            _ip('netns', 'del', each)
        _ip('link', 'del', self._name)

    def place(self, number: int) -> str:
        """The path of a network namespace with that address."""
        space = f'{self._name}-{number}'
        _ip('netns', 'add', space)
        self._spaces.append(space)
        _ip('link', 'add', space, 'type', 'veth', 'peer', 'name', 'eth0',
            'netns', space)
        _ip('link', 'set', space, 'master', self._name, 'up')
        _ip('-n', space, 'addr', 'add', f'{self._prefix}.{number}/24', 'dev',
            'eth0')
        for device in ('lo', 'eth0'):
            _ip('-n', space, 'link', 'set', device, 'up')
        return f'/run/netns/{space}'


def _ip(*words: str) -> None:
    subprocess.run([servers.program('ip', '/usr/sbin'), *words], check=True,
                   capture_output=True)


class Machine:
    """A root that is booted, what it writes kept in memory; until ``end``.

    ``run`` runs a script in it as root.
    """

    def __init__(self, root: pathlib.Path, network: str,
                 *binds: str) -> None:
        self._name = pathlib.Path(network).name
        self._process = subprocess.Popen(
            [servers.program('systemd-nspawn'), '--quiet', '--register=no',
             '--keep-unit', '--console=pipe', f'--directory={root}',
             '--volatile=overlay', f'--machine={self._name}',
             f'--network-namespace-path={network}',
             *(f'--bind={each}' for each in binds),
             '--system-call-filter=@mount @keyring', '--boot'],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, 'SYSTEMD_NSPAWN_API_VFS_WRITABLE': 'yes'})
        try:
            services.wait_for(self._is_up)
        except BaseException:
            self.end()
            raise

    def _is_up(self) -> bool:
        return self._do('systemctl is-system-running').stdout.strip() in (
            'running', 'degraded')

    def run(self, script: str) -> str:
        """What it says. :raises AssertionError: a command of it failed"""
        done = self._do(f'set -x\n{script}')
        assert done.returncode == 0, f'{self._name}: {done.stdout[-6000:]}'
        return done.stdout

    def _do(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [servers.program('nsenter'), '-t', str(self._first()), '-m', '-u',
             '-i', '-n', '-p', '-C', 'env', '-i', 'LANG=C.UTF-8',
             'HOME=/root', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:'
             '/usr/bin:/sbin:/bin', 'bash', '-ec', script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=SECONDS)

    def _first(self) -> int:
        """The process that is 1 in there."""
        pid = self._process.pid
        path = f'/proc/{pid}/task/{pid}/children'

        def found() -> int:
            assert self._process.poll() is None, self._name
            with open(path, encoding='ascii') as children:
                return int((children.read().split() or [0])[0])
        return services.wait_for(found)

    def end(self) -> None:
        """Like pulling the plug: all that runs in there ends with it."""
        if self._process.poll() is None:
            os.kill(self._first(), signal.SIGKILL)
        self._process.wait(60)


def run_booted(root: pathlib.Path, script: str) -> tuple[int, str]:
    """Boot the root, run a script as root's, power off; status and output.
    """
    place = root / RESULTS
    place.mkdir()
    (place / 'script').write_text('#!/bin/bash\nset -ex\n' + script)
    settings = ''.join(f'Environment={name}={value}\n'
                       for name, value in environment().items())
    (root / 'etc/systemd/system/page.service').write_text(
        '[Unit]\nAfter=multi-user.target\n'
        f'[Service]\nType=oneshot\nWorkingDirectory=/{RESULTS}\n{settings}'
        'ExecStart=/bin/bash -c "bash script > log 2>&1; echo $? > status; '
        'journalctl --no-pager > journal; systemctl poweroff"\n'
        '[Install]\nWantedBy=default.target\n')
    wants = root / 'etc/systemd/system/default.target.wants'
    wants.mkdir(parents=True, exist_ok=True)
    (wants / 'page.service').symlink_to('/etc/systemd/system/page.service')
    with tempfile.NamedTemporaryFile() as console:
        done = subprocess.run(
            [servers.program('systemd-nspawn'), '--quiet', '--register=no',
             '--keep-unit', '--console=pipe', f'--directory={root}',
             f'--machine=glance-import-{os.getpid()}', *binds(),
             '--system-call-filter=@mount @keyring', '--boot'],
            stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            # A /proc that nothing covers, as a machine has it.
            env={**os.environ, 'SYSTEMD_NSPAWN_API_VFS_WRITABLE': 'yes'},
            timeout=SECONDS)
        console.seek(0)
        said = console.read().decode('utf-8', 'replace')[-4000:]
    status = place / 'status'
    if not status.exists():
        return done.returncode or 1, said
    return (int(status.read_text()),
            (place / 'log').read_text('utf-8', 'replace'))
