"""Checks of directories: of state, of staged data, of file stores.

Looks at them and at the room in them. What is not there yet is judged by
where the service would make it.
"""

from __future__ import annotations

import os

from glance_import import checks
from glance_import.conf import reserved
from glance_import.domain import free_space
from glance_import import staging
from glance_import.staging import area as staging_area
from glance_import import startup
from glance_import import state
from glance_import.stores import configured

# Less room than this is worth a word, in bytes.
LITTLE = 1 << 30


def state_directory(subject: checks.Subject) -> checks.Result:
    """``state_path``, and what is opened in it by its name."""
    path = subject.conf.state_path
    if not os.path.lexists(path):
        return _to_be_made(path)
    state.check_directory(path)
    for name in startup.STATE_FILES:
        state.check_file(os.path.join(path, name))
    if not os.access(path, os.W_OK | os.X_OK):
        return checks.bad(f'{path} cannot be written by this user')
    return checks.good(path + _shared(path))


def staging_directory(subject: checks.Subject) -> checks.Result:
    """Where staged data waits, and the room there."""
    uri = reserved.staging_uri(subject.conf)
    found = staging_area.Area.existing(uri)
    if found is None:
        return _to_be_made(uri.partition('://')[2])
    return _room(found.directory, _shared(found.directory))


def stores(subject: checks.Subject) -> checks.Result:
    """Every store: files with the room there, others by their type."""
    conf = subject.conf
    configured.register(conf)
    results = []
    for store_id, kind, path in configured.kinds(conf):
        if kind != 'file':
            results.append(checks.good(f'{store_id}: {kind}, not asked'))
            continue
        if not path:
            results.append(checks.bad(f'{store_id}: no directory is set'))
            continue
        found = (_room(path, '') if os.path.lexists(path)
                 else _to_be_made(path))
        results.append(checks.Result(found.level,
                                     f'{store_id}: {found.text}'))
    return checks.Result(max(each.level for each in results),
                         '; '.join(each.text for each in results))


def staging_answers(subject: checks.Subject) -> checks.Result:
    """Whether staged data can be written, for a probe."""
    uri = reserved.staging_uri(subject.conf)
    try:
        found = staging_area.Area.existing(uri)
    except staging.StagingError as failure:
        return checks.bad(str(failure))
    if found is None or not found.id:
        return checks.bad(f'{uri} is gone')
    return checks.good(found.directory)


def _room(path: str, said: str) -> checks.Result:
    if not os.path.isdir(path):
        return checks.bad(f'{path} is not a directory')
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return checks.bad(f'{path} cannot be written by this user')
    free = free_space.free(path)
    text = f'{path}{said}, {free / (1 << 30):.1f} GiB free'
    if free < LITTLE:
        return checks.odd(f'{text}: that is little')
    return checks.good(text)


def _to_be_made(path: str) -> checks.Result:
    """Not there yet; whether the service could make it."""
    parent = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(parent) and parent != '/':
        parent = os.path.dirname(parent)
    if os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK):
        return checks.good(f'{path} is made at the first start')
    return checks.bad(f'{path} is not there, and this user can make nothing '
                      f'in {parent}')


def _shared(path: str) -> str:
    return ' (shared with its group)' if state.is_shared(path) else ''
