"""Options of one import over those of the process that runs it.

Looks like a ``ConfigOpts`` to who reads options: a group that is overlaid
answers with the given values, all else with the configuration itself.
"""

from __future__ import annotations

import collections.abc
import typing

from oslo_config import cfg

Groups = collections.abc.Mapping[str, collections.abc.Mapping[str,
                                                              typing.Any]]


class _Group:
    """The values of one group, and of what they lack the group itself."""

    def __init__(self, values: collections.abc.Mapping[str, typing.Any],
                 group: typing.Any) -> None:
        self._values = values
        self._group = group

    def __getattr__(self, name: str) -> typing.Any:
        if name in self._values:
            return self._values[name]
        return getattr(self._group, name)

    def __getitem__(self, name: str) -> typing.Any:
        return getattr(self, name)


class Overlay:
    """A configuration with some groups replaced; to be read only."""

    def __init__(self, conf: cfg.ConfigOpts, groups: Groups) -> None:
        self._conf = conf
        self._groups = {name: _Group(values, conf[name])
                        for name, values in groups.items()}

    def __getattr__(self, name: str) -> typing.Any:
        found = self._groups.get(name)
        return getattr(self._conf, name) if found is None else found

    def __getitem__(self, name: str) -> typing.Any:
        return getattr(self, name)


def over(conf: cfg.ConfigOpts, groups: Groups) -> cfg.ConfigOpts:
    """The configuration with the options of some groups replaced.

    :param groups: values by option, by group; unknown groups and options are
        those of an earlier or later release and are left out
    """
    known = {
        group: {name: value for name, value in values.items()
                if name in conf[group]}
        for group, values in groups.items() if group in conf}
    return typing.cast(cfg.ConfigOpts, Overlay(conf, known))


def values(conf: cfg.ConfigOpts, group: str,
           options: collections.abc.Iterable[cfg.Opt]
           ) -> dict[str, typing.Any]:
    """What the options of a group are set to, as plain data."""
    return {option.dest: conf[group][option.dest] for option in options}
