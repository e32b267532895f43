"""Who asks: the identity of a request, as every layer below HTTP sees it."""

from __future__ import annotations

import functools
import typing

from oslo_context import context


class RequestContext(context.RequestContext):
    """User, scope and roles of one request, never a token.

    ``is_admin`` is decided once, by the rule ``context_is_admin``, when the
    context is made. oslo.log finds the context of a thread by itself and
    puts its request id on each line.
    """

    def __init__(self, *, user_id: str | None = None,
                 project_id: str | None = None,
                 roles: typing.Sequence[str] = (),
                 is_admin: bool = False,
                 request_id: str | None = None,
                 **names: typing.Any) -> None:
        super().__init__(
            user_id=user_id, project_id=project_id or None,
            roles=[role.lower() for role in roles if role],
            is_admin=is_admin, request_id=request_id, overwrite=True,
            **names)

    @property
    def scope(self) -> str:
        """What the token is for: system, domain or project."""
        if self.system_scope:
            return 'system'
        return 'domain' if self.domain_id else 'project'

    @functools.cached_property
    def policy_values(self) -> dict[str, typing.Any]:
        """What rules see of the caller; worked out once a request."""
        values = dict(self.to_policy_values())
        if self.system_scope:
            # oslo.policy's own name for it, which it would add later.
            values['system'] = self.system_scope
        return values
