"""get_flow plugins: order, redirection, refusals, and every way to fail."""

import hashlib
import json
import os
import textwrap

import pytest

from glance_import.plugin import snapshot
from tests import service as services

DATA = os.urandom(300_000)

HEAD = '''
import os
from taskflow.patterns import linear_flow
from taskflow import task


def flow_of(name, task_id, execute, **kwargs):
    functor = task.FunctorTask(execute, name=f'{name}-{task_id}', **kwargs)
    return linear_flow.Flow(name).add(functor)


def path_of(uri):
    return uri[len('file://'):]
'''

# name -> source of a module with a get_flow.
PLUGINS = {
    'first': '''
def get_flow(task_id, image_id, action_wrapper, **kwargs):
    def execute(file_path):
        with action_wrapper as action:
            seen = action.image_extra_properties.get('seen', '')
            action.set_image_extra_properties({'seen': seen + '1'})
    return flow_of('first', task_id, execute)
''',
    'second': '''
def get_flow(task_id, image_id, image_repo, **kwargs):
    def execute(file_path):
        image = image_repo.get(image_id)
        image.extra_properties['seen'] = (
            image.extra_properties.get('seen', '') + '2')
        image.min_disk = 7
        image_repo.save(image)
    return flow_of('second', task_id, execute)
''',
    # A bare task is fine too.
    'bare': '''
def get_flow(task_id, **kwargs):
    return task.FunctorTask(lambda: None, name=f'bare-{task_id}')
''',
    'upper': '''
def get_flow(task_id, **kwargs):
    def execute(file_path):
        target = path_of(file_path) + '.upper'
        with open(path_of(file_path), 'rb') as source:
            data = source.read()
        with open(target, 'wb') as sink:
            sink.write(data[::-1])
        return 'file://' + target
    return flow_of('upper', task_id, execute, provides='file_path')
''',
    'rewrites': '''
def get_flow(task_id, **kwargs):
    def execute(file_path):
        with open(path_of(file_path), 'r+b') as image:
            image.write(b'rewritten')
    return flow_of('rewrites', task_id, execute)
''',
    'keeps_open': '''
KEPT = []


def get_flow(task_id, **kwargs):
    def execute(file_path):
        KEPT.append(open(path_of(file_path), 'r+b'))
    return flow_of('keeps_open', task_id, execute)
''',
    'raises': '''
def get_flow(task_id, **kwargs):
    def execute(file_path):
        raise RuntimeError('no penguins in images')
    return flow_of('raises', task_id, execute)
''',
    'exits': '''
def get_flow(task_id, **kwargs):
    def execute(file_path):
        raise SystemExit(3)
    return flow_of('exits', task_id, execute)
''',
    'build_raises': '''
def get_flow(**kwargs):
    raise ValueError('cannot build today')
''',
    'none': '''
def get_flow(**kwargs):
    return None
''',
    'a_list': '''
def get_flow(**kwargs):
    return []
''',
    'same_name': '''
def get_flow(**kwargs):
    return flow_of('same', 'name', lambda: None)
''',
    'same_name_too': '''
def get_flow(**kwargs):
    return flow_of('same', 'name', lambda: None)
''',
    'wants_more': '''
def get_flow(task_id, **kwargs):
    def execute(nobody_has_this):
        pass
    return flow_of('wants_more', task_id, execute)
''',
    'no_file': '''
def get_flow(task_id, **kwargs):
    def execute(file_path):
        return file_path + '.nothing'
    return flow_of('no_file', task_id, execute, provides='file_path')
''',
    'a_link': '''
def get_flow(task_id, **kwargs):
    def execute(file_path):
        target = path_of(file_path) + '.link'
        os.symlink('/etc/hostname', target)
        return 'file://' + target
    return flow_of('a_link', task_id, execute, provides='file_path')
''',
    'killed': '''
import signal


def get_flow(task_id, **kwargs):
    def execute(file_path):
        os.kill(os.getpid(), signal.SIGKILL)
    return flow_of('killed', task_id, execute)
''',
    'slow': '''
import time


def get_flow(task_id, **kwargs):
    def execute(file_path):
        where = os.path.join(os.environ['SLOW_DIRECTORY'], task_id)
        open(where, 'w').close()
        time.sleep(0.4)
        os.unlink(where)
    return flow_of('slow', task_id, execute)
''',
    'looks_around': '''
def get_flow(task_id, context, image_id, import_req, task_repo, **kwargs):
    assert set(kwargs) == {'task_type', 'image_repo', 'image_factory',
                           'backend', 'action_wrapper'}, kwargs

    def execute(file_path):
        assert context.auth_token is None
        assert context.project_id == 'local', context.project_id
        assert 'admin' in context.roles
        assert import_req['method']['name'] == 'glance-direct'
        assert task_repo.get(task_id).status == 'processing'
    return flow_of('looks_around', task_id, execute)
''',
}
# What a plugin must not do: name -> statements with ``repo`` and ``wrapper``.
FORBIDDEN = {
    'sets_status': "image.status = 'active'; repo.save(image)",
    'sets_hash': "image.os_hash_value = 'f' * 128; repo.save(image)",
    'sets_checksum': "image.checksum = 'f' * 32; repo.save(image)",
    'sets_owner': "image.owner = 'me'; repo.save(image)",
    'sets_locations': "image.locations = ['file:///x']; repo.save(image)",
    'sets_reserved': (
        "image.extra_properties['os_glance_import_task'] = 'x'; "
        'repo.save(image)'),
    'drops_lock': (
        "del image.extra_properties['os_glance_import_task']; "
        'repo.save(image)'),
    'other_image': "repo.get('00000000-0000-4000-8000-000000000000')",
    'removes': 'repo.remove(image)',
    'lists': 'repo.list()',
    'status_by_action': (
        'action = wrapper.__enter__(); '
        "action.set_image_attribute(status='queued')"),
    'wrapper_drops_lock': 'wrapper.drop_lock_for_task()',
    'ends_task': 'tasks.save(tasks.get(task_id))',
}
for _name, _line in FORBIDDEN.items():
    PLUGINS[_name] = f'''
def get_flow(task_id, image_id, image_repo, task_repo, action_wrapper,
             **kwargs):
    def execute(file_path):
        repo, tasks, wrapper = image_repo, task_repo, action_wrapper
        image = repo.get(image_id)
        {_line}
    return flow_of('{_name}', task_id, execute)
'''


