"""The handles that requests and import steps are given.

Built once a process by ``build``; nothing keeps one in a global. It holds
what the domain works on: options, database, staging area, stores, policy.
"""

from __future__ import annotations

import dataclasses
import os
import typing

from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_log import log
from sqlalchemy import exc as sa_exc

from glance_import.conf import reserved
from glance_import.db import engine
from glance_import.db import keys
from glance_import import errors
from glance_import import jobboard
from glance_import import limits
from glance_import.observe import channel
from glance_import.observe import events
from glance_import.plugin import entry_points
from glance_import.plugin import honouring
from glance_import.plugin import registry as plugin_registry
from glance_import.plugin import sandbox
from glance_import.plugin import second_opinion
from glance_import.plugin import snapshot
from glance_import import policies
from glance_import.policies import enforce
from glance_import.policies import protections
from glance_import.staging import area as staging_area
from glance_import.staging import room
from glance_import import state
from glance_import.stores import configured as store_registry

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
    registry: plugin_registry.Registry
    honouring: honouring.Honouring
    board: jobboard.Board
    limits: limits.Limits
    keys: keys.Keys
    adviser: second_opinion.Adviser
    events: channel.Channel

    def judged_by(self, *, plugins: bool = True) -> snapshot.Snapshot:
        """What an import that is asked for now is judged by.

        :param plugins: whether it goes through the listed plugins
        :raises errors.Unavailable: one of them cannot be used any more
        """
        try:
            return self.honouring.pin(self.plugins if plugins else ())
        except entry_points.ExtensionError as failure:
            LOG.error('no import is accepted: %s', failure)
            raise errors.Unavailable(
                'A plugin that every import goes through cannot be used at '
                'the moment, so no import is accepted. Ask again later.'
            ) from failure

    def honour(self, wanted: snapshot.Snapshot
               ) -> list[plugin_registry.Loaded]:
        """The plugins of an import, configured as it demands.

        :raises snapshot.NotHonoured: they are not to be had here
        """
        return self.honouring.honour(wanted)

    def hear_store(self, store_id: str, trouble: str | None) -> None:
        """A store has done what it was asked to; or not, and why."""
        self.events.tell(events.StoreHeard(store_id, trouble))

    def close(self) -> None:
        """Let go of what is open; the object is not used afterwards."""
        self.events.close()
        self.board.close()
        self.db.dispose()


# The database is away or too busy: nobody's fault here, nor a bug.
_DATABASE_AWAY = (db_exc.DBConnectionError, db_exc.DBDeadlock,
                  sa_exc.OperationalError, sa_exc.TimeoutError,
                  sa_exc.InterfaceError)


def database_is_away(failure: BaseException) -> bool:
    """Whether the database did not answer, so that asking again may help."""
    return (isinstance(failure, _DATABASE_AWAY)
            or engine.was_rolled_back(failure))


def one_line(failure: BaseException) -> str:
    """What the database says, without the statement and its values."""
    return engine.one_line(failure)


def database_cannot_keep(failure: BaseException) -> bool:
    """Whether the database refused a value, which is the request's fault."""
    return isinstance(failure, engine.ERRORS) and engine.is_bad_value(failure)


def wake_fifo(conf: cfg.ConfigOpts) -> tuple[str, str]:
    """(directory, name) of the FIFO by which this node's conductor is woken.

    In the state directory; in the staging area where that is shared with a
    group, since the conductor may have another user, and a state directory
    of its own, then.
    """
    staging = reserved.staging_uri(conf).partition('://')[2]
    if state.is_shared(staging):
        return staging, f'.{WAKE_FIFO}'
    return conf.state_path, WAKE_FIFO


def poke(conf: cfg.ConfigOpts) -> None:
    """Nudge this node's conductor, if one listens.

    One byte into a FIFO: nobody there, or a full pipe, is fine, since a
    conductor also looks for work by itself.
    """
    try:
        fd = state.open_file(*wake_fifo(conf), os.O_WRONLY | os.O_NONBLOCK)
    except (OSError, state.StateError):
        return
    try:
        os.write(fd, b'!')
    except OSError:
        pass
    finally:
        os.close(fd)


def build(conf: cfg.ConfigOpts,
          plugins: plugin_registry.Registry | None = None, *,
          accepting: bool = True) -> Services:
    """Open everything the configuration names.

    The database is not asked yet: a database that is away must not keep a
    process from starting to answer.

    :param plugins: those that start-up has looked at already
    :param accepting: whether imports are asked for here; a conductor only
        runs what each job names, and asks no rules
    :raises glance_import.staging.StagingError: staging cannot be used
    :raises glance_import.stores.configured.Misconfigured: nor can a store
    :raises glance_import.policies.rules_file.BrokenRules: nor can the policy
        file
    :raises glance_import.policies.protections.ProtectionError: nor can the
        file of property protections
    """
    known = plugins or plugin_registry.Registry(conf)
    stores = store_registry.build(conf)
    policy = enforce.Policy(policies.new_enforcer(conf, asked=accepting))
    database = engine.Database(conf)
    board = jobboard.Board(conf, database)
    secrets = keys.Keys(database)

    def wake() -> None:
        """Tell of what was just committed; it is safe there whatever fails."""
        try:
            board.post_new()
        except (jobboard.BoardAway, *engine.ERRORS) as failure:
            LOG.warning('an import is posted later: %s', failure)
        poke(conf)

    area = staging_area.Area.open(reserved.staging_uri(conf),
                                  readers=sandbox.READERS)
    area.room = room.Room(area.directory, reserve=conf.staging_reserve,
                          high_water=conf.staging_high_water)
    return Services(
        conf=conf,
        db=database,
        board=board,
        area=area,
        stores=stores,
        policy=policy,
        protections=protections.load(conf, policy),
        plugins=known.listed if accepting else (),
        methods=(tuple(conf.enabled_import_methods)
                 if accepting and conf.enable_image_import else ()),
        wake=wake,
        registry=known,
        honouring=honouring.Honouring(
            known, lambda: secrets.get(keys.SNAPSHOT)),
        limits=limits.Limits(conf),
        keys=secrets,
        adviser=second_opinion.Adviser(conf, area, known.strict),
        events=channel.make(conf))
