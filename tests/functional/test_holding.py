"""A plugin that holds an import, until an operator has decided."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tests import servers
from tests import service as services

DATA = b'for a person to look at' * 100
CLASSES = {
    'first': '''
        from glance_import.plugin import ImagePlugin

        class First(ImagePlugin):
            api = 1

            def precheck(self, image):
                if image.properties.get('early'):
                    return self.hold('not before it was talked about')
                return self.accept()

            def inspect(self, image, data, ctx):
                ctx.log('first looks at %s', image.name)
                if image.properties.get('first'):
                    return self.hold('someone has to look', 'site.look')
                return self.accept()
    ''',
    'second': '''
        from glance_import.plugin import ImagePlugin

        class Second(ImagePlugin):
            api = 1

            def inspect(self, image, data):
                if image.properties.get('bad'):
                    return self.reject('it is bad')
                if image.properties.get('second'):
                    return self.hold('the scanner is slow')
                return self.accept()
    ''',
    'third': '''
        from glance_import.plugin import ImagePlugin

        class Third(ImagePlugin):
            api = 1

            def transform(self, image, source, sink):
                if image.properties.get('third'):
                    return self.hold('no')
                sink.write(source.read())
                return self.accept()
    '''}


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    servers.program('bwrap')
    top = tmp_path_factory.mktemp('service')
    for name, text in CLASSES.items():
        (top / f'{name}.py').write_text(textwrap.dedent(text))
    names = ', '.join(f'file:{top}/{name}.py:{name.title()}'
                      for name in CLASSES)
    running = services.Service(top, options={
        'image_import_opts': {'image_import_plugins': f'[{names}]'},
        'taskflow_executor': {'hold_lifetime': 600}}).start()
    yield running
    running.kill()


def ask(service, **properties):
    """An image whose import is held."""
    image_id = service.ask(DATA, **properties)
    return image_id, held(service, image_id)


def held(service, image_id):
    return services.wait_for(lambda: next(
        (each for each in listed(service) if each['image_id'] == image_id
         and each['state'] == 'held'), None))


def listed(service):
    return json.loads(manage(service, 'list', '--json').stdout)['imports']


def manage(service, *words, status=0):
    done = service.run('manage', 'imports', *words)
    assert done.returncode == status, done
    return done


def verdicts(service, image_id):
    task, = service.request(
        'GET', f'/v2/images/{image_id}/tasks').json['tasks'][-1:]
    return {(each['plugin'], each['step']): each['verdict']
            for each in task['result']['plugins']}


def test_approved(service):
    image_id, entry = ask(service, first='1')
    assert entry['message'] == ('waits for the approval of an operator: '
                                'plugin first: someone has to look')
    assert entry['conductor'] is None and entry['running_for'] is None
    assert entry['held_for'] >= 0
    assert service.show(image_id)['status'] == 'importing'
    task = service.request(
        'GET', f'/v2/images/{image_id}/tasks').json['tasks'][-1]
    assert 'someone has to look' in task['message']
    assert task['status'] == 'processing'
    assert verdicts(service, image_id)['first', 'inspect'] == 'hold'
    assert '1 held' in manage(service, 'list').stdout
    assert 'approve or refuse' in manage(
        service, 'retry', image_id, status=1).stdout
    assert 'goes on' in manage(service, 'approve', entry['id']).stdout
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == DATA
    assert verdicts(service, image_id) == {
        ('first', 'precheck'): 'accept', ('first', 'inspect'): 'hold',
        ('second', 'inspect'): 'accept', ('third', 'transform'): 'accept'}
    assert 'no import of that id' in manage(
        service, 'approve', image_id, status=1).stdout
    # What was said, and that an operator has answered for it, is kept.
    done = service.run('manage', 'plugins', 'audit', image_id, '--json')
    said, = (each for each in json.loads(done.stdout)
             if (each['plugin'], each['step']) == ('first', 'inspect'))
    assert (said['code'], said['reason'], said['let_through']) == (
        'site.look', 'someone has to look', True)


def test_an_approval_is_of_what_was_seen(service):
    """Changed while it was held, the image is looked at again."""
    image_id, entry = ask(service, first='1')
    answer = service.request('PATCH', f'/v2/images/{image_id}', [
        {'op': 'add', 'path': '/more', 'value': 'said later'}],
        {'Content-Type': 'application/openstack-images-v2.1-json-patch'})
    assert answer.status == 200, answer
    manage(service, 'approve', entry['id'])
    services.wait_for(lambda: service.text().count(
        f'import {entry["id"]} of image {image_id} is held') == 2)
    manage(service, 'approve', entry['id'])
    service.wait_status(image_id, 'active')


def test_two_who_hold_are_approved_at_once(service):
    image_id, entry = ask(service, first='1', second='1', early='1')
    assert 'talked about' in entry['message']
    manage(service, 'approve', image_id)
    services.wait_for(lambda: 'scanner' in (
        held(service, image_id)['message']))
    assert 'someone has to look' in held(service, image_id)['message']
    manage(service, 'approve', image_id)
    service.wait_status(image_id, 'active')


def test_who_refuses_comes_first(service):
    image_id = service.ask(DATA, first='1', bad='1')
    image = service.wait_status(image_id, 'uploading')
    assert 'it is bad' in image['os_glance_import_error']


def test_a_transformer_cannot_hold(service):
    image_id = service.ask(DATA, third='1')
    image = service.wait_status(image_id, 'uploading')
    assert 'wants to hold the image' in image['os_glance_import_error']


def test_refused(service):
    image_id, entry = ask(service, first='1')
    manage(service, 'refuse', entry['id'], '--reason', 'not in our house')
    image = service.show(image_id)
    assert image['status'] == 'uploading'
    assert image['os_glance_import_error'].startswith('not in our house')
    assert image['os_glance_import_error_code'] == 'refused.plugin'
    assert not listed(service)
    # The bytes are there: it may be asked for again.
    service.start_import(image_id)
    held(service, image_id)
    manage(service, 'refuse', image_id)
    service.wait_status(image_id, 'uploading')


def test_cancelled_and_deleted(service):
    image_id, entry = ask(service, first='1')
    manage(service, 'cancel', image_id)
    assert service.wait_status(image_id, 'uploading')[
        'os_glance_import_error_code'] == 'cancelled'
    image_id, entry = ask(service, first='1')
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204
    assert 'no import of that id' in manage(
        service, 'approve', entry['id'], status=1).stdout
    assert not listed(service)


def test_nobody_is_needed_to_hold_it(service):
    image_id, entry = ask(service, first='1')
    pid = service.conductor_pid()
    os.kill(pid, signal.SIGKILL)
    services.wait_for(lambda: service.conductor_pid() != pid)
    other = service.ask(DATA)
    service.wait_status(other, 'active')
    assert held(service, image_id)['id'] == entry['id']
    manage(service, 'approve', image_id)
    service.wait_status(image_id, 'active')


def test_put_file_says_that_it_is_held(service):
    image_id = service.create(first='1')
    answer = service.request(
        'PUT', f'/v2/images/{image_id}/file', DATA,
        {'Content-Type': 'application/octet-stream'})
    assert answer.status == 409
    assert b'someone has to look' in answer.body
    manage(service, 'approve', image_id)
    service.wait_status(image_id, 'active')


def test_nobody_decides(service):
    image_id, entry = ask(service, first='1')
    service.execute('UPDATE import_jobs SET held_at = held_at - 601')
    image = service.wait_status(image_id, 'uploading')
    assert 'no operator has approved it within 600 seconds' in image[
        'os_glance_import_error']


def run_plugin(*words):
    return subprocess.run(
        [sys.executable, '-m', 'glance_import.cmd.plugin', 'run', *words],
        capture_output=True, text=True, timeout=60)


def test_tried_without_the_service(service):
    """The commands for authors and for the operator's list."""
    (service.directory / 'image').write_bytes(DATA)
    done = run_plugin(f'{service.directory}/first.py:First', '--image',
                      f'{service.directory}/image', '--meta', 'first=1')
    assert done.returncode == 4, done
    assert 'inspect: hold site.look (someone has to look)' in done.stdout
