"""The listed plugins, found and judged: get_flow and contract, one list.

A contract plugin is never imported here: it describes itself inside its
sandbox. What is missing, broken, doubled or of another contract version is
an error that names it. Reads entry points and configuration, starts
sandboxes.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import importlib.metadata
import importlib.util
import os
import re
import stat
import threading
import typing

from oslo_config import cfg
from oslo_log import log

from glance_import.async_ import extensions
from glance_import import conf as configuration
from glance_import.conf import plugins as conf_plugins
from glance_import.plugin import chain
from glance_import.plugin import contract
from glance_import.plugin import host
from glance_import.plugin import sandbox
from glance_import.stores import registry as stores

LOG = log.getLogger(__name__)
CONTRACT = 'glance_import.plugins'
FILE, EXEC = 'file:', 'exec:'
_OWN_PACKAGE = 'glance_import'
_DESCRIBE = host.Limits(timeout=30.0, idle_timeout=30.0, cpu=30,
                        memory=512 << 20)


class SectionError(extensions.ExtensionError):
    """Something about a plugin's section; names the option."""

    def __init__(self, section: str, option: str | None, text: str) -> None:
        super().__init__(text)
        self.section = section
        self.option = option


@dataclasses.dataclass(frozen=True)
class FlowPlugin:
    """A get_flow plugin."""

    name: str
    get_flow: extensions.GetFlow
    kind: str = 'get_flow'


Loaded = FlowPlugin | chain.Plugin


