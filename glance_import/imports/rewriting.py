"""The step of the bundled plugins that rewrite an image in a sandbox.

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

from glance_import.db import images as db_images
from glance_import.domain import free_space
from glance_import.domain import quotas
from glance_import import errors
from glance_import.imports import changes
from glance_import.imports import runtime
from glance_import.imports import steps
from glance_import.plugin import host
from glance_import.plugin import sandbox
from glance_import.plugin import verdicts

LOG = log.getLogger(__name__)
# Looking at what there is, without writing anything.
_LOOK_SECONDS = 600.0


class Rewrite(steps.Step):
    """Writes other bytes in place of those it finds; ``plugin`` names it."""

    plugin = ''
    default_provides = 'file_path'
    kept = True
    # A plugin's, and what it does is dear.
    most_retries = 0
    target: host.Target

    def __init__(self, **kwargs: typing.Any) -> None:
        rt = runtime.current()
        self.options = rt.services.conf[self.plugin]
        super().__init__(rt, kwargs['task_id'], kwargs['task_type'],
                         kwargs['image_id'])

    def run(self, file_path: str) -> str:
        begun = time.monotonic()
        made = self.rewrite(self.image_path(file_path))
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
        return super().image()._replace(**changes.before(
            self.rt.services, self.rt.lease, self.plugin))

    # -- the sandbox

    def measure(self, path: str, **options: typing.Any) -> int:
        """Bytes that the rewriting needs, as far as the data says."""
        result = self._sandboxed('inspect', path, None, _LOOK_SECONDS, 1 << 20,
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
        sink = area.new_product(self.image_id, self.rt.lease.epoch, number)
        try:
            self._sandboxed('transform', path, sink,
                            float(self.options.timeout), limit, options,
                            said)
        except BaseException:
            steps.remove_file(sink)
            raise
        return sink

    def adopt(self, sink: str, **attributes: typing.Any) -> str:
        """Record what the image is now; the URI of the product.

        What it was made of stays until the import ends: were we to die now,
        this step would need it again.
        """
        base = {**attributes, 'size': os.stat(sink).st_size}
        self.rt.unwritten.append(lambda conn: changes.write_attributes(
            conn, self.rt.lease, self.image_id, base=base,
            step=self.plugin))
        return steps.SCHEME + sink

    def cap(self) -> int:
        """The most bytes that the image may have."""
        return quotas.to_stage(self.rt.services, self.image_id).size

    def require_room(self, needed: int, what_for: str) -> None:
        """:raises errors.TooLarge: naming the bytes needed and free"""
        free_space.require(self.rt.services.area.directory, needed, what_for)

    def _sandboxed(self, hook: str, path: str, sink: str | None,
                   timeout: float, limit: int,
                   options: dict[str, typing.Any],
                   said: collections.abc.Callable[[str], None] = LOG.debug
                   ) -> verdicts.Result:
        isolation = self.rt.services.registry.isolation
        result = host.run(
            isolation, self.target, hook, image={}, data=path, sink=sink,
            log=said, cancelled=self.rt.stopped.is_set,
            options={**options, 'source': isolation.path(path, sandbox.DATA),
                     'sink': (isolation.path(sink, sandbox.SINK)
                              if sink else '')},
            limits=host.Limits(
                timeout=timeout, idle_timeout=timeout,
                cpu=int(timeout) + 1,
                memory=self.options.memory_limit << 20, processes=128,
                output=limit, log=1 << 20))
        self.check_stop()
        if result.verdict == 'warn':
            changes.warn(self.rt, f'{self.plugin}: {result.reason}.')
        if result.verdict in ('accept', 'warn'):
            return result
        if result.detail:
            LOG.error('%s: %s', self.plugin, result.detail)
        raise errors.ImportFailed(result.reason or result.verdict,
                                  code='plugin.failed')
