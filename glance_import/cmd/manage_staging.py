"""glance-import-manage staging: the bytes that wait on this node.

A command gets the configuration (its arguments are in ``conf.command``) and
returns an exit status.
"""

from __future__ import annotations

import time
import typing

from oslo_config import cfg

from glance_import.cmd import opening
from glance_import.cmd import output
from glance_import.db import images as db_images
from glance_import.db import jobs as db_jobs
from glance_import.db import staging as db_staging
from glance_import import housekeeping
from glance_import import services as all_services
from glance_import import staging

NAME = 'staging'
HELP = 'See what lies in the staging area of this node, and clean it up.'


def list_(conf: cfg.ConfigOpts) -> int:
    """List the staged data of images, the largest first.

    "record" is what the database has of it: open (an upload that goes on or
    was cut), complete, in-use by an import, returned by one that failed; "-"
    where it has nothing.
    """
    with opening.opened(conf) as services:
        found = sorted(services.area.list(), key=lambda each: -each.size)
        output.rows(conf, [_row(services, each) for each in found])
    return 0


def _row(services: all_services.Services, entry: staging.Entry
         ) -> dict[str, typing.Any]:
    with services.db.read() as conn:
        status = db_images.status(conn, entry.image_id)
        record = db_staging.get(conn, entry.image_id)
        job = db_jobs.of_image(conn, entry.image_id)
    return {'image': entry.image_id, 'bytes': entry.size,
            'age': round(time.time() - entry.mtime_ns / 1e9),
            'image status': status, 'record': record and record.state,
            'import': job and job.id, 'live': entry.live}


def clean(conf: cfg.ConfigOpts) -> int:
    """Remove now what conductors remove every ten minutes.

    Expired uploads, bytes of failed imports that have expired, files that no
    record of the database names. Nothing that somebody may still use.
    """
    with opening.opened(conf) as services:
        before = {(each.image_id, each.complete): each.size
                  for each in services.area.list()}
        housekeeping.clean(services)
        kept = {(each.image_id, each.complete)
                for each in services.area.list()}
    output.rows(conf, [
        {'image': image_id, 'bytes removed': size}
        for (image_id, complete), size in sorted(before.items())
        if (image_id, complete) not in kept])
    return 0


# name: (function, [(flags, argparse options), ...])
COMMANDS: dict[str, tuple] = {
    'list': (list_, (output.FORMAT,)),
    'clean': (clean, (output.FORMAT,)),
}
