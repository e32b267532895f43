"""An import is judged by what was in force where it was asked for, or not.

Every kind of plugin, on one node that reads its files again and on two nodes
whose files differ. The image that the plugin must refuse is never active, and
an import that a conductor cannot honour is left to others.
"""

import hashlib
import json
import os
import signal
import sqlite3
import textwrap
import time
import types

import pytest

from glance_import.imports import announcer
from glance_import.plugin import snapshot
from tests import servers
from tests import service as services

BAD = b'an image that holds the MARKER' * 100
GOOD = b'an image like any other' * 100

CLASS = '''
    from glance_import.plugin import ImagePlugin, Option

    class Marker(ImagePlugin):
        """Refuses images that hold a marker."""
        api = 1
        options = [Option('marker', str, 'nothing'),
                   Option('word', str, '', secret=True)]

        def inspect(self, data, ctx):
            if ctx.options.marker.encode() in data.read(1 << 20):
                return self.reject('It holds the marker.')
            return self.accept()
'''
PROGRAM = r'''#!/bin/sh
if [ "$1" = describe ]; then
    echo '{"api": 1, "methods": ["inspect"], "options": ['
    echo '{"name": "marker", "type": "str", "default": "nothing"}]}'
elif grep -q "$(sed -n 's/.*"marker": *"\([^"]*\)".*/\1/p' \
        "$GLANCE_IMPORT_IMAGE")"; then
    echo '{"verdict": "reject", "reason": "It holds the marker."}'
else
    echo '{"verdict": "accept"}'
fi
'''
FLOW = '''
import os
from taskflow import task


class _Look(task.Task):
    default_provides = None

    def execute(self, file_path):
        with open(file_path[len('file://'):], 'rb') as image:
            if b'MARKER' in image.read():
                raise ValueError('It holds the marker.')


def get_flow(task_id, **kwargs):
    return _Look(name=f'look-{task_id}')
'''
DIGEST = hashlib.sha256(BAD).hexdigest()


def write(path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip())
    path.chmod(mode)
    return path


def contract(top):
    """A distribution with a class of the contract."""
    return services.write_distribution(
        top / 'site', 'marking', {'marking': textwrap.dedent(CLASS)},
        {'glance_import.plugins': {'marker': 'marking:Marker'}})


def flow(top):
    return services.write_distribution(
        top / 'site', 'looking', {'looking': FLOW},
        {'glance.image_import.plugins': {'look': 'looking:get_flow'}})


def configured(kind, top):
    """(list of plugins, sections, import path) that refuse BAD."""
    if kind == 'class':
        return ['marker'], {'marker': {'marker': 'MARKER'}}, [contract(top)]
    if kind == 'file':
        path = write(top / 'marker.py', CLASS)
        return ([f'file:{path}:Marker'], {'marker': {'marker': 'MARKER'}}, [])
    if kind == 'exec':
        path = write(top / 'marker', PROGRAM, 0o755)
        return [f'exec:{path}'], {'marker': {'marker': 'MARKER'}}, []
    if kind == 'get_flow':
        return ['look'], {}, [flow(top)]
    if kind == 'property_policy':
        return (['property_policy'],
                {'property_policy': {'required': 'never_there'}}, [])
    assert kind == 'digest_list'
    return (['digest_list'], {'digest_list': {'denied': DIGEST}}, [])


KINDS = ('class', 'file', 'exec', 'get_flow', 'property_policy',
         'digest_list')


