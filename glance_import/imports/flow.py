"""The steps of an import in their order, as a taskflow flow.

``get_flow`` takes plain JSON, touches nothing, and gives the same steps each
time; what a step works with it finds in glance_import.imports.runtime.
"""

from __future__ import annotations

import typing

from oslo_log import log
from taskflow import atom
from taskflow import flow as flow_base
from taskflow.patterns import linear_flow

from glance_import.imports import contract_step
from glance_import.imports import facades
from glance_import.imports import methods
from glance_import.imports import outcome
from glance_import.imports import runtime
from glance_import.imports import steps
from glance_import.imports import storing
from glance_import.plugin import chain
from glance_import.plugin import entry_points

LOG = log.getLogger(__name__)


class _PluginFlow(linear_flow.Flow):
    """What a get_flow plugin gave."""

    def __init__(self, plugin: str, task_id: str) -> None:
        self.plugin = plugin
        super().__init__(f'plugin-{plugin}-{task_id}')


def get_flow(*, task_id: str, task_type: str, image_id: str, method: str,
             import_req: dict[str, typing.Any], plugins: list[str],
             backend: list[str | None],
             **_later: typing.Any) -> flow_base.Flow:
    """The steps of one import, in a line that any failure reverts.

    :param plugins: names in force when the import was asked for, in order
    :raises extensions.ExtensionError: the method is gone
    :raises outcome.PluginFailed: a plugin gives no usable flow
    """
    rt = runtime.current()
    ids = (rt, task_id, task_type, image_id)
    given = facades.plugin_arguments(
        rt, task_id=task_id, task_type=task_type, image_id=image_id,
        import_req=import_req, backend=backend)
    # taskflow reverts a flow that has no retry controller.
    flow = linear_flow.Flow(task_type)
    loaded = rt.plugins
    assert [each.name for each in loaded] == plugins
    flow.add(*contract_step.prechecks(loaded, *ids))
    flow.add(entry_points.load_method(method)(
        task_id=task_id, task_type=task_type, image_id=image_id,
        import_req=import_req))
    if methods.find(method).copies:
        return flow.add(
            steps.CompleteTask(*ids, inject={'virtual_size': None}),
            steps.DeleteFromFS(*ids))
    flow.add(steps.ConfigureStaging(*ids))
    seen: dict[str, str] = {}
    for stage in chain.stages(loaded):
        if stage.hook == chain.FLOW:
            name = stage.plugins[0].name
            flow.add(_plugin_flow(name, stage.plugins[0].get_flow,
                                  given(name), task_id, seen))
            flow.add(steps.CheckPlugin(name, *ids))
        else:
            flow.add(contract_step.step(stage, *ids))
    if methods.find(method).plugins:
        flow.add(steps.CheckContent(*ids))
    return flow.add(storing.ImportToStore(*ids), steps.CompleteTask(*ids),
                    steps.DeleteFromFS(*ids))


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
        raise outcome.PluginFailed(
            name, f'get_flow failed: {outcome.describe(failure)}') from failure
    if not isinstance(made, (flow_base.Flow, atom.Atom)):
        raise outcome.PluginFailed(
            name, 'get_flow returned '
            f'{"None" if made is None else type(made).__name__}, not a '
            'taskflow flow or task')
    wrapped = _PluginFlow(name, task_id)
    try:
        wrapped.add(made)
        for atom_name in atom_names(wrapped):
            if atom_name in seen:
                raise outcome.PluginFailed(
                    name, f'its task name {atom_name!r} is already taken by '
                    f'the plugin {seen[atom_name]}; task names must be '
                    'unique in an import (put the task id into them)')
            seen[atom_name] = name
    except (TypeError, ValueError) as failure:
        raise outcome.PluginFailed(
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
            found.append([f'{plugin.label}: {node.hook}'
                          for plugin in node.plugins])
        elif isinstance(node, steps.Step):
            found.append([node.label])
        elif isinstance(node, _PluginFlow):
            found.append([f'{node.plugin}: get_flow'])
        elif isinstance(node, flow_base.Flow):
            found += outline(node)
    return found


def owners(flow: flow_base.Flow) -> dict[str, str]:
    """Which plugin each atom belongs to; the service's own are absent."""
    found: dict[str, str] = {}
    for node, _data in flow.iter_nodes():
        if isinstance(node, _PluginFlow):
            found.update(dict.fromkeys(atom_names(node), node.plugin))
        elif isinstance(node, flow_base.Flow):
            found.update(owners(node))
        elif isinstance(node, contract_step.Step):
            found[node.name] = node.whose
        elif isinstance(node, steps.CheckPlugin):
            found[node.name] = node.plugin
    return found
