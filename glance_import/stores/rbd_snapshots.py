"""The snapshot by which an RBD image is read and cloned, and who uses it.

Touches the image it is given.
"""

from __future__ import annotations

import typing

from glance_import.stores import base

SNAPSHOT = 'snap'
CLONED = 'other disks are clones of the RBD image'


def make(image: typing.Any) -> None:
    """What makes an image readable; who clones wants it protected."""
    if SNAPSHOT not in [each['name'] for each in image.list_snaps()]:
        image.create_snap(SNAPSHOT)
    if not image.is_protected_snap(SNAPSHOT):
        image.protect_snap(SNAPSHOT)


def check_unused(image: typing.Any) -> None:
    """:raises base.ObjectInUse: by clones of either kind, also those in the
        trash, or by other snapshots
    """
    if clones(image) is None:
        if _unprotect(image):
            # None of the first kind, which anybody may ask for: so it is one
            # of the other, in a pool that the store's user cannot read.
            image.protect_snap(SNAPSHOT)
        raise base.ObjectInUse(CLONED)


def clones(image: typing.Any) -> int | None:
    """0 for none; None where there are some that may not be looked at.

    :raises base.ObjectInUse: there are, or other snapshots
    """
    import rbd

    snapshots = [each['name'] for each in image.list_snaps()]
    if any(each != SNAPSHOT for each in snapshots):
        raise base.ObjectInUse(
            'the RBD image has other snapshots than that of the store')
    if not snapshots:
        return 0
    image.set_snap(SNAPSHOT)
    try:
        if list(image.list_children2()):
            raise base.ObjectInUse(CLONED)
    except rbd.PermissionError:
        return None
    finally:
        image.set_snap(None)
    return 0


def _unprotect(image: typing.Any) -> bool:
    """Whether it was protected. :raises base.ObjectInUse: it has clones"""
    import rbd

    if not image.is_protected_snap(SNAPSHOT):
        return False
    try:
        image.unprotect_snap(SNAPSHOT)
        return True
    except rbd.ImageBusy as failure:
        raise base.ObjectInUse(CLONED) from failure


def drop(image: typing.Any) -> bool:
    """Whether there was one. :raises base.ObjectInUse: it has clones"""
    import rbd

    try:
        _unprotect(image)
        image.remove_snap(SNAPSHOT)
        return True
    except rbd.ImageNotFound:
        # Never made, or an earlier deletion was interrupted.
        return False
