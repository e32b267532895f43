"""Property protections: which roles may do what with which properties.

The file is Glance's: sections are regular expressions on property names, the
first that matches decides; each gives create, read, update and delete a list
of roles (or one policy rule), ``@`` for everybody and ``!`` for nobody. A
name that no section matches is nobody's. Without a file everybody may do
everything. Read once, at start; touches that file alone.
"""

from __future__ import annotations

import collections.abc
import configparser
import re
import typing

from oslo_config import cfg

from glance_import import context
from glance_import import errors

if typing.TYPE_CHECKING:
    from glance_import.policies import enforce

ACTIONS = ('create', 'read', 'update', 'delete')
ROLES = 'roles'
POLICIES = 'policies'
# The service's own, which its tasks write: never a user's to protect.
_OWN = re.compile('^os_glance')


class ProtectionError(Exception):
    """The file cannot be used; the text is one line."""


class _Section:
    """What the names that ``pattern`` matches ask for, action by action."""

    def __init__(self, pattern: re.Pattern[str],
                 values: dict[str, tuple[str, ...]]) -> None:
        self.pattern = pattern
        self.values = values


class Protections:
    """The rules of the file that ``property_protection_file`` names."""

    def __init__(self, sections: collections.abc.Sequence[_Section] | None,
                 form: str, policy: enforce.Policy) -> None:
        self._sections = sections
        self._form = form
        self._policy = policy

    @property
    def active(self) -> bool:
        """Whether there is a file at all."""
        return self._sections is not None

    def allows(self, ctx: context.RequestContext, name: str,
               action: str) -> bool:
        """Whether the caller may do ``action`` with the property."""
        if self._sections is None or _OWN.match(name):
            return True
        for section in self._sections:
            if section.pattern.match(name):
                return self._matches(ctx, section.values[action])
        return False

    def _matches(self, ctx: context.RequestContext,
                 values: tuple[str, ...]) -> bool:
        if '!' in values:
            return False
        if '@' in values:
            return True
        if self._form == ROLES:
            return bool({value.lower() for value in values}
                        & {role.lower() for role in ctx.roles})
        return all(self._policy.allows(ctx, value, {
            'project_id': ctx.project_id}) for value in values)

    def access(self, ctx: context.RequestContext,
               names: collections.abc.Iterable[str]) -> Access:
        """Answers for these names, asked now."""
        if not self.active:
            return Access(None)
        return Access({(name, action): self.allows(ctx, name, action)
                      for name in names for action in ACTIONS})

    def readable(self, ctx: context.RequestContext,
                 properties: dict[str, str | None]
                 ) -> dict[str, str | None]:
        """What the caller may read of ``properties``."""
        if not self.active:
            return properties
        return {name: value for name, value in properties.items()
                if self.allows(ctx, name, 'read')}


class Access:
    """Answers that were asked beforehand; None allows everything."""

    def __init__(self, answers: dict[tuple[str, str], bool] | None) -> None:
        self._answers = answers

    def allows(self, name: str, action: str) -> bool:
        return self._answers is None or self._answers[name, action]

    def require(self, name: str, action: str) -> None:
        """:raises errors.Forbidden: the property is protected"""
        if not self.allows(name, action):
            raise errors.Forbidden(f"Property '{name}' is protected.")


def load(conf: cfg.ConfigOpts, policy: enforce.Policy) -> Protections:
    """The rules in force.

    :raises ProtectionError: naming the file, the section and what is wrong
    """
    named = conf.property_protection_file
    form = conf.property_protection_rule_format
    if not named:
        return Protections(None, form, policy)
    path = conf.find_file(named) or named
    parser = configparser.RawConfigParser()
    try:
        with open(path, encoding='utf-8') as file:
            parser.read_file(file)
    except (OSError, UnicodeDecodeError, configparser.Error) as failure:
        reason = getattr(failure, 'strerror', None) or ' '.join(
            str(failure).split())
        raise ProtectionError(
            f'property_protection_file = {path}: {reason}') from failure
    try:
        return Protections(
            [_section(parser, name, form) for name in parser.sections()],
            form, policy)
    except ProtectionError as failure:
        raise ProtectionError(
            f'property_protection_file = {path}: {failure}') from failure


def _section(parser: configparser.RawConfigParser, name: str,
             form: str) -> _Section:
    try:
        pattern = re.compile(name)
    except re.error as failure:
        raise ProtectionError(
            f'[{name}] is not a regular expression: {failure}') from failure
    values = {}
    for action in ACTIONS:
        if not parser.has_option(name, action):
            raise ProtectionError(f'[{name}] says nothing of {action}')
        given = tuple(value.strip() for value
                      in parser.get(name, action).split(',')
                      if value.strip())
        if '@' in given and '!' in given:
            raise ProtectionError(
                f'[{name}] {action} has both @ and !, which contradict '
                'each other')
        if form == POLICIES and len(given) > 1:
            raise ProtectionError(
                f'[{name}] {action} names several rules; it takes one')
        # A line without a value denies everybody, as "!" does.
        values[action] = given or ('!',)
    return _Section(pattern, values)