@pytest.fixture
def make_node(tmp_path):
    servers.program('bwrap')
    made = []

    def make(name, plugins=(), sections=None, path=(), **options):
        directory = tmp_path / name
        directory.mkdir()
        node = services.Service(directory, path=path, options={
            'DEFAULT': {'node_staging_uri': f'file://{tmp_path}/staging'},
            'glance_store': {'filesystem_store_datadir': tmp_path / 'images'},
            'database': {'connection':
                         f'sqlite:///{tmp_path}/glance.sqlite'},
            'image_import_opts': {
                'image_import_plugins': f"[{', '.join(plugins)}]"},
            'taskflow_executor': {'poll_interval': 0.1, **options},
            **(sections or {})})
        node.staging, node.images = tmp_path / 'staging', tmp_path / 'images'
        made.append(node)
        return node

    yield make
    for node in made:
        node.kill()
        if hasattr(node, 'conductor'):
            node.conductor.kill()
            node.conductor.wait()


def start_conductor(node):
    node.conductor = node.spawn('conductor')
    services.wait_for(lambda: 'runs up to' in node.text())


def query(node, statement):
    connection = sqlite3.connect(
        node.options['database']['connection'][len('sqlite:///'):],
        timeout=30)
    try:
        with connection:
            return connection.execute(statement).fetchall()
    finally:
        connection.close()


def refusals(node):
    return query(node, 'SELECT reason FROM import_refusals')


def manage(node, *words):
    done = node.run('manage', 'imports', *words)
    assert done.returncode == 0, done
    return done.stdout


def refused(node, image_id):
    image = node.wait_status(image_id, 'uploading', 'active')
    assert image['status'] == 'uploading', (image, node.text()[-3000:])
    return image['os_glance_import_error']


@pytest.mark.parametrize('kind', KINDS)
def test_options_that_were_read_again(make_node, tmp_path, kind):
    """The conductor has been there from before the plugin was listed."""
    plugins, sections, path = configured(kind, tmp_path)
    node = make_node('one', path=path).start()
    first = node.conductor_pid()
    node.wait_status(node.ask(BAD), 'active')
    node.configure(**sections, image_import_opts={
        'image_import_plugins': f"[{', '.join(plugins)}]"})
    node.process.send_signal(signal.SIGHUP)
    services.wait_for(lambda: 'reloaded' in node.text())
    refused(node, node.ask(BAD))
    # The conductor has read them too, in the process that it was.
    services.wait_for(lambda: node.text().count('runs up to') == 2)
    assert node.conductor_pid() == first
    refused(node, node.ask(BAD))
    if kind != 'property_policy':
        node.wait_status(node.ask(GOOD), 'active')


@pytest.mark.parametrize('kind', KINDS)
def test_two_nodes(make_node, tmp_path, kind):
    """The conductor's own list is empty, and its options are the defaults."""
    plugins, sections, path = configured(kind, tmp_path)
    api = make_node('api', plugins, sections, path,
                    embedded_conductor=False).start()
    start_conductor(make_node('conductor', path=path))
    refused(api, api.ask(BAD))
    if kind != 'property_policy':
        image = api.wait_status(api.ask(GOOD), 'active')
        said = api.tasks(image['id'])[0]['result'].get('plugins', ())
        assert all(len(each['digest']) == 64 for each in said)
        assert {each['step'] for each in said} == (
            {'flow'} if kind == 'get_flow' else {'inspect'})


def test_options_of_bundled_plugins(make_node):
    """Of get_flow plugins that come with the service, and [image_format]."""
    api = make_node(
        'api', ['inject_image_metadata'],
        {'inject_metadata_properties': {
            'inject': 'from:api', 'ignore_user_roles': 'nobody'},
         'image_format': {'max_virtual_size': 5000}},
        embedded_conductor=False).start()
    start_conductor(make_node('conductor', sections={
        'inject_metadata_properties': {'inject': 'from:conductor'}}))
    image = api.wait_status(api.ask(b'x' * 4000), 'active')
    assert image['from'] == 'api'
    assert 'max_virtual_size' in refused(api, api.ask(b'x' * 6000))


