"""Cancelling an import, and deleting its image, stop it in time."""

import os
import time

import pytest

from tests import service as services

DATA = os.urandom(400_000)
SLEEPER = '''
from taskflow.patterns import linear_flow
from taskflow import task
import time


def get_flow(task_id, image_id, image_repo, **kwargs):
    def execute(file_path):
        print('sleeping on', image_id, flush=True)
        time.sleep(6)
        image = image_repo.get(image_id)
        image.extra_properties['too'] = 'late'
        image_repo.save(image)
    return linear_flow.Flow('sleeper').add(
        task.FunctorTask(execute, name=f'sleeper-{task_id}'))
'''


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    top = tmp_path_factory.mktemp('cancel')
    plugins = services.write_distribution(
        top / 'plugins', 'sleeper', {'sleeper': SLEEPER},
        {'glance.image_import.plugins': {'sleeper': 'sleeper:get_flow'}})
    running = services.Service(top, path=[plugins], options={
        'image_import_opts': {'image_import_plugins': '[sleeper]'}})
    running.start()
    yield running
    running.kill()


def importing(service):
    image_id = service.ask(DATA)
    # Not only begun: on a busy machine that is a while before the plugin.
    services.wait_for(lambda: f'sleeping on {image_id}' in service.text())
    return image_id


def cancel(service, image_id):
    return service.request('DELETE', f'/v2/images/{image_id}/import')


def test_cancelled_inside_a_plugin_that_does_not_listen(service):
    image_id = importing(service)
    assert cancel(service, image_id).status == 202
    image = service.wait_status(image_id, 'uploading')
    assert image['os_glance_import_error'] == 'the import was cancelled'
    task, = service.tasks(image_id)
    assert (task['status'], task['message']) == (
        'failure', 'the import was cancelled')
    assert cancel(service, image_id).status == 409
    # What was left behind wakes up and may write nothing.
    services.wait_for(lambda: 'no longer ours' in service.text())
    time.sleep(0.3)
    assert 'too' not in service.show(image_id)
    assert service.staged().count(image_id) == 1
    assert not service.stored()


def test_deleted_inside_a_plugin(service):
    image_id = importing(service)
    assert service.request('DELETE', f'/v2/images/{image_id}').status == 204
    assert service.request('GET', f'/v2/images/{image_id}').status == 404
    time.sleep(6.5)
    assert not [name for name in service.staged() + service.stored()
                if image_id in name]
    assert service.execute(
        'SELECT status FROM images WHERE id = ?', image_id) == [('deleted',)]


def test_nothing_to_cancel(service):
    image_id = service.create()
    assert cancel(service, image_id).status == 409
    assert service.show(image_id)['status'] == 'queued'


def test_cancelled_while_it_waits(make_service):
    service = make_service(
        options={'taskflow_executor': {'embedded_conductor': False}}).start()
    image_id = service.ask(DATA)
    assert cancel(service, image_id).status == 202
    service.configure(taskflow_executor={'embedded_conductor': True})
    service.stop()
    service.start()
    image = service.wait_status(image_id, 'uploading', 'active')
    assert image['status'] == 'uploading'
    assert service.start_import(image_id).status == 202
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == DATA
