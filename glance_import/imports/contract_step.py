"""Steps of the import flow that run contract plugins.

A step asks its plugins, keeps their verdicts in the task, and raises
``Refused`` when one of them keeps the image from passing. The plugins work
in their sandboxes; what they want written is written by the domain.
"""

from __future__ import annotations

import os
import typing

from oslo_log import log
from taskflow import task

from glance_import.db import images as db_images
from glance_import.db import staging as db_staging
from glance_import import errors
from glance_import.imports import life
from glance_import.imports import runtime
from glance_import.plugin import chain
from glance_import.plugin import registry
from glance_import.plugin import verdicts
from glance_import.staging import formats
from glance_import.stores import base as stores
from glance_import.uploads import staged_state

LOG = log.getLogger(__name__)
SCHEME = 'file://'


class Refused(errors.ImportFailed):
    """A contract plugin keeps the image from passing."""

    def __init__(self, record: chain.Record) -> None:
        super().__init__(record.reason or record.verdict)
        self.record = record
        self.plugin = record.plugin

    def reason(self, reference: str | None) -> str:
        """What the user reads."""
        record = self.record
        if record.verdict == verdicts.ERROR:
            return (f'the image could not be judged: {record.reason} '
                    f'(reference {reference})')
        code = f' ({record.code})' if record.code else ''
        return f'{record.reason}{code}'


class Step(task.Task):
    """Base of the steps here; ``whose`` names the plugins it runs."""

    do = ''
    kept = True

    def __init__(self, plugins: tuple[chain.Plugin, ...], number: int,
                 rt: runtime.Runtime, task_id: str, task_type: str,
                 image_id: str, **kwargs: typing.Any) -> None:
        self.plugins = plugins
        self.number = number
        self.rt = rt
        self.image_id = image_id
        self.whose = ', '.join(plugin.label for plugin in plugins)
        label = '+'.join(plugin.section for plugin in plugins)
        super().__init__(
            name=f'{task_type}-{self.do.title()}-{label}-{task_id}',
            **kwargs)

    def _ask(self, do: str, path: str | None) -> None:
        """Have every plugin look at the image.

        :raises Refused: one of them does not let it pass
        """
        conf = self.rt.services.conf.image_import_opts
        # Much may have happened since the flow was made.
        self.rt.check_plugins()
        self.rt.context.update_store()
        self._settle(chain.inspect(
            self.rt.services.registry.way, self.plugins, do,
            image=self._image(path), data=path, log=self._log,
            cancelled=self.rt.stopped.is_set,
            parallel=conf.parallel_inspectors,
            around=self.rt.context.update_store))

    def _settle(self, records: list[chain.Record]) -> None:
        """Keep the verdicts, and stop here if one of them says so."""
        if self.rt.stopped.is_set():
            raise stores.Cancelled('the import was stopped')
        for record in records:
            self._report(record)
        said = [record.audit() for record in records]
        self.rt.unwritten.append(lambda conn: life.note_plugins(
            conn, self.rt.claim, said))
        blocker = chain.blocker(records)
        if blocker is not None:
            raise Refused(blocker)

    def _report(self, record: chain.Record) -> None:
        level = (LOG.info if record.verdict in ('accept', chain.SKIPPED)
                 else LOG.warning)
        level('plugin %s %s: %s%s%s in %.2f s', record.plugin, record.step,
              record.verdict, f' {record.code}' if record.code else '',
              f' ({record.reason})' if record.reason else '', record.seconds)
        if record.verdict == verdicts.ERROR and record.detail:
            LOG.error('plugin %s: %s', record.plugin, record.detail)

    def _log(self, plugin: chain.Plugin, text: str) -> None:
        LOG.info('plugin %s: %s', plugin.label, text)

    def _image(self, path: str | None) -> dict[str, typing.Any]:
        """The metadata that plugins see."""
        box = self.rt.services
        with box.db.read() as conn:
            image = db_images.get(conn, self.image_id,
                                  db_images.Scope(None, True))
            record = db_staging.get(conn, self.image_id)
        if image is None:
            raise errors.ImportFailed('The image was deleted.')
        view = {name: getattr(image, name) for name in (
            'id', 'name', 'disk_format', 'container_format', 'size',
            'virtual_size', 'min_disk', 'min_ram', 'owner', 'visibility')}
        view['tags'] = tuple(image.tags)
        view['properties'] = {
            name: value or '' for name, value in image.properties.items()
            if not name.startswith(chain.RESERVED_PREFIX)}
        view['import_method'] = self.rt.job.method
        view['detected_format'] = record.detected_format if record else None
        if path is not None:
            view['size'] = os.stat(path).st_size
        if path in (None, box.area.path(self.image_id)) \
                and record is not None:
            view.update(self._digests(record))
        elif path is not None:
            # A plugin put this in place of what was staged, so what was
            # found then says nothing of it.
            view['detected_format'] = formats.of_file(path)
        return view

    def _digests(self, record: db_staging.Record) -> dict[str, typing.Any]:
        """What is known of the staged data, if it still is that data."""
        if not staged_state.compare(self.rt.services, record).intact:
            return {}
        return {'size': record.size, 'checksum': record.checksum,
                'os_hash_algo': record.hash_algo,
                'os_hash_value': record.hash_value}


class Precheck(Step):
    """Plugins that judge before a byte is read."""

    do = chain.PRECHECK

    def execute(self) -> None:
        self._ask(self.do, None)


class Inspect(Step):
    """Plugins that read the data, side by side."""

    do = chain.INSPECT

    def execute(self, file_path: str) -> None:
        self._ask(self.do, file_path.removeprefix(SCHEME))


class Transform(Step):
    """One plugin that writes other data in place of what it reads."""

    do = chain.TRANSFORM
    default_provides = 'file_path'

    def execute(self, file_path: str) -> str:
        box, plugin = self.rt.services, self.plugins[0]
        path = file_path.removeprefix(SCHEME)
        made: list[str] = []
        self.rt.check_plugins()
        self.rt.context.update_store()

        def sink() -> str:
            made[:] = [box.area.new_product(
                self.image_id, self.rt.claim.epoch, self.number)]
            return made[0]

        try:
            record = chain.judge(
                box.registry.way, plugin, self.do, image=self._image(path),
                data=path, sink=sink, log=self._log,
                cancelled=self.rt.stopped.is_set)
            self._settle([record])
            if record.verdict not in ('accept', 'warn'):
                # The operator lets it pass: unchanged.
                life.remove_file(made[0])
                return file_path
        except BaseException:
            for each in made:
                life.remove_file(each)
            raise
        return SCHEME + made[0]


def prechecks(loaded: list[registry.Loaded], *ids: typing.Any
              ) -> list[Step]:
    """The step before all others, when a plugin wants one."""
    plugins = chain.prechecks(loaded)
    return [Precheck(plugins, 0, *ids)] if plugins else []


def step(stage: chain.Stage, rt: runtime.Runtime, *ids: typing.Any) -> Step:
    """The step of a stage."""
    number = [plugin.name for plugin in stage.plugins]
    kind = Transform if stage.do == chain.TRANSFORM else Inspect
    return kind(stage.plugins, rt.job.plugins.index(number[0]), rt, *ids)
