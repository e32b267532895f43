"""The key of an encrypted volume, which goes with the image of the volume.

Cinder names it in the image's properties. Touches the table of deletions,
and asks the key manager.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing

from oslo_log import log

from glance_import.db import deletions as db_deletions
from glance_import.domain import key_manager
from glance_import.domain import sealing
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

Properties = collections.abc.Mapping[str, str | None]


def names_key(properties: Properties) -> bool:
    """Whether a key goes with the image, by what Cinder has said of it."""
    return bool(properties.get(KEY_ID)
                and properties.get(KEY_POLICY) == ON_DELETION)


def record(services: services.Services, conn: sa.Connection, image_id: str,
           properties: Properties, caller: key_manager.Caller,
           seconds: float) -> db_deletions.Deletion | None:
    """Have the key of an encrypted volume deleted after its image.

    None when there is none, or no key manager that is known here: the image
    goes all the same, as with Glance.

    :param seconds: how long the first attempt is the caller's
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
                               area=services.area.id, seconds=seconds)


def delete(services: services.Services, deletion: db_deletions.Deletion
           ) -> None:
    """:raises key_manager.Trouble: it is still there"""
    payload = deletion.payload
    if not key_manager.configured(services.conf):
        raise key_manager.Trouble(
            'no key manager is configured here any more')
    try:
        caller = key_manager.Caller(**sealing.unseal(
            services.area, payload['caller']))
    except sealing.Unreadable as failure:
        raise key_manager.Trouble(
            'who deleted the image is not known here any more') from failure
    try:
        key_manager.delete(services.conf, caller, payload['key'])
    except key_manager.Missing:
        LOG.info('the key %s was gone already', payload['key'])
    except key_manager.Trouble as failure:
        raise key_manager.Trouble(
            f'key {payload["key"]}: {failure}') from failure
