"""Whether staged data is still what was recorded of it.

Touches the record and the file of one image.
"""

from __future__ import annotations

import dataclasses
import typing

from glance_import.db import engine
from glance_import.db import staging as db_staging
from glance_import import staging

if typing.TYPE_CHECKING:
    from glance_import import services


# Columns of the record.
_RECORDED = ('size', 'checksum', 'hash_algo', 'hash_value')
_IDENTITY = tuple(
    field.name for field in dataclasses.fields(staging.Identity))


@dataclasses.dataclass(frozen=True)
class StagedState:
    """What an import finds of staged data."""

    record: db_staging.Record
    intact: bool


def compare(services: services.Services,
            record: db_staging.Record) -> StagedState:
    """Compare the record with what lies in the staging area."""
    known = as_staged(record)
    return StagedState(record, known is not None and known.identity
                       == services.area.identity(record.image_id))


def refresh_identity(services: services.Services, image_id: str) -> None:
    """Have the record know a staged file again whose bytes are the same.

    A step may have touched the file without changing it: a second name, a
    mode, a time. Its bytes are read once to be sure; only then is the new
    identity recorded.
    """
    with services.db.read() as conn:
        record = db_staging.get(conn, image_id)
    known = as_staged(record) if record is not None else None
    if record is None or known is None or compare(services, record).intact:
        return
    found = staging.same_bytes(services.area.path(image_id), known)
    if found is None:
        return

    @engine.retried
    def commit() -> None:
        with services.db.write() as conn:
            db_staging.move(
                conn, image_id, (record.state,), record.state,
                upload_id=record.upload_id, **dataclasses.asdict(found))
    commit()


def as_staged(record: db_staging.Record) -> staging.Staged | None:
    """The record as the stores want it, None when it is not complete."""
    if record.inode is None:
        return None
    return staging.Staged(
        **{name: getattr(record, name) for name in _RECORDED},
        identity=staging.Identity(**{name: getattr(record, name)
                                     for name in _IDENTITY}))
