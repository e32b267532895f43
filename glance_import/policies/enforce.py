"""Asking the rules: one function for a resource, with its answer's meaning.

What one may not see is absent (NotFound); what one sees but may not change
is Forbidden, naming the rule.
"""

from __future__ import annotations

import typing

from glance_import import context
from glance_import import errors
from glance_import.policies import decisions
from glance_import.policies import rules_file


class Policy:
    """The enforcer with its rules, asked by name."""

    def __init__(self, enforcer: rules_file.Enforcer) -> None:
        self._enforcer = enforcer
        self._decisions = decisions.Decisions(enforcer)

    def allows(self, ctx: context.RequestContext, rule: str,
               target: dict[str, typing.Any]) -> bool:
        """Whether ``rule`` lets the caller act on ``target``."""
        return self._decisions.allows(rule, target, ctx.policy_values)

    def require(self, ctx: context.RequestContext, rule: str,
                target: dict[str, typing.Any] | None = None) -> None:
        """Refuse with the rule's name unless it allows.

        :raises errors.Forbidden: the rule says no
        """
        if self.allows(ctx, rule, target or {}):
            return
        text = (f'You are not allowed to do this: the policy rule "{rule}" '
                'does not permit it.')
        if ctx.scope != 'project':
            text += (f' Your token is for the {ctx.scope}; use one for a '
                     'project.')
        raise errors.Forbidden(text)

    def require_for_image(self, ctx: context.RequestContext, rule: str,
                          image_id: str, target: dict[str, typing.Any]
                          ) -> None:
        """The same for an image: unseen means absent.

        :raises errors.NotFound: the caller may not see the image either
        :raises errors.Forbidden: the rule says no
        """
        if self.allows(ctx, rule, target):
            return
        if rule == 'get_image' or not self.allows(ctx, 'get_image', target):
            raise errors.no_image(image_id)
        self.require(ctx, rule, target)

    def reload(self) -> None:
        """Read the operator's file again, changed or not."""
        self._enforcer.refresh(force=True)
        self._decisions.forget()
