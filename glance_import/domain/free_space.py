"""Whether there is room for what a step is about to write.

Only a forecast: a disk that fills up meanwhile is an error of the writing.
Touches nothing but the file system's figures.
"""

from __future__ import annotations

import os

from glance_import import errors


def free(directory: str) -> int:
    """Bytes that we may still write into a directory."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def require(directory: str, needed: int, what_for: str) -> None:
    """:raises errors.TooLarge: fewer than ``needed`` bytes are free"""
    found = free(directory)
    if found < needed:
        raise errors.TooLarge(
            f'There is no room {what_for}: it needs {needed} bytes, and '
            f'{found} bytes are free in the staging area.',
            code='staging.full')
