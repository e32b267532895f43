"""Who asks: the identity of a request, as every layer below HTTP sees it."""

from __future__ import annotations

import functools
import typing

from oslo_context import context


class RequestContext(context.RequestContext):
    """User, project and roles of one request, never a token.

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
            user_id=user_id, project_id=project_id,
            roles=[role.lower() for role in roles], is_admin=is_admin,
            request_id=request_id, overwrite=True, **names)

    @functools.cached_property
    def policy_values(self) -> typing.Any:
        """What rules see of the caller; worked out once a request."""
        return self.to_policy_values()
