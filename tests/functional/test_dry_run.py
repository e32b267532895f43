"""plugins dry-run: what an import would come to, without one."""

import json
import subprocess

import pytest

from tests import servers
from tests import service as services

SIZE = 4 << 20


@pytest.fixture
def run(tmp_path):
    servers.program('bwrap')
    service = services.Service(tmp_path / 'service', options={
        'image_import_opts': {'image_import_plugins': '[image_conversion]'},
        'image_conversion': {'output_format': 'qcow2'}})
    service.configure()

    def dry_run(path, *words, plugins='[image_conversion]'):
        service.configure(image_import_opts={'image_import_plugins': plugins})
        done = service.run('manage', 'plugins', 'dry-run', '--image',
                           str(path), *words)
        assert 'Traceback' not in done.stdout + done.stderr
        assert not service.state.exists() and not service.staging.exists()
        return done
    return dry_run


def qemu_img(*words):
    subprocess.run([servers.program('qemu-img'), *map(str, words)],
                   check=True, stdout=subprocess.DEVNULL)


def test_a_bundled_plugin_runs(run, tmp_path):
    disk = tmp_path / 'disk'
    disk.write_bytes(b'\0' * SIZE)
    done = run(disk)
    assert done.returncode == 0, done
    assert 'bytes of qcow2\nthe image would pass\n' in done.stdout
    assert disk.read_bytes() == b'\0' * SIZE
    # What it is declared to be counts, as it does in an import.
    done = run(disk, '--meta', 'disk_format=vmdk')
    assert done.returncode == 1
    assert 'the image would be refused: ' in done.stdout


def test_the_judge_of_contents_is_asked(run, tmp_path):
    qemu_img('create', '-f', 'raw', tmp_path / 'base', SIZE)
    qemu_img('create', '-f', 'qcow2', '-b', 'base', '-F', 'raw',
             tmp_path / 'overlay')
    for plugins in ('[image_conversion]', '[]', '[no_op, image_conversion]'):
        done = run(tmp_path / 'overlay', plugins=plugins)
        assert done.returncode == 1, done
        assert 'refused' in done.stdout and 'backing' in done.stdout


def test_inspectors_see_what_they_would_see(run, tmp_path):
    """After a conversion: of the data as it is by then."""
    qemu_img('create', '-f', 'qcow2', tmp_path / 'good', SIZE)
    plugin = tmp_path / 'tell.py'
    plugin.write_text('''
from glance_import.plugin import ImagePlugin


class Tell(ImagePlugin):
    api = 1

    def inspect(self, image, data, ctx):
        ctx.log('%s %s %s', image.disk_format, image.detected_format,
                image.virtual_size)
        if image.properties.get('wait'):
            return self.hold('somebody has to look')
        return self.accept()
''')
    done = run(tmp_path / 'good', '--directory', str(tmp_path),
               plugins=f'[file:{plugin}:Tell, image_conversion]')
    assert done.returncode == 0, done
    assert f'tell: log: qcow2 qcow2 {SIZE}\n' in done.stdout
    done = run(tmp_path / 'good', '--meta', 'wait=yes', '--json',
               plugins=f'[file:{plugin}:Tell]')
    assert done.returncode == 1
    record, = json.loads(done.stdout)
    assert (record['plugin'], record['verdict']) == ('tell', 'hold')
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        'good', 'service', 'tell.py']
