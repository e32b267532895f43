"""The life of an image: any requests in any order, beside a small model.

Each move of a status is noted by a trigger in the database, so that none is
missed; only those of the table may happen. Every answer has a status that
the description of the API has for it. ``LONG_TESTS=1`` is the long form.
"""

import contextlib
import json
import os
import pathlib
import threading

import hypothesis
from hypothesis import stateful
from hypothesis import strategies as st
import pytest

from glance_import import states
from tests import origins
from tests import service as services

TOP = pathlib.Path(__file__).parents[2]
PATHS = json.loads(
    (TOP / 'doc' / 'source' / 'api' / 'openapi.json').read_text())['paths']
LONG = bool(os.environ.get('LONG_TESTS'))
EXAMPLES, STEPS = (1000, 60) if LONG else (20, 35)
DATA = b'some image data' * 500
HALF = len(DATA) // 2
PART = 'application/offset+octet-stream'
V21 = 'application/openstack-images-v2.1-json-patch'

QUEUED, UPLOADING, IMPORTING, ACTIVE, DEACTIVATED, DELETED = (
    states.QUEUED, states.UPLOADING, states.IMPORTING, states.ACTIVE,
    states.DEACTIVATED, states.DELETED)
# What a conductor makes of an image that it imports, without being asked.
ENDS = {'glance-direct': (ACTIVE, UPLOADING), 'web-download': (ACTIVE, QUEUED),
        'location': (ACTIVE, QUEUED)}
# Staged data as a user knows it: none, a part, all, or all of it back from an
# import that failed.
NONE, SOME, ALL, BACK = range(4)

NOTE = """
CREATE TABLE IF NOT EXISTS test_moves (
    number INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT, id TEXT, old TEXT,
    new TEXT);
CREATE TRIGGER IF NOT EXISTS test_images AFTER UPDATE OF status ON images
WHEN old.status <> new.status BEGIN
    INSERT INTO test_moves (what, id, old, new)
    VALUES ('image', new.id, old.status, new.status);
END;
CREATE TRIGGER IF NOT EXISTS test_tasks AFTER UPDATE OF status ON tasks
WHEN old.status <> new.status BEGIN
    INSERT INTO test_moves (what, id, old, new)
    VALUES ('task', new.id, old.status, new.status);
END;
"""
TASK_MOVES = {(states.PENDING, states.PROCESSING),
              (states.PENDING, states.FAILURE),
              (states.PROCESSING, states.SUCCESS),
              (states.PROCESSING, states.FAILURE)}


# What is seen in any long series of requests.
USUAL = {(QUEUED, UPLOADING), (QUEUED, IMPORTING), (QUEUED, states.SAVING),
         (QUEUED, ACTIVE), (QUEUED, DELETED), (UPLOADING, IMPORTING),
         (UPLOADING, QUEUED), (UPLOADING, DELETED), (IMPORTING, ACTIVE),
         (states.SAVING, ACTIVE), (ACTIVE, DEACTIVATED),
         (ACTIVE, DELETED), (DEACTIVATED, ACTIVE), (DEACTIVATED, DELETED)}

# What changes no status: method, end of the path, body, statuses of answers.
# Locations are shown to services alone.
TOUCHES = (
    ('GET', '', None, (200,)), ('GET', '/tasks', None, (200,)),
    ('GET', '/locations', None, (403,)),
    ('PUT', '/tags/t', None, (204,)), ('DELETE', '/tags/t', None, (204, 404)),
    ('POST', '/members', {'member': 'p'}, (200, 409)),
    ('GET', '/members', None, (200,)),
    ('GET', '/members/p', None, (200, 404)),
    ('PUT', '/members/p', {'status': 'accepted'}, (200, 403, 404)),
    ('DELETE', '/members/p', None, (204, 404)))


