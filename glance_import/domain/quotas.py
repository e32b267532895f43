"""How much more a project may have, before data of it comes.

Two sources, one set of questions. ``user_storage_quota`` bounds the bytes in
stores for every project alike; with ``use_keystone_limits`` Keystone keeps
four limits for each project instead. Sizes are in bytes; Keystone counts
them in MiB. Two requests at the same instant may both be let in, as each
sees what is there before the other: a quota bounds use, it is no lock.
Touches the database, and Keystone when told to.
"""

from __future__ import annotations

import dataclasses
import re
import typing

from glance_import.db import usage
from glance_import import errors
from glance_import import limits
from glance_import import states

if typing.TYPE_CHECKING:
    from oslo_config import cfg
    import sqlalchemy as sa

    from glance_import import context
    from glance_import import services

MIB = 1 << 20
SIZE_TOTAL = 'image_size_total'
STAGE_TOTAL = 'image_stage_total'
COUNT_TOTAL = 'image_count_total'
COUNT_UPLOADING = 'image_count_uploading'
LIMITS = (SIZE_TOTAL, STAGE_TOTAL, COUNT_TOTAL, COUNT_UPLOADING)
# Those that bound data which is staged, or goes straight to a store.
TO_STAGE = (SIZE_TOTAL, STAGE_TOTAL, COUNT_UPLOADING)
TO_STORE = (SIZE_TOTAL, COUNT_UPLOADING)
STORAGE_QUOTA = 'user_storage_quota'
_UNITS = {'': 1, 'B': 1, 'KB': 1 << 10, 'MB': 1 << 20, 'GB': 1 << 30,
          'TB': 1 << 40}
# What is on its way into a store counts as stored.
_TO_STORE = (states.SAVING, states.IMPORTING)
_STAGED = (states.UPLOADING, states.IMPORTING)


def parse(text: str) -> int:
    """Bytes of a value such as ``10GB``; 0 means no quota.

    :raises ValueError: it is no such value
    """
    match = re.fullmatch(r'([0-9]{1,18})(B|KB|MB|GB|TB)?', text.strip(),
                         re.IGNORECASE)
    if match is None:
        raise ValueError('a number, with B, KB, MB, GB or TB right behind '
                         'it, such as 500GB')
    return int(match[1]) * _UNITS[(match[2] or '').upper()]


@dataclasses.dataclass(frozen=True, slots=True)
class Cap:
    """Most bytes that an image may have at this moment, and who says so."""

    size: int
    option: str
    quota: int | None = None

    def refusal(self) -> errors.TooLarge:
        """What a user reads whose data is larger."""
        if self.quota is None:
            return errors.TooLarge(
                f'The image is larger than {self.size} bytes, the most that '
                f'is accepted here ({self.option}).')
        return errors.TooLarge(
            f'The image does not fit: of the {self.quota} bytes that your '
            f'project may have ({self.option}), {max(self.size, 0)} are '
            'left. Delete images, or ask for a higher limit.')

    def check(self, size: int | None) -> None:
        """:raises errors.TooLarge: ``size`` is more"""
        if (size or 0) > self.size:
            raise self.refusal()


@dataclasses.dataclass(frozen=True, slots=True)
class Use:
    """What a project uses beside one image of its own.

    ``amounts``: bytes or images, by the name of the limit; only what a quota
    is set for.
    """

    project: str | None
    amounts: dict[str, int]


def use(conn: sa.Connection, conf: cfg.ConfigOpts, image_id: str,
        project: str | None, names: tuple[str, ...] = TO_STAGE) -> Use:
    """What the image's project uses.

    :param names: those of the limits that will be asked for
    """
    return Use(project, {name: _amount(conn, project, name, image_id)
                         for name in _limited(conf, names)})


def cap(services: services.Services, used: Use) -> Cap:
    """How large data may be that comes in for an image.

    :raises errors.TooLarge: nothing at all may come in now
    :raises errors.Unavailable: Keystone does not say
    """
    least = min(_caps(services, used), key=lambda each: each.size)
    if least.size <= 0:
        raise least.refusal()
    return least


def to_stage(services: services.Services, image_id: str) -> Cap:
    """How large data may be that is staged for an image: ``cap``."""
    return cap(services, _use(services, image_id, TO_STAGE))