@pytest.fixture(scope='module')
def plugins(tmp_path_factory):
    """The plugins above as a distribution that lies outside the tree."""
    return services.write_distribution(
        tmp_path_factory.mktemp('plugins'), 'penguins',
        {f'penguin_{name}': HEAD + source
         for name, source in PLUGINS.items()},
        {'glance.image_import.plugins': {
            name: f'penguin_{name}:get_flow' for name in PLUGINS}})


@pytest.fixture(scope='module')
def listed(tmp_path_factory, plugins):
    """A function that runs one import with a list of plugins.

    One service for all: a trigger writes the list into each job as it is
    inserted, in the transaction that the request commits.
    """
    service = services.Service(
        tmp_path_factory.mktemp('service'), path=[plugins],
        options={'taskflow_executor': {'claim_expiry': 2,
                                       'max_attempts': 2}}).start()
    service.execute('CREATE TABLE test_plugins (names TEXT, snapshot TEXT)')
    service.execute("INSERT INTO test_plugins VALUES ('', '')")
    service.execute(
        'CREATE TRIGGER test_plugins_listed AFTER INSERT ON import_jobs '
        'BEGIN UPDATE import_jobs SET (plugins, snapshot) = '
        '(SELECT names, snapshot FROM test_plugins) WHERE id = NEW.id; END')

    def run(names, data=DATA):
        service.execute('UPDATE test_plugins SET names = ?, snapshot = ?',
                        json.dumps(names),
                        services.judged_by(names, plugins).text)
        image_id = service.ask(data)
        services.wait_for(
            lambda: service.tasks(image_id)[0]['status']
            in ('success', 'failure'), 90)
        return service, image_id, service.show(image_id)

    yield run
    service.kill()


