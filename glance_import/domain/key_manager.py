"""The key manager (castellan): certificates and keys that images name.

Castellan is an extra, and imported where it is used. What it raises, each
backend its own, becomes one error here. Asks the key manager, which may be
Barbican.
"""

from __future__ import annotations

import dataclasses
import typing

from oslo_context import context as oslo_context

if typing.TYPE_CHECKING:
    from oslo_config import cfg

GROUP = 'key_manager'


class Missing(Exception):
    """The key manager has no such secret."""


class Trouble(Exception):
    """It does not do what it was asked; one line says why."""


@dataclasses.dataclass(frozen=True)
class Caller:
    """On whose behalf it is asked; ``token`` is Keystone's, if there is one.
    """

    user_id: str | None
    project_id: str | None
    token: str | None = dataclasses.field(default=None, repr=False)


def configured(conf: cfg.ConfigOpts) -> bool:
    """Whether [key_manager] backend is set, and castellan installed."""
    try:
        from castellan import key_manager
    except ImportError:
        return False
    conf.register_opts(key_manager.key_manager_opts, group=GROUP)
    found = conf.get_location('backend', GROUP)
    return found is not None and found.location.is_user_controlled


def manager(conf: cfg.ConfigOpts) -> typing.Any:
    """Castellan's key manager; nothing bounds how long it may take."""
    from castellan import key_manager

    return key_manager.API(conf)


def own_account(conf: cfg.ConfigOpts) -> typing.Any:
    """The credentials of [key_manager], None when it has none."""
    from castellan.common import utils

    conf.register_opts(utils.credential_opts, group=GROUP)
    if not conf.key_manager.auth_type:
        return None
    return utils.credential_factory(conf)


def delete(conf: cfg.ConfigOpts, caller: Caller, key_id: str) -> None:
    """Delete a secret, as ``caller`` where he came with a token.

    An account of the service's own might be allowed more than he is.

    :raises Missing: it is gone
    :raises Trouble: it is not deleted
    """
    from castellan.common import exception as castellan_exc

    try:
        account = None if caller.token else own_account(conf)
        manager(conf).delete(account or _context(caller), key_id)
    except (castellan_exc.ManagedObjectNotFoundError, KeyError) as failure:
        raise Missing from failure
    except Exception as failure:
        # Each backend has errors of its own.
        text = ' '.join(str(failure).split())
        raise Trouble(text[:500] or type(failure).__name__) from failure


def _context(caller: Caller) -> oslo_context.RequestContext:
    return oslo_context.RequestContext(
        auth_token=caller.token, user_id=caller.user_id,
        project_id=caller.project_id, overwrite=False)