def differing(case, tmp_path):
    """(options of the API's node, of the other one, the reason)."""
    one, two = tmp_path / 'p1', tmp_path / 'p2'
    if case == 'missing':
        return ((['marker'], {}, [contract(one)]), ([], {}, []),
                'cannot be used here')
    if case == 'code':
        first = contract(one)
        second = contract(two)
        (second / 'marking.py').write_text(
            (second / 'marking.py').read_text() + '\n# another\n')
        return ((['marker'], {}, [first]), (['marker'], {}, [second]),
                'is another one here')
    if case == 'flow':
        first, second = flow(one), flow(two)
        (second / 'looking.py').write_text(FLOW + '\n# another\n')
        return ((['look'], {}, [first]), (['look'], {}, [second]),
                'is another one here')
    if case == 'section':
        path = [flow(one)]
        return ((['look'], {'looking': {'depth': 1}}, path),
                (['look'], {'looking': {'depth': 2}}, path),
                'the section [looking]')
    if case == 'secret':
        path = [contract(one)]
        return ((['marker'], {'marker': {'word': 'swordfish'}}, path),
                (['marker'], {'marker': {'word': 'other'}}, path),
                'the option word of the plugin marker is another one here')
    if case == 'isolation':
        path = [contract(one)]
        return ((['marker'], {}, path), (['marker'], {
            'image_import_opts': {'isolation': 'process'}}, path),
            'the isolation strict')
    raise AssertionError(case)


@pytest.mark.parametrize('case', ['missing', 'code', 'flow', 'section',
                                  'secret', 'isolation'])
def test_what_cannot_be_honoured_waits(make_node, tmp_path, case):
    """It is said once, seen by the operator, and run by who can."""
    ours, theirs, reason = differing(case, tmp_path)
    api = make_node('api', *ours, embedded_conductor=False).start()
    other = make_node('conductor', theirs[0], theirs[1], theirs[2])
    for group, values in theirs[1].items():
        other.configure(**{group: values})
    start_conductor(other)
    image_id = api.ask(GOOD)
    services.wait_for(lambda: refusals(api))
    listed = manage(api, 'list')
    assert 'not honoured by' in listed and reason in listed, listed
    entry, = json.loads(manage(api, 'list', '--json'))['imports']
    assert reason in entry['refusals'][0]['reason']
    # Others of the queue are not held up by it.
    api.wait_status(copy_of(api, other), 'active')
    assert api.show(image_id)['status'] == 'importing'
    assert other.text().count('is left to another conductor') == 1
    assert 'swordfish' not in json.dumps(query(
        api, 'SELECT * FROM import_jobs'))
    alive = manage(api, 'conductors').splitlines()
    assert len(alive) == 1 and 'alive' in alive[0]
    start_conductor(make_node('able', *ours))
    api.wait_status(image_id, 'active')
    assert refusals(api) == []


def copy_of(api, other):
    """An image whose import nothing stands against, asked for meanwhile."""
    api.configure(image_import_opts={'image_import_plugins': '[]'})
    text = api.text()
    api.process.send_signal(signal.SIGHUP)
    services.wait_for(lambda: 'reloaded' in api.text()[len(text):])
    return api.ask(GOOD)


def test_nothing_waits_for_ever(make_node, tmp_path):
    ours, _theirs, _reason = differing('missing', tmp_path)
    api = make_node('api', *ours, embedded_conductor=False).start()
    start_conductor(make_node('conductor', unhonoured_import_lifetime=2))
    image_id = api.ask(GOOD)
    said = refused(api, image_id)
    assert 'no conductor of this service can run the import' in said
    assert 'the plugin marker cannot be used here' in said
    # The bytes are there still; what is asked for now is judged by now.
    api.configure(image_import_opts={'image_import_plugins': '[]'})
    assert 'was asked for' in manage(api, 'retry', image_id)
    api.wait_status(image_id, 'active')
    assert api.download(image_id) == GOOD


