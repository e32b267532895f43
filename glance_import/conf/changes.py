"""Which options the files give another value than before.

For the log of a reload: names of options, and values of those that are no
secret. Touches nothing.
"""

from __future__ import annotations

import typing

from oslo_config import cfg

from glance_import import conf as configuration

# Read once, when the process starts; group (None for [DEFAULT]) and name.
ONLY_AT_START = (
    (None, 'bind_host'), (None, 'bind_port'), (None, 'backlog'),
    (None, 'state_path'), ('taskflow_executor', 'embedded_conductor'))


def needing_restart(old: cfg.ConfigOpts, new: cfg.ConfigOpts) -> list[str]:
    """``[group] name`` of the changed options that no reload can change."""
    return [f'[{group or "DEFAULT"}] {name}' for group, name in ONLY_AT_START
            if _value(old, group, name) != _value(new, group, name)]


def named(old: cfg.ConfigOpts, new: cfg.ConfigOpts) -> list[str]:
    """One text for each option whose words in the files have changed.

    Values are shown of options that are known not to be secret: an option
    of a plugin or of a library that is not loaded may be a password.
    """
    before, after = configuration.words(old), configuration.words(new)
    return [_text(new, group, name, before.get((group, name)),
                  after.get((group, name)))
            for group, name in sorted({*before, *after})
            if before.get((group, name)) != after.get((group, name))]


def _text(conf: cfg.ConfigOpts, group: str, name: str,
          before: list[str] | None, after: list[str] | None) -> str:
    text = f'[{group}] {name}'
    option = configuration.option(conf, None if group == 'DEFAULT' else group,
                                  name)
    if option is None or option.secret:
        return text
    return f'{text}: {_shown(before)} -> {_shown(after)}'


def _shown(words: list[str] | None) -> str:
    return 'not set' if words is None else repr(words[-1])


def _value(conf: cfg.ConfigOpts, group: str | None, name: str) -> typing.Any:
    return getattr(conf[group] if group else conf, name)
