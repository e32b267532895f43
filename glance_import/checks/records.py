"""Checks of the database and of who runs what is written there.

Reads the database and pings the job board.
"""

from __future__ import annotations

from glance_import import checks
from glance_import.conf import reserved
from glance_import.db import conductors as db_conductors
from glance_import.db import upgrade
from glance_import.imports import orphans
from glance_import import jobboard
from glance_import.staging import area as staging_area


def database(subject: checks.Subject) -> checks.Result:
    """It can be reached, and is at the revision of this release."""
    found = upgrade.status(subject.database)
    where = subject.database.url.render_as_string(hide_password=True)
    if found.state == 'head':
        return checks.good(f'{where} is at head ({found.head})')
    if subject.database.is_sqlite and found.state in ('empty', 'behind'):
        return checks.good(f'{where} is {found.state}: the first start '
                           f'brings it to head ({found.head})')
    return checks.bad(upgrade.advice(subject.database, found))


def database_answers(subject: checks.Subject) -> checks.Result:
    """Whether it answers at all, for a probe."""
    with subject.database.read() as conn:
        db_conductors.any_living(conn)
    return checks.good('the database answers')


def board(subject: checks.Subject) -> checks.Result:
    """The job board answers."""
    found = jobboard.Board(subject.conf, subject.database)
    try:
        found.check()
        return checks.good(str(found))
    except jobboard.BoardAway as failure:
        cause = failure.__cause__
        return checks.bad(f'{found} does not answer'
                          + (f': {cause}' if cause is not None else ''))
    finally:
        found.close()


def conductor(subject: checks.Subject) -> checks.Result:
    """Somebody lives who runs imports of what is staged here."""
    if not _has_tables(subject):
        return checks.good('none yet: the database is empty')
    area = staging_area.Area.existing(reserved.staging_uri(subject.conf))
    with subject.database.read() as conn:
        known = db_conductors.all_(conn)
    living = [each for each in known
              if each.ago < db_conductors.LIVING_SECONDS]
    ours = [each for each in living
            if area is not None and each.area == area.id]
    if ours:
        return checks.good(', '.join(
            f'{each.name} ({each.version}), heard of {each.ago:.0f} s ago'
            for each in ours))
    others = (f'; {len(living)} live that have another staging area'
              if living else '')
    if subject.conf.taskflow_executor.embedded_conductor:
        return checks.good('none lives that has this staging area; '
                           f'glance-import-api starts one{others}')
    return checks.odd(
        f'none lives that has this staging area{others}: imports wait until '
        'glance-import-conductor is started with the files of this service')


def waiting(subject: checks.Subject) -> checks.Result:
    """Nothing is importing that nobody imports, and nobody waits in vain."""
    if not _has_tables(subject):
        return checks.good('none: the database is empty')
    with subject.database.read() as conn:
        unattended = db_conductors.unattended(conn)
        stranded = orphans.ids(conn)
    found = []
    if stranded:
        found.append(f'{len(stranded)} images are importing that this '
                     'service does not import (see glance-import-manage '
                     f'imports stranded): {", ".join(stranded[:3])}')
    if unattended:
        found.append(f'{len(unattended)} imports wait and no conductor lives '
                     f'that could run them: {", ".join([*unattended][:3])}')
    if found:
        return checks.odd('; '.join(found))
    return checks.good('none is stranded, none waits in vain')


def attended(subject: checks.Subject) -> checks.Result:
    """Whether who waits has somebody to wait for, for a probe.

    A conductor that was not heard of for two claim expiries counts as gone.
    """
    expiry = subject.conf.taskflow_executor.claim_expiry
    with subject.database.read() as conn:
        # One that an operator has drained is there, and on purpose.
        ages = db_conductors.unattended(conn, 2 * expiry,
                                        drained=True).values()
    late = [age for age in ages if age > 2 * expiry]
    if late:
        return checks.bad(f'{len(late)} imports wait, the longest for '
                          f'{max(late):.0f} s, and no conductor was heard of')
    return checks.good('no import waits in vain')


def _has_tables(subject: checks.Subject) -> bool:
    found = upgrade.status(subject.database)
    if found.state in ('head', 'behind') and found.current:
        return True
    if found.state == 'empty':
        return False
    raise LookupError('cannot be told: the database is not at head')