def test_it_waits_while_a_living_conductor_may_run_it(make_node, tmp_path):
    ours, _theirs, _reason = differing('missing', tmp_path)
    api = make_node('api', *ours, embedded_conductor=False).start()
    query(api, 'INSERT INTO import_conductors (name, node, area, version, '
               "seen) VALUES ('busy', 'n', '', '1', 4e9)")
    start_conductor(make_node('conductor', unhonoured_import_lifetime=1))
    image_id = api.ask(GOOD)
    area, = query(api, 'SELECT area FROM import_jobs')[0]
    query(api, f"UPDATE import_conductors SET area = '{area}' "
               "WHERE name = 'busy'")
    services.wait_for(lambda: refusals(api))
    time.sleep(3)
    assert api.show(image_id)['status'] == 'importing'
    query(api, "UPDATE import_conductors SET seen = 0 WHERE name = 'busy'")
    refused(api, image_id)


def test_rebound_to_what_is_configured_now(make_node, tmp_path):
    ours, _theirs, _reason = differing('missing', tmp_path)
    api = make_node('api', *ours, embedded_conductor=False).start()
    start_conductor(make_node('conductor'))
    image_id = api.ask(GOOD)
    services.wait_for(lambda: refusals(api))
    api.configure(image_import_opts={'image_import_plugins': '[]'})
    assert 'is tried as soon' in manage(api, 'retry', '--current', image_id)
    api.wait_status(image_id, 'active')


def test_a_waiting_one_can_be_cancelled(make_node, tmp_path):
    ours, _theirs, _reason = differing('missing', tmp_path)
    api = make_node('api', *ours, embedded_conductor=False).start()
    start_conductor(make_node('conductor'))
    image_id = api.ask(GOOD)
    services.wait_for(lambda: refusals(api))
    assert api.request('DELETE', f'/v2/images/{image_id}/import'
                       ).status == 202
    # Who left it to others need not run it to end it.
    assert refused(api, image_id) == 'the import was cancelled'


def test_a_waiting_one_can_be_deleted(make_node, tmp_path):
    ours, _theirs, _reason = differing('missing', tmp_path)
    api = make_node('api', *ours, embedded_conductor=False).start()
    start_conductor(make_node('conductor'))
    image_id = api.ask(GOOD)
    services.wait_for(lambda: refusals(api))
    assert api.request('DELETE', f'/v2/images/{image_id}').status == 204
    assert refusals(api) == []


def test_a_file_that_may_be_read(make_node, tmp_path):
    """Changed after the import was asked for, and then put back."""
    denied = write(tmp_path / 'lists' / 'denied', 'nothing yet\n')
    sections = {'digest_list': {'denied_file': denied, 'read_paths': denied}}
    api = make_node('api', ['digest_list'], sections,
                    embedded_conductor=False).start()
    write(denied, f'{DIGEST}\n')
    # What is in force is what lies there when it is asked for.
    bad, good = api.ask(BAD), api.ask(GOOD)
    write(denied, 'another list\n')
    start_conductor(make_node('conductor', unhonoured_import_lifetime=600))
    services.wait_for(lambda: len(refusals(api)) == 2)
    assert 'may read is another one here' in refusals(api)[0][0]
    write(denied, f'{DIGEST}\n')
    manage(api, 'retry', bad)
    refused(api, bad)
    # The other one is found again without being told of.
    api.wait_status(good, 'active')


def test_a_plugin_that_changes_while_its_import_runs(make_node, tmp_path):
    """The first plugin takes its time; the second is exchanged meanwhile."""
    gate = tmp_path / 'gate'
    slow = write(tmp_path / 'slow.py', f'''
        import os, time
        from glance_import.plugin import ImagePlugin

        class Slow(ImagePlugin):
            api = 1

            def transform(self, source, sink, ctx):
                while not os.path.exists('{gate}'):
                    time.sleep(0.05)
                    ctx.progress()
                for block in source:
                    sink.write(block)
                return self.accept()
    ''')
    second = write(tmp_path / 'second.py', CLASS)
    node = make_node('one', [f'file:{slow}:Slow', f'file:{second}:Marker'], {
        'image_import_opts': {
            'isolation': 'process', 'image_import_plugins':
            f'[file:{slow}:Slow, file:{second}:Marker]'},
        'marker': {'marker': 'MARKER'}}).start()
    image_id = node.ask(BAD)
    services.wait_for(lambda: query(
        node, 'SELECT 1 FROM import_jobs WHERE step IS NOT NULL'))
    write(second, CLASS.replace('in data.read', 'in b"" and data.read'))
    gate.touch()
    services.wait_for(lambda: refusals(node))
    assert node.show(image_id)['status'] == 'importing'
    write(second, CLASS)
    manage(node, 'retry', image_id)
    refused(node, image_id)