def check_failed(service, image_id, image, *words):
    """Reason told, lock released, bytes kept, nothing leaked."""
    task = service.tasks(image_id)[0]
    assert task['status'] == 'failure', task
    assert image['status'] == 'uploading', image
    assert image['size'] == len(DATA)
    assert 'os_glance_import_task' not in image
    for word in words:
        assert word in image['os_glance_import_error'], image
        assert word in task['message'], task
    assert service.staged().count(image_id) == 1
    assert [name for name in service.staged()
            if name.startswith(image_id)] == [image_id]
    assert not [name for name in service.stored() if image_id in name]
    staged = (service.staging / image_id).read_bytes()
    assert hashlib.sha512(staged).digest() == hashlib.sha512(DATA).digest()
    # The same bytes can be asked for again, and then all is well.
    service.execute("UPDATE test_plugins SET names = '[]', snapshot = ?",
                    snapshot.Snapshot().text)
    assert service.start_import(image_id).status == 202
    image = service.wait_status(image_id, 'active', 'queued')
    assert image['status'] == 'active', image
    assert service.download(image_id) == DATA


def test_order_and_changes(listed):
    service, image_id, image = listed(['second', 'first', 'no_op', 'bare'])
    assert image['status'] == 'active', image
    assert image['seen'] == '21'
    assert image['min_disk'] == 7
    assert service.download(image_id) == DATA
    service, image_id, image = listed(['first', 'second'])
    assert image['seen'] == '12'


def test_what_a_plugin_is_given(listed):
    _service, _image_id, image = listed(['looks_around'])
    assert image['status'] == 'active', image.get('os_glance_import_error')


def test_a_new_file_path_redirects(listed):
    service, image_id, image = listed(['upper'])
    assert image['status'] == 'active', image
    assert service.download(image_id) == DATA[::-1]
    assert image['os_hash_value'] == hashlib.sha512(DATA[::-1]).hexdigest()
    assert image['checksum'] == hashlib.md5(DATA[::-1]).hexdigest()
    services.wait_for(lambda: not [
        name for name in service.staged() if name.startswith(image_id)])


def test_redirected_file_of_a_failed_import_is_not_leaked(listed):
    service, image_id, image = listed(['upper', 'raises'])
    check_failed(service, image_id, image, 'plugin raises', 'penguins')


def test_bytes_changed_in_place_are_hashed_again(listed):
    data = b'rewritten' + DATA[9:]
    service, image_id, image = listed(['rewrites'])
    assert image['status'] == 'active', image
    assert service.download(image_id) == data
    assert image['os_hash_value'] == hashlib.sha512(data).hexdigest()


def test_a_kept_descriptor_cannot_change_the_stored_bytes(listed):
    service, image_id, image = listed(['keeps_open'])
    assert image['status'] == 'active', image
    conductor = service.conductor_pid()
    kept = [fd for fd in os.listdir(f'/proc/{conductor}/fd')
            if image_id in os.readlink(f'/proc/{conductor}/fd/{fd}')]
    assert kept
    for fd in kept:
        with open(f'/proc/{conductor}/fd/{fd}', 'r+b') as image_file:
            image_file.write(b'too late')
    assert service.download(image_id) == DATA


@pytest.mark.parametrize('name, words', [
    ('raises', ['RuntimeError: no penguins in images', 'reference req-']),
    ('build_raises', ['ValueError: cannot build today']),
    ('none', ['None', 'flow or task']),
    ('a_list', ['list', 'flow or task']),
    ('wants_more', ['nobody_has_this']),
    ('no_file', ['no image data behind']),
    ('a_link', ['not a regular file']),
])
def test_failures_name_the_plugin(listed, name, words):
    service, image_id, image = listed([name])
    check_failed(service, image_id, image, f'plugin {name}', *words)


def test_repeated_atom_names(listed):
    service, image_id, image = listed(['same_name', 'same_name_too'])
    check_failed(service, image_id, image, 'plugin same_name_too',
                 'same-name', 'already taken')


@pytest.mark.parametrize('name', FORBIDDEN)
def test_what_is_not_a_plugins_to_do(listed, name):
    service, image_id, image = listed([name])
    check_failed(service, image_id, image, f'plugin {name} tried to')


@pytest.mark.parametrize('name', ['killed', 'exits'])
def test_a_plugin_that_takes_the_process_down(listed, name):
    service, image_id, image = listed([name])
    assert image['status'] == 'uploading', image
    assert f'plugin {name}' in image['os_glance_import_error']
    assert service.tasks(image_id)[0]['status'] == 'failure'
    assert service.staged().count(image_id) == 1
    # Other images are served meanwhile and after.
    assert service.request('GET', '/v2/images').status == 200


