"""glance-import-manage images: what is in the stores, judged again.

A run keeps its place in a file below state_path, one for each question that
is asked, so that one that was interrupted is gone on with.
"""

from __future__ import annotations

import json
import sys

from oslo_config import cfg

from glance_import.cmd import opening
from glance_import.cmd import output
from glance_import.cmd import places
from glance_import.db import images as db_images
from glance_import.domain import rejudging
from glance_import.plugin import chain
from glance_import.plugin import entry_points
from glance_import import services
from glance_import import states
from glance_import.stores import pacing

NAME = 'images'
HELP = 'Images in the stores: judge them again.'
PLACES = 'images-judge.json'


def check_again(conf: cfg.ConfigOpts) -> int:
    """Judge images again: what would be refused if it came in today?

    Reads the head, the tail and the descriptors of the data in every store,
    and with --plugins all of it, for the inspectors that are listed now. A
    line for each image that would be refused, or that cannot be judged; the
    last line sums up. Interrupted, it goes on where it stopped when the same
    is asked again. Exit status 1 when there was such an image.
    """
    words = conf.command
    with opening.opened(conf) as services, \
            places.kept(conf, PLACES, _question(conf)) as place:
        run = _Run(services, rate=pacing.Rate(
            words.rate * 1e6 if words.rate else None),
            plugins=_inspectors(services) if words.plugins else [],
            deactivate=words.deactivate)
        if services.adviser.trouble():
            print('without a second opinion of qemu-img: '
                  f'{services.adviser.trouble()}', file=sys.stderr)
        rows: list[output.Row] = []
        last = None if words.anew else place.read()
        if last is not None:
            print(f'going on behind image {last}', flush=True,
                  file=sys.stderr if output.chosen(conf) else sys.stdout)
        for image in rejudging.after(services, words.status, last):
            found = run.check(image)
            if found is not None:
                rows.append(found)
                if not output.chosen(conf):
                    print('  '.join((
                        found['image'], f'name {found["name"]}',
                        f'owner {found["owner"]}', f'store {found["store"]}',
                        f'{found["verdict"]}: {found["reason"]}')),
                        flush=True)
            place.write(image.id)
        place.write(None)
    if output.chosen(conf):
        output.rows(conf, rows)
    print(run.summary(),
          file=sys.stderr if output.chosen(conf) else sys.stdout)
    return 1 if run.refused or run.unknown else 0


class _Run:
    """One run, and what it has found so far."""

    def __init__(self, services: services.Services, *, rate: pacing.Rate,
                 plugins: list[chain.Plugin], deactivate: bool) -> None:
        self._services = services
        self._rate = rate
        self._plugins = plugins
        self._deactivate = deactivate
        self.judged = self.refused = self.unknown = self.deactivated = 0

    def check(self, image: db_images.Image) -> dict[str, str] | None:
        """Judge one image; what there is to say of it, if anything."""
        self.judged += 1
        found = rejudging.inspect_stored(self._services, image, self._rate,
                                         self._plugins)
        if found is None:
            return None
        if found.refused:
            self.refused += 1
            verdict = 'would be refused'
            if self._deactivate and rejudging.deactivate(
                    self._services, image.id, found.code, found.reason):
                self.deactivated += 1
                verdict = 'was deactivated'
        else:
            self.unknown += 1
            verdict = 'cannot be judged'
        return {name: _plain(str(value)) for name, value in (
            ('image', image.id), ('name', image.name),
            ('owner', image.owner), ('store', found.store),
            ('verdict', verdict), ('reason', found.reason))}

    def summary(self) -> str:
        """The last line."""
        text = (f'{self.judged} judged, {self.refused} would be refused, '
                f'{self.unknown} cannot be judged')
        return (f'{text}, {self.deactivated} were deactivated'
                if self._deactivate else text)


def _plain(text: str) -> str:
    """What users wrote, without what a terminal would obey."""
    return ''.join(each if each.isprintable() else '?' for each in text)


def _inspectors(services: services.Services) -> list[chain.Plugin]:
    """The listed plugins that only look.

    :raises extensions.ExtensionError: there is none
    """
    loaded = services.registry.load(
        services.conf.image_import_opts.image_import_plugins)
    found = [each for each in loaded if isinstance(each, chain.Plugin)
             and chain.INSPECT in each.methods
             and each.settings.enforcement != 'off']
    if not found:
        raise entry_points.ExtensionError(
            'image_import_plugins lists no plugin that inspects data')
    return found


def _question(conf: cfg.ConfigOpts) -> str:
    """What makes a run another one than the last."""
    words = conf.command
    return json.dumps([
        words.status, bool(words.deactivate),
        conf.image_import_opts.image_import_plugins if words.plugins
        else None])


# name: (function, [(flags, argparse options), ...])
COMMANDS: dict[str, tuple] = {
    'judge': (check_again, (
        (('--status',), {
            'choices': (states.ACTIVE, states.DEACTIVATED),
            'default': states.ACTIVE, 'help': 'images of this status'}),
        (('--rate',), {
            'type': places.rate, 'metavar': 'MB/s',
            'help': 'read at most so many million bytes a second'}),
        (('--deactivate',), {
            'action': 'store_true',
            'help': 'deactivate what would be refused, with the reason'}),
        (('--plugins',), {
            'action': 'store_true',
            'help': 'have the listed inspectors look at all of the data'}),
        (('--anew',), {
            'action': 'store_true',
            'help': 'begin with the first image, whatever was done'}))),
}
