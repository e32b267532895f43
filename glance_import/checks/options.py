"""Checks of what the files say: options, plugins, what plugins need.

Reads the configuration; starts plugins in their sandbox, as the service does
at its start, and asks programs for their version.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess  # nosec B404

from glance_import import checks
from glance_import import conf as configuration
from glance_import.plugin import chain
from glance_import.plugin import sandbox
from glance_import.plugin import second_opinion
from glance_import import startup

_SECONDS = 10


def options(subject: checks.Subject) -> checks.Result:
    """Every option has a value that means something."""
    startup.check_options(subject.conf)
    startup.check_policy(subject.conf)
    absent = startup.absent_policy(subject.conf)
    if absent:
        return checks.odd(absent)
    files = [*(subject.conf.config_file or ()),
             *(subject.conf.config_dirs or ())]
    return checks.good('read: ' + (', '.join(files) or 'no file'))


def unknown(subject: checks.Subject) -> checks.Result:
    """Options that nothing reads, also in the sections of plugins."""
    try:
        subject.plugins  # noqa: B018  declares the sections of plugins
    except startup.StartupError:
        pass
    found = configuration.unknown_options(subject.conf)
    if found:
        return checks.odd(
            'ignored, since this release does not have them (misspelt, '
            'removed, or of a plugin that is not listed): '
            + ', '.join(found))
    return checks.good('none')


def plugins(subject: checks.Subject) -> checks.Result:
    """Each can be used, and its section means something."""
    found = subject.plugins
    loaded = found.load(found.listed)
    said = ', '.join(
        f'{each.name} {each.version} [{each.section}]'
        if isinstance(each, chain.Plugin) else each.name for each in loaded)
    return checks.good(
        f'plugins: {said or "none"}; methods: '
        + (', '.join(subject.conf.enabled_import_methods) or 'none'))


def plugin_paths(subject: checks.Subject) -> checks.Result:
    """What plugins may read and connect to is there."""
    lacking: list[str] = []
    there: list[str] = []
    for each in subject.plugins.load(subject.plugins.listed):
        if not isinstance(each, chain.Plugin):
            continue
        section = subject.conf[each.section]
        for option in ('read_paths', 'sockets'):
            for path in section[option]:
                fine = (_is_socket(path) if option == 'sockets'
                        else os.access(path, os.R_OK))
                (there if fine else lacking).append(
                    f'[{each.section}] {option}: {path}')
    if lacking:
        return checks.bad('not there, or not for this user: '
                          + ', '.join(lacking))
    return checks.good(', '.join(there) or 'none are named')


def isolation(subject: checks.Subject) -> checks.Result:
    """The sandbox that plugins run in, tried."""
    made = subject.plugins.isolation
    if not isinstance(made, sandbox.Strict):
        return checks.odd(made.describe())
    done = _run(made.trial())
    if done.returncode:
        return checks.bad('bubblewrap cannot make the sandbox here: '
                          + _last(done.stderr))
    return checks.good(made.describe())


def programs(subject: checks.Subject) -> checks.Result:
    """qemu-img and bubblewrap, and their versions."""
    said, lacking, level = [], [], checks.Level.SUCCESS
    for name, package, wanted in _programs(subject):
        path = shutil.which(name)
        if path is None:
            said.append(f'no {name}')
            level = checks.Level.WARNING
            if wanted:
                lacking.append(f'{name} (of the package {package}): {wanted}')
            continue
        done = _run([path, '--version'])
        said.append((done.stdout.splitlines() or [f'{name}: no version'])[0])
    if lacking:
        return checks.bad('not installed: ' + '; '.join(lacking))
    return checks.Result(level, ', '.join(said))


def _programs(subject: checks.Subject) -> list[tuple[str, str, str]]:
    """(program, package, what cannot do without it, if anything)."""
    conf = subject.conf
    opinion = conf.image_format
    needs = []
    if 'image_conversion' in conf.image_import_opts.image_import_plugins:
        needs.append('image_conversion')
    if opinion.second_opinion == second_opinion.REQUIRED:
        needs.append('second_opinion = required')
    strict = conf.image_import_opts.isolation == sandbox.STRICT
    listed = bool(conf.image_import_opts.image_import_plugins)
    return [
        (opinion.second_opinion_program, 'qemu-utils', ', '.join(needs)),
        ('bwrap', 'bubblewrap', 'isolation = strict'
         if strict and (listed or needs) else '')]


def _is_socket(path: str) -> bool:
    try:
        return (stat.S_ISSOCK(os.stat(path).st_mode)
                and os.access(path, os.W_OK))
    except OSError:
        return False


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # Programs that the service itself runs, with words of ours.
    return subprocess.run(  # nosec B603
        command, capture_output=True, text=True, timeout=_SECONDS,
        stdin=subprocess.DEVNULL, check=False)


def _last(text: str) -> str:
    return (text.strip().splitlines() or ['it says nothing'])[-1]
