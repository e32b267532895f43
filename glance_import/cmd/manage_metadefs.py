"""glance-import-manage db ...-metadefs: metadata definitions and files."""

from __future__ import annotations

import collections.abc
import contextlib

from oslo_config import cfg

from glance_import.cmd import databases
from glance_import.cmd import output
from glance_import.db import engine
from glance_import.db import upgrade
from glance_import.domain import metadef_files
from glance_import import errors


@contextlib.contextmanager
def _definitions(conf: cfg.ConfigOpts
                 ) -> collections.abc.Iterator[engine.Database]:
    """The database, at this release's revision.

    :raises engine.DatabaseProblem: it is not, or what is asked is refused
    """
    with databases.opened(conf) as database:
        upgrade.ensure(database)
        try:
            yield database
        except errors.DomainError as failure:
            raise engine.DatabaseProblem(str(failure)) from failure
        except engine.ERRORS as failure:
            raise engine.unreachable(database, failure) from failure


def load(conf: cfg.ConfigOpts) -> int:
    """Load metadata definitions: of a file, or of a directory's *.json.

    They have the form in which Glance ships its own, one namespace a file.
    All of them are loaded, or none. A namespace that is there already stays
    as it is unless one of the options says otherwise. Without PATH they come
    from /etc/glance/metadefs, or from the glance package beside this one.
    """
    modes = sorted({*(conf.command.modes or [metadef_files.KEEP])})
    with _definitions(conf) as database:
        if len(modes) > 1:
            raise errors.Invalid(
                'Only one of --merge, --prefer-new and --overwrite can be '
                'given.')
        done = metadef_files.load(
            database, conf.command.path or metadef_files.default_directory(),
            modes[0])
    if output.chosen(conf):
        output.rows(conf, [{'namespace': name, 'what': what}
                           for what, names in done.items()
                           for name in names])
    else:
        print(', '.join(f'{len(names)} {what}'
                        for what, names in done.items()))
    return 0


def unload(conf: cfg.ConfigOpts) -> int:
    """Delete namespaces with all that they hold, protected ones too.

    Without a name: every namespace, and the resource types.
    """
    with _definitions(conf) as database:
        names = metadef_files.unload(database, conf.command.namespace)
    if output.chosen(conf):
        output.rows(conf, [{'namespace': name, 'what': 'deleted'}
                           for name in names])
    else:
        print(f'{len(names)} deleted')
    return 0


def export(conf: cfg.ConfigOpts) -> int:
    """Write each namespace to a file in a directory, to be loaded again.

    Files of the same names are written over; others stay.
    """
    with _definitions(conf) as database:
        files = metadef_files.export(database, conf.command.directory)
    if output.chosen(conf):
        output.rows(conf, [{'file': path} for path in files])
    else:
        for path in files:
            print(path)
    return 0


def _mode(name: str, text: str) -> tuple:
    return ((f'--{name}',), {
        'dest': 'modes', 'action': 'append_const', 'const': name,
        'help': text})


COMMANDS: dict[str, tuple] = {
    'load-metadefs': (load, (
        (('path',), {'nargs': '?', 'metavar': 'PATH',
                     'help': 'a file, or a directory of them'}),
        _mode(metadef_files.MERGE, 'add what a namespace lacks'),
        _mode(metadef_files.PREFER_NEW,
              'add what a namespace lacks, and change what it has'),
        _mode(metadef_files.OVERWRITE,
              'delete a namespace that is there, and make it anew'))),
    'unload-metadefs': (unload, (
        (('namespace',), {'nargs': '*', 'metavar': 'NAMESPACE',
                          'help': 'its name'}),)),
    'export-metadefs': (export, (
        (('directory',), {'metavar': 'DIRECTORY',
                          'help': 'where; it is made if it is not there'}),)),
}
