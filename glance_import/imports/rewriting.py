"""What the bundled plugins share that rewrite an image in a sandbox.

They are the service's own and use its insides, which plugins of others are
not given: the staging area for their product, the sandbox, the record of
what the image was before. Third-party get_flow plugins keep to what their
get_flow is called with.
"""

from __future__ import annotations

import collections.abc
import os
import time
import typing

from oslo_log import log
from taskflow import task

from glance_import.db import images as db_images
from glance_import.domain import free_space
from glance_import.domain import quotas
from glance_import import errors
from glance_import.imports import life
from glance_import.imports import progress
from glance_import.imports import runtime
from glance_import.plugin import host
from glance_import.plugin import sandbox
from glance_import.plugin import verdicts
from glance_import.stores import base as stores

LOG = log.getLogger(__name__)
_SCHEME = 'file://'
# Looking at what there is, without writing anything.
_LOOK_SECONDS = 600.0


class Rewrite(task.Task):
    """Writes other bytes in place of those it finds; ``plugin`` names it."""

    plugin = ''
    label = ''
    default_provides = 'file_path'
    kept = True
    target: host.Target

    def __init__(self, **kwargs: typing.Any) -> None:
        self.rt = runtime.current()
        self.image_id = kwargs['image_id']
        self.options = self.rt.services.conf[self.plugin]
        self._report = progress.Reporter(self.rt, self.label).report
        super().__init__(
            name=f"{kwargs['task_type']}-{self.label}-{kwargs['task_id']}")

    def execute(self, file_path: str) -> str:
        begun = time.monotonic()
        made = self.rewrite(file_path.removeprefix(_SCHEME))
        if made != file_path:
            LOG.info('%s took %.2f s for image %s', self.plugin,
                     time.monotonic() - begun, self.image_id)
        return made

    def rewrite(self, path: str) -> str:
        """The URI of what there is afterwards."""
        raise NotImplementedError

    # -- the image

    def image(self) -> db_images.Image:
        """As it was before this step, also when the step is done again."""
        box = self.rt.services
        with box.db.read() as conn:
            found = db_images.get(conn, self.image_id, db_images.EVERYTHING)
        if found is None:
            raise errors.ImportFailed('The image was deleted.')
        before = life.before(box, self.rt.claim, self.plugin)
        return found._replace(**before)

    # -- the sandbox

    def measure(self, path: str, **options: typing.Any) -> int:
        """Bytes that the rewriting needs, as far as the data says."""
        result = self._run('inspect', path, None, _LOOK_SECONDS, 1 << 20,
                           options)
        return int(result.properties['required'])

    def make(self, path: str, limit: int,
             said: collections.abc.Callable[[str], None] = LOG.debug,
             **options: typing.Any) -> str:
        """The path of the product; nothing is left of one that failed.

        :param limit: bytes that the product may have
        """
        area = self.rt.services.area
        number = self.rt.job.plugins.index(self.plugin)
        sink = area.new_product(self.image_id, self.rt.claim.epoch, number)
        try:
            self._run('transform', path, sink, float(self.options.timeout),
                      limit, options, said)
        except BaseException:
            life.remove_file(sink)
            raise
        return sink

    def adopt(self, sink: str, **changes: typing.Any) -> str:
        """Record what the image is now; the URI of the product.

        What it was made of stays until the import ends: were we to die now,
        this step would need it again.
        """
        base = {**changes, 'size': os.stat(sink).st_size}
        self.rt.unwritten.append(lambda conn: life.write_change(
            conn, self.rt.claim, self.image_id, base=base,
            step=self.plugin))
        return _SCHEME + sink

    def cap(self) -> int:
        """The most bytes that the image may have."""
        return quotas.to_stage(self.rt.services, self.image_id).size

    def require_room(self, needed: int, what_for: str) -> None:
        """:raises errors.TooLarge: naming the bytes needed and free"""
        free_space.require(self.rt.services.area.directory, needed, what_for)

    def report(self, done: int, total: int | None) -> None:
        """Progress in bytes."""
        self._report(done, total)

    def _run(self, do: str, path: str, sink: str | None, timeout: float,
             limit: int, options: dict[str, typing.Any],
             said: collections.abc.Callable[[str], None] = LOG.debug
             ) -> verdicts.Result:
        way = self.rt.services.registry.way
        result = host.run(
            way, self.target, do, image={}, data=path, sink=sink,
            by_name=True, log=said, cancelled=self.rt.stopped.is_set,
            options={**options, 'source': way.path(path, sandbox.DATA),
                     'sink': way.path(sink, sandbox.SINK) if sink else ''},
            limits=host.Limits(
                timeout=timeout, idle_timeout=timeout,
                cpu=int(timeout) + 1,
                memory=self.options.memory_limit << 20, processes=128,
                output=limit, log=1 << 20))
        if self.rt.stopped.is_set():
            raise stores.Cancelled('the import was stopped')
        if result.verdict == 'accept':
            return result
        if result.detail:
            LOG.error('%s: %s', self.plugin, result.detail)
        raise errors.ImportFailed(result.reason or result.verdict)
