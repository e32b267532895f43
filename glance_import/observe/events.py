"""What can happen: one class for each kind of event, plain values.

Sizes are in bytes and times in seconds. ``image``, ``member`` and ``task``
are the records of the database, or None where nobody listens who reads them
(``channel.Channel.with_records``). Touches nothing.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing


class RequestAnswered(typing.NamedTuple):
    """An answer has begun. ``route`` is a pattern, never a path.

    A tuple, since there are so many.
    """

    method: str
    route: str
    status: int
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class RequestRefused:
    """Something did not fit: a quota, a limit, the staging area.

    ``code`` is a row of glance_import.imports.outcome.CODES.
    """

    code: str
    reason: str
    project: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class DatabaseAway:
    """A request could not be answered for the database."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class DataReceived:
    """Bytes have come into the staging area, whatever became of them."""

    source: str
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class DataStored:
    """A store has taken the data of an image."""

    store: str
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class DataSent:
    """Data of an image has gone to a client: ``size`` of ``expected``."""

    image: typing.Any
    size: int
    expected: int
    user_id: str | None
    project: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class StoreHeard:
    """A store has done what it was asked to; or not, and why."""

    store: str
    trouble: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ImageChanged:
    """``what``: create, prepare, upload, activate, update or delete.

    ``trouble``: why it failed, where an upload did.
    """

    what: str
    image: typing.Any
    trouble: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class MemberChanged:
    """``what``: create, update or delete."""

    what: str
    member: typing.Any


@dataclasses.dataclass(frozen=True, slots=True)
class ImportAccepted:
    """An import waits for a conductor."""

    job_id: str
    task: typing.Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class ImportBegun:
    """A conductor runs an import that nobody had run before."""

    job_id: str
    image_id: str
    method: str
    waited: float
    image: typing.Any = None
    task: typing.Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class ImportEnded:
    """``code`` is None after success; ``size`` is that of the image.

    ``steps`` has the seconds of those that ended under the last lease, in
    their order; ``stores``, the bytes that each has taken; ``waited`` and
    ``running`` are None when nobody ever ran it.
    """

    job_id: str
    image_id: str
    method: str
    project: str | None
    user_id: str | None
    request_id: str | None
    code: str | None = None
    reason: str = ''
    said_by: str | None = None
    size: int | None = None
    waited: float | None = None
    running: float | None = None
    steps: collections.abc.Mapping[str, float] = dataclasses.field(
        default_factory=dict)
    stores: collections.abc.Mapping[str, int] = dataclasses.field(
        default_factory=dict)
    image: typing.Any = None
    task: typing.Any = None
    activated: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class PluginJudged:
    """A plugin of the contract has given its verdict."""

    plugin: str
    verdict: str
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class LeaseLost:
    """A conductor has found that an import is no longer its own."""

    job_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class NotificationEnded:
    """``result``: sent, failed or dropped."""

    result: str
