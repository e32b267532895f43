"""glance-import-manage imports: the queue, and what another Glance left.

A command gets the configuration (its arguments are in ``conf.command``) and
returns an exit status.
"""

from __future__ import annotations

import argparse
import collections.abc
import contextlib
import dataclasses
import datetime
import functools
import json
import sys
import typing

from oslo_config import cfg
import sqlalchemy as sa

from glance_import.cmd import opening
from glance_import.cmd import output
from glance_import.db import conductors as db_conductors
from glance_import.db import engine
from glance_import.db import job_admin as db_job_admin
from glance_import.db import tasks as db_tasks
from glance_import.domain import tasks
from glance_import import errors
from glance_import.imports import administration
from glance_import.imports import holding
from glance_import.imports import orphans
from glance_import import states

NAME = 'imports'
HELP = 'See and steer the imports that wait or run; free what Glance left.'


def _told(orphan: orphans.Orphan) -> str:
    staged = ('no bytes staged on this node' if orphan.staged_bytes is None
              else f'{orphan.staged_bytes} bytes staged on this node')
    if orphan.staged_on:
        staged += f', staged by Glance at {orphan.staged_on}'
    heard = (f'{orphan.heard.isoformat()}Z' if orphan.heard else 'never')
    return (f'{orphan.image_id}  owner {orphan.owner}  '
            f'task {orphan.task_id or "none"}  last news {heard}  {staged}')


def stranded(conf: cfg.ConfigOpts) -> int:
    """List the images that are importing, but not by this service.

    Each was left so by a Glance that ended, or is being imported by one that
    still serves this database: see the time of the last news.
    """
    with opening.opened(conf) as services:
        found = list(orphans.find(services))
    if output.chosen(conf):
        output.rows(conf, [{
            'image': each.image_id, 'owner': each.owner,
            'task': each.task_id, 'heard': each.heard and f'{each.heard}Z',
            'staged_bytes': each.staged_bytes, 'staged_on': each.staged_on}
            for each in found])
        return 0
    for each in found:
        print(_told(each))
    return 0


def free(conf: cfg.ConfigOpts) -> int:
    """Give images that another Glance left importing back to their users.

    They are queued again, their task fails with the reason, and bytes that
    lie in this node's staging area are deleted: nobody knows whether they
    are complete. No other Glance may be importing them.
    """
    with opening.opened(conf) as services:
        wanted = conf.command.image
        if conf.command.all:
            wanted = [orphan.image_id for orphan in orphans.find(services)]
        return output.each(
            conf, wanted, lambda image_id: f'{image_id}  is queued again; '
            f'{orphans.free(services, image_id)}')


# -- imports of this service

def list_(conf: cfg.ConfigOpts) -> int:
    """List the imports that wait or run, oldest first.

    The first line tells how long the queue is and how old its oldest import,
    and whether imports wait for a conductor that is not there.
    """
    with opening.opened(conf) as services, services.db.read() as conn:
        totals = db_job_admin.totals(conn)
        found = db_job_admin.entries(conn, project=conf.command.project,
                                     area=conf.command.area)
        refusals = _refusals(conn, found)
        unattended = db_conductors.unattended(conn)
    if output.chosen(conf) == output.JSON:
        print(json.dumps({**dataclasses.asdict(totals), 'unattended': len(
            unattended), 'imports': [
            {**dataclasses.asdict(entry), 'unattended': entry.id in unattended,
             'refusals': [
                dataclasses.asdict(each) for each in refusals[entry.id]]}
            for entry in found]}, indent=2))
        return 0
    if output.chosen(conf):
        output.rows(conf, [{
            'id': each.id, 'image': each.image_id, 'project': each.project,
            'method': each.method, 'state': each.state, 'age': each.age,
            'step': each.step, 'retries': each.retries,
            'conductor': each.conductor,
            'unattended': each.id in unattended, 'message': each.message}
            for each in found])
        return 0
    oldest = ('' if totals.oldest is None
              else f', the oldest for {_age(totals.oldest)}')
    nobody = ('' if not unattended else
              f'; no conductor lives that could run {len(unattended)} of them')
    held = f'; {totals.held} held' if totals.held else ''
    print(f'{totals.waiting} waiting{oldest}; {totals.running} running'
          f'{held}{nobody}')
    for entry in found:
        row = _row(entry, refusals[entry.id])
        print(row + ('  no conductor' if entry.id in unattended else ''))
    return 0


