"""Asks a contract plugin, in its sandbox, what it is.

Nothing of it is imported here. A plugin that cannot be described is an error
that names it. Starts sandboxes, reads nothing.
"""

from __future__ import annotations

import dataclasses
import typing

from oslo_log import log

from glance_import.plugin import descriptions
from glance_import.plugin import entry_points
from glance_import.plugin import host
from glance_import.plugin import sandbox
from glance_import.plugin import sections
from glance_import.plugin import snapshot
from glance_import.plugin import targets

LOG = log.getLogger(__name__)
_LIMITS = host.Limits(timeout=30.0, idle_timeout=30.0, cpu=30,
                      memory=512 << 20)


@dataclasses.dataclass(frozen=True)
class Described:
    """A contract plugin as it is on this host, not yet configured."""

    name: str
    found: targets.Located
    said: dict[str, typing.Any]
    code: str

    @property
    def section(self) -> str:
        return targets.section_of(self.name)

    @property
    def options(self) -> list[dict[str, typing.Any]]:
        return self.said['options']

    @property
    def compared(self) -> str:
        """What has to be the same elsewhere."""
        return snapshot.CONTRACT_VERSION if self.found.shipped else self.code


def describe(isolation: sandbox.Sandbox, name: str, found: targets.Located
             ) -> dict[str, typing.Any]:
    """What the plugin says of itself, checked.

    :param name: as it is listed
    :raises entry_points.ExtensionError: it cannot be used
    """
    said: list[str] = []
    target = found.target
    try:
        result = host.run(isolation, target, 'describe',
                          limits=_LIMITS, log=said.append)
    except sandbox.SandboxError as failure:
        raise sections.SectionError(
            'image_import_opts', 'isolation',
            f'{isolation.name} cannot be had: {failure}') from failure
    for line in said:
        LOG.debug('plugin %s: %s', name, line)
    if result.verdict == 'broken':
        raise entry_points.ExtensionError(
            f"'{name}' ({_shown(target)}) breaks the contract: "
            + '; '.join(result.problems))
    if result.verdict != 'described':
        LOG.debug('plugin %s: %s', name, result.detail)
        raise entry_points.ExtensionError(
            f"'{name}' ({_shown(target)}) cannot be loaded: "
            f'{result.reason}{_last_line(result.detail)}')
    problem = descriptions.problem(result.described)
    if problem:
        raise entry_points.ExtensionError(
            f"'{name}' ({_shown(target)}) breaks the contract: {problem}")
    assert result.described is not None
    return result.described


def _shown(target: host.Target) -> str:
    if target.kind == 'class':
        return f'{target.module}:{target.attribute}'
    return target.source


def _last_line(detail: str) -> str:
    """The exception at the end of a stack trace."""
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    return f' ({lines[-1][:300]})' if lines else ''
