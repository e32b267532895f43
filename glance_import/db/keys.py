"""Random keys that all nodes of one database share.

``db sync`` makes them. Reads one table; keeps what it read for as long as the
process lives.
"""

from __future__ import annotations

import sqlalchemy as sa

from glance_import.db import engine
from glance_import.db import tables

# Under this name is the key of the digests of secret options.
SNAPSHOT = 'snapshot'


class Keys:
    """The keys of a database; safe to share by threads."""

    def __init__(self, database: engine.Database) -> None:
        self._database = database
        self._known: dict[str, bytes] = {}

    def get(self, name: str) -> bytes:
        """The key of that name, 32 bytes.

        :raises engine.DatabaseProblem: it is not there
        """
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self._read(name)
        return found

    def _read(self, name: str) -> bytes:
        table = tables.import_keys
        with self._database.read() as conn:
            value = conn.execute(sa.select(table.c.value).where(
                table.c.name == name)).scalar()
        if value is None:
            raise engine.DatabaseProblem(
                f'the database has no key {name!r}, which db sync makes; '
                'without it no plugin of an import can be compared')
        return bytes.fromhex(value)