class Registry:
    """The plugins of one configuration; each is looked at once."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._known: dict[str, Loaded] = {}
        # Section -> the options that its plugin declares.
        self.declared: dict[str, list[dict[str, typing.Any]]] = {}
        self._way: sandbox.Strict | sandbox.Process | None = None
        self._lock = threading.Lock()

    @property
    def way(self) -> sandbox.Strict | sandbox.Process:
        """How contract plugins are started.

        :raises extensions.ExtensionError: it cannot be had
        """
        try:
            return self._make_way()
        except sandbox.SandboxError as failure:
            isolation = self._conf.image_import_opts.isolation
            raise SectionError(
                'image_import_opts', 'isolation',
                f'{isolation} cannot be had: {failure}') from failure

    def wall(self) -> sandbox.Strict:
        """The sandbox, where it is in force.

        :raises sandbox.SandboxError: it is not, or cannot be had
        """
        way = self._make_way()
        if not isinstance(way, sandbox.Strict):
            raise sandbox.SandboxError('isolation is not strict')
        return way

    def _make_way(self) -> sandbox.Strict | sandbox.Process:
        if self._way is None:
            self._way = sandbox.make(
                self._conf.image_import_opts.isolation, self._private())
        return self._way

    def load(self, names: collections.abc.Sequence[str]) -> list[Loaded]:
        """The plugins of these names, in order.

        :raises extensions.ExtensionError: any of them cannot be used
        """
        twice = [name for name, number in collections.Counter(names).items()
                 if number > 1]
        if twice:
            raise extensions.ExtensionError(f"'{twice[0]}' is listed twice")
        with self._lock:
            for name in names:
                if name not in self._known:
                    self._known[name] = self._load(name)
            found = [self._known[name] for name in names]
        _check_sections(found)
        return found

    def in_force(self) -> str | None:
        """What start-up says about isolation; None without such plugins."""
        if not any(isinstance(each, chain.Plugin)
                   for each in self._known.values()):
            return None
        return self.way.describe()

    def _private(self) -> list[str]:
        """Directories of the service that no plugin may see."""
        conf = self._conf
        places = [conf.state_path, *stores.directories(conf)]
        places += [os.path.dirname(os.path.abspath(path))
                   for path in conf.config_file or ()]
        places += list(conf.config_dir or ())
        return [path for path in places if path]

    # -- one name

    def _load(self, name: str) -> Loaded:
        if name.startswith(FILE):
            target, version = _file_target(name), ''
        elif name.startswith(EXEC):
            target, version = _exec_target(name), ''
        else:
            point = extensions.find(CONTRACT, name)
            flow = extensions.find(extensions.PLUGINS, name)
            if point is None:
                return _flow_plugin(name, flow is not None)
            if flow is not None:
                raise extensions.ExtensionError(
                    f"'{name}' is registered both in {CONTRACT} "
                    f'({point.value}) and in {extensions.PLUGINS} '
                    f'({flow.value}); rename one')
            target = _point_target(name, point)
            version = point.dist.version if point.dist else ''
        return self._configured(name, target, version)

    def _configured(self, name: str, target: host.Target,
                    version: str) -> chain.Plugin:
        section = section_of(name)
        if section in _taken_sections():
            raise extensions.ExtensionError(
                f"'{name}' would have the section [{section}], which is "
                'taken; rename it')
        described = self._describe(name, target)
        try:
            conf_plugins.register(self._conf, section, described['options'])
        except cfg.DuplicateOptError as failure:
            raise extensions.ExtensionError(
                f"'{name}': its options have changed since the start"
            ) from failure
        self.declared[section] = described['options']
        settings, read = self._settings(section, described['options'])
        return chain.Plugin(
            name=name, section=section, kind=target.kind,
            version=described.get('version') or version or 'unknown',
            methods=tuple(described['methods']),
            summary=str(described.get('summary') or ''),
            target=dataclasses.replace(target, read=target.read + read),
            settings=settings)

    def _describe(self, name: str, target: host.Target
                  ) -> dict[str, typing.Any]:
        said: list[str] = []
        try:
            result = host.run(self.way, target, 'describe',
                              limits=_DESCRIBE, log=said.append)
        except sandbox.SandboxError as failure:
            raise SectionError(
                'image_import_opts', 'isolation',
                f'{self.way.name} cannot be had: {failure}') from failure
        for line in said:
            LOG.debug('plugin %s: %s', name, line)
        if result.verdict == 'broken':
            raise extensions.ExtensionError(
                f"'{name}' ({_shown(target)}) breaks the contract: "
                + '; '.join(result.problems))
        if result.verdict != 'described':
            LOG.debug('plugin %s: %s', name, result.detail)
            raise extensions.ExtensionError(
                f"'{name}' ({_shown(target)}) cannot be loaded: "
                f'{result.reason}{_last_line(result.detail)}')
        problem = _description_problem(result.described)
        if problem:
            raise extensions.ExtensionError(
                f"'{name}' ({_shown(target)}) breaks the contract: {problem}")
        assert result.described is not None
        return result.described

    def _settings(self, section: str,
                  declared: list[dict[str, typing.Any]]
                  ) -> tuple[chain.Settings, tuple[str, ...]]:
        values = {}
        for name in [opt.dest for opt in conf_plugins.OPTS] + [
                option['name'] for option in declared]:
            try:
                values[name] = getattr(self._conf[section], name)
            except cfg.Error as failure:
                raise SectionError(section, name, _reason(failure)
                                   ) from failure
        for option in declared:
            if option['required'] and values[option['name']] is None:
                raise SectionError(section, option['name'],
                                   'has to be set for this plugin')
        self._check_values(section, values)
        output = values['output_limit'] << 20 or self._conf.image_size_cap
        return chain.Settings(
            failure_policy=values['failure_policy'],
            enforcement=values['enforcement'],
            allowed_properties=tuple(values['allowed_properties']),
            limits=host.Limits(
                timeout=values['timeout'],
                idle_timeout=values['idle_timeout'],
                cpu=values['cpu_limit'], memory=values['memory_limit'] << 20,
                tmp=values['tmp_limit'] << 20,
                files=values['open_files_limit'],
                processes=values['process_limit'], output=output,
                log=values['log_limit'] << 10),
            options={option['name']: values[option['name']]
                     for option in declared},
        ), tuple(values['read_paths']) + tuple(values['sockets'])

    def _check_values(self, section: str,
                      values: dict[str, typing.Any]) -> None:
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


def section_of(name: str) -> str:
    """The section of a contract plugin, in snake_case.

    Named after the entry point, the class of a file or the program.
    """
    if name.startswith(FILE):
        name = name.rpartition(':')[2].rpartition('.')[2]
        name = re.sub(r'(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])',
                      '_', name)
    elif name.startswith(EXEC):
        name = os.path.basename(name[len(EXEC):])
    return re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')


def _taken_sections() -> set[str]:
    groups = {group or 'DEFAULT' for group, _options in
              configuration.list_opts()
              + configuration.list_image_import_opts()}
    return {group.lower() for group in
            groups | configuration.FOREIGN_GROUPS}


def _check_sections(found: collections.abc.Iterable[Loaded]) -> None:
    seen: dict[str, str] = {}
    for plugin in found:
        if isinstance(plugin, chain.Plugin):
            other = seen.setdefault(plugin.section, plugin.name)
            if other != plugin.name:
                raise extensions.ExtensionError(
                    f"'{plugin.name}' and '{other}' would share the section "
                    f'[{plugin.section}]; rename one')


# -- where a plugin lies

def _flow_plugin(name: str, registered: bool) -> FlowPlugin:
    try:
        return FlowPlugin(name, extensions.load(extensions.PLUGINS, name))
    except extensions.ExtensionError as failure:
        if registered:
            raise
        known = sorted({point.name for point in
                        importlib.metadata.entry_points(group=CONTRACT)})
        raise extensions.ExtensionError(
            f'{failure}, nor in {CONTRACT} (registered are: '
            f'{", ".join(known) or "none"})') from failure


def _point_target(name: str, point) -> host.Target:
    if not point.attr:
        raise extensions.ExtensionError(
            f"'{name}' ({point.value}) names no class; it has to be "
            'module:Class')
    top = point.module.partition('.')[0]
    sites = tuple(sandbox.site_directories())
    if top == _OWN_PACKAGE:
        return host.Target(name, 'class', point.module, point.attr)
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise extensions.ExtensionError(
            f"'{name}' ({point.value}) cannot be loaded: there is no module "
            f'{top}')
    places = list(spec.submodule_search_locations or ()) or [
        spec.origin or '']
    parents = dict.fromkeys(os.path.dirname(place) for place in places)
    return host.Target(
        name, 'class', point.module, point.attr,
        path=tuple(dict.fromkeys([*parents, *sites])),
        read=(*sites, *(place for place in places
                        if os.path.dirname(place) not in sites)))


def _file_target(name: str) -> host.Target:
    path, _, attribute = name[len(FILE):].rpartition(':')
    if not path or not attribute.isidentifier():
        raise extensions.ExtensionError(
            f"'{name}' is not file:/absolute/path.py:Class")
    _check_file(name, path)
    module = re.sub(r'\W', '_', os.path.splitext(os.path.basename(path))[0])
    return host.Target(name, 'file', f'plugin_{module}', attribute,
                       source=os.path.realpath(path))


def _exec_target(name: str) -> host.Target:
    path = name[len(EXEC):]
    _check_file(name, path)
    if not os.stat(path).st_mode & 0o111:
        raise extensions.ExtensionError(
            f"'{name}' cannot be used: the file is not executable")
    return host.Target(name, 'exec', source=os.path.realpath(path))


def _check_file(name: str, path: str) -> None:
    """Only root and we may be able to change what we shall run."""
    if not os.path.isabs(path):
        raise extensions.ExtensionError(
            f"'{name}' is no absolute path")
    try:
        found = os.stat(path)
    except OSError as failure:
        raise extensions.ExtensionError(
            f"'{name}' cannot be used: {failure.strerror}") from failure
    if not stat.S_ISREG(found.st_mode):
        raise extensions.ExtensionError(
            f"'{name}' cannot be used: it is not a regular file")
    if found.st_uid not in (0, os.geteuid()):
        raise extensions.ExtensionError(
            f"'{name}' cannot be used: the file belongs to user "
            f'{found.st_uid}, neither to root nor to the user of the service')
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise extensions.ExtensionError(
            f"'{name}' cannot be used: others can write the file; "
            f'try: chmod go-w {path}')


# -- how things are said

def _description_problem(said: dict[str, typing.Any] | None) -> str | None:
    """A program describes itself in its own words; a class cannot err."""
    said = said or {}
    api = said.get('api')
    if api != contract.API or isinstance(api, bool):
        return (f'it asks for contract version {api!r}; this service offers '
                f'{contract.API}')
    methods = said.get('methods')
    if not isinstance(methods, list) or not methods or not all(
            each in contract.ARGUMENTS for each in methods):
        return ('"methods" is not a list of '
                + ', '.join(contract.ARGUMENTS))
    said.setdefault('options', [])
    said['version'] = str(said.get('version') or '')[:100]
    if not isinstance(said['options'], list):
        return '"options" is not a list'
    for option in said['options']:
        if not isinstance(option, dict) or option.get(
                'type') not in contract.Option.TYPES or not isinstance(
                option.get('name'), str):
            return f'{option!r} is no option'
        for key, default in (('default', None), ('help', ''),
                             ('required', False), ('secret', False)):
            option.setdefault(key, default)
    return None


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
