"""The steps that run contract plugins.

A step asks its plugins, keeps their verdicts in the task, and raises
``Rejected`` when one of them keeps the image from passing. The plugins work
in their sandboxes; what they want written is written by the service.
"""

from __future__ import annotations

import hashlib
import json
import os
import typing

from oslo_log import log

from glance_import.db import images as db_images
from glance_import.db import staging as db_staging
from glance_import import errors
from glance_import.formats import inspection
from glance_import.imports import changes
from glance_import.imports import holding
from glance_import.imports import outcome
from glance_import.imports import runtime
from glance_import.imports import steps
from glance_import.observe import events
from glance_import.plugin import chain
from glance_import.plugin import registry
from glance_import.plugin import verdicts
from glance_import.staging import formats
from glance_import.uploads import staged_state

LOG = log.getLogger(__name__)
_ANY = inspection.Options(match=False, max_virtual_size=0)


class Rejected(outcome.PluginFailed):
    """A contract plugin keeps the image from passing."""

    def __init__(self, result: verdicts.Result) -> None:
        super().__init__(result.plugin, result.reason or result.verdict)
        self.result = result
        if result.verdict != verdicts.ERROR:
            self.code = 'refused.plugin'

    def sentence(self, reference: str | None) -> str:
        """What the user reads."""
        if self.result.verdict == verdicts.ERROR:
            return (f'the image could not be judged: {self.result.reason} '
                    f'(reference {reference})')
        code = f' ({self.result.code})' if self.result.code else ''
        return f'{self.result.reason}{code}'


class Step(steps.Step):
    """Base of the steps here; ``whose`` names the plugins it runs."""

    hook = ''
    kept = True
    # The operator's failure policy says how often a plugin is tried.
    most_retries = 0

    def __init__(self, plugins: tuple[chain.Plugin, ...], number: int,
                 rt: runtime.Runtime, task_id: str, task_type: str,
                 image_id: str) -> None:
        self.plugins = plugins
        self.number = number
        self.whose = ', '.join(plugin.label for plugin in plugins)
        sections = '+'.join(plugin.section for plugin in plugins)
        self.label = f'{self.hook.title()}-{sections}'
        self._seen = ''
        super().__init__(rt, task_id, task_type, image_id)

    def _inspect(self, path: str | None) -> None:
        """Have every plugin look at the image.

        :raises Rejected: one of them does not let it pass
        :raises holding.Held: one of them wants an operator to decide
        """
        conf = self.rt.services.conf.image_import_opts
        self._begin()
        image = self._image(path)
        self._seen = _digest(image)
        self._take(chain.inspect(
            self.rt.services.registry.isolation, self.plugins, self.hook,
            image=image, data=path, log=self._log,
            cancelled=self.rt.stopped.is_set,
            parallel=conf.parallel_inspectors,
            approved={plugin.label for plugin in self.plugins
                      if self._hold(plugin.label)
                      in (self.rt.job.approved or ())},
            around=self.rt.context.update_store))

    def _begin(self) -> None:
        # Much may have happened since the flow was made.
        self.rt.check_plugins()
        self.rt.context.update_store()

    def _take(self, results: list[verdicts.Result]) -> None:
        """Keep the verdicts, and stop here if one of them says so."""
        self.check_stop()
        for result in results:
            self._report(result)
        said = [result.audit() for result in results]
        self.rt.unwritten.append(lambda conn: changes.note_verdicts(
            conn, self.rt.lease, said))
        blocker = chain.blocker(results)
        if blocker is None:
            return
        if blocker.verdict == verdicts.HOLD:
            waits_for = [each for each in results
                         if each.blocks and each.verdict == verdicts.HOLD]
            raise holding.Held(
                [self._hold(each.plugin) for each in waits_for],
                '; '.join(f'plugin {each.plugin}: {each.reason}'
                          for each in waits_for))
        raise Rejected(blocker)

    def _hold(self, plugin: str) -> str:
        """What an operator approves: what that plugin saw, and no other."""
        return f'{self.hook} {plugin} {self._seen}'

    def _report(self, result: verdicts.Result) -> None:
        self.rt.services.events.tell(events.PluginJudged(
            result.plugin, result.verdict, result.seconds))
        level = (LOG.info if result.verdict in (
            'accept', chain.SKIPPED, chain.APPROVED) else LOG.warning)
        level('plugin %s %s: %s%s%s in %.2f s', result.plugin, result.step,
              result.verdict, f' {result.code}' if result.code else '',
              f' ({result.reason})' if result.reason else '', result.seconds)
        if result.verdict == verdicts.ERROR and result.detail:
            LOG.error('plugin %s: %s', result.plugin, result.detail)

    def _log(self, plugin: chain.Plugin, text: str) -> None:
        LOG.info('plugin %s: %s', plugin.label, text)

    def _image(self, path: str | None) -> dict[str, typing.Any]:
        """The metadata that plugins see."""
        services = self.rt.services
        with services.db.read() as conn:
            image = db_images.get(conn, self.image_id,
                                  db_images.Scope(None, True))
            record = db_staging.get(conn, self.image_id)
        if image is None:
            raise errors.ImageGone()
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
            view['virtual_size'] = _virtual_size(path)
        if path in (None, services.area.path(self.image_id)) \
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


def _digest(image: dict[str, typing.Any]) -> str:
    """Of the metadata that plugins see, the digests of the data among it."""
    text = json.dumps(image, sort_keys=True, default=list)
    return hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()


def _virtual_size(path: str) -> int | None:
    """Bytes of the disk that a file holds; None if nobody can say.

    Whether the file is one to be accepted is asked later, and of others.
    """
    try:
        return inspection.inspect_format(path, None, _ANY).virtual_size
    except (inspection.FormatRefused, OSError):
        return None


class Precheck(Step):
    """Plugins that judge before a byte is read."""

    hook = chain.PRECHECK

    def run(self) -> None:
        self._inspect(None)


class Inspect(Step):
    """Plugins that read the data, side by side."""

    hook = chain.INSPECT

    def run(self, file_path: str) -> None:
        self._inspect(self.image_path(file_path))


class Transform(Step):
    """One plugin that writes other data in place of what it reads."""

    hook = chain.TRANSFORM
    default_provides = 'file_path'

    def run(self, file_path: str) -> str:
        services = self.rt.services
        path = self.image_path(file_path)
        made: list[str] = []
        self._begin()

        def sink() -> str:
            made[:] = [services.area.new_product(
                self.image_id, self.rt.lease.epoch, self.number)]
            return made[0]

        try:
            result = chain.run(
                services.registry.isolation, self.plugins[0], self.hook,
                image=self._image(path), data=path, sink=sink, log=self._log,
                cancelled=self.rt.stopped.is_set)
            self._take([result])
            if result.verdict not in ('accept', 'warn'):
                # The operator lets it pass: unchanged.
                steps.remove_file(made[0])
                return file_path
        except BaseException:
            for each in made:
                steps.remove_file(each)
            raise
        return steps.SCHEME + made[0]


def prechecks(loaded: list[registry.Loaded], *ids: typing.Any
              ) -> list[Step]:
    """The step before all others, when a plugin wants one."""
    plugins = chain.prechecks(loaded)
    return [Precheck(plugins, 0, *ids)] if plugins else []


def step(stage: chain.Stage, rt: runtime.Runtime, *ids: typing.Any) -> Step:
    """The step of a stage."""
    kind = Transform if stage.hook == chain.TRANSFORM else Inspect
    number = rt.job.plugins.index(stage.plugins[0].name)
    return kind(stage.plugins, number, rt, *ids)