def _refusals(conn: sa.Connection, found: list[db_job_admin.Entry]
              ) -> dict[str, list[db_conductors.Refusal]]:
    """Of each import: which conductors left it to others."""
    by_import: dict[str, list[db_conductors.Refusal]] = {
        entry.id: [] for entry in found}
    for each in db_conductors.refusals(conn, list(by_import)):
        by_import[each.job_id].append(each)
    return by_import


def _row(entry: db_job_admin.Entry,
         refusals: list[db_conductors.Refusal]) -> str:
    words = [entry.id, f'image {entry.image_id}', f'project {entry.project}',
             entry.method, entry.state, f'age {_age(entry.age)}']
    if entry.step:
        words.append(f'step {entry.step}')
    if entry.retries:
        words.append(f'retries {entry.retries}')
    if entry.cancel:
        words.append('to be cancelled')
    if entry.message:
        words.append(f'({entry.message})')
    words += [_said(each) for each in refusals]
    return '  '.join(words)


def _said(refusal: db_conductors.Refusal) -> str:
    return (f'not honoured by {refusal.conductor} for '
            f'{_age(refusal.age)}: {refusal.reason}')


def _age(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 60:
        return f'{whole} s'
    minutes, hours = whole // 60, whole // 3600
    return (f'{minutes} min' if minutes < 60
            else f'{hours} h {minutes % 60:02} min')


def show(conf: cfg.ConfigOpts) -> int:
    """Show one import: all that is known of it, and its steps so far.

    Of one that has ended: how it did, how long each step took under the
    conductor that ended it, and the warnings about its image.
    """
    with opening.opened(conf) as services:
        try:
            task = administration.task(services, conf.command.id)
        except errors.DomainError as failure:
            print(failure, file=sys.stderr if output.chosen(conf)
                  else sys.stdout)
            return 1
        with services.db.read() as conn:
            entries = db_job_admin.entries(conn, ids=[task.id])
            steps = _steps(task) or [
                {'name': name, 'state': state, 'seconds': None}
                for name, state in db_job_admin.steps(conn, task.id)]
            refusals = db_conductors.refusals(conn, [task.id])
    known = (dataclasses.asdict(entries[0]) if entries else
             {'id': task.id, 'image_id': task.image_id, 'state': task.status,
              'message': task.message or None})
    warnings = (task.result or {}).get('warnings', [])
    if output.chosen(conf) == output.JSON:
        print(json.dumps({
            **known, 'warnings': warnings, 'refusals': [
                dataclasses.asdict(each) for each in refusals],
            'steps': steps}, indent=2))
        return 0
    if output.chosen(conf):
        output.rows(conf, [known])
        return 0
    for name, value in known.items():
        if value is not None:
            shown = f'{value:.1f}' if isinstance(value, float) else value
            print(f'{name}: {shown}')
    for each in warnings:
        print(f'warning: {each}')
    for each in refusals:
        print(_said(each))
    for each in steps:
        took = ('' if each['seconds'] is None
                else f'  {each["seconds"]:.3f} s')
        print(f'  {each["state"] or "PENDING":9} {each["name"]}{took}')
    return 0


def _steps(task: db_tasks.Task) -> list[dict[str, typing.Any]]:
    """Those of an import that has ended, as far as its last conductor ran it.
    """
    return [{'name': each['name'], 'seconds': each['seconds'],
             'state': (states.FAILURE if each['failed']
                       else states.SUCCESS).upper()}
            for each in (task.result or {}).get(tasks.STEPS, ())]


def failed(conf: cfg.ConfigOpts) -> int:
    """List imports that have failed, the latest first.

    With the code and the reason that their users read, as long as their tasks
    are kept (task_time_to_live). --all: those that succeeded as well.
    """
    words = conf.command
    since = engine.utcnow() - datetime.timedelta(hours=words.hours)
    with opening.opened(conf) as services, services.db.read() as conn:
        found = db_job_admin.ended(
            conn, since=since, project=words.project,
            statuses=((states.FAILURE, states.SUCCESS) if words.all
                      else (states.FAILURE,)))
    output.rows(conf, [{
        'id': each.id, 'image': each.image_id, 'project': each.owner,
        'ended': f'{each.updated_at:%Y-%m-%dT%H:%M:%SZ}',
        'status': each.status,
        'code': (each.result or {}).get('code'),
        'reason': each.message or None} for each in found])
    return 0


def _each(conf: cfg.ConfigOpts, do: collections.abc.Callable, *,
          accepting: bool = False) -> int:
    """Do something to each import named; 1 when one of them refused."""
    with opening.opened(conf, accepting=accepting) as services:
        return output.each(conf, conf.command.id,
                           functools.partial(do, services))


def cancel(conf: cfg.ConfigOpts) -> int:
    """Cancel imports: they are undone, and end within seconds."""
    return _each(conf, administration.cancel)


def retry(conf: cfg.ConfigOpts) -> int:
    """Try imports again: at once if they wait, anew if they failed.

    One that is held back, or was begun too often, gets all its attempts
    again. One that failed is asked for again, with the plugins that are
    configured now, on behalf of who had asked for it. With --current one that
    waits is judged by those plugins and their options too, from its first
    step on.
    """
    return _each(conf, functools.partial(
        administration.retry, current=conf.command.current), accepting=True)


def approve(conf: cfg.ConfigOpts) -> int:
    """Let imports go on that a plugin holds.

    Who had held one is not asked again; all others are.
    """
    return _each(conf, holding.approve)


def refuse(conf: cfg.ConfigOpts) -> int:
    """Refuse imports that a plugin holds; their users read the reason."""
    return _each(conf, functools.partial(
        holding.refuse, reason=conf.command.reason))


def conductors(conf: cfg.ConfigOpts) -> int:
    """List the conductors, the latest heard of first.

    "honours" is a digest of what is configured where it runs and must be the
    same where an import is asked for: plugins, their code, files they may
    read and secret options. It differs where imports are not honoured.
    """
    with opening.opened(conf) as services, services.db.read() as conn:
        found = db_conductors.all_(conn)
    if output.chosen(conf) == output.JSON:
        print(json.dumps([dataclasses.asdict(each) for each in found],
                         indent=2))
        return 0
    if output.chosen(conf):
        output.rows(conf, [dataclasses.asdict(each) for each in found])
        return 0
    for each in found:
        state = ('draining' if each.draining and
                 each.ago < db_conductors.LIVING_SECONDS
                 else 'alive' if each.ago < db_conductors.LIVING_SECONDS
                 else 'not heard of')
        print(f'{each.name}  {state}, seen {_age(each.ago)} ago  '
              f'area {each.area}  version {each.version}  honours '
              f'{(each.honours or "no plugins")[:16]}')
    return 0


def release(conf: cfg.ConfigOpts) -> int:
    """Take imports from a dead conductor, or give up a staging area.

    Without waiting for the claim to expire, and without harm if the
    conductor lives: it writes nothing more. With --area: the imports of what
    was staged in an area that is gone for good fail, and their images say
    so.
    """
    if not conf.command.area:
        return _each(conf, administration.release)
    with opening.opened(conf) as services:
        return output.each(conf, [conf.command.area], functools.partial(
            administration.release_area, services))


def _hours(text: str) -> float:
    """Argparse's type: above none, and less than a century."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 876_000:
            return float(text)
    raise argparse.ArgumentTypeError('must be a number of hours')


_IDS = (('id',), {'nargs': '+', 'help': 'ids of imports or of images'})

# name: (function, [(flags, argparse options), ...])
COMMANDS: dict[str, tuple] = {
    'list': (list_, (
        (('--project',), {'help': 'of one project only'}),
        (('--area',), {'help': 'with bytes in one staging area only'}))),
    'show': (show, ((('id',), {'help': 'id of an import or of an image'}),)),
    'failed': (failed, (
        (('--project',), {'help': 'of one project only'}),
        (('--hours',), {'type': _hours, 'default': 24.0,
                        'help': 'that ended in the last HOURS (24)'}),
        (('--all',), {'action': 'store_true',
                      'help': 'those that succeeded as well'}))),
    'cancel': (cancel, (_IDS,)),
    'retry': (retry, (_IDS, (('--current',), {
        'action': 'store_true',
        'help': 'judge one that waits by what is configured now'}))),
    'approve': (approve, (_IDS,)),
    'refuse': (refuse, (_IDS, (('--reason',), {
        'default': '', 'help': 'a sentence for who asked for the import'}))),
    'conductors': (conductors, ()),
    'release': (release, (
        (('id',), {'nargs': '*', 'help': 'ids of imports or of images'}),
        (('--area',), {'help': 'a staging area that is gone for good'}))),
    'stranded': (stranded, ()),
    'free': (free, (
        (('image',), {'nargs': '*', 'help': 'ids of images'}),
        (('--all',), {'action': 'store_true',
                      'help': 'every image that "stranded" lists'}))),
}
