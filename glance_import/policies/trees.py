"""What a rule looks at, read off the tree of checks that oslo.policy makes.

The kinds of checks are its classes. What is not exactly one of those below,
a question to another service or a check that somebody registered, may say
anything each time. Touches nothing.
"""

from __future__ import annotations

import ast
import collections.abc
import typing

from oslo_policy import _checks

Rules = collections.abc.Mapping[str, _checks.BaseCheck]


class Unknown(Exception):
    """Nobody can say what a check depends on."""


class RuleInputs(typing.NamedTuple):
    """What a rule looks at: names in the credentials and in the target."""

    caller: frozenset[str]
    target: frozenset[str]

    def __or__(self,
               other: RuleInputs) -> RuleInputs:  # type: ignore[override]
        return RuleInputs(self.caller | other.caller,
                          self.target | other.target)


_NOTHING = RuleInputs(frozenset(), frozenset())


class _Recorder(dict):
    """A target that has every name, and keeps which were asked for."""

    def __missing__(self, name: str) -> str:
        self[name] = ''
        return ''


def inputs(rules: Rules, name: str, known: collections.abc.Container[str]
           ) -> RuleInputs:
    """What the rule ``name`` looks at.

    :param known: names that every caller's credentials have
    :raises Unknown: something else than its caller and its target may
        matter, or it cannot be evaluated at all
    """
    return _Reader(rules, known).rule(name, frozenset())


class _Reader:
    """Walks one tree, and those that it refers to."""

    def __init__(self, rules: Rules,
                 known: collections.abc.Container[str]) -> None:
        self._rules = rules
        self._known = known

    def rule(self, name: str, above: frozenset[str]) -> RuleInputs:
        if name in above or name not in self._rules:
            raise Unknown(name)
        return self._check(self._rules[name], above | {name})

    def _check(self, check: _checks.BaseCheck,
               above: frozenset[str]) -> RuleInputs:
        # A subclass may do anything, so the class itself is what counts.
        kind = _KINDS.get(type(check))
        if kind is None:
            raise Unknown(str(type(check)))
        return kind(self, check, above)

    def _constant(self, _check: typing.Any, _above: frozenset[str]
                  ) -> RuleInputs:
        return _NOTHING

    def _several(self, check: typing.Any, above: frozenset[str]) -> RuleInputs:
        found = _NOTHING
        for each in check.rules:
            found |= self._check(each, above)
        return found

    def _not(self, check: typing.Any, above: frozenset[str]) -> RuleInputs:
        return self._check(check.rule, above)

    def _reference(self, check: typing.Any, above: frozenset[str]
                   ) -> RuleInputs:
        return self.rule(check.match, above)

    def _role(self, check: typing.Any, _above: frozenset[str]) -> RuleInputs:
        return RuleInputs(frozenset({'roles'}), _names(check.match))

    def _generic(self, check: typing.Any, _above: frozenset[str]
                 ) -> RuleInputs:
        return RuleInputs(self._left(check.kind), _names(check.match))

    def _left(self, text: str) -> frozenset[str]:
        try:
            ast.literal_eval(text)
        except ValueError:
            if text in self._known:
                return frozenset({text})
        except Exception as failure:
            raise Unknown(text) from failure
        else:
            return frozenset()
        raise Unknown(text)


_KINDS: dict[type, typing.Callable] = {
    _checks.TrueCheck: _Reader._constant,
    _checks.FalseCheck: _Reader._constant,
    _checks.AndCheck: _Reader._several,
    _checks.OrCheck: _Reader._several,
    _checks.NotCheck: _Reader._not,
    _checks.RuleCheck: _Reader._reference,
    _checks.RoleCheck: _Reader._role,
    _checks.GenericCheck: _Reader._generic,
}


def _names(text: str) -> frozenset[str]:
    """Names that ``text % target`` looks up.

    :raises Unknown: it is no text of that kind
    """
    found = _Recorder()
    try:
        text % found
    except Exception as failure:
        raise Unknown(text) from failure
    return frozenset(found)


def is_malformed(text: typing.Any, check: _checks.BaseCheck) -> bool:
    """Whether oslo.policy could not read a rule, or a part of it.

    It puts a check there that is always false, as if ``!`` stood there; but
    what is no text and empty (a name with nothing behind it, as in a file
    that was cut short, or ``false``) it takes for "always true".
    """
    if isinstance(text, list):
        # The old form of rules.
        return False
    if not isinstance(text, str):
        return True
    meant = sum(word.strip('()') == '!' for word in text.split())
    return _false(check) > meant


def _false(check: typing.Any) -> int:
    if isinstance(check, _checks.FalseCheck):
        return 1
    inside = list(getattr(check, 'rules', ()))
    if isinstance(check, _checks.NotCheck):
        inside.append(check.rule)
    return sum(_false(each) for each in inside)
