"""Databases with very many images, on every server the service runs on.

Rows are made once, in blocks, and written by the fastest way each server
has: executemany, COPY, or INSERT with many rows.
"""

from __future__ import annotations

import io
import random
import time
import typing
import uuid

import sqlalchemy as sa

MATCHES = 100
OWNER = 'red'
VISIBILITIES = ('shared', 'shared', 'private', 'public', 'community')
BLOCK = 20000
COLUMNS = {
    'images': ('id', 'name', 'status', 'visibility', 'owner', 'created_at',
               'updated_at', 'deleted', 'min_disk', 'min_ram', 'protected',
               'os_hidden', 'disk_format', 'container_format', 'size'),
    'image_properties': ('image_id', 'name', 'value', 'created_at',
                         'deleted'),
    'image_tags': ('image_id', 'value', 'created_at', 'deleted'),
    'image_members': ('image_id', 'member', 'status', 'can_share',
                      'created_at', 'deleted'),
}
Rows = dict[str, list[tuple[typing.Any, ...]]]


def rows(number: int) -> typing.Iterator[Rows]:
    """``number`` images with what hangs on them, in blocks.

    Three properties and two tags each, a member on every tenth. 100 of them,
    spread evenly, are public and have the special name, tag and property;
    100 others belong to the user's project.
    """
    chance = random.Random(1)
    special = number // MATCHES
    block: Rows = {name: [] for name in COLUMNS}
    for n in range(number):
        image_id = str(uuid.UUID(int=chance.getrandbits(128)))
        moment = time.strftime('%Y-%m-%d %H:%M:%S.000000',
                               time.gmtime(1.6e9 + n * 30))
        chosen, own = n % special == 0, n % special == 1
        block['images'].append((
            image_id, 'special' if chosen else f'image {n}', 'active',
            'public' if chosen else VISIBILITIES[n % 5],
            OWNER if own else f'project-{n % 997}', moment, moment, 0, 0, 0,
            0, 0, 'raw', 'bare', n))
        block['image_properties'] += [
            (image_id, name, value, moment, 0) for name, value in (
                ('os_distro', f'distro-{n % 50}'), ('serial', f'{n}'),
                ('rare', 'special' if chosen else f'x{n}'))]
        block['image_tags'] += [
            (image_id, tag, moment, 0) for tag in (
                f'tag-{n % 50}', 'special' if chosen else f'only-{n}')]
        if n % 10 == 0:
            block['image_members'].append((
                image_id, f'project-{n % 991}', 'accepted', 0, moment, 0))
        if len(block['images']) == BLOCK:
            yield block
            block = {name: [] for name in COLUMNS}
    yield block


def fill(url: str, number: int) -> None:
    """Write them, and have the server know what it has."""
    engine = sa.create_engine(url)
    kind = engine.dialect.name
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        if kind == 'sqlite':
            cursor.execute('PRAGMA synchronous = OFF')
        for block in rows(number):
            for table, lines in block.items():
                if lines:
                    _WRITERS[kind](cursor, table, lines)
            raw.commit()
        for table in COLUMNS:
            cursor.execute(('ANALYZE TABLE ' if kind == 'mysql'
                            else 'ANALYZE ') + table)
            if kind == 'mysql':
                cursor.fetchall()
        raw.commit()
    finally:
        raw.close()
        engine.dispose()


def _insert(mark: str) -> typing.Callable[..., None]:
    def write(cursor: typing.Any, table: str,
              lines: list[tuple[typing.Any, ...]]) -> None:
        names = COLUMNS[table]
        cursor.executemany(
            f'INSERT INTO {table} ({", ".join(names)}) VALUES '
            f'({", ".join([mark] * len(names))})', lines)
    return write


def _copy(cursor: typing.Any, table: str,
          lines: list[tuple[typing.Any, ...]]) -> None:
    text = io.StringIO()
    for line in lines:
        text.write('\t'.join(map(str, line)) + '\n')
    text.seek(0)
    cursor.copy_expert(
        f'COPY {table} ({", ".join(COLUMNS[table])}) FROM STDIN', text)


_WRITERS = {'sqlite': _insert('?'), 'mysql': _insert('%s'),
            'postgresql': _copy}