def test_a_plugin_that_was_broken_accepts_nothing(make_node, tmp_path):
    path = write(tmp_path / 'marker.py', CLASS)
    node = make_node('one', [f'file:{path}:Marker']).start()
    image_id = node.create()
    assert node.stage(image_id, GOOD).status == 204
    write(path, 'this is no Python\n')
    answer = node.start_import(image_id)
    assert answer.status == 503 and 'plugin' in answer.message
    assert str(path) not in answer.message
    assert node.show(image_id)['status'] == 'uploading'
    write(path, CLASS)
    assert node.start_import(image_id).status == 202
    node.wait_status(image_id, 'active')


def test_no_conductor_is_known(make_node):
    node = make_node('one', embedded_conductor=False).start()
    node.ask(GOOD)
    assert 'no conductor has been heard of' in node.text()


def test_an_import_of_an_earlier_release(make_node):
    """Its options were not kept, so nobody can say what they were."""
    node = make_node('one', ['no_op'], embedded_conductor=False).start()
    image_id = node.ask(GOOD)
    query(node, 'UPDATE import_jobs SET snapshot = NULL, requirement = NULL')
    start_conductor(make_node('conductor'))
    services.wait_for(lambda: refusals(node))
    assert 'an earlier release' in refusals(node)[0][0]
    manage(node, 'retry', '--current', image_id)
    node.wait_status(image_id, 'active')


def test_a_conductor_reads_its_files_again(make_node, tmp_path):
    """SIGHUP; files that cannot be used change nothing."""
    node = make_node('conductor')
    assert node.run('manage', 'db', 'sync').returncode == 0
    start_conductor(node)
    node.configure(image_import_opts={'image_import_plugins': '[unknown]'})
    node.conductor.send_signal(signal.SIGHUP)
    services.wait_for(lambda: 'not reloaded' in node.text())
    assert node.text().count('runs up to') == 1
    node.configure(image_import_opts={'image_import_plugins': '[no_op]'})
    node.conductor.send_signal(signal.SIGHUP)
    services.wait_for(lambda: node.text().count('runs up to') == 2)
    assert node.conductor.poll() is None
    node.configure(DEFAULT={'state_path': tmp_path / 'elsewhere'})
    node.conductor.send_signal(signal.SIGHUP)
    services.wait_for(lambda: 'state_path cannot change' in node.text())
    assert not (tmp_path / 'elsewhere').exists()
    os.kill(node.conductor.pid, signal.SIGTERM)
    assert node.conductor.wait(30) == 0
    assert query(node, 'SELECT * FROM import_conductors') == []


def test_sighup_while_it_begins_again(make_node, tmp_path):
    """One that comes when the files have been read already is not lost."""
    slow = write(tmp_path / 'hook' / 'sitecustomize.py', '''
        import sys, time
        if 'glance_import.cmd.conductor' in ' '.join(sys.orig_argv):
            from glance_import import startup
            real = startup.open_all
            def slow(*args, **kwargs):
                print('opening', file=sys.stderr, flush=True)
                time.sleep(1)
                return real(*args, **kwargs)
            startup.open_all = slow
    ''')
    node = make_node('conductor', path=[slow.parent])
    assert node.run('manage', 'db', 'sync').returncode == 0
    start_conductor(node)
    node.conductor.send_signal(signal.SIGHUP)
    services.wait_for(lambda: node.text().count('opening') == 2)
    node.conductor.send_signal(signal.SIGHUP)
    services.wait_for(lambda: node.text().count('runs up to') == 3)
    assert node.conductor.poll() is None
    node.conductor.terminate()
    assert node.conductor.wait(30) == 0


