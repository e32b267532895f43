"""glance-import-manage stores: their state, and what they still have to do.

A command gets the configuration (its arguments are in ``conf.command``) and
returns an exit status.
"""

from __future__ import annotations

from concurrent import futures
import typing

from oslo_config import cfg

from glance_import.cmd import opening
from glance_import.cmd import output
from glance_import.db import deletions as db_deletions
from glance_import import services as all_services
from glance_import.stores import configured

NAME = 'stores'
HELP = 'See the stores, and what is still to be deleted in them.'
# How long each is waited for.
SECONDS = 10


def list_(conf: cfg.ConfigOpts) -> int:
    """List the stores and whether they answer just now.

    Exit status 1 when one does not. "unknown": its type cannot be asked.
    """
    with opening.opened(conf) as services, futures.ThreadPoolExecutor(
            len(services.stores.entries)) as pool:
        rows = list(pool.map(lambda entry: _row(services, entry),
                             services.stores.entries.values()))
    output.rows(conf, rows)
    return 1 if any(row['state'] == 'away' for row in rows) else 0


def _row(services: all_services.Services, entry: configured.Entry
         ) -> dict[str, typing.Any]:
    store = entry.store
    state, reason = services.stores.state(store, SECONDS)
    return {'store': store.id, 'type': store.kind,
            'default': store is services.stores.default,
            'read-only': store.read_only, 'weight': entry.weight,
            'state': state, 'reason': reason}


def pending(conf: cfg.ConfigOpts) -> int:
    """List what is still to be deleted after its image, the oldest first.

    "data" is what was at a location; "attempts": what interrupted imports
    left; "encryption_key": the key of an encrypted volume. What is in use
    goes when nothing uses it any more.
    """
    with opening.opened(conf) as services:
        with services.db.read() as conn:
            found = list(db_deletions.listed(conn))
    output.rows(conf, [
        {'id': each.id, 'kind': each.kind, 'image': each.image_id,
         'store': each.payload.get('store'), 'attempts': each.attempts,
         'age': round(each.age), 'next in': each.next_in and round(
             each.next_in), 'reason': each.message} for each in found])
    return 0


# name: (function, [(flags, argparse options), ...])
COMMANDS: dict[str, tuple] = {
    'list': (list_, (output.FORMAT,)),
    'pending': (pending, (output.FORMAT,)),
}
