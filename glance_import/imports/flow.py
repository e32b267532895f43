"""The import flow: what happens to staged data until the image is active.

``get_flow`` takes plain JSON, touches nothing, and gives the same steps each
time; what a step works with it finds in glance_import.imports.runtime. Every
step may be run twice: it looks at what is already true and does what is
missing. Steps call the domain, never HTTP.
"""

from __future__ import annotations

import os
import stat
import typing

from oslo_log import log
from taskflow import atom
from taskflow import flow as flow_base
from taskflow.patterns import linear_flow
from taskflow import retry

from glance_import import errors
from glance_import.imports import content
from glance_import.imports import contract_step
from glance_import.imports import facades
from glance_import.imports import life
from glance_import.imports import methods
from glance_import.imports import runtime
from glance_import.imports import steps
from glance_import.imports import storing
from glance_import.plugin import chain
from glance_import.plugin import entry_points
from glance_import import staging
from glance_import.stores import base as stores

LOG = log.getLogger(__name__)
SCHEME = 'file://'
_Step = steps.Step


class PluginFailed(errors.ImportFailed):
    """A plugin did not do what a plugin must; the text says what."""

    def __init__(self, plugin: str, reason: str) -> None:
        super().__init__(reason)
        self.plugin = plugin


class _PluginFlow(linear_flow.Flow):
    """What a get_flow plugin gave."""

    def __init__(self, plugin: str, task_id: str) -> None:
        self.plugin = plugin
        super().__init__(f'plugin-{plugin}-{task_id}')


class _VerifyStaging(_Step):
    """The staged file is there. Its place follows from options and id."""

    label = 'ConfigureStaging'
    default_provides = 'file_path'

    def execute(self) -> str:
        life.staged_data(self.rt.services, self.image_id)
        return self.rt.services.area.uri(self.image_id)


class _CheckPlugin(_Step):
    """What a plugin left behind is a file that can be stored."""

    def __init__(self, plugin: str, *args: typing.Any) -> None:
        self.plugin = plugin
        self.label = f'Check-{plugin}'
        super().__init__(*args)

    def execute(self, file_path: str) -> None:
        try:
            path = local_path(file_path)
            mode = os.lstat(path).st_mode
        except (ValueError, OSError) as failure:
            raise PluginFailed(
                self.plugin, 'it left no image data behind '
                f'({file_path!r}: {failure})') from failure
        if not stat.S_ISREG(mode):
            raise PluginFailed(
                self.plugin, f'it left {file_path!r}, which is not a '
                'regular file, as the image data')


class _CompleteTask(_Step):
    """Active, task successful, lock dropped: one transaction."""

    label = 'CompleteTask'

    def execute(self, stored: dict[str, typing.Any],
                virtual_size: int | None = None) -> None:
        life.succeed(self.rt.services, self.rt.claim, self.image_id,
                     life.Placed.of(stored), virtual_size=virtual_size)


class _Clean(_Step):
    """Remove what interrupted attempts have left in stores."""

    label = 'Clean'

    def execute(self) -> None:
        life.clean_up(self.rt.services, self.rt.claim, self.image_id)


class _DeleteFromFS(_Step):
    """Remove the staged file; the image no longer needs it."""

    label = 'DeleteFromFS'

    def execute(self, file_path: str) -> None:
        try:
            life.clean_up(self.rt.services, self.rt.claim, self.image_id)
        except (staging.StagingError, stores.StoreError) as failure:
            # The image is active; housekeeping tries again.
            LOG.warning('import %s: cannot remove what is left over: %s',
                        self.rt.job.id, failure)


def local_path(uri: str) -> str:
    """The absolute path of a ``file://`` URI.

    :raises ValueError: it is no such URI
    """
    if not isinstance(uri, str) or not uri.startswith(SCHEME + '/'):
        raise ValueError('not file:// and an absolute path')
    return uri[len(SCHEME):]