def test_a_directory_that_may_be_read(make_node, tmp_path):
    """What is in it may change; without it a plugin would see nothing."""
    path = write(tmp_path / 'marker.py', CLASS)
    rules = tmp_path / 'share' / 'rules'
    rules.mkdir(parents=True)
    api = make_node('api', [f'file:{path}:Marker'],
                    {'marker': {'read_paths': rules}},
                    embedded_conductor=False).start()
    image_id = api.ask(GOOD)
    rules.rmdir()
    start_conductor(make_node('conductor'))
    services.wait_for(lambda: refusals(api))
    assert 'may read is another one here' in refusals(api)[0][0]
    write(rules / 'rule', 'a new one')
    manage(api, 'retry', image_id)
    api.wait_status(image_id, 'active')


@pytest.mark.parametrize('damage', [
    '[1]', '{"form": 1, "plugins": [5]}', '{"form": 1, "options": 7}',
    '{"form": 1, "plugins": [{"name": 5, "kind": "a", "code": "b"}]}',
    '{"form": 1, "plugins": [{"name": "digest_list", "kind": "class",'
    ' "code": "contract:1", "values": 5}]}',
    '{"form": 1, "plugins": [{"name": "digest_list", "kind": "class",'
    ' "code": "contract:1", "values": {"memory_limit": "x"}}]}'])
def test_a_damaged_snapshot(make_node, damage):
    """It holds up nobody else, and is not run."""
    api = make_node('api', ['digest_list'],
                    {'digest_list': {'denied': DIGEST}},
                    embedded_conductor=False).start()
    bad, good = api.ask(GOOD), api.ask(GOOD)
    query(api, f"UPDATE import_jobs SET snapshot = '{damage}' "
               f"WHERE image_id = '{bad}'")
    start_conductor(make_node('conductor'))
    api.wait_status(good, 'active')
    assert len(refusals(api)) == 1
    assert api.show(bad)['status'] == 'importing'


def test_a_demand_is_looked_at_once():
    """However many imports have it: a look may take long."""
    asked = []
    box = types.SimpleNamespace(honour=asked.append)
    voice = announcer.Announcer(box, 'name', 'node')
    text = snapshot.Snapshot().text
    found = voice._problems({'1': text, '2': text, '3': '[]', '4': '[]'})
    assert sorted(found) == ['3', '4'] and len(asked) == 1


def test_an_active_image_is_left_to_nobody(make_node, tmp_path):
    """Its conductor died with little left to do, which anybody may do."""
    dying = write(tmp_path / 'hook' / 'sitecustomize.py', '''
        import os, sys
        if 'glance_import.cmd.conductor' in ' '.join(sys.orig_argv):
            from glance_import.imports import ending
            ending.clean_up = lambda *args: os.kill(os.getpid(), 9)
    ''')
    ours, _theirs, _reason = differing('missing', tmp_path)
    api = make_node('api', *ours, embedded_conductor=False).start()
    first = make_node('first', ours[0], ours[1], [*ours[2], dying.parent])
    image_id = api.ask(GOOD)
    start_conductor(first)
    assert first.conductor.wait(30) == -signal.SIGKILL
    query(api, 'UPDATE import_jobs SET claim_expires = 0')
    second = make_node('second')
    start_conductor(second)
    services.wait_for(
        lambda: not query(api, 'SELECT id FROM import_jobs'), 20)
    assert api.show(image_id)['status'] == 'active'
    assert api.staged() == []
    assert 'left to another' not in second.text()
