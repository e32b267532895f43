"""Remembers what rules said, as long as they cannot say anything else.

Evaluating a rule costs more than finding an image. A rule that asks only for
roles and for values of the caller and of what is acted on says the same each
time that these are the same; one with any other check (a question to another
service, or of a kind that somebody registered) is evaluated each time. The
operator's file is looked at once a second, and a change forgets everything.
Touches oslo.policy.
"""

from __future__ import annotations

import re
import threading
import time
import typing

from oslo_policy import policy

LOOK_SECONDS = 1.0
MOST = 10000
# Parts of a rule as oslo.policy prints it: kind:match, @ and !.
_CHECK = re.compile(r"('[^']*'|[^\s():]+):(?:%\([^)]*\)s|[^\s()])+")
_VALUE = re.compile(r'%\(([^)]+)\)s')
# Asked whatever the rule says: what oslo.policy itself looks at.
_ALWAYS = ('system_scope', 'domain_id', 'project_id')


class Asked(typing.NamedTuple):
    """What a rule looks at: names in the credentials and in the target."""

    caller: tuple[str, ...]
    target: tuple[str, ...]


class Decisions:
    """Answers of one enforcer; safe to share by threads."""

    def __init__(self, enforcer: policy.Enforcer) -> None:
        self._enforcer = enforcer
        self._said: dict[tuple, bool] = {}
        self._asked: dict[str, Asked | None] = {}
        self._look_at = 0.0
        self._rules: tuple = ()
        self._lock = threading.Lock()

    def allows(self, rule: str, target: dict[str, typing.Any],
               caller: typing.Any) -> bool:
        """What ``enforce`` says.

        :param caller: the credentials, as ``to_policy_values`` gives them
        """
        if time.monotonic() >= self._look_at:
            self._look()
        # Held on to: what is worked out by old rules goes with the old.
        asked_by, answers = self._asked, self._said
        asked = self._asked_by(asked_by, rule, caller)
        if asked is None:
            return bool(self._enforcer.enforce(rule, target, caller))
        try:
            key = (rule, tuple(caller['roles']),
                   *(caller.get(name) for name in asked.caller),
                   *(target.get(name) for name in asked.target))
            said = answers.get(key)
        except TypeError:
            # A value that cannot be a key.
            return bool(self._enforcer.enforce(rule, target, caller))
        if said is None:
            said = bool(self._enforcer.enforce(rule, target, caller))
            if len(answers) >= MOST:
                answers.clear()
            answers[key] = said
        return said

    def forget(self) -> None:
        """Everything: the rules may be others now."""
        with self._lock:
            self._said, self._asked = {}, {}

    def _look(self) -> None:
        with self._lock:
            self._look_at = time.monotonic() + LOOK_SECONDS
        self._enforcer.load_rules()
        rules = tuple((self._enforcer.rules or {}).items())
        if rules != self._rules:
            self._rules = rules
            self.forget()

    def _asked_by(self, known: dict[str, Asked | None], rule: str,
                  caller: typing.Any) -> Asked | None:
        try:
            return known[rule]
        except KeyError:
            found = known[rule] = self._read(
                rule, frozenset(caller), frozenset())
            return found

    def _read(self, rule: str, names: frozenset[str],
              above: frozenset[str]) -> Asked | None:
        """None when what the rule says depends on anything else.

        :param names: what credentials hold
        :param above: rules on the way here
        """
        rules: typing.Any = self._enforcer.rules or {}
        if rule in above or rule not in rules:
            return None
        text = str(rules[rule])
        caller, target = set(_ALWAYS), set(_VALUE.findall(text))
        for check in _CHECK.finditer(text):
            kind = check[1]
            if kind == 'rule':
                found = self._read(check[0].partition(':')[2], names,
                                   above | {rule})
                if found is None:
                    return None
                caller.update(found.caller)
                target.update(found.target)
            elif kind in names:
                caller.add(kind)
            elif kind != 'role' and not kind.startswith("'"):
                # Asks something else: another service, say.
                return None
        return Asked(tuple(sorted(caller)), tuple(sorted(target)))