class Slow:
    """An origin whose /slow ends when it is told to, or soon."""

    def __init__(self):
        self.go_on = threading.Event()
        self._serve = origins.serve(DATA)

    def __call__(self, handler):
        if handler.path == '/gone':
            handler.begin(404, Content_Length=0)
            return
        if handler.path == '/slow':
            self.go_on.wait(3)
        self._serve(handler)


@pytest.fixture(scope='module')
def origin():
    with origins.Origin(Slow()) as found:
        yield found


@pytest.fixture(scope='module')
def service(tmp_path_factory, origin):
    top = tmp_path_factory.mktemp('life')
    running = services.Service(top, options={
        'DEFAULT': {'enabled_backends': 'fast:file, second:file, web:http',
                    'show_multiple_locations': True,
                    'enabled_import_methods':
                    '[glance-direct, web-download, copy-image]'},
        'glance_store': {'default_backend': 'fast'},
        'os_glance_staging_store': {
            'filesystem_store_datadir': top / 'staging'},
        'fast': {'filesystem_store_datadir': top / 'fast'},
        'second': {'filesystem_store_datadir': top / 'second'},
        'import_filtering_opts': {
            'allowed_addresses': '[127.0.0.1/32]',
            'allowed_ports': f'[80,{origin.port}]'},
        'import_downloads': {'retries': 1, 'retry_interval': 0.05},
        'taskflow_executor': {'step_retries': 1,
                              'step_retry_interval': 0.1}})
    running.start()
    with contextlib.closing(running.database()) as connection:
        connection.executescript(NOTE)
    yield running
    running.kill()


class Image:
    """What a client knows of an image that nobody else uses."""

    def __init__(self, image_id, number):
        self.id = image_id
        self.number = number
        self.status = QUEUED
        self.staged = NONE
        self.protected = False
        # Of the import that may be under way.
        self.method = None

    def __repr__(self):
        return f'image {self.number}'


# One of those that are there, or the one that was deleted last.
IMAGES = st.runner().flatmap(lambda life: st.sampled_from(
    life.there() + [image for image in life.made
                    if image.status == DELETED][-1:]))


