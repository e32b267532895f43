"""glance-import-manage samples: write the sample files into a directory.

Finds them where pip has put them, or in the checkout that is run. Touches
the directory it is given.
"""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import shutil

from oslo_config import cfg

from glance_import.plugin import entry_points

NAME = 'samples'
ARGUMENTS = (
    (('directory',), {'metavar': 'DIR', 'help': 'where to; made if absent'}),
    (('--force',), {'action': 'store_true',
                    'help': 'write over files that are there'}),
)
FILES = ('glance-api.conf', 'glance-image-import.conf',
         'glance-api-paste.ini', 'policy.yaml')


class CannotWrite(Exception):
    """A sample cannot be read or written; one line."""


def run(conf: cfg.ConfigOpts) -> int:
    """Write the sample configuration, as this release has it, into DIR.

    glance-api.conf, glance-image-import.conf, glance-api-paste.ini and
    policy.yaml. A file that is there is left alone, which ends the command
    with status 1.

    :raises CannotWrite: a sample, or DIR, refuses
    """
    directory = pathlib.Path(conf.command.directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        kept = [name for name in FILES
                if not _write(_source(name), directory / name,
                              conf.command.force)]
    except OSError as failure:
        raise CannotWrite(
            f'{failure.filename or directory}: {failure.strerror}'
        ) from failure
    for name in kept:
        print(f'{directory / name} is there and was left alone; --force '
              'writes over it')
    return 1 if kept else 0


def _write(source: pathlib.Path, target: pathlib.Path, force: bool) -> bool:
    if os.path.lexists(target) and not force:
        return False
    shutil.copyfile(source, target)
    print(target)
    return True


def _source(name: str) -> pathlib.Path:
    """The sample of that name.

    :raises FileNotFoundError: pip has not installed it
    """
    ending = f'etc/glance/{name}'
    places = []
    try:
        installed = importlib.metadata.distribution(
            entry_points.DISTRIBUTION)
        places += [pathlib.Path(str(installed.locate_file(file)))
                   for file in installed.files or ()
                   if str(file).endswith(ending)]
    except importlib.metadata.PackageNotFoundError:
        pass
    places.append(pathlib.Path(__file__).resolve().parents[2] / 'etc' / name)
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(2, 'no such sample was installed', ending)
