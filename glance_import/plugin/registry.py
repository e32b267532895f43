"""The listed plugins, found and judged: get_flow and contract, one list.

A contract plugin is never imported here: it describes itself inside its
sandbox. What is missing, broken, doubled or of another contract version is
an error that names it. ``load`` takes the options from the configuration,
``honour`` from the job of an import. Reads entry points and configuration,
starts sandboxes.
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

from glance_import import conf as configuration
from glance_import.conf import bundled
from glance_import.conf import formats
from glance_import.conf import overlay
from glance_import.conf import plugins as conf_plugins
from glance_import.plugin import chain
from glance_import.plugin import descriptions
from glance_import.plugin import entry_points
from glance_import.plugin import file_digests
from glance_import.plugin import host
from glance_import.plugin import sandbox
from glance_import.plugin import snapshot
from glance_import.plugin import targets
from glance_import.stores import registry as stores

LOG = log.getLogger(__name__)
_DESCRIBE = host.Limits(timeout=30.0, idle_timeout=30.0, cpu=30,
                        memory=512 << 20)
# Sections of the service itself that an import takes along.
_TAKEN_ALONG = (formats, *bundled.MODULES)
# What of them belongs to a host, and stays there.
_OF_A_HOST = frozenset({'second_opinion_program', 'second_opinion_timeout'})
# Those of its get_flow plugins that run in the sandbox.
_SANDBOXED = ('image_decompression', 'image_conversion')
# In place of the digest of a directory in read_paths.
_DIRECTORY = 'directory'
# How long a plugin that cannot be described is not asked again, in times of
# what the asking took: that must not keep imports without it waiting.
_REST = 20

Key = collections.abc.Callable[[], bytes]


class SectionError(entry_points.ExtensionError):
    """Something about a plugin's section; names the option."""

    def __init__(self, section: str, option: str | None, text: str) -> None:
        super().__init__(text)
        self.section = section
        self.option = option


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
class _Described:
    """A contract plugin as it is on this host, not yet configured."""

    name: str
    found: targets.Found
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
        self._conf = conf
        self._flows: dict[str, FlowPlugin] = {}
        self._points: dict[str, targets.Found | None] = {}
        self._known: dict[str, _Described] = {}
        self._failed: dict[str, _Failed] = {}
        # Options are those of a configuration that does not change.
        self._pinned: dict[str, tuple[_Described, snapshot.Pinned]] = {}
        self._options: dict[str, snapshot.Values] = {}
        self._latest = snapshot.Snapshot()
        # Section -> the options that its plugin declares.
        self.declared: dict[str, list[dict[str, typing.Any]]] = {}
        self._isolation: sandbox.Sandbox | None = None
        self._lock = threading.Lock()

    @property
    def isolation(self) -> sandbox.Sandbox:
        """How contract plugins are started.

        :raises extensions.ExtensionError: it cannot be had
        """
        try:
            return self._make_isolation()
        except sandbox.SandboxError as failure:
            isolation = self._conf.image_import_opts.isolation
            raise SectionError(
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
                self._conf.image_import_opts.isolation, self._private())
        return self._isolation

    @property
    def listed(self) -> tuple[str, ...]:
        """The names that the configuration lists, in order."""
        return tuple(self._conf.image_import_opts.image_import_plugins)

    def load(self, names: collections.abc.Sequence[str]) -> list[Loaded]:
        """The plugins of these names, in order, as they are configured.

        :raises extensions.ExtensionError: any of them cannot be used
        """
        _check_names(names)
        found: list[Loaded] = []
        for name in names:
            described = self._contract(name)
            if described is None:
                found.append(self._flow(name))
            else:
                values, secrets = self._values(described)
                found.append(self._plugin(described, values | secrets))
        _check_sections(found)
        return found

    def in_force(self) -> str | None:
        """What start-up says about isolation; None without such plugins."""
        return self.isolation.describe() if self._known else None

    # -- what an import takes along, and who can run it

    def pin(self, names: collections.abc.Sequence[str], key: Key
            ) -> snapshot.Snapshot:
        """The plugins of these names and all options they go by, as of now.

        :param key: what secret options are compared with, asked if need be
        :raises extensions.ExtensionError: a plugin cannot be used by now
        """
        pinned = tuple(self._pin(name, key) for name in names)
        made = snapshot.Snapshot(
            plugins=pinned,
            options=self._taken_along(),
            isolation=(self._conf.image_import_opts.isolation
                       if any(each.kind != 'get_flow' for each in pinned)
                       else None),
            foreign=(self._foreign(pinned, key) if any(
                each.kind == 'get_flow'
                and each.code != snapshot.FLOW_VERSION for each in pinned)
                else {}))
        if made != self._latest:
            # Its text and digest are made once for many imports.
            self._latest = made
        return self._latest

    def _taken_along(self) -> dict[str, snapshot.Values]:
        if not self._options:
            self._options = {module.GROUP: overlay.values(
                self._conf, module.GROUP,
                [option for option in module.OPTS
                 if option.dest not in _OF_A_HOST])
                for module in _TAKEN_ALONG}
        return self._options

    def _pin(self, name: str, key: Key) -> snapshot.Pinned:
        described = self._contract(name)
        if described is None:
            flow = self._flow(name)
            return snapshot.Pinned(name, flow.kind, flow.code)
        before, pinned = self._pinned.get(name, (None, None))
        if pinned is None or before is not described:
            values, secrets = self._values(described)
            # Judged here as it will be there.
            self._plugin(described, values | secrets)
            pinned = snapshot.Pinned(
                name, described.found.target.kind, described.compared,
                values=values, secrets=_keyed(key, name, secrets))
            self._pinned[name] = (described, pinned)
        return dataclasses.replace(
            pinned, files=_files(pinned.values['read_paths']))

    def honour(self, wanted: snapshot.Snapshot, key: Key) -> list[Loaded]:
        """The plugins of an import, with the options of the import.

        :raises snapshot.NotHonoured: one of them is not here, or another
        """
        here = self._conf.image_import_opts.isolation
        if wanted.isolation not in (None, here):
            raise snapshot.NotHonoured(
                f'it asks for the isolation {wanted.isolation}, and plugins '
                f'are run with {here} here')
        found = [self._as_asked(each, key) for each in wanted.plugins]
        if any(isinstance(each, FlowPlugin) and each.foreign
               for each in found):
            self._check_foreign(wanted, key)
        return found

    def _as_asked(self, pinned: snapshot.Pinned, key: Key) -> Loaded:
        label = targets.section_of(pinned.name)
        try:
            described = self._contract(pinned.name)
            if described is None:
                flow = self._flow(pinned.name)
                _check_same(label, pinned, flow.kind, flow.code)
                self.check_needs(flow)
                return flow
            _check_same(label, pinned, described.found.target.kind,
                        described.compared)
            secrets = self._own_secrets(described, pinned, key)
            _check_files(label, pinned)
            return self._plugin(described, self._defaults(described)
                                | pinned.values | secrets)
        except entry_points.ExtensionError as failure:
            raise snapshot.NotHonoured(
                f'the plugin {label} cannot be used here',
                str(failure)) from failure
        except (TypeError, ValueError, LookupError,
                AttributeError) as failure:
            raise snapshot.NotHonoured(
                f'the options that the plugin {label} had cannot be used '
                'by this release', repr(failure)) from failure

    def check_needs(self, flow: FlowPlugin) -> None:
        """What a get_flow plugin that comes with us needs beside itself.

        :raises extensions.ExtensionError: it is not here
        """
        if flow.name in _SANDBOXED and not flow.foreign:
            self.isolation  # noqa: B018  whether it can be had
        if flow.name == 'image_conversion' and not flow.foreign \
                and shutil.which('qemu-img') is None:
            raise entry_points.ExtensionError(
                "'image_conversion' needs the program qemu-img (of the "
                'package qemu-utils)')

    def _own_secrets(self, described: _Described, pinned: snapshot.Pinned,
                     key: Key) -> snapshot.Values:
        """Secret options from here, where they are those of the import."""
        known = {option['name'] for option in described.options}
        unknown = (pinned.values.keys() | pinned.secrets.keys()) - known - {
            opt.dest for opt in conf_plugins.OPTS}
        if unknown:
            raise snapshot.NotHonoured(
                f'the plugin {described.section} has no option '
                f'{min(unknown)} here')
        _values, secrets = self._values(described, only_secrets=True)
        own = _keyed(key, pinned.name, secrets)
        for name in own.keys() | pinned.secrets.keys():
            if not snapshot.same(own.get(name, ''),
                                 pinned.secrets.get(name, '')):
                raise snapshot.NotHonoured(
                    f'the option {name} of the plugin {described.section} '
                    'is another one here')
        return secrets

    def _defaults(self, described: _Described) -> snapshot.Values:
        """Of options that the release that accepted the import lacked."""
        return {option['name']: option['default']
                for option in described.options} | {
            opt.dest: opt.default for opt in conf_plugins.OPTS}

    def _foreign(self, pinned: collections.abc.Iterable[snapshot.Pinned],
                 key: Key) -> dict[str, str]:
        """Keyed digests of sections that only plugins of others can read."""
        own = _taken_sections() | {
            targets.section_of(each.name) for each in pinned
            if each.kind != 'get_flow'}
        return {section: snapshot.keyed_digest(key(), section, values)
                for section, values
                in configuration.sections(self._conf).items()
                if section.lower() not in own}

    def _check_foreign(self, wanted: snapshot.Snapshot, key: Key) -> None:
        here = self._foreign(wanted.plugins, key)
        for section in sorted(here.keys() | wanted.foreign.keys()):
            if here.get(section) != wanted.foreign.get(section):
                raise snapshot.NotHonoured(
                    f'the section [{section}] of the configuration, which '
                    'its get_flow plugins may read, is another one here')

    def _private(self) -> list[str]:
        """Directories of the service that no plugin may see."""
        conf = self._conf
        places = [conf.state_path, *stores.directories(conf)]
        places += [os.path.dirname(os.path.abspath(path))
                   for path in conf.config_file or ()]
        places += list(conf.config_dir or ())
        return [path for path in places if path]

    # -- one name

    def _flow(self, name: str) -> FlowPlugin:
        with self._lock:
            if name not in self._flows:
                made = targets.get_flow(name)
                # Once, as it is imported once.
                self._flows[name] = FlowPlugin(
                    name, made, targets.code_of_flow(name)
                    or snapshot.FLOW_VERSION)
            return self._flows[name]

    def _find(self, name: str) -> targets.Found | None:
        """Where it lies; files are looked at again, entry points are not."""
        if name.startswith((targets.FILE, targets.EXEC)):
            return targets.find(name)
        if name not in self._points:
            self._points[name] = targets.find(name)
        return self._points[name]

    def _contract(self, name: str) -> _Described | None:
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
                if section in _taken_sections():
                    raise entry_points.ExtensionError(
                        f"'{name}' would have the section [{section}], which "
                        'is taken; rename it')
                known = _Described(name, found,
                                   self._said(name, found, code), code)
                self._declare(known)
                self._known[name] = known
            return known

    def _declare(self, described: _Described) -> None:
        """Make its section readable."""
        section = described.section
        try:
            conf_plugins.register(self._conf, section, described.options)
        except cfg.DuplicateOptError as failure:
            raise entry_points.ExtensionError(
                f"'{described.name}': its options have changed since the "
                'start; reload or restart the service') from failure
        self.declared[section] = described.options

    def _plugin(self, described: _Described, values: snapshot.Values
                ) -> chain.Plugin:
        """The plugin with these values of its section's options."""
        self._check_values(described, values)
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
            settings=_settings(described, values, self._conf.image_size_cap),
            digest=snapshot.digest(
                described.code, self._conf.image_import_opts.isolation,
                {name: value for name, value in values.items()
                 if name not in _secret_names(described)},
                _files(values['read_paths'])))

    def _said(self, name: str, found: targets.Found, code: str
              ) -> dict[str, typing.Any]:
        """The same as ``_describe``, but that a failure is remembered."""
        failed = self._failed.get(name)
        begun = time.monotonic()
        if failed is not None and failed.code == code \
                and begun < failed.until:
            raise entry_points.ExtensionError(failed.reason)
        try:
            return self._describe(name, found)
        except SectionError:
            raise
        except entry_points.ExtensionError as failure:
            now = time.monotonic()
            self._failed[name] = _Failed(
                code, str(failure), now + _REST * (now - begun))
            raise

    def _describe(self, name: str, found: targets.Found
                  ) -> dict[str, typing.Any]:
        said: list[str] = []
        target = found.target
        try:
            result = host.run(self.isolation, target, 'describe',
                              limits=_DESCRIBE, log=said.append)
        except sandbox.SandboxError as failure:
            raise SectionError(
                'image_import_opts', 'isolation',
                f'{self.isolation.name} cannot be had: {failure}') from failure
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

    def _values(self, described: _Described, *, only_secrets: bool = False
                ) -> tuple[snapshot.Values, snapshot.Values]:
        """What the section says: (plain options, secret ones)."""
        section = described.section
        secret = _secret_names(described)
        values = {}
        for name in secret if only_secrets else [
                opt.dest for opt in conf_plugins.OPTS] + [
                option['name'] for option in described.options]:
            try:
                values[name] = getattr(self._conf[section], name)
            except cfg.Error as failure:
                raise SectionError(section, name, _reason(failure)
                                   ) from failure
        return ({name: value for name, value in values.items()
                 if name not in secret},
                {name: value for name, value in values.items()
                 if name in secret})

    def _check_values(self, described: _Described,
                      values: snapshot.Values) -> None:
        section = described.section
        for each in described.options:
            if each['required'] and values[each['name']] is None:
                raise SectionError(section, each['name'],
                                   'has to be set for this plugin')
        for prefix in values['allowed_properties']:
            if not prefix or prefix.startswith(chain.RESERVED_PREFIX):
                raise SectionError(
                    section, 'allowed_properties',
                    f'{prefix!r} cannot be allowed: {chain.RESERVED_PREFIX} '
                    'is the namespace of the service')
        private = [os.path.realpath(path) for path in self._private()]
        for option in ('read_paths', 'sockets'):
            for path in values[option]:
                if not os.path.isabs(path):
                    raise SectionError(section, option,
                                       f'{path!r} is no absolute path')
                real = os.path.realpath(path)
                if any(_overlap(real, place) for place in private):
                    raise SectionError(
                        section, option, f'{path!r} would show the plugin '
                        "the service's own files")