class Life(stateful.RuleBasedStateMachine):
    service: services.Service
    origin: origins.Origin

    def __init__(self):
        super().__init__()
        self.made = []
        self.seen, = self.service.execute(
            'SELECT coalesce(max(number), 0) FROM test_moves')[0]

    def there(self):
        return [image for image in self.made if image.status != DELETED]

    # -- how the model asks

    def ask(self, image, method, tail='', body=None, headers=None):
        """One request; the status of its answer, which is a described one."""
        found = '/v2/images/{image_id}' + tail
        described = next(path for path in PATHS if path == found
                         or path.rpartition('/')[0] == found.rpartition(
                             '/')[0] and path.endswith('}'))
        answer = self.service.request(
            method, found.format(image_id=image.id), body, headers)
        assert str(answer.status) in PATHS[described][method.lower()][
            'responses'], (method, tail, answer)
        return answer

    def expect(self, image, answer, allowed):
        """One of the statuses that ``allowed`` has for what was found.

        :param allowed: status of an image -> {status of the answer: the
            image's afterwards, or None: unchanged}; '*' for the rest
        """
        before = {image.status} | self.ends(image, {image.status})
        after = set()
        for status in before:
            row = ({404: None} if status == DELETED
                   else allowed.get(status, allowed['*']))
            if answer.status in row:
                after.add(row[answer.status] or status)
        assert after, (image.status, answer)
        self.look(image, after)

    def ends(self, image, found):
        """What a conductor may make of the image meanwhile."""
        return set(ENDS[image.method]) if IMPORTING in found else set()

    def look(self, image, possible):
        """What the image has become; one of ``possible``, or ended since."""
        answer = self.service.request('GET', f'/v2/images/{image.id}')
        found = answer.json['status'] if answer.status == 200 else DELETED
        assert answer.status in (200, 404), answer
        ends = self.ends(image, possible)
        assert found in possible | ends, (image.status, possible, answer)
        if found != UPLOADING:
            image.staged = image.staged if found == IMPORTING else NONE
        elif found not in possible or image.status == IMPORTING:
            image.staged = BACK
        image.status = found

    # -- what is asked

    @stateful.initialize()
    def first(self):
        self.create()

    @stateful.precondition(lambda self: len(self.there()) < 3)
    @stateful.rule()
    def create(self):
        self.made.append(Image(self.service.create(), len(self.made)))

    @stateful.rule(image=IMAGES)
    def stage(self, image):
        answer = self.ask(image, 'PUT', '/stage', DATA,
                          {'Content-Type': 'application/octet-stream'})
        self.expect(image, answer, {
            QUEUED: {204: UPLOADING},
            UPLOADING: {409: None} if image.status == UPLOADING
            and image.staged == ALL else {204: None},
            '*': {409: None}})
        if answer.status == 204:
            image.staged = ALL

    @stateful.rule(image=IMAGES)
    def stage_in_parts(self, image):
        there = self.ask(image, 'HEAD', '/stage',
                         headers={'Tus-Resumable': '1.0.0'})
        offset = int(there.headers.get('upload-offset', 0))
        answer = self.ask(
            image, 'PATCH', '/stage', DATA[offset:offset + HALF],
            {'Content-Type': PART, 'Tus-Resumable': '1.0.0',
             'Upload-Offset': str(offset), 'Upload-Length': str(len(DATA))})
        self.expect(image, answer, {
            QUEUED: {204: UPLOADING}, UPLOADING: {204: None, 409: None},
            # Nothing more, behind what is complete.
            IMPORTING: {204: None, 409: None}, '*': {409: None}})
        if answer.status == 204 and offset < len(DATA):
            image.staged = ALL if offset + HALF >= len(DATA) else SOME

    @stateful.rule(image=IMAGES)
    def drop_staged(self, image):
        answer = self.ask(image, 'DELETE', '/stage',
                          headers={'Tus-Resumable': '1.0.0'})
        self.expect(image, answer, {
            UPLOADING: {204: QUEUED}, QUEUED: {204: None},
            '*': {409: None}})

    @stateful.rule(image=IMAGES)
    def upload(self, image):
        self.expect(image, self.ask(
            image, 'PUT', '/file', DATA,
            {'Content-Type': 'application/octet-stream'}),
            {QUEUED: {204: ACTIVE}, '*': {409: None}})

    def start(self, image, name, **more):
        """POST import, which a conductor takes up at once."""
        answer = self.ask(image, 'POST', '/import', {
            'method': {'name': name, **more.pop('method', {})}, **more})
        if answer.status == 202 and name != 'copy-image':
            image.method = name
        return answer

    @stateful.rule(image=IMAGES)
    def import_staged(self, image):
        whole = image.staged in (ALL, BACK)
        self.expect(image, self.start(image, 'glance-direct'), {
            UPLOADING: {202: IMPORTING} if whole else {409: None},
            '*': {409: None}})

    @stateful.rule(image=IMAGES, path=st.sampled_from(
        ['/image', '/gone', '/slow']))
    def download(self, image, path):
        self.expect(
            image, self.start(image, 'web-download', method={
                'uri': self.origin.url(path)}),
            {QUEUED: {202: IMPORTING}, '*': {409: None}})

    @stateful.rule(image=IMAGES)
    def copy(self, image):
        self.expect(
            image, self.start(image, 'copy-image', stores=['second']),
            {ACTIVE: {202: None, 400: None, 409: None}, '*': {409: None}})

    @stateful.rule(image=IMAGES)
    def add_location(self, image):
        answer = self.ask(image, 'POST', '/locations', {
            'url': self.origin.url()})
        if answer.status == 202:
            image.method = 'location'
        self.expect(image, answer, {
            QUEUED: {202: IMPORTING}, '*': {409: None}})

    @stateful.rule(image=IMAGES)
    def patch_location(self, image):
        self.expect(image, self.ask(image, 'PATCH', '', [{
            'op': 'add', 'path': '/locations/-', 'value': {
                'url': self.origin.url(), 'metadata': {}}}],
            {'Content-Type': V21}), {
                QUEUED: {200: ACTIVE}, ACTIVE: {200: None, 400: None},
                '*': {409: None}})

    @stateful.rule(image=IMAGES)
    def cancel(self, image):
        self.expect(image, self.ask(image, 'DELETE', '/import'), {
            IMPORTING: {202: None}, ACTIVE: {202: None, 409: None},
            DEACTIVATED: {202: None, 409: None}, '*': {409: None}})

    @stateful.rule(image=IMAGES)
    def conductor_ends(self, image):
        """Wait until no import of the image is under way."""
        self.origin.answer.go_on.set()
        if image.status == IMPORTING:
            services.wait_for(lambda: self.service.show(
                image.id)['status'] != IMPORTING)
        self.look(image, {image.status} | self.ends(image, {image.status}))
        self.origin.answer.go_on.clear()

    @stateful.rule(image=IMAGES, wanted=st.sampled_from(
        ['deactivate', 'reactivate']))
    def activate(self, image, wanted):
        after = ACTIVE if wanted == 'reactivate' else DEACTIVATED
        self.expect(image, self.ask(image, 'POST', f'/actions/{wanted}'), {
            ACTIVE: {204: after}, DEACTIVATED: {204: after},
            '*': {403: None}})

    @stateful.rule(image=IMAGES, protected=st.booleans())
    def protect(self, image, protected):
        answer = self.ask(image, 'PATCH', '', [
            {'op': 'replace', 'path': '/protected', 'value': protected},
            {'op': 'replace', 'path': '/name', 'value': 'n'}],
            {'Content-Type': V21})
        self.expect(image, answer, {'*': {200: None}})
        if answer.status == 200:
            image.protected = protected

    @stateful.rule(image=IMAGES)
    def delete(self, image):
        self.expect(image, self.ask(image, 'DELETE'), {
            '*': {403: None} if image.protected else {204: DELETED}})

    @stateful.rule(image=IMAGES)
    def read(self, image):
        answer = self.ask(image, 'GET', '/file')
        if answer.status == 200:
            assert answer.body == DATA
        self.expect(image, answer, {
            ACTIVE: {200: None}, DEACTIVATED: {200: None},
            '*': {204: None}})

    @stateful.rule(image=IMAGES, touch=st.sampled_from(TOUCHES))
    def touch(self, image, touch):
        """Requests that are the same to every status."""
        method, tail, body, answers = touch
        self.expect(image, self.ask(image, method, tail, body), {
            '*': dict.fromkeys(answers)})

    # -- what holds at any time

    @stateful.invariant()
    def only_moves_of_the_table(self):
        for number, what, old, new in self.service.execute(
                'SELECT number, what, old, new FROM test_moves '
                'WHERE number > ? ORDER BY number', self.seen):
            assert (new in states.MOVES[old] if what == 'image'
                    else (old, new) in TASK_MOVES), (what, old, new)
            self.seen = number

    def teardown(self):
        self.origin.answer.go_on.set()
        for image in self.made:
            self.protect(image, False)
            self.delete(image)
        self.only_moves_of_the_table()
        self.origin.answer.go_on.clear()


def test_any_requests_in_any_order(service, origin):
    Life.service, Life.origin = service, origin
    stateful.run_state_machine_as_test(Life, settings=hypothesis.settings(
        max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None,
        derandomize=not LONG, database=None, report_multiple_bugs=False,
        # A shorter series would not be the same: the conductor has its own
        # pace.
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck)))
    # It went everywhere, but for what takes luck: a cancel in time.
    found = set(service.execute(
        "SELECT DISTINCT old, new FROM test_moves WHERE what = 'image'"))
    assert USUAL <= found
    log = service.text()
    assert 'Traceback' not in log, log[log.index('Traceback') - 3000:][:6000]