def get_flow(*, task_id: str, task_type: str, image_id: str, method: str,
             import_req: dict[str, typing.Any], plugins: list[str],
             backend: list[str | None],
             **_later: typing.Any) -> flow_base.Flow:
    """The steps of one import, in a line that any failure reverts.

    :param plugins: names in force when the import was asked for, in order
    :raises extensions.ExtensionError: the method is gone
    :raises PluginFailed: a plugin gives no usable flow
    """
    rt = runtime.current()
    ids = (rt, task_id, task_type, image_id)
    given = facades.plugin_arguments(
        rt, task_id=task_id, task_type=task_type, image_id=image_id,
        import_req=import_req, backend=backend)
    flow = linear_flow.Flow(task_type, retry=retry.AlwaysRevert(
        name=f'{task_type}-Retry-{task_id}'))
    loaded = rt.plugins
    assert [each.name for each in loaded] == plugins
    flow.add(*contract_step.prechecks(loaded, *ids))
    flow.add(entry_points.load_method(method)(
        task_id=task_id, task_type=task_type, image_id=image_id,
        import_req=import_req))
    if methods.find(method).copies:
        return flow.add(_CompleteTask(*ids), _Clean(*ids))
    flow.add(_VerifyStaging(*ids))
    seen: dict[str, str] = {}
    for stage in chain.stages(loaded):
        if stage.do == chain.FLOW:
            name = stage.plugins[0].name
            flow.add(_plugin_flow(name, stage.plugins[0].get_flow,
                                  given(name), task_id, seen))
            flow.add(_CheckPlugin(name, *ids))
        else:
            flow.add(contract_step.step(stage, *ids))
    if methods.find(method).plugins:
        flow.add(content.CheckContent(*ids))
    flow.add(storing.ImportToStore(*ids), _CompleteTask(*ids),
             _DeleteFromFS(*ids))
    return flow


def _plugin_flow(name: str, make: entry_points.GetFlow,
                 arguments: dict[str, typing.Any], task_id: str,
                 seen: dict[str, str]) -> flow_base.Flow:
    """What a plugin's get_flow returns, judged and wrapped.

    :param seen: names of the atoms so far, and whose they are
    """
    try:
        made = make(**arguments)
    except Exception as failure:
        LOG.exception('get_flow of the plugin %s failed', name)
        raise PluginFailed(
            name, f'get_flow failed: {describe(failure)}') from failure
    if not isinstance(made, (flow_base.Flow, atom.Atom)):
        raise PluginFailed(
            name, 'get_flow returned '
            f'{"None" if made is None else type(made).__name__}, not a '
            'taskflow flow or task')
    wrapped = _PluginFlow(name, task_id)
    try:
        wrapped.add(made)
        for atom_name in atom_names(wrapped):
            if atom_name in seen:
                raise PluginFailed(
                    name, f'its task name {atom_name!r} is already taken by '
                    f'the plugin {seen[atom_name]}; task names must be '
                    'unique in an import (put the task id into them)')
            seen[atom_name] = name
    except (TypeError, ValueError) as failure:
        raise PluginFailed(
            name, f'its flow cannot be used: {failure}') from failure
    wrapped_names = {n for n, owner in seen.items() if owner == name}
    LOG.debug('plugin %s: %s', name, ', '.join(sorted(wrapped_names)))
    return wrapped


def atom_names(flow: flow_base.Flow) -> typing.Iterator[str]:
    """The name of every atom in a flow, with repetitions."""
    if flow.retry is not None:
        yield flow.retry.name
    for node, _data in flow.iter_nodes():
        if isinstance(node, flow_base.Flow):
            yield from atom_names(node)
        else:
            yield node.name


def outline(flow: flow_base.Flow) -> list[list[str]]:
    """What an import does, in order; what stands in one list side by side."""
    found: list[list[str]] = []
    for node, _data in flow.iter_nodes():
        if isinstance(node, contract_step.Step):
            found.append([f'{plugin.label}: {node.do}'
                          for plugin in node.plugins])
        elif isinstance(node, steps.Step):
            found.append([node.label])
        elif isinstance(node, _PluginFlow):
            found.append([f'{node.plugin}: get_flow'])
        elif isinstance(node, flow_base.Flow):
            found += outline(node)
    return found


def plugin_of_atoms(flow: flow_base.Flow, plugins: list[str],
                    task_id: str) -> dict[str, str]:
    """Which plugin each atom belongs to; the service's own are absent."""
    owners = {}
    for node, _data in flow.iter_nodes():
        for name in plugins:
            if isinstance(node, flow_base.Flow) \
                    and node.name == f'plugin-{name}-{task_id}':
                owners.update(dict.fromkeys(atom_names(node), name))
            elif node.name.endswith(f'-Check-{name}-{task_id}'):
                owners[node.name] = name
        if isinstance(node, contract_step.Step):
            owners[node.name] = node.whose
    return owners


def describe(failure: BaseException) -> str:
    """An exception as a phrase: its kind, and its first line, bounded."""
    text = ' '.join(str(failure).split())[:300]
    kind = type(failure).__name__
    return f'{kind}: {text}' if text else kind
