"""Words that a shell completes, samples, and where options are read from."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from glance_import import conf as configuration
from tests import servers


@pytest.mark.parametrize('name, shell', [
    ('api', 'bash'), ('conductor', 'zsh'), ('status', 'bash')])
def test_completion(tmp_path, name, shell):
    done = subprocess.run(
        [sys.executable, '-m', f'glance_import.cmd.{name}',
         '--shell_completion', shell], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ''), done
    assert f'glance-import-{name}' in done.stdout
    if shutil.which(shell) is not None:
        path = tmp_path / name
        path.write_text(done.stdout)
        checked = subprocess.run([shell, '-n', str(path)],
                                 capture_output=True, text=True)
        assert checked.returncode == 0, checked


def test_what_is_completed(tmp_path):
    bash = servers.program('bash')
    script = tmp_path / 'script'
    with script.open('w') as file:
        subprocess.run(
            [sys.executable, '-m', 'glance_import.cmd.manage',
             '--shell_completion', 'bash'], stdout=file, check=True)
    for words, expected in (
            (('d',), 'db'), (('db', 'sy'), 'sync'),
            (('imports', 'list', '--js'), '--json'),
            (('--config-f',), '--config-file'), (('samples', '--f'),
                                                 '--force')):
        done = subprocess.run(
            [bash, '-c', f'source {script}; COMP_WORDS=(x "$@"); '
             f'COMP_CWORD=$#; _glance_import_manage; '
             'echo "${COMPREPLY[@]}"', 'x', *words],
            capture_output=True, text=True)
        assert done.stdout.split() == [expected], (words, done)


def test_samples(make_service, tmp_path):
    service = make_service()
    target = tmp_path / 'a/b'
    done = service.run('manage', 'samples', str(target))
    assert done.returncode == 0, done
    names = ['glance-api-paste.ini', 'glance-api.conf',
             'glance-image-import.conf', 'policy.yaml']
    assert sorted(os.listdir(target)) == names
    loaded = configuration.load(['--config-dir', str(target)])
    assert configuration.unknown_options(loaded) == []
    (tmp_path / 'file').touch()
    done = service.run('manage', 'samples', str(tmp_path / 'file/x'))
    assert done.returncode == 1 and done.stderr.count('\n') == 1, done
    (target / 'policy.yaml').write_text('mine')
    done = service.run('manage', 'samples', str(target))
    assert done.returncode == 1 and 'left alone' in done.stdout, done
    assert (target / 'policy.yaml').read_text() == 'mine'
    assert service.run('manage', 'samples', '--force',
                       str(target)).returncode == 0
    assert (target / 'policy.yaml').read_text() != 'mine'


def test_a_directory_beside_the_file_is_read(tmp_path, monkeypatch):
    """As oslo.config searches: ~/.glance stands for /etc/glance."""
    monkeypatch.setenv('HOME', str(tmp_path))
    home = tmp_path / '.glance'
    for name in ('glance-api.conf.d', 'glance-image-import.conf.d'):
        (home / name).mkdir(parents=True)
    (home / 'glance-api.conf').write_text(
        '[DEFAULT]\nworkers = 3\nbind_port = 3\n')
    (home / 'glance-api.conf.d/50.conf').write_text('[DEFAULT]\nworkers = 5')
    (home / 'glance-image-import.conf.d/50.conf').write_text(
        '[import_filtering_opts]\nallowed_ports = [8443]')
    loaded = configuration.load([])
    assert (loaded.workers, loaded.bind_port) == (5, 3)
    assert loaded.import_filtering_opts.allowed_ports == [8443]
    # Who names a directory has named them all.
    other = tmp_path / 'other'
    other.mkdir()
    loaded = configuration.load(['--config-dir', str(other)])
    assert loaded.workers == 3


def test_a_log_that_cannot_be_written(make_service):
    service = make_service(options={'DEFAULT': {'log_file': '/none/log'}})
    done = service.run('manage', 'imports', 'list')
    assert (done.returncode, done.stdout) == (1, ''), done
    assert done.stderr.startswith('glance-import-manage: the log cannot be')
    assert done.stderr.count('\n') == 1 and '/none/log' in done.stderr


def test_the_check_is_the_same_as_json(make_service):
    service = make_service()
    done = service.run('status', 'upgrade', 'check', '--json')
    table = service.run('status', 'upgrade', 'check').stdout
    for row in json.loads(done.stdout)['checks']:
        assert f"Check: {row['check']}" in table
