"""One operation of a PATCH, as the domain is asked for it."""

from __future__ import annotations

import dataclasses
import typing


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """One step of a PATCH.

    ``position`` is what follows the name in the pointer (locations only);
    an ``exclusive`` add refuses a property that is there.
    """

    op: str
    name: str
    value: typing.Any = None
    position: str | None = None
    exclusive: bool = False
