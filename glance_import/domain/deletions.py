"""What goes after the image it was of, and is tried again until it has gone.

It is recorded in the transaction that deletes the image, tried once behind
the commit, and then by housekeeping with longer and longer pauses. What was
tried too often is left in the table for the operator, who reads it in the
log. Touches the table of deletions, and asks whoever has what is to go.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import threading
import time
import typing

from oslo_log import log

from glance_import.db import deletions as db_deletions
from glance_import.domain import encryption_keys
from glance_import.domain import key_manager
from glance_import.domain import stored_data
from glance_import.net import urls
from glance_import.stores import base as stores

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import import services

LOG = log.getLogger(__name__)

# How long one attempt may take until somebody else makes another; deleting
# a large object takes a store minutes.
ATTEMPT_SECONDS = 900
# Of one process and one place, those that hang among them.
MAX_AT_ONCE = 8
PAUSE_SECONDS = 60
# Of one round, so that what cannot go does not hold up all else for long.
_BATCH, _MAX_FAILURES, _SLOW_SECONDS = 100, 5, 1


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of what is deleted.

    :ivar wait: seconds that a request waits for it
    :ivar longest: seconds of the longest pause between two attempts
    :ivar most: attempts until it is the operator's, None for ever
    """

    delete: collections.abc.Callable[
        [services.Services, db_deletions.Deletion], None]
    wait: float
    longest: float
    most: int | None = None


KINDS = {
    # Three days in all.
    encryption_keys.KEY: Kind(encryption_keys.delete, 30, 3600, 78),
    stored_data.DATA: Kind(stored_data.delete, 10, 600),
    stored_data.ATTEMPTS: Kind(stored_data.delete_attempts, 10, 600),
}
_NOT_YET = (key_manager.Trouble, stores.StoreError)
# A key manager, or a store, that hangs holds up nothing of others.
_PLACES: dict[tuple[str, str | None], threading.BoundedSemaphore] = {}


def _place(deletion: db_deletions.Deletion) -> threading.BoundedSemaphore:
    return _PLACES.setdefault(
        (deletion.kind, deletion.payload.get('store')),
        threading.BoundedSemaphore(MAX_AT_ONCE))


def attempt(services: services.Services, deletion: db_deletions.Deletion
            ) -> bool:
    """Try it, and write down what came of it; False when it is still there.
    """
    try:
        KINDS[deletion.kind].delete(services, deletion)
    except _NOT_YET as failure:
        _put_off(services, deletion, failure)
        return False
    end(services, [deletion])
    LOG.info('deleted what was left of image %s: %s', deletion.image_id,
             deletion.kind)
    return True


def end(services: services.Services,
        gone: collections.abc.Iterable[db_deletions.Deletion]) -> None:
    """These have been deleted."""
    with services.db.write() as conn:
        for deletion in gone:
            end_in(conn, deletion)


def end_in(conn: sa.Connection, deletion: db_deletions.Deletion) -> None:
    """The same in a transaction of the caller's."""
    if deletion.image_id is not None:
        db_deletions.lock_image(conn, deletion.image_id)
    db_deletions.done(conn, deletion.id)
    if deletion.image_id is not None:
        db_deletions.end_of_image(conn, deletion.image_id)


def attempt_within(services: services.Services,
                   deletion: db_deletions.Deletion) -> bool:
    """The same, waiting for it only as long as a request may.

    Who is asked may never answer. An attempt that takes longer goes on in
    its thread; of such there are a few at most.
    """
    place = _place(deletion)
    if not place.acquire(blocking=False):
        LOG.warning('what is left of image %s is deleted later: %d other '
                    'attempts have no answer yet', deletion.image_id,
                    MAX_AT_ONCE)
        return False
    worked: list[bool] = []

    def work() -> None:
        try:
            worked.append(attempt(services, deletion))
        except Exception as failure:
            # Its row is there, and due again when the attempt may be over.
            LOG.error('what is left of image %s is deleted later: %r',
                      deletion.image_id, failure)
        finally:
            place.release()

    thread = threading.Thread(target=work, daemon=True, name='deletion')
    thread.start()
    thread.join(KINDS[deletion.kind].wait)
    return worked == [True]


def _put_off(services: services.Services, deletion: db_deletions.Deletion,
             failure: Exception) -> None:
    kind = KINDS[deletion.kind]
    reason = urls.public_text(str(failure))
    pause = min(PAUSE_SECONDS * 2 ** (min(deletion.attempts, 20) - 1),
                kind.longest)
    last = kind.most is not None and deletion.attempts >= kind.most
    with services.db.write() as conn:
        db_deletions.put_off(conn, deletion, reason,
                             None if last else pause)
    if last:
        LOG.error('gave up deleting what is left of image %s (%s, row %s of '
                  'import_deletions), do it by hand: %s', deletion.image_id,
                  deletion.kind, deletion.id, reason)
    else:
        LOG.warning('what is left of image %s is deleted later: %s',
                    deletion.image_id, reason)


def retry(services: services.Services) -> None:
    """One round over what is due; each is tried by one node at a time."""
    with services.db.read() as conn:
        due = db_deletions.due(conn, services.area.id, _BATCH)
    failures = 0
    for deletion_id in due:
        with services.db.write() as conn:
            deletion = db_deletions.take(conn, deletion_id, ATTEMPT_SECONDS)
        if deletion is None or deletion.kind not in KINDS:
            continue
        begun = time.monotonic()
        if attempt_within(services, deletion):
            continue
        # What is in use is refused at once, and there may be much of it.
        failures += time.monotonic() - begun > _SLOW_SECONDS
        if failures == _MAX_FAILURES:
            return
