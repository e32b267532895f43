"""What is computed of the bytes of one upload while they pass.

Size, md5, the ``os_hash_value`` digest and the format. An upload that goes
on later takes its digests over, from memory where the process still has
them and else by reading once what is there. Touches the descriptor it is
given, for reading.
"""

from __future__ import annotations

import collections
import collections.abc
import hashlib
import os
import threading
import typing

from glance_import.staging import formats
from glance_import.staging import identity as identities
from glance_import.staging import pipeline

# Suspended uploads whose digests one process keeps; of others the part is
# read again.
MOST_SUSPENDED = 1024
_BLOCK = 1 << 20


def new_md5() -> typing.Any:
    # Not for security: also there on hosts in FIPS mode.
    return hashlib.new('md5', usedforsecurity=False)


class Digests:
    """Running digests; ``updates`` are called with each block, in order."""

    def __init__(self, hash_algo: str, legacy_checksum: bool) -> None:
        self.hash_algo = hash_algo
        self._hash = hashlib.new(hash_algo)
        self._md5 = new_md5() if legacy_checksum else None
        self._format = formats.Detector()

    @property
    def updates(self) -> tuple[pipeline.Work, ...]:
        """One function for each, to run beside each other."""
        md5 = (self._md5.update,) if self._md5 is not None else ()
        return (self._update_format_and_hash, *md5)

    def _update_format_and_hash(self, block: pipeline.Block) -> None:
        # Not a lane of its own: it is done after the first blocks, and a
        # lane that waits for a thread holds up the others.
        self._format.update(block)
        self._hash.update(block)

    @property
    def checksum(self) -> str | None:
        return self._md5.hexdigest() if self._md5 is not None else None

    @property
    def hash_value(self) -> str:
        return self._hash.hexdigest()

    def detected_format(self) -> str:
        """At the end only: see ``formats.Detector.detected``."""
        return self._format.detected()

    def of(self, algorithm: str) -> bytes | None:
        """The digest by the name hashlib has for it, None if not taken."""
        if algorithm == self.hash_algo:
            return self._hash.digest()
        if algorithm == 'md5' and self._md5 is not None:
            return self._md5.digest()
        return None

    def copy(self) -> Digests:
        """The same state, to come back to."""
        other = Digests.__new__(Digests)
        other.hash_algo = self.hash_algo
        other._hash = self._hash.copy()
        other._md5 = self._md5.copy() if self._md5 is not None else None
        other._format = self._format.copy()
        return other

    def read(self, fd: int, size: int) -> None:
        """Take in the first ``size`` bytes of a file.

        :raises OSError: it cannot be read
        :raises EOFError: it has fewer
        """
        lanes = pipeline.Pipeline()
        for update in self.updates:
            lanes.add(pipeline.pools().digest, update)
        at = 0
        try:
            while at < size:
                block = os.pread(fd, min(_BLOCK, size - at), at)
                if not block:
                    raise EOFError(f'the part has {at} bytes, not {size}')
                lanes.put(block)
                at += len(block)
        finally:
            lanes.drain()
        if lanes.failure is not None:
            raise lanes.failure


class SuspendedDigests:
    """Digests of suspended uploads, for this process to go on with.

    Taken over only for the very bytes they were computed of: the part must
    have the identity it was left with. A bounded number is kept.
    """

    def __init__(self, limit: int = MOST_SUSPENDED) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._digests: collections.OrderedDict[
            str, tuple[identities.Identity, Digests]] = (
                collections.OrderedDict())

    def put(self, image_id: str, identity: identities.Identity,
            digests: Digests) -> None:
        with self._lock:
            self._digests.pop(image_id, None)
            self._digests[image_id] = identity, digests
            while len(self._digests) > self._limit:
                self._digests.popitem(last=False)

    def take(self, image_id: str, identity: identities.Identity
             ) -> Digests | None:
        """Those of exactly this file, which is then no longer kept."""
        with self._lock:
            found = self._digests.pop(image_id, None)
        return found[1] if found and found[0] == identity else None
