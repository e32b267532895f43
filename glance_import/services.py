"""The box of handles that requests and import steps are given.

Built once a process by ``build``; nothing keeps one in a global. It holds
what the domain works on: options, database, staging area, stores, policy.
"""

from __future__ import annotations

import dataclasses
import os
import typing

from oslo_config import cfg
from oslo_log import log

from glance_import.async_ import jobboard
from glance_import.async_ import registry
from glance_import.conf import reserved
from glance_import.db import engine
from glance_import.domain import protections
from glance_import import limits
from glance_import.plugin import sandbox
from glance_import import policies
from glance_import.policies import enforce
from glance_import.staging import area as staging_area
from glance_import import state
from glance_import.stores import registry as store_registry

LOG = log.getLogger(__name__)
WAKE_FIFO = 'conductor.wake'


@dataclasses.dataclass(slots=True)
class Services:
    """Handles of one process; all of them are safe to share by threads."""

    conf: cfg.ConfigOpts
    db: engine.Database
    area: staging_area.Area
    stores: store_registry.Stores
    policy: enforce.Policy
    protections: protections.Protections
    plugins: tuple[str, ...]
    methods: tuple[str, ...]
    wake: typing.Callable[[], None]
    registry: registry.Registry
    board: jobboard.Board
    limits: limits.Limits

    def close(self) -> None:
        """Let go of what is open; the object is not used afterwards."""
        self.board.close()
        self.db.dispose()


def poke(state_path: str) -> None:
    """Nudge this node's conductor, if one listens.

    One byte into a FIFO: nobody there, or a full pipe, is fine, since a
    conductor also looks for work by itself.
    """
    try:
        fd = state.open_file(state_path, WAKE_FIFO,
                             os.O_WRONLY | os.O_NONBLOCK)
    except (OSError, state.StateError):
        return
    try:
        os.write(fd, b'!')
    except OSError:
        pass
    finally:
        os.close(fd)


def build(conf: cfg.ConfigOpts,
          plugins: registry.Registry | None = None, *,
          accepting: bool = True) -> Services:
    """Open everything the configuration names.

    The database is not asked yet: a database that is away must not keep a
    process from starting to answer.

    :param plugins: those that start-up has looked at already
    :param accepting: whether imports are asked for here; a conductor only
        runs what each job names, and asks no rules
    :raises glance_import.staging.StagingError: staging cannot be used
    :raises glance_import.stores.registry.Misconfigured: nor can a store
    :raises glance_import.policies.rules_file.BrokenRules: nor can the policy
        file
    :raises glance_import.domain.protections.ProtectionError: nor can the
        file of property protections
    """
    stores = store_registry.build(conf)
    policy = enforce.Policy(policies.new_enforcer(conf, asked=accepting))
    database = engine.Database(conf)
    board = jobboard.Board(conf, database)

    def wake() -> None:
        """Tell of what was just committed; it is safe there whatever fails."""
        try:
            board.post_new()
        except (jobboard.BoardAway, *engine.ERRORS) as failure:
            LOG.warning('an import is posted later: %s', failure)
        poke(conf.state_path)

    return Services(
        conf=conf,
        db=database,
        board=board,
        area=staging_area.Area.open(reserved.staging_uri(conf),
                                    readers=sandbox.READERS),
        stores=stores,
        policy=policy,
        protections=protections.load(conf, policy),
        plugins=(tuple(conf.image_import_opts.image_import_plugins)
                 if accepting else ()),
        methods=(tuple(conf.enabled_import_methods)
                 if accepting and conf.enable_image_import else ()),
        wake=wake,
        registry=plugins or registry.Registry(conf),
        limits=limits.Limits(conf))
