"""Which status an image may have after which: one table.

Contract section 2.4, with one move more: ``importing`` goes back to
``uploading`` when an import failed and the staged bytes are intact, so that
the user can import again without uploading again. Every move is one
conditional UPDATE on this table's word (glance_import.db.images.move).
"""

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
    SAVING: (ACTIVE, KILLED, DELETED, QUEUED),
    ACTIVE: (DEACTIVATED, PENDING_DELETE, DELETED),
    DEACTIVATED: (ACTIVE, DELETED),
    KILLED: (DELETED,),
    PENDING_DELETE: (DELETED, ACTIVE),
    DELETED: (),
}

ALL = tuple(MOVES)

# The life of staged data (import_staging.state); see glance_import.staging.
OPEN = 'open'            # being received, or cut
COMPLETE = 'complete'    # every byte is there, digests are known
CLAIMED = 'claimed'      # an import is using it
RETURNED = 'returned'    # an import failed; may be imported or replaced

# The life of a task.
PENDING = 'pending'
PROCESSING = 'processing'
SUCCESS = 'success'
FAILURE = 'failure'


def allowed(found: str, wanted: str) -> bool:
    """Whether an image in status ``found`` may move to ``wanted``."""
    return wanted in MOVES.get(found, ())


def sources(wanted: str) -> tuple[str, ...]:
    """The statuses from which an image may move to ``wanted``."""
    return tuple(found for found, moves in MOVES.items() if wanted in moves)
