"""A cache of decisions, for rules whose inputs are all known.

Evaluating a rule costs more than finding an image. A rule that asks only for
roles and for values of the caller and of what is acted on says the same each
time that these are the same; one with any other check (a question to another
service, or of a kind that somebody registered) is evaluated each time. The
operator's file is looked at once a second, and a change forgets everything.
A rule that cannot be evaluated allows nothing, and the log says why.
"""

from __future__ import annotations

import threading
import time
import typing

from oslo_log import log

from glance_import.policies import rules_file
from glance_import.policies import trees

LOG = log.getLogger(__name__)

REFRESH_SECONDS = 1.0
MOST = 10000
# _Inputs whatever the rule says: oslo.policy itself looks at the scope.
_ALWAYS = frozenset({'system', 'system_scope', 'domain_id', 'project_id',
                     'roles'})


class _Inputs(typing.NamedTuple):
    """What a rule looks at: names in the credentials and in the target."""

    caller: tuple[str, ...]
    target: tuple[str, ...]


class _Absent:
    """Stands for a name that is not there: a rule sees that it is not None.
    """


class Decisions:
    """Answers of one enforcer; safe to share by threads."""

    def __init__(self, enforcer: rules_file.Enforcer) -> None:
        self._enforcer = enforcer
        self._said: dict[tuple, bool] = {}
        self._inputs: dict[str, _Inputs | None] = {}
        self._refresh_at = 0.0
        self._rules: typing.Any = None
        self._lock = threading.Lock()

    def allows(self, rule: str, target: dict[str, typing.Any],
               caller: typing.Any) -> bool:
        """What ``enforce`` says.

        :param caller: the credentials, as ``policy_values`` has them
        """
        if time.monotonic() >= self._refresh_at:
            self._refresh()
        # Held on to: what is worked out by old rules goes with the old.
        known_inputs, answers = self._inputs, self._said
        inputs = self._inputs_of(known_inputs, rule, caller)
        if inputs is None:
            return self._enforce(rule, target, caller)
        try:
            key = (rule,
                   *(_key(caller.get(name, _Absent)) for name
                     in inputs.caller),
                   *(_key(target.get(name, _Absent)) for name
                     in inputs.target))
        except _NoKey:
            return self._enforce(rule, target, caller)
        said = answers.get(key)
        if said is None:
            said = self._enforce(rule, target, caller)
            if len(answers) >= MOST:
                answers.clear()
            answers[key] = said
        return said

    def forget(self) -> None:
        """Everything: the rules may be others now."""
        with self._lock:
            self._said, self._inputs = {}, {}

    def refresh(self) -> None:
        """Let the next question see the operator's file as it is then."""
        self._refresh_at = 0.0

    def _enforce(self, rule: str, target: dict[str, typing.Any],
                 caller: typing.Any) -> bool:
        try:
            return bool(self._enforcer.enforce(rule, target, caller))
        # A rule of an operator's may fail in any way.
        except Exception as failure:
            LOG.error('the policy rule %s cannot be evaluated, so it allows '
                      'nothing: %s: %s', rule, type(failure).__name__,
                      ' '.join(str(failure).split())[:300])
            return False

    def _refresh(self) -> None:
        with self._lock:
            self._refresh_at = time.monotonic() + REFRESH_SECONDS
            self._enforcer.refresh()
            if self._enforcer.rules is not self._rules:
                self._rules = self._enforcer.rules
                self._said, self._inputs = {}, {}

    def _inputs_of(self, known: dict[str, _Inputs | None], rule: str,
                   caller: typing.Any) -> _Inputs | None:
        """None when what the rule says depends on anything else."""
        try:
            return known[rule]
        except KeyError:
            found = known[rule] = self._read(rule, caller)
            return found

    def _read(self, rule: str, caller: typing.Any) -> _Inputs | None:
        try:
            found = trees.inputs(self._enforcer.rules, rule, caller)
        except (trees.Unknown, RecursionError):
            return None
        return _Inputs(tuple(sorted(found.caller | _ALWAYS)),
                       tuple(sorted(found.target)))


class _NoKey(Exception):
    """A value of a kind that may change, or look like another."""


def _key(value: typing.Any) -> typing.Any:
    """The value as part of a key: alike only where it is written alike.

    (True equals 1, but rules compare what is written.)
    """
    kind = type(value)
    if kind is str or value is None or value is _Absent:
        return value
    if kind in (bool, int):
        return kind, value
    if kind in (list, tuple):
        return kind, tuple(_key(each) for each in value)
    raise _NoKey
