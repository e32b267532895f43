"""What an import takes along of plugins and options, and who has the same.

An import is judged by the plugins and options of when it was asked for.
``pin`` makes the snapshot that it takes along; ``honour`` finds the plugins
of a snapshot among those of this host, with the options of the snapshot, or
says what is another one here.
"""

from __future__ import annotations

import collections.abc
import dataclasses

from glance_import import conf as configuration
from glance_import.conf import bundled
from glance_import.conf import formats
from glance_import.conf import overlay
from glance_import.conf import plugins as conf_plugins
from glance_import.plugin import describing
from glance_import.plugin import entry_points
from glance_import.plugin import registry as registries
from glance_import.plugin import sections
from glance_import.plugin import snapshot
from glance_import.plugin import targets

# Sections of the service itself that an import takes along.
_TAKEN_ALONG = (formats, *bundled.MODULES)
# What of them belongs to a host, and stays there.
_OF_A_HOST = frozenset({'second_opinion_program', 'second_opinion_timeout'})

# What secret options are compared with, asked if need be.
Key = collections.abc.Callable[[], bytes]


class Honouring:
    """Pins the plugins of one registry, and finds pinned ones in it."""

    def __init__(self, registry: registries.Registry, key: Key) -> None:
        # What is pinned is what the plugins were configured by, which after
        # a reload is not the object that the process began with.
        self._conf = registry.conf
        self._registry = registry
        self._key = key
        # Options are those of a configuration that does not change.
        self._pinned: dict[
            str, tuple[describing.Described, snapshot.Pinned]] = {}
        self._options: dict[str, sections.Values] = {}
        self._latest = snapshot.Snapshot()

    def pin(self, names: collections.abc.Sequence[str]
            ) -> snapshot.Snapshot:
        """The plugins of these names and all options they go by, as of now.

        :raises entry_points.ExtensionError: a plugin cannot be used by now
        """
        pinned = tuple(self._pin(name) for name in names)
        made = snapshot.Snapshot(
            plugins=pinned,
            options=self._taken_along(),
            isolation=(self._conf.image_import_opts.isolation
                       if any(each.kind != 'get_flow' for each in pinned)
                       else None),
            foreign=(self._foreign(pinned) if any(
                each.kind == 'get_flow'
                and each.code != snapshot.FLOW_VERSION for each in pinned)
                else {}))
        if made != self._latest:
            # Its text and digest are made once for many imports.
            self._latest = made
        return self._latest

    def _taken_along(self) -> dict[str, sections.Values]:
        if not self._options:
            self._options = {module.GROUP: overlay.values(
                self._conf, module.GROUP,
                [option for option in module.OPTS
                 if option.dest not in _OF_A_HOST])
                for module in _TAKEN_ALONG}
        return self._options

    def _pin(self, name: str) -> snapshot.Pinned:
        described = self._registry.contract(name)
        if described is None:
            flow = self._registry.flow(name)
            return snapshot.Pinned(name, flow.kind, flow.code)
        before, pinned = self._pinned.get(name, (None, None))
        if pinned is None or before is not described:
            values, secrets = sections.read(
                self._conf, described.section, described.options)
            # Judged here as it will be there.
            self._registry.plugin(described, values | secrets)
            pinned = snapshot.Pinned(
                name, described.found.target.kind, described.compared,
                values=values, secrets=_keyed(self._key, name, secrets))
            self._pinned[name] = (described, pinned)
        return dataclasses.replace(
            pinned, files=sections.digests(pinned.values['read_paths']))

    def honour(self, wanted: snapshot.Snapshot) -> list[registries.Loaded]:
        """The plugins of an import, with the options of the import.

        :raises snapshot.NotHonoured: one of them is not here, or another
        """
        here = self._conf.image_import_opts.isolation
        if wanted.isolation not in (None, here):
            raise snapshot.NotHonoured(
                f'it asks for the isolation {wanted.isolation}, and plugins '
                f'are run with {here} here')
        found = [self._as_pinned(each) for each in wanted.plugins]
        if any(isinstance(each, registries.FlowPlugin) and each.foreign
               for each in found):
            self._check_foreign(wanted)
        return found

    def _as_pinned(self, pinned: snapshot.Pinned) -> registries.Loaded:
        label = targets.section_of(pinned.name)
        try:
            described = self._registry.contract(pinned.name)
            if described is None:
                flow = self._registry.flow(pinned.name)
                _check_same(label, pinned, flow.kind, flow.code)
                self._registry.check_needs(flow)
                return flow
            _check_same(label, pinned, described.found.target.kind,
                        described.compared)
            secrets = self._own_secrets(described, pinned)
            _check_files(label, pinned)
            return self._registry.plugin(
                described, sections.defaults(described.options)
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

    def _own_secrets(self, described: describing.Described,
                     pinned: snapshot.Pinned) -> sections.Values:
        """Secret options from here, where they are those of the import."""
        known = {option['name'] for option in described.options}
        unknown = (pinned.values.keys() | pinned.secrets.keys()) - known - {
            opt.dest for opt in conf_plugins.OPTS}
        if unknown:
            raise snapshot.NotHonoured(
                f'the plugin {described.section} has no option '
                f'{min(unknown)} here')
        _values, secrets = sections.read(
            self._conf, described.section, described.options,
            only_secrets=True)
        own = _keyed(self._key, pinned.name, secrets)
        for name in own.keys() | pinned.secrets.keys():
            if not snapshot.same(own.get(name, ''),
                                 pinned.secrets.get(name, '')):
                raise snapshot.NotHonoured(
                    f'the option {name} of the plugin {described.section} '
                    'is another one here')
        return secrets

    def _foreign(self, pinned: collections.abc.Iterable[snapshot.Pinned]
                 ) -> dict[str, str]:
        """Keyed digests of sections that only plugins of others can read."""
        own = sections.taken() | {
            targets.section_of(each.name) for each in pinned
            if each.kind != 'get_flow'}
        return {section: snapshot.keyed_digest(self._key(), section, values)
                for section, values
                in configuration.sections(self._conf).items()
                if section.lower() not in own}

    def _check_foreign(self, wanted: snapshot.Snapshot) -> None:
        here = self._foreign(wanted.plugins)
        for section in sorted(here.keys() | wanted.foreign.keys()):
            if here.get(section) != wanted.foreign.get(section):
                raise snapshot.NotHonoured(
                    f'the section [{section}] of the configuration, which '
                    'its get_flow plugins may read, is another one here')


def _keyed(key: Key, name: str, secrets: sections.Values) -> dict[str, str]:
    return {option: snapshot.keyed_digest(key(), name, option, value)
            for option, value in secrets.items()}


def _check_same(label: str, pinned: snapshot.Pinned, kind: str,
                code: str) -> None:
    if (pinned.kind, pinned.code) != (kind, code):
        raise snapshot.NotHonoured(
            f'the plugin {label} is another one here', pinned.name)


def _check_files(label: str, pinned: snapshot.Pinned) -> None:
    here = sections.digests(pinned.values.get('read_paths', ()))
    for path in sorted(here.keys() | pinned.files.keys()):
        if here.get(path) != pinned.files.get(path):
            raise snapshot.NotHonoured(
                f'a file that the plugin {label} may read is another one '
                'here', path)