def _settings(described: _Described, values: snapshot.Values,
              largest: int) -> chain.Settings:
    """The section as a run needs it.

    :param largest: bytes that an image may have
    """
    return chain.Settings(
        failure_policy=values['failure_policy'],
        enforcement=values['enforcement'],
        allowed_properties=tuple(values['allowed_properties']),
        limits=host.Limits(
            timeout=values['timeout'],
            idle_timeout=values['idle_timeout'],
            cpu=values['cpu_limit'], memory=values['memory_limit'] << 20,
            tmp=values['tmp_limit'] << 20,
            tmp_files=values['tmp_files_limit'],
            files=values['open_files_limit'],
            processes=values['process_limit'],
            output=values['output_limit'] << 20 or largest,
            log=values['log_limit'] << 10),
        options={option['name']: values[option['name']]
                 for option in described.options})


def _secret_names(described: _Described) -> set[str]:
    return {option['name'] for option in described.options
            if option['secret']}


def _keyed(key: Key, name: str, secrets: snapshot.Values) -> dict[str, str]:
    return {option: snapshot.keyed_digest(key(), name, option, value)
            for option, value in secrets.items()}


def _files(paths: collections.abc.Iterable[str]) -> dict[str, str | None]:
    """Digests of those that are files; a directory changes as it likes.

    It has to be there all the same: without it a plugin sees nothing.
    """
    found: dict[str, str | None] = {}
    for path in paths:
        if os.path.isdir(path):
            found[path] = _DIRECTORY
            continue
        try:
            found[path] = file_digests.of_file(path)
        except OSError:
            found[path] = None
    return found


