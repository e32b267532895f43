"""Whether an area has room for what is about to come.

Some of the file system stays free: a full disk hurts whatever else is on it.
Touches the figures of the file system and the log.
"""

from __future__ import annotations

import logging
import os

from glance_import.staging import errors

LOG = logging.getLogger(__name__)
MIB = 1 << 20
# At most this part of a small file system is kept free.
_LEAST = 16
# Bytes after which a long upload looks again.
STEP = 64 * MIB


class Room:
    """What is free below a directory; safe to use from many threads.

    :param reserve: MiB that stay free, but no more than a sixteenth of it
    :param high_water: percent in use from which on the log says so; 0: never
    """

    def __init__(self, directory: str, *, reserve: int = 0,
                 high_water: int = 0) -> None:
        self._directory = directory
        self._reserve = reserve * MIB
        self._high_water = high_water
        self._said = False

    def require(self, needed: int = 0) -> None:
        """Refuse what would not fit.

        :param needed: bytes that are to come, 0 where nobody knows
        :raises errors.StagingFull: there are fewer
        """
        try:
            found = os.statvfs(self._directory)
        except OSError as failure:
            raise errors.from_os(failure) from failure
        total, free = (each * found.f_frsize for each
                       in (found.f_blocks, found.f_bavail))
        self._note_level(total, free)
        usable = free - min(self._reserve, total // _LEAST)
        if total and needed + 1 > usable:
            raise errors.StagingFull(
                'no room in the staging area: '
                + (f'{needed} bytes are to come and ' if needed else '')
                + f'{max(0, usable)} bytes are free for uploads')

    def _note_level(self, total: int, free: int) -> None:
        """Say once when the mark is passed, either way."""
        if not (self._high_water and total):
            return
        used = 100 * (total - free) / total
        # A little lower, or each upload about the mark would say so anew.
        high = used >= self._high_water - (2 if self._said else 0)
        if high == self._said:
            return
        self._said = high
        (LOG.warning if high else LOG.info)(
            'the file system of the staging area %s is %d %% full%s',
            self._directory, used, '' if high else ' and has room again')
