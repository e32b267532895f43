"""The operator's section of a contract plugin: read, checked, made settings.

What an option may say beside its type is checked here. Touches the
configuration, and the files that ``read_paths`` names, by their digests.
"""

from __future__ import annotations

import collections.abc
import os
import typing

from oslo_config import cfg

from glance_import import conf as configuration
from glance_import.conf import plugins as conf_plugins
from glance_import.plugin import chain
from glance_import.plugin import entry_points
from glance_import.plugin import file_digests
from glance_import.plugin import host

# Option -> its value.
Values = dict[str, typing.Any]
# What a plugin has described of its options, each as a mapping.
Options = collections.abc.Sequence[collections.abc.Mapping[str, typing.Any]]
# In place of the digest of a directory in read_paths.
_DIRECTORY = 'directory'


class SectionError(entry_points.ExtensionError):
    """Something about a plugin's section; names the option."""

    def __init__(self, section: str, option: str | None, text: str) -> None:
        super().__init__(text)
        self.section = section
        self.option = option


def read(conf: cfg.ConfigOpts, section: str, options: Options, *,
         only_secrets: bool = False) -> tuple[Values, Values]:
    """What the section says: (plain options, secret ones)."""
    secret = secret_names(options)
    values = {}
    for name in secret if only_secrets else [
            opt.dest for opt in conf_plugins.OPTS] + [
            option['name'] for option in options]:
        try:
            values[name] = getattr(conf[section], name)
        except cfg.Error as failure:
            raise SectionError(section, name, _reason(failure)
                               ) from failure
    return ({name: value for name, value in values.items()
             if name not in secret},
            {name: value for name, value in values.items()
             if name in secret})


def check(section: str, options: Options, values: Values,
          private: collections.abc.Iterable[str]) -> None:
    """Whether the values can be used.

    :param private: directories that no plugin may see
    :raises SectionError: naming the option
    """
    for each in options:
        if each['required'] and values[each['name']] is None:
            raise SectionError(section, each['name'],
                               'has to be set for this plugin')
    for prefix in values['allowed_properties']:
        if not prefix or prefix.startswith(chain.RESERVED_PREFIX):
            raise SectionError(
                section, 'allowed_properties',
                f'{prefix!r} cannot be allowed: {chain.RESERVED_PREFIX} '
                'is the namespace of the service')
    private = [os.path.realpath(path) for path in private]
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


def settings(options: Options, values: Values, largest: int
             ) -> chain.Settings:
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
                 for option in options})


def defaults(options: Options) -> Values:
    """Of options that an earlier release lacked."""
    return {option['name']: option['default']
            for option in options} | {
        opt.dest: opt.default for opt in conf_plugins.OPTS}


def secret_names(options: Options) -> set[str]:
    """Options that are not shown, and not kept."""
    return {option['name'] for option in options
            if option['secret']}


def digests(paths: collections.abc.Iterable[str]) -> dict[str, str | None]:
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


def taken() -> set[str]:
    """Sections that belong to the service or its libraries."""
    groups = {group or 'DEFAULT' for group, _options in
              configuration.list_opts()
              + configuration.list_image_import_opts()}
    return {group.lower() for group in
            groups | configuration.FOREIGN_GROUPS}


def _reason(failure: cfg.Error) -> str:
    text = ' '.join(str(failure).split())
    return text.rpartition('is not valid: ')[2] or text


def _overlap(one: str, other: str) -> bool:
    return (one + '/').startswith(other.rstrip('/') + '/') or (
        other + '/').startswith(one.rstrip('/') + '/')
