"""What can go wrong in the staging area.

The text of each error is one plain sentence, fit for a user or an operator;
it names no path below the area except where the operator must act on it.
Touches nothing.
"""

from __future__ import annotations

import errno


class StagingError(Exception):
    """Something about the staging area; the text is one line."""


class UploadInProgress(StagingError):
    """A live process holds the part file of this image."""


class UploadGone(StagingError):
    """The part file was taken away while it was written (image deleted)."""


class TooLarge(StagingError):
    """More bytes came than the upload may have."""


class StagingFull(StagingError):
    """No room: ENOSPC, EDQUOT or EFBIG."""


class StagingUnwritable(StagingError):
    """The area cannot be written: permissions, read-only, input/output."""


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def from_os(failure: OSError) -> StagingError:
    """The error of ours that says what ``failure`` means."""
    reason = failure.strerror or str(failure)
    if failure.errno in _FULL:
        return StagingFull(f'no room in the staging area: {reason}')
    return StagingUnwritable(f'cannot write to the staging area: {reason}')
