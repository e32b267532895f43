"""glance-import-manage stores: their state, and what they still have to do.

A command gets the configuration (its arguments are in ``conf.command``) and
returns an exit status.
"""

from __future__ import annotations

import json
import sys
import time

from oslo_config import cfg

from glance_import.cmd import opening
from glance_import.cmd import output
from glance_import.cmd import places
from glance_import.db import deletions as db_deletions
from glance_import.db import images as db_images
from glance_import.domain import deletions
from glance_import.domain import rejudging
from glance_import.domain import verifying
from glance_import import errors
from glance_import import housekeeping
from glance_import.imports import moving
from glance_import.net import urls
from glance_import import services as all_services
from glance_import import states
from glance_import.stores import base as stores
from glance_import.stores import pacing

NAME = 'stores'
HELP = 'See the stores, check what is in them, move it elsewhere.'
PLACES = 'stores-check.json'
CODE = stores.ObjectChanged.code
# How long each is waited for.
SECONDS = 10
# Seconds between two looks at a copy.
PAUSE = 0.5


def list_(conf: cfg.ConfigOpts) -> int:
    """List the stores and whether they answer just now.

    Exit status 1 when one does not. "unknown": its type cannot be asked.
    """
    with opening.opened(conf) as services:
        rows = [{
            'store': store.id, 'type': store.kind,
            'default': store is services.stores.default,
            'read-only': store.read_only,
            'weight': services.stores.entries[store.id].weight,
            'state': state, 'reason': reason}
            for store, state, reason in services.stores.states(SECONDS)]
    output.rows(conf, rows)
    return 1 if any(row['state'] == 'away' for row in rows) else 0


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


def forget(conf: cfg.ConfigOpts) -> int:
    """Give up deleting something, by its id in the list of what is pending.

    For what will never go: its store is taken away, or somebody has deleted
    it by hand. Exit status 1 when one is not there.
    """
    with opening.opened(conf) as services:
        return output.each(conf, conf.command.ids, lambda wanted: _forgotten(
            services, wanted))


def _forgotten(services: all_services.Services, wanted: str) -> str:
    with services.db.write() as conn:
        found = next((each for each in db_deletions.listed(conn)
                      if each.id == wanted), None)
        if found is None:
            raise errors.NotFound(f'{wanted}: nothing of that id is pending')
        deletions.end_in(conn, found)
    return f'{wanted} is not deleted any more'


def check(conf: cfg.ConfigOpts) -> int:
    """Hold what is in the stores against what the database says.

    Every object of an image has to be there and of its size; with --digests
    it is read whole, and has to have its digest. A line for each that does
    not, or that cannot be looked at, and with --unnamed one for each object
    of an attempt that no image names. Interrupted, it goes on where it
    stopped when the same is asked again. Exit status 1 when there was
    something to say.
    """
    words = conf.command
    question = json.dumps([words.status, words.digests, words.deactivate])
    with opening.opened(conf) as services, \
            places.kept(conf, PLACES, question) as place:
        rate = pacing.Rate(words.rate * 1e6 if words.rate else None)
        last = None if words.anew else place.read()
        if last is not None:
            print(f'going on behind image {last}', file=sys.stderr)
        rows: list[output.Row] = []
        for image in rejudging.after(services, words.status, last):
            rows += _checked(services, conf, image,
                             rate if words.digests else None)
            place.write(image.id)
        place.write(None)
        if words.unnamed:
            rows += [{'image': each.image_id, 'store': store.id,
                      'verdict': 'unnamed', 'reason': urls.public(each.uri)}
                     for store in services.stores.all()
                     for each in housekeeping.unnamed(services, store)]
    output.rows(conf, rows)
    return 1 if rows else 0


def _checked(services: all_services.Services, conf: cfg.ConfigOpts,
             image: db_images.Image, rate: pacing.Rate | None
             ) -> list[output.Row]:
    rows: list[output.Row] = []
    for found in verifying.check(services, image, rate):
        verdict = 'wrong' if found.lost else 'unknown'
        if found.lost and conf.command.deactivate and rejudging.deactivate(
                services, image.id, CODE,
                f'Its data in the store {found.store} is not what was '
                f'stored: {found.reason}.'):
            verdict = 'wrong, deactivated'
        rows.append({'image': image.id, 'store': found.store,
                     'verdict': verdict, 'reason': found.reason})
    return rows


def move(conf: cfg.ConfigOpts) -> int:
    """Move images from one store to another, so that it can be taken away.

    Each is copied by an import (method copy-image) that a conductor runs,
    and then deleted from the first store. Interrupted, it goes on where it
    was when it is asked again. Exit status 1 when an image stays.
    """
    words = conf.command
    if not words.images and not words.all:
        raise errors.Invalid('name images, or say --all')
    if words.source == words.target:
        raise errors.Invalid('the stores of --from and --to are one')
    with opening.opened(conf, accepting=True) as services:
        for store_id in (words.source, words.target):
            if store_id not in services.stores.ids:
                raise errors.Invalid(f'there is no store {store_id}')
        wanted = words.images or moving.located(services, words.source)
        return output.each(conf, wanted, lambda image_id: _moved(
            services, image_id, words.source, words.target))


def _moved(services: all_services.Services, image_id: str, source: str,
           target: str) -> str:
    move_ = moving.Move(services, image_id, source, target)
    while not move_.step():
        time.sleep(PAUSE)
    return f'image {image_id} is in {target}'


# name: (function, [(flags, argparse options), ...])
COMMANDS: dict[str, tuple] = {
    'list': (list_, (output.FORMAT,)),
    # A status of tasks has this name too, and is none of ours.
    pending.__name__: (pending, (output.FORMAT,)),
    'forget': (forget, (
        output.FORMAT,
        (('ids',), {'nargs': '+', 'metavar': 'ID'}))),
    'check': (check, (
        output.FORMAT,
        (('--status',), {
            'choices': (states.ACTIVE, states.DEACTIVATED),
            'default': states.ACTIVE, 'help': 'images of this status'}),
        (('--digests',), {
            'action': 'store_true', 'help': 'read all of the data'}),
        (('--rate',), {
            'type': places.rate, 'metavar': 'MB/s',
            'help': 'read at most so many million bytes a second'}),
        (('--deactivate',), {
            'action': 'store_true',
            'help': 'deactivate what is wrong, with the reason'}),
        (('--unnamed',), {
            'action': 'store_true',
            'help': 'list the objects of attempts that no image names'}),
        (('--anew',), {
            'action': 'store_true',
            'help': 'begin with the first image, whatever was done'}))),
    'move': (move, (
        output.FORMAT,
        (('images',), {'nargs': '*', 'metavar': 'IMAGE'}),
        (('--all',), {
            'action': 'store_true',
            'help': 'every image that is in the first store'}),
        (('--from',), {'dest': 'source', 'required': True,
                       'metavar': 'STORE', 'help': 'where they are'}),
        (('--to',), {'dest': 'target', 'required': True,
                     'metavar': 'STORE', 'help': 'where they go'}))),
}
