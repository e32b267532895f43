"""The answers of a real Glance, request by request, and its database."""

import contextlib
import pathlib
import re
import sqlite3
import subprocess
import urllib.parse

import pytest

from tests import glance as glances
from tests.metadefs import conversation
from tests import service as services

EMPTY = pathlib.Path(__file__).parents[1] / 'db' / 'glance_sqlite.sql'
WHEN = re.compile(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ')
# What an answer to a change may have beside: an object shows that it has no
# properties, as it does when it is read.
BESIDE = {'required': [], 'properties': {}}


@pytest.fixture(scope='module')
def theirs(glance, tmp_path_factory):
    """A real Glance on a database of its own."""
    top = tmp_path_factory.mktemp('glance')
    # As its own db_sync leaves one, in a moment.
    with contextlib.closing(sqlite3.connect(top / 'sqlite')) as connection:
        connection.executescript(EMPTY.read_text())
    running = glances.Glance(
        glance, top / 'glance', database=f'sqlite:///{top}/sqlite',
        images=top / 'images', staging=top / 'staging')
    running.database = top / 'sqlite'
    try:
        yield running.start()
    finally:
        running.stop()


def told(answer):
    """The body, without what is another one each time."""
    if not answer.body:
        return None
    return plain(answer.json)


def plain(value):
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str):
        # Our links can be followed as they are.
        return urllib.parse.unquote(WHEN.sub('T', value))
    return value


def same(step, ours, theirs):
    """Whether a successful answer says the same."""
    if '/schemas/' in step.path:
        # The words are ours.
        return (set(ours['properties']) ^ set(theirs['properties'])
                <= {'confidential', 'required'}
                and set(ours['required']) == set(theirs['required'])
                and set(ours) == set(theirs))
    if isinstance(ours, dict) and '/objects' in step.path:
        ours = {name: value for name, value in ours.items()
                if name in theirs or BESIDE.get(name) != value}
    if step.path == '/v2/metadefs/resource_types':
        # Glance's has one whose name is too long; nothing deletes a type.
        ours, theirs = ({row['name'] for row in each['resource_types']}
                        for each in (ours, theirs))
        return theirs - ours <= {conversation.LONG} and ours <= theirs
    return ours == theirs


def test_every_answer(clean, theirs):
    """Status and content; where we differ, as the request says."""
    ours = clean
    wrong = []
    steps = list(conversation.whole())
    assert len(steps) > 150
    for number, step in enumerate(steps):
        answers = [each.request(step.method, step.path, step.body,
                                step.headers, token=step.who)
                   for each in (ours, theirs)]
        one, other = answers
        agreed = one.status == other.status
        if step.ours is not None:
            # A difference that is gone is to be taken off the table.
            fits = one.status == step.ours and not (
                agreed and told(one) == told(other))
            fits = fits and (step.because != conversation.CRASH
                             or other.status == 500)
        else:
            fits = agreed and (one.status >= 300 or same(
                step, told(one), told(other)))
        if not fits:
            wrong.append(f'{number}: {step}\n  ours {one.status} {told(one)}'
                         f'\n  theirs {other.status} {other.body[:2000]}')
        if step.ours is not None and one.status < 300 <= other.status \
                and step.method == 'POST':
            ours.request('DELETE', one.json.get('self', f'{step.path}/'
                                                + step.body.get('name', '')),
                         token=services.ADMIN)
        if step.ours is not None and other.status < 300 <= one.status \
                and step.path == conversation.NS:
            theirs.request('DELETE', f"{step.path}/{step.body['namespace']}",
                           token=services.ADMIN)
    assert not wrong, '\n'.join(wrong)


def everything(service):
    """All that a service answers about definitions, by the path."""
    listed = service.request('GET', conversation.NS + '?limit=1000',
                             token=services.ADMIN).json
    # What Glance lets be made and no path leads to.
    listed['namespaces'] = [each for each in listed['namespaces']
                            if each['namespace'] and
                            '\0' not in each['namespace']]
    answers = {'list': listed}
    for each in listed['namespaces']:
        where = f"{conversation.NS}/{each['namespace']}"
        for tail in ('', '/tags', '?resource_type=OS::Glance::Image'):
            path = urllib.parse.quote(where, safe='/:') + tail
            answer = service.request('GET', path, token=services.ADMIN)
            # Nor to one with a slash in its name.
            if answer.status == 200:
                answers[where + tail] = answer.json
    answers['types'] = service.request(
        'GET', '/v2/metadefs/resource_types', token=services.ADMIN).json
    return answers


def test_a_database_of_glances(theirs, shipped, make_service):
    """Its definitions are served as they were, to the last attribute."""
    done = subprocess.run(
        [theirs.environment_of.program('glance-manage'), '--config-file',
         str(theirs.directory / 'glance-api.conf'), 'db_load_metadefs',
         str(shipped)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert theirs.request('POST', conversation.NS, {
        'namespace': 'by its API', 'properties': {
            'p': {**conversation.P, 'default': 7, 'minimum': 2.5}},
        'objects': [{'name': 'o', 'required': ['a', 'b']}],
        'tags': [{'name': 'one'}, {'name': 'two'}]},
        token=services.ADMIN).status == 201
    before = everything(theirs)
    assert len(before['list']['namespaces']) > 32
    ours = make_service(options={
        'paste_deploy': {'flavor': 'fakeauth'},
        'database': {'connection': f'sqlite:///{theirs.database}.copy'},
        'taskflow_executor': {'embedded_conductor': False}})
    with contextlib.closing(sqlite3.connect(theirs.database)) as source, \
            contextlib.closing(sqlite3.connect(
                f'{theirs.database}.copy')) as copy:
        source.backup(copy)
    done = ours.run('manage', 'db', 'sync')
    assert done.returncode == 0 and 'loaded' not in done.stdout, done
    after = everything(ours.start())
    for path, said in before.items():
        assert linked(after[path]) == linked(said), path
    assert set(after) >= set(before)


def linked(value):
    """With its links as they are meant; Glance orders none but tags."""
    if isinstance(value, dict):
        return {name: sorted(map(linked, item), key=str)
                if name in ('resource_type_associations', 'objects')
                else linked(item)
                for name, item in value.items()}
    if isinstance(value, list):
        return [linked(item) for item in value]
    return urllib.parse.unquote(value) if isinstance(value, str) else value
