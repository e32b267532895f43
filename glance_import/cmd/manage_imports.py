"""glance-import-manage imports: images that another Glance left importing.

A command gets the configuration (its arguments are in ``conf.command``) and
returns an exit status.
"""

from __future__ import annotations

import collections.abc
import contextlib

from oslo_config import cfg

from glance_import.db import engine
from glance_import.domain import errors
from glance_import.domain import orphans
from glance_import import services
from glance_import import startup

NAME = 'imports'
HELP = 'List and free images that another Glance left importing.'


@contextlib.contextmanager
def _services(conf: cfg.ConfigOpts
              ) -> collections.abc.Iterator[services.Services]:
    try:
        box = startup.open_services(conf)
    except startup.StartupError as failure:
        raise engine.DatabaseProblem(str(failure)) from failure
    try:
        yield box
    finally:
        box.close()


def _say(orphan: orphans.Orphan) -> None:
    staged = ('no bytes staged on this node' if orphan.staged_bytes is None
              else f'{orphan.staged_bytes} bytes staged on this node')
    if orphan.staged_on:
        staged += f', staged by Glance at {orphan.staged_on}'
    heard = (f'{orphan.heard.isoformat()}Z' if orphan.heard else 'never')
    print(f'{orphan.image_id}  owner {orphan.owner}  '
          f'task {orphan.task_id or "none"}  last news {heard}  {staged}')


def stranded(conf: cfg.ConfigOpts) -> int:
    """List the images that are importing, but not by this service.

    Each was left so by a Glance that ended, or is being imported by one that
    still serves this database: see the time of the last news.
    """
    with _services(conf) as box:
        for orphan in orphans.find(box):
            _say(orphan)
    return 0


def free(conf: cfg.ConfigOpts) -> int:
    """Give images that another Glance left importing back to their users.

    They are queued again, their task fails with the reason, and bytes that
    lie in this node's staging area are deleted: nobody knows whether they
    are complete. No other Glance may be importing them.
    """
    refused = 0
    with _services(conf) as box:
        wanted = conf.command.image
        if conf.command.all:
            wanted = [orphan.image_id for orphan in orphans.find(box)]
        for image_id in wanted:
            try:
                fate = orphans.free(box, image_id)
            except errors.DomainError as failure:
                print(failure)
                refused = 1
                continue
            print(f'{image_id}  is queued again; {fate}')
    return refused


# name: (function, [(flags, argparse options), ...])
COMMANDS: dict[str, tuple] = {
    'stranded': (stranded, ()),
    'free': (free, (
        (('image',), {'nargs': '*', 'help': 'ids of images'}),
        (('--all',), {'action': 'store_true',
                      'help': 'every image that "stranded" lists'}))),
}
