"""The operator's policy file: read whole, judged, and only then in force.

oslo.policy reads a file that has changed in the middle of a request, and one
that it cannot read fails that request and all that follow. Here a changed
file is read by an enforcer of its own first; while it has a fault, the rules
that were read last stay in force, and the log says why. Touches the file and
the directories of ``[oslo_policy]``.
"""

from __future__ import annotations

import collections.abc
import os
import typing

from oslo_config import cfg
from oslo_log import log
from oslo_policy import policy

from glance_import.policies import trees

LOG = log.getLogger(__name__)

Defaults = collections.abc.Sequence[policy.RuleDefault]


class BrokenRules(Exception):
    """A policy file cannot be used; the text is one line."""


class Enforcer(policy.Enforcer):
    """Rules in code under those of the operator's file."""

    def __init__(self, conf: cfg.ConfigOpts, defaults: Defaults, *,
                 asked: bool = True) -> None:
        """:raises BrokenRules: what is there now cannot be used

        Unless nobody is going to be ``asked``: then there are no rules, and
        oslo.policy allows nothing.
        """
        super().__init__(conf, use_conf=False)
        self._defaults = defaults
        self.suppress_deprecation_warnings = True
        self.register_defaults(list(defaults))
        self._seen: typing.Any = self._signature()
        try:
            self._adopt(self._read())
        except BrokenRules as failure:
            if asked:
                raise
            LOG.warning('%s', failure)

    def refresh(self, force: bool = False) -> None:
        """Adopt what has changed since the last look, if it is good."""
        signature = self._signature()
        if signature == self._seen and not force:
            return
        self._seen = signature
        try:
            self._adopt(self._read())
        except BrokenRules as failure:
            LOG.error('%s; the rules that were read last stay in force',
                      failure)
            return
        LOG.info('the policy rules were read again')

    def load_rules(self, force_reload: bool = False) -> None:
        """Nothing on its own: ``enforce`` would ask for it each time."""
        if force_reload:
            self.refresh(force=True)

    def _adopt(self, fresh: policy.Enforcer) -> None:
        self.policy_path = fresh.policy_path
        self.file_rules = fresh.file_rules
        # Last, and at once: others are asking meanwhile.
        self.rules = fresh.rules

    def _read(self) -> policy.Enforcer:
        """An enforcer that has read everything anew.

        :raises BrokenRules: it cannot, or a rule of the file is none
        """
        fresh = policy.Enforcer(self.conf, use_conf=True)
        fresh.suppress_deprecation_warnings = True
        fresh.register_defaults(list(self._defaults))
        where = (self.policy_path or self.conf.find_file(self.policy_file)
                 or self.policy_file)
        try:
            self._check_files()
            fresh.load_rules(force_reload=True)
        except AttributeError as failure:
            raise BrokenRules(f'the policy file {where} cannot be used: it '
                              'is no mapping of names to rules') from failure
        # What a parser makes of a file that is none can be anything.
        except Exception as failure:
            reason = ' '.join(str(failure).split())[:300]
            raise BrokenRules(
                f'the policy file {where} cannot be used: '
                f'{reason or type(failure).__name__}') from failure
        for name, rule in fresh.file_rules.items():
            if trees.is_malformed(rule.check_str, rule.check):
                raise BrokenRules(
                    f'the policy file {where} cannot be used: what it says '
                    f'of "{name}" is not a rule')
        return fresh

    def _check_files(self) -> None:
        """Read them once: of some errors oslo.policy makes an empty file.

        :raises OSError, UnicodeDecodeError, ValueError: why it cannot be
        """
        for path in self._files():
            with open(path, encoding='utf-8') as file:
                empty = not file.read().strip()
            if empty and path == self.policy_path:
                # Cut short by a full disk, say. It was read before.
                raise ValueError('it has become empty; "{}" in it means no '
                                 'rules')
        if self.policy_path and not os.path.exists(self.policy_path):
            raise ValueError('it is gone')

    def _files(self) -> list[str]:
        paths = [self.conf.find_file(self.policy_file)]
        for name in self.conf.oslo_policy.policy_dirs:
            directory = self.conf.find_file(name)
            if directory and os.path.isdir(directory):
                paths += sorted(
                    entry.path for entry in os.scandir(directory)
                    if entry.is_file() and not entry.name.startswith('.'))
        return [path for path in paths if path]

    def _signature(self) -> typing.Any:
        """Changes when a file does, comes or goes."""
        try:
            return tuple(_stamp(path) for path in self._files())
        except OSError as failure:
            # A directory that cannot be looked into; reading will say so.
            return str(failure)


def _stamp(path: str) -> tuple:
    try:
        found = os.stat(path)
    except OSError:
        return (path,)
    return path, found.st_ino, found.st_size, found.st_mtime_ns