def check_create(services: services.Services, project: str | None) -> None:
    """:raises errors.TooLarge: the project has its share of images"""
    if not services.conf.use_keystone_limits:
        return
    limit = _limits(services, project, (COUNT_TOTAL,))[COUNT_TOTAL]
    with services.db.read() as conn:
        _check_count(COUNT_TOTAL, limit, usage.count(conn, project))


def check_import(services: services.Services, image_id: str,
                 size: int | None, copies: int = 1) -> None:
    """What is staged may go into ``copies`` stores.

    :raises errors.TooLarge: it would be too much
    :raises errors.Unavailable: Keystone does not say
    """
    for each in _caps(services, _use(services, image_id, (SIZE_TOTAL,))):
        each.check((size or 0) * (1 if each.quota is None else copies))


def used(services: services.Services, ctx: context.RequestContext
         ) -> dict[str, dict[str, int]]:
    """Name -> usage and limit of the caller's project, in Keystone's units.

    Empty where Keystone keeps no limits.

    :raises errors.Forbidden: the caller has no project
    """
    if not services.conf.use_keystone_limits:
        return {}
    project = ctx.project_id
    if project is None:
        raise errors.Forbidden(
            'Your token is for no project, so there is nothing to count.')
    found = _limits(services, project, LIMITS)
    with services.db.read() as conn:
        usages = {
            SIZE_TOTAL: usage.stored(conn, project) // MIB,
            STAGE_TOTAL: usage.arriving(conn, project, _STAGED, None) // MIB,
            COUNT_TOTAL: usage.count(conn, project),
            COUNT_UPLOADING: usage.count(conn, project, usage.UPLOADING)}
    return {name: {'usage': usages[name], 'limit': found[name]}
            for name in LIMITS}


# -- the parts of it ------------------------------------------------------

def _limited(conf: cfg.ConfigOpts, names: tuple[str, ...]
             ) -> tuple[str, ...]:
    """Those of the names for which a quota is set."""
    if conf.use_keystone_limits:
        return names
    return (SIZE_TOTAL,) if SIZE_TOTAL in names and parse(
        conf.user_storage_quota) else ()


def _use(services: services.Services, image_id: str,
         names: tuple[str, ...]) -> Use:
    if not _limited(services.conf, names):
        return Use(None, {})
    with services.db.read() as conn:
        return use(conn, services.conf, image_id,
                   usage.owner(conn, image_id), names)


def _caps(services: services.Services, used: Use) -> list[Cap]:
    """All that bounds the size of an image."""
    conf = services.conf
    caps = [Cap(conf.image_size_cap, 'image_size_cap')]
    if not conf.use_keystone_limits:
        return caps + [
            _left(parse(conf.user_storage_quota), STORAGE_QUOTA, amount)
            for amount in used.amounts.values()]
    found = _limits(services, used.project, tuple(used.amounts))
    for name, limit in found.items():
        if name == COUNT_UPLOADING:
            _check_count(name, limit, used.amounts[name])
        elif limit >= 0:
            caps.append(_left(limit * MIB, name, used.amounts[name]))
    return caps


def _left(quota: int, option: str, now: int) -> Cap:
    return Cap(quota - now, option, quota)


def _amount(conn: sa.Connection, project: str | None, name: str,
            besides: str) -> int:
    if name == COUNT_UPLOADING:
        return usage.count(conn, project, usage.UPLOADING, besides=besides)
    if name == STAGE_TOTAL:
        return usage.arriving(conn, project, _STAGED, besides)
    return usage.stored(conn, project) + usage.arriving(
        conn, project, _TO_STORE, besides)


def _check_count(name: str, limit: int, now: int) -> None:
    if 0 <= limit <= now:
        raise errors.TooLarge(
            f'Your project has {now} images that count, and may have '
            f'{limit} ({name}). Delete some, or ask for a higher limit.')


def _limits(services: services.Services, project: str | None,
            names: tuple[str, ...]) -> dict[str, int]:
    try:
        return services.limits.of_project(project, names)
    except limits.LimitsAway as failure:
        raise errors.Unavailable(
            'The limits of your project cannot be read from the identity '
            'service at the moment. Try again later.') from failure