def _check_same(label: str, pinned: snapshot.Pinned, kind: str,
                code: str) -> None:
    if (pinned.kind, pinned.code) != (kind, code):
        raise snapshot.NotHonoured(
            f'the plugin {label} is another one here', pinned.name)


def _check_files(label: str, pinned: snapshot.Pinned) -> None:
    here = _files(pinned.values.get('read_paths', ()))
    for path in sorted(here.keys() | pinned.files.keys()):
        if here.get(path) != pinned.files.get(path):
            raise snapshot.NotHonoured(
                f'a file that the plugin {label} may read is another one '
                'here', path)


def _taken_sections() -> set[str]:
    groups = {group or 'DEFAULT' for group, _options in
              configuration.list_opts()
              + configuration.list_image_import_opts()}
    return {group.lower() for group in
            groups | configuration.FOREIGN_GROUPS}


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


# -- how things are said

def _shown(target: host.Target) -> str:
    if target.kind == 'class':
        return f'{target.module}:{target.attribute}'
    return target.source


def _last_line(detail: str) -> str:
    """The exception at the end of a stack trace."""
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    return f' ({lines[-1][:300]})' if lines else ''


def _reason(failure: cfg.Error) -> str:
    text = ' '.join(str(failure).split())
    return text.rpartition('is not valid: ')[2] or text


def _overlap(one: str, other: str) -> bool:
    return (one + '/').startswith(other.rstrip('/') + '/') or (
        other + '/').startswith(one.rstrip('/') + '/')
