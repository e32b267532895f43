"""SIGHUP: a changed configuration comes into force whole, or not at all."""

import os
import signal
import socket

import pytest

from tests import service as services

DATA = b'reloaded' * 1000
SECRET = 'a-word-for-the-store'


@pytest.fixture(scope='module')
def service(tmp_path_factory):
    running = services.Service(tmp_path_factory.mktemp('service')).start()
    services.wait_for(lambda: 'runs up to' in running.text())
    yield running
    running.kill()


def hang_up(service, *words):
    """What the log says from then on, once all of the words are in it."""
    before = len(service.text())
    os.kill(service.process.pid, signal.SIGHUP)

    def said():
        text = service.text()[before:]
        return all(word in text for word in words) and text
    return services.wait_for(said)


def workers(service):
    """The children of the parent that are no conductor."""
    pid = service.process.pid
    with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as f:
        return {int(each) for each in f.read().split()} - {
            service.conductor_pid()}


@pytest.mark.parametrize('group, name, value, words', [
    ('image_import_opts', 'image_import_plugins', '[no_such_plugin]',
     ['no_such_plugin']),
    ('task', 'task_executor', 'eventlet', ['task_executor']),
    ('DEFAULT', 'limit_param_default', 'many', ['limit_param_default']),
    ('paste_deploy', 'flavor', 'nothing', ['glance-api-nothing']),
    ('glance_store', 'filesystem_store_datadir', '/proc/images', ['/proc']),
    ('database', 'connection', 'sqlite:////proc/none.sqlite', ['/proc']),
    ('oslo_policy', 'policy_file', '{here}/broken.yaml', ['policy_file']),
    ('DEFAULT', 'log_config_append', '{here}/none.conf',
     ['the log cannot be written', 'none.conf']),
    ('DEFAULT', 'bind_port', '9', ['bind_port', 'restart it']),
    ('DEFAULT', 'state_path', '{here}/state', ['state_path', 'restart it']),
    ('taskflow_executor', 'embedded_conductor', 'False',
     ['embedded_conductor', 'restart it']),
])
def test_what_cannot_be_in_force_changes_nothing(service, group, name, value,
                                                 words, tmp_path):
    (tmp_path / 'broken.yaml').write_text('"get_image": "role:')
    value = value.format(here=tmp_path)
    kept = service.options.get(group, {}).get(name)
    conductor, before = service.conductor_pid(), workers(service)
    # Something good beside it stays out as well.
    service.configure(DEFAULT={'limit_param_default': 1})
    service.configure(**{group: {name: value}})
    try:
        text = hang_up(service, 'not reloaded', *words)
    finally:
        if kept is None:
            del service.options[group][name]
        else:
            service.options[group][name] = kept
        service.options['DEFAULT'].pop('limit_param_default', None)
        service.configure()
    assert 'Traceback' not in text and 'StartupError' not in text
    assert workers(service) == before
    assert service.conductor_pid() == conductor
    service.create()
    service.create()
    assert len(service.request('GET', '/v2/images').json['images']) > 1


@pytest.mark.parametrize('host, option', [
    ('192.0.2.7', 'bind_host'), ('no-such-host.invalid', 'bind_host'),
    ('127.0.0.1', 'bind_port')])
def test_where_metrics_cannot_be_served(service, host, option):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        service.configure(metrics={
            'bind_host': host, 'bind_port': taken.getsockname()[1]})
        try:
            hang_up(service, 'not reloaded', f'cannot listen on {host}',
                    f'[metrics] {option}')
        finally:
            del service.options['metrics']
            service.configure()


def test_what_changed_is_in_the_log(service):
    service.configure(
        DEFAULT={'limit_param_default': 3}, task={'task_time_to_live': 5},
        glance_store={'s3_store_secret_key': SECRET},
        some_plugin={'password': SECRET})
    before = workers(service), service.conductor_pid()
    text = hang_up(service, 'reloaded\n', 'runs up to')
    assert text.count('changed: [DEFAULT] limit_param_default: not set -> '
                      "'3'\n") == 2, 'by the API and by the conductor'
    assert "changed: [task] task_time_to_live: not set -> '5'" in text
    assert 'changed: [glance_store] s3_store_secret_key\n' in text
    assert 'changed: [some_plugin] password\n' in text
    assert SECRET not in service.text()
    services.wait_for(lambda: not workers(service) & before[0])
    # The same process, begun again.
    assert service.conductor_pid() == before[1]
    image_id = service.ask(DATA)
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == DATA
