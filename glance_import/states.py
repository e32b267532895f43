"""Every status there is, and which an image may have after which.

The statuses and their moves are those of Glance, with one move more:
``importing`` goes back to ``uploading`` when an import failed and the staged
bytes are intact, so that the user can import again without uploading again.
Every move is one conditional UPDATE, and glance_import.db.images.move refuses
one that is not here. ``killed`` and ``pending_delete`` are found in databases
that Glance has made. Locations, tasks, members and staged data have statuses
of their own; no other module spells any of them.
"""

import collections.abc

QUEUED = 'queued'
UPLOADING = 'uploading'
IMPORTING = 'importing'
SAVING = 'saving'
ACTIVE = 'active'
DEACTIVATED = 'deactivated'
KILLED = 'killed'
PENDING_DELETE = 'pending_delete'
DELETED = 'deleted'

MOVES = {
    QUEUED: (SAVING, UPLOADING, IMPORTING, ACTIVE, DELETED),
    UPLOADING: (IMPORTING, QUEUED, DELETED),
    IMPORTING: (ACTIVE, QUEUED, UPLOADING, DELETED),
    SAVING: (ACTIVE, DELETED, QUEUED),
    ACTIVE: (DEACTIVATED, PENDING_DELETE, DELETED),
    DEACTIVATED: (ACTIVE, DELETED),
    KILLED: (DELETED,),
    PENDING_DELETE: (DELETED, ACTIVE),
    DELETED: (),
}

ALL = tuple(MOVES)

# A location is ACTIVE, PENDING_DELETE or, like what is removed, DELETED.

# The life of staged data (import_staging.state); see glance_import.staging.
OPEN = 'open'            # being received, or cut
COMPLETE = 'complete'    # every byte is there, digests are known
IN_USE = 'claimed'       # an import is using it
RETURNED = 'returned'    # an import failed; may be imported or replaced

# The life of a task.
PENDING = 'pending'
PROCESSING = 'processing'
SUCCESS = 'success'
FAILURE = 'failure'
TASK = (PENDING, PROCESSING, SUCCESS, FAILURE)

# What a member says to an image that is shared with it; PENDING before.
ACCEPTED = 'accepted'
REJECTED = 'rejected'
MEMBER = (PENDING, ACCEPTED, REJECTED)


class NoSuchMove(ValueError):
    """The service would do what the table does not have: a fault of ours."""


def check(found: collections.abc.Iterable[str], target: str) -> None:
    """:raises NoSuchMove: not from each of those an image may move there"""
    for each in found:
        if target not in MOVES.get(each, ()):
            raise NoSuchMove(f'no image goes from {each} to {target}')


def sources(target: str) -> tuple[str, ...]:
    """The statuses from which an image may move to ``target``."""
    return tuple(found for found, moves in MOVES.items() if target in moves)
