"""The listed plugins, found and judged: get_flow and contract, one list.

A contract plugin is never imported here: it describes itself inside its
sandbox. What is missing, broken, doubled or of another contract version is
an error that names it. Reads entry points and configuration, starts sandboxes.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import os
import shutil
import threading
import time
import typing

from oslo_config import cfg
from oslo_log import log

from glance_import.conf import plugins as conf_plugins
from glance_import.plugin import chain
from glance_import.plugin import describing
from glance_import.plugin import entry_points
from glance_import.plugin import sandbox
from glance_import.plugin import sections
from glance_import.plugin import snapshot
from glance_import.plugin import targets
from glance_import.stores import configured as stores

LOG = log.getLogger(__name__)
# Those of its get_flow plugins that run in the sandbox.
_SANDBOXED = ('image_decompression', 'image_conversion')
# How long a plugin that cannot be described is not asked again, in times of
# what the asking took: that must not keep imports without it waiting.
_REST = 20


@dataclasses.dataclass(frozen=True)
class FlowPlugin:
    """A get_flow plugin; ``code`` is what has to be the same elsewhere."""

    name: str
    get_flow: entry_points.GetFlow
    code: str = snapshot.FLOW_VERSION
    kind: str = 'get_flow'

    @property
    def foreign(self) -> bool:
        """Whether it is not one of those that come with the service."""
        return self.code != snapshot.FLOW_VERSION


Loaded = FlowPlugin | chain.Plugin


@dataclasses.dataclass(frozen=True)
class _Failed:
    """A contract plugin whose code could not be asked what it is.

    ``until`` is when it may be asked again, by the monotonic clock.
    """

    code: str
    reason: str
    until: float


class Registry:
    """The plugins of one configuration; each is looked at once."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self.conf = conf
        self._flows: dict[str, FlowPlugin] = {}
        self._points: dict[str, targets.Located | None] = {}
        self._known: dict[str, describing.Described] = {}
        self._failed: dict[str, _Failed] = {}
        # Section -> the options that its plugin declares.
        self.declared: dict[str, list[dict[str, typing.Any]]] = {}
        self._isolation: sandbox.Sandbox | None = None
        self._lock = threading.Lock()

    @property
    def isolation(self) -> sandbox.Sandbox:
        """How contract plugins are started.

        :raises entry_points.ExtensionError: it cannot be had
        """
        try:
            return self._make_isolation()
        except sandbox.SandboxError as failure:
            isolation = self.conf.image_import_opts.isolation
            raise sections.SectionError(
                'image_import_opts', 'isolation',
                f'{isolation} cannot be had: {failure}') from failure

    def strict(self) -> sandbox.Strict:
        """The sandbox, where it is in force.

        :raises sandbox.SandboxError: it is not, or cannot be had
        """
        isolation = self._make_isolation()
        if not isinstance(isolation, sandbox.Strict):
            raise sandbox.SandboxError('isolation is not strict')
        return isolation

    def _make_isolation(self) -> sandbox.Sandbox:
        if self._isolation is None:
            self._isolation = sandbox.make(
                self.conf.image_import_opts.isolation, self._private())
        return self._isolation

    @property
    def listed(self) -> tuple[str, ...]:
        """The names that the configuration lists, in order."""
        return tuple(self.conf.image_import_opts.image_import_plugins)

    def load(self, names: collections.abc.Sequence[str]) -> list[Loaded]:
        """The plugins of these names, in order, as they are configured.

        :raises entry_points.ExtensionError: any of them cannot be used
        """
        _check_names(names)
        found: list[Loaded] = []
        for name in names:
            described = self.contract(name)
            if described is None:
                found.append(self.flow(name))
            else:
                values, secrets = sections.read(
                    self.conf, described.section, described.options)
                found.append(self.plugin(described, values | secrets))
        _check_sections(found)
        return found

    def in_force(self) -> str | None:
        """What start-up says about isolation; None without such plugins."""
        return self.isolation.describe() if self._known else None

    def check_needs(self, flow: FlowPlugin) -> None:
        """What a get_flow plugin that comes with us needs beside itself.

        :raises entry_points.ExtensionError: it is not here
        """
        if flow.name in _SANDBOXED and not flow.foreign:
            self.isolation  # noqa: B018  whether it can be had
        if flow.name == 'image_conversion' and not flow.foreign \
                and shutil.which('qemu-img') is None:
            raise entry_points.ExtensionError(
                "'image_conversion' needs the program qemu-img (of the "
                'package qemu-utils)')

    def _private(self) -> list[str]:
        """Directories of the service that no plugin may see."""
        conf = self.conf
        places = [conf.state_path, *stores.directories(conf)]
        places += [os.path.dirname(os.path.abspath(path))
                   for path in conf.config_file or ()]
        places += list(conf.config_dir or ())
        return [path for path in places if path]

    # -- one name

    def flow(self, name: str) -> FlowPlugin:
        with self._lock:
            if name not in self._flows:
                made = targets.get_flow(name)
                # Once, as it is imported once.
                self._flows[name] = FlowPlugin(
                    name, made, targets.code_of_flow(name)
                    or snapshot.FLOW_VERSION)
            return self._flows[name]

    def _find(self, name: str) -> targets.Located | None:
        """Where it lies; files are looked at again, entry points are not."""
        if name.startswith((targets.FILE, targets.EXEC)):
            return targets.find(name)
        if name not in self._points:
            self._points[name] = targets.find(name)
        return self._points[name]

    def contract(self, name: str) -> describing.Described | None:
        """What the plugin says of itself; None of a get_flow plugin.

        Asked again when its code has changed.
        """
        with self._lock:
            found = self._find(name)
            if found is None:
                return None
            code = found.code()
            known = self._known.get(name)
            if known is None or known.code != code:
                section = targets.section_of(name)
                if section in sections.taken():
                    raise entry_points.ExtensionError(
                        f"'{name}' would have the section [{section}], which "
                        'is taken; rename it')
                known = describing.Described(
                    name, found, self._described(name, found, code), code)
                self._declare(known)
                self._known[name] = known
            return known

    def _declare(self, described: describing.Described) -> None:
        """Make its section readable."""
        section = described.section
        try:
            conf_plugins.register(self.conf, section, described.options)
        except cfg.DuplicateOptError as failure:
            raise entry_points.ExtensionError(
                f"'{described.name}': its options have changed since the "
                'start; reload or restart the service') from failure
        self.declared[section] = described.options

    def plugin(self, described: describing.Described, values: sections.Values
               ) -> chain.Plugin:
        """The plugin with these values of its section's options."""
        sections.check(described.section, described.options, values,
                       self._private())
        target = described.found.target
        read = tuple(values['read_paths']) + tuple(values['sockets'])
        return chain.Plugin(
            name=described.name, section=described.section,
            kind=target.kind,
            version=(described.said.get('version') or described.found.version
                     or 'unknown'),
            methods=tuple(described.said['methods']),
            summary=str(described.said.get('summary') or ''),
            target=dataclasses.replace(target, read=target.read + read),
            settings=sections.settings(
                described.options, values, self.conf.image_size_cap),
            digest=snapshot.digest(
                described.code, self.conf.image_import_opts.isolation,
                {name: value for name, value in values.items()
                 if name not in sections.secret_names(
                     described.options)},
                sections.digests(values['read_paths'])))

    def _described(self, name: str, found: targets.Located, code: str
                   ) -> dict[str, typing.Any]:
        """What it says of itself; a failure is remembered for a while."""
        failed = self._failed.get(name)
        begun = time.monotonic()
        if failed is not None and failed.code == code \
                and begun < failed.until:
            raise entry_points.ExtensionError(failed.reason)
        try:
            return describing.describe(self.isolation, name, found)
        except sections.SectionError:
            raise
        except entry_points.ExtensionError as failure:
            now = time.monotonic()
            self._failed[name] = _Failed(
                code, str(failure), now + _REST * (now - begun))
            raise


def _check_names(names: collections.abc.Sequence[str]) -> None:
    twice = [name for name, number in collections.Counter(names).items()
             if number > 1]
    if twice:
        raise entry_points.ExtensionError(f"'{twice[0]}' is listed twice")


def _check_sections(found: collections.abc.Iterable[Loaded]) -> None:
    seen: dict[str, str] = {}
    for plugin in found:
        if isinstance(plugin, chain.Plugin):
            other = seen.setdefault(plugin.section, plugin.name)
            if other != plugin.name:
                raise entry_points.ExtensionError(
                    f"'{plugin.name}' and '{other}' would share the section "
                    f'[{plugin.section}]; rename one')
