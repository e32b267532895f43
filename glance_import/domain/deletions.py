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
import typing

from oslo_log import log

from glance_import.db import deletions as db_deletions
from glance_import.domain import key_manager
from glance_import.domain import sealing
from glance_import.net import urls
from glance_import import uuids

if typing.TYPE_CHECKING:
    import sqlalchemy as sa

    from glance_import import services

LOG = log.getLogger(__name__)

# The properties that Cinder gives the image of an encrypted volume.
KEY_ID = 'cinder_encryption_key_id'
KEY_POLICY = 'cinder_encryption_key_deletion_policy'
ON_DELETION = 'on_image_deletion'
KEY = 'encryption_key'

# How long one attempt may take until somebody else makes another, and how
# long it is waited for.
ATTEMPT_SECONDS, WAIT_SECONDS = 300, 30
# Of one process, those that hang among them.
MAX_AT_ONCE = 8
_ATTEMPTS = threading.BoundedSemaphore(MAX_AT_ONCE)
# The first pause, and the longest: three days in all.
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 60, 3600
MAX_ATTEMPTS = 78
# Of one round, so that what cannot go does not hold up all else for long.
_BATCH, _MAX_FAILURES = 100, 5

Properties = collections.abc.Mapping[str, str | None]


class NotYet(Exception):
    """It could not be deleted; one line says why."""


def names_key(properties: Properties) -> bool:
    """Whether a key goes with the image, by what Cinder has said of it."""
    return bool(properties.get(KEY_ID)
                and properties.get(KEY_POLICY) == ON_DELETION)


def record_key(services: services.Services, conn: sa.Connection,
               image_id: str, properties: Properties,
               caller: key_manager.Caller) -> db_deletions.Deletion | None:
    """Have the key of an encrypted volume deleted after its image.

    None when there is none, or no key manager that is known here: the image
    goes all the same, as with Glance.
    """
    if not names_key(properties):
        return None
    key_id = properties[KEY_ID] or ''
    if not uuids.is_uuid(key_id):
        LOG.warning('image %s goes without its key: %r is no id of one',
                    image_id, key_id[:64])
        return None
    if not key_manager.configured(services.conf):
        LOG.warning('image %s goes without its key %s: set [key_manager] '
                    'backend, and install castellan', image_id, key_id)
        return None
    sealed = None
    try:
        sealed = sealing.seal(services.area, dataclasses.asdict(caller))
    except sealing.NoKey as failure:
        # The image goes all the same; who may delete its key is not kept.
        LOG.error('image %s goes, and its key %s stays until it is deleted '
                  'by hand: %s', image_id, key_id, failure)
    payload = {'key': key_id, 'caller': sealed}
    return db_deletions.insert(conn, KEY, payload, image_id=image_id,
                               area=services.area.id, seconds=ATTEMPT_SECONDS)


def _delete_key(services: services.Services, payload: dict[str, typing.Any]
                ) -> None:
    if not key_manager.configured(services.conf):
        raise NotYet('no key manager is configured here any more')
    try:
        caller = key_manager.Caller(**sealing.unseal(
            services.area, payload['caller']))
    except sealing.Unreadable as failure:
        raise NotYet('who deleted the image is not known here any more'
                     ) from failure
    try:
        key_manager.delete(services.conf, caller, payload['key'])
    except key_manager.Missing:
        LOG.info('the key %s was gone already', payload['key'])
    except key_manager.Trouble as failure:
        raise NotYet(f'key {payload["key"]}: {failure}') from failure


_KINDS: dict[str, collections.abc.Callable[
    [services.Services, dict[str, typing.Any]], None]] = {KEY: _delete_key}


def attempt(services: services.Services, deletion: db_deletions.Deletion
            ) -> bool:
    """Try it, and write down what came of it; False when it is still there.
    """
    try:
        _KINDS[deletion.kind](services, deletion.payload)
    except NotYet as failure:
        _put_off(services, deletion, urls.public_text(str(failure)))
        return False
    with services.db.write() as conn:
        db_deletions.done(conn, deletion.id)
    LOG.info('deleted what was left of image %s: %s', deletion.image_id,
             deletion.kind)
    return True


def attempt_within(services: services.Services,
                   deletion: db_deletions.Deletion) -> bool:
    """The same, waiting no longer than ``WAIT_SECONDS`` for it.

    The clients of a key manager may wait for ever. An attempt that takes
    longer goes on in its thread; of such there are a few at most.
    """
    if not _ATTEMPTS.acquire(blocking=False):
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
            _ATTEMPTS.release()

    thread = threading.Thread(target=work, daemon=True, name='deletion')
    thread.start()
    thread.join(WAIT_SECONDS)
    return worked == [True]


def _put_off(services: services.Services, deletion: db_deletions.Deletion,
             reason: str) -> None:
    pause = min(PAUSE_SECONDS * 2 ** (min(deletion.attempts, 20) - 1),
                MAX_PAUSE_SECONDS)
    last = deletion.attempts >= MAX_ATTEMPTS
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
        if deletion is None or deletion.kind not in _KINDS:
            continue
        failures += not attempt_within(services, deletion)
        if failures == _MAX_FAILURES:
            return