@pytest.mark.parametrize('engine', ['serial', 'parallel'])
def test_max_workers_bounds_the_imports_at_once(make_service, plugins,
                                                tmp_path, engine):
    service = make_service(path=[plugins], options={
        'image_import_opts': {'image_import_plugins': '[slow]'},
        'taskflow_executor': {'max_workers': 2, 'engine_mode': engine}})
    running = tmp_path / 'running'
    running.mkdir()
    service.environment['SLOW_DIRECTORY'] = str(running)
    service.start()
    images = []
    for _ in range(6):
        images.append(service.create())
        service.stage(images[-1], DATA)
        assert service.start_import(images[-1]).status == 202
    most = 0

    def all_active():
        nonlocal most
        most = max(most, len(os.listdir(running)))
        return all(service.show(image_id)['status'] == 'active'
                   for image_id in images)
    services.wait_for(all_active)
    assert most == 2


def refused(make_service, plugins, value):
    """The one line with which a list of plugins stops the start."""
    service = make_service(path=plugins)
    (service.conf / 'glance-image-import.conf').write_text(
        f'[image_import_opts]\nimage_import_plugins = {value}\n')
    done = service.run('api')
    assert done.returncode not in (0, None)
    assert not (service.state / 'glance.sqlite').exists()
    line, = done.stderr.strip().splitlines()
    assert 'glance-image-import.conf' in line
    assert 'image_import_plugins' in line
    # The other ways of starting say the same.
    done = service.run('conductor')
    assert done.returncode == 1
    assert done.stderr.strip().partition(': ')[2] == line.partition(': ')[2]
    return line


def test_lists_that_stop_the_start(make_service, plugins, tmp_path):
    broken = services.write_distribution(
        tmp_path / 'broken', 'broken-things',
        {'broken_import': 'import module_that_nobody_has\n',
         'broken_syntax': 'def get_flow(:\n',
         'broken_exit': 'raise SystemExit(0)\n', 'no_function': 'x = 1\n'},
        {'glance.image_import.plugins': {
            'unimportable': 'broken_import:get_flow',
            'malformed': 'broken_syntax:get_flow',
            'exiting': 'broken_exit:get_flow',
            'lacking': 'no_function:get_flow', 'number': 'no_function:x',
            'first': 'no_function:other'}})
    for value, words in (
            ('[nobody]', ["'nobody' is not registered", 'no_op']),
            ('no_op', ['must be', '[']), ('[no_op', ['[']),
            ('[no_op, no_op]', ["'no_op' is listed twice"]),
            ('[unimportable]', ["'unimportable'",
                                'module_that_nobody_has']),
            ('[malformed]', ["'malformed'", 'SyntaxError']),
            ('[exiting]', ["'exiting'"]),
            ('[lacking]', ["'lacking'"]),
            ('[number]', ["'number'", 'not a function']),
            ('[first]', ["'first'", 'more than once', 'penguins',
                         'broken-things'])):
        line = refused(make_service, [plugins, broken], value)
        for word in words:
            assert word.lower() in line.lower(), (value, line)


def test_a_listed_name_whose_file_has_no_entry_point(make_service, plugins,
                                                     monkeypatch):
    """The line to add and the command to run are told."""
    import glance_import.async_.flows.plugins as package
    path = os.path.join(os.path.dirname(package.__file__), 'fred_mertz.py')
    assert not os.path.exists(path)
    with open(path, 'w') as file:
        file.write(textwrap.dedent(HEAD + PLUGINS['bare']))
    try:
        line = refused(make_service, [plugins], '[fred_mertz]')
    finally:
        os.unlink(path)
    assert ('fred_mertz = '
            'glance_import.async_.flows.plugins.fred_mertz:get_flow') in line
    assert 'setup.cfg' in line
    assert 'pip install' in line


def test_names_of_a_glance_beside_us_are_ours(make_service, tmp_path):
    """A real Glance has the same names; any other double is refused."""
    glance = services.write_distribution(
        tmp_path / 'glance', 'glance', {'theirs': 'raise RuntimeError(7)\n'},
        {'glance.flows': {'api_image_import': 'theirs:get_flow'},
         'glance.image_import.plugins': {'no_op': 'theirs:get_flow'}})
    service = make_service(path=[glance], options={'image_import_opts': {
        'image_import_plugins': '[no_op]'}}).start()
    image_id = service.ask(DATA)
    assert service.wait_status(image_id, 'active', 'uploading')[
        'status'] == 'active'
