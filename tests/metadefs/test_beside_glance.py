"""The answers of a real Glance, request by request."""

import re
import urllib.parse

import pytest

from tests import environments
from tests import glance as glances
from tests.metadefs import conversation
from tests import service as services

WHEN = re.compile(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ')
# What an answer to a change may have beside: an object shows that it has no
# properties, as it does when it is read.
BESIDE = {'required': [], 'properties': {}}


@pytest.fixture(scope='module')
def pair(request, tmp_path_factory):
    """(ours, a real Glance), each with a database of its own."""
    top = tmp_path_factory.mktemp('beside')
    theirs = glances.Glance(
        environments.make('glance', request.config.cache.mkdir(
            'environments')), top / 'glance',
        database=f'sqlite:///{top}/glance.sqlite', images=top / 'images',
        staging=top / 'staging')
    theirs.sync()
    ours = services.Service(top / 'ours', options={
        'paste_deploy': {'flavor': 'fakeauth'},
        'taskflow_executor': {'embedded_conductor': False}})
    try:
        ours.start()
        for each in ours.request('GET', conversation.NS,
                                 token=services.ADMIN).json['namespaces']:
            ours.request('PUT', each['self'], {
                'namespace': each['namespace']}, token=services.ADMIN)
            ours.request('DELETE', each['self'], token=services.ADMIN)
        yield ours, theirs.start()
    finally:
        ours.kill()
        theirs.stop()


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


def test_every_answer(pair):
    """Status and content; where we differ, as the request says."""
    ours, theirs = pair
    wrong = []
    steps = list(conversation.whole())
    assert len(steps) > 150
    for number, step in enumerate(steps):
        answers = [each.request(step.method, step.path, step.body,
                                step.headers, token=step.who)
                   for each in pair]
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
