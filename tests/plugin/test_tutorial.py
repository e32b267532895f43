"""The tutorial, followed word by word, and the package outside the tree.

Both in a fresh virtual environment with real installs.
"""

import json
import os
import pathlib
import re
import subprocess

import pytest

from tests import environments
from tests.packaging.test_seed_words import environment  # noqa: F401
from tests import servers

TOP = pathlib.Path(__file__).resolve().parents[2]
TUTORIAL = TOP / 'doc' / 'source' / 'plugins' / 'tutorial.rst'
EXAMPLE = pathlib.Path('doc', 'examples', 'acme-image-plugin')


def blocks(text):
    """(kind, caption, body) of each code block, in order."""
    pattern = re.compile(
        r'^\.\. code-block:: (\w+)\n(?:   :caption: (\S+)\n)?\n'
        r'((?:   .*\n|\n)+)', re.M)
    for match in pattern.finditer(text):
        body = '\n'.join(line[3:] for line in match[3].split('\n'))
        yield match[1], match[2], body.strip('\n') + '\n'


def expected(lines):
    """A pattern for shown output; ... stands for anything."""
    text = '\n'.join(lines)
    return re.escape(text).replace(r'\.\.\.', r'(?s:.*)')


class Follower:
    """Does what the page says, in one directory after the other."""

    def __init__(self, env, directory):
        self.directory = directory
        self.conf = directory / 'etc'
        self.conf.mkdir()
        (self.conf / 'glance-api.conf').write_text(
            '[DEFAULT]\n'
            f'state_path = {directory}/state\n'
            f'node_staging_uri = file://{directory}/staging\n'
            '[glance_store]\n'
            f'filesystem_store_datadir = {directory}/images\n')
        home = directory / 'home'
        # ~/.glance is one of the places where the files are looked for.
        home.mkdir()
        (home / '.glance').symlink_to(self.conf)
        self.environment = dict(
            env.clean, HOME=str(home), PYTHONDONTWRITEBYTECODE='1',
            PATH=f'{env.python.parent}{os.pathsep}{env.clean["PATH"]}')

    def follow(self, kind, caption, body):
        if kind == 'console':
            self.console(body)
        elif caption == 'glance-image-import.conf':
            (self.conf / caption).write_text(body)
        else:
            (self.directory / caption).write_text(body)

    def console(self, body):
        for part in re.split(r'^\$ ', body, flags=re.M)[1:]:
            command, *shown = part.rstrip('\n').split('\n')
            if command.startswith('cd '):
                self.directory = self.directory / command[3:]
                continue
            done = subprocess.run(
                command, shell=True, cwd=self.directory, text=True,
                env=self.environment, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=300)
            assert re.fullmatch(expected(shown), done.stdout.rstrip('\n')), (
                command, done.stdout)


@pytest.fixture
def clients(request):
    return environments.make(
        'clients', request.config.cache.mkdir('environments'))


@pytest.fixture
def installed(environment, bwrap):  # noqa: F811
    environment.install(environment.tree)
    environment.uv('pip', 'install', '--quiet', '--python',
                   str(environment.python), '-c',
                   str(environment.tree / 'constraints.txt'), 'pytest',
                   'pip')
    return environment


def test_the_tutorial(installed, tmp_path):
    found = list(blocks(TUTORIAL.read_text()))
    assert [kind for kind, _caption, _body in found].count('console') >= 7
    follower = Follower(installed, tmp_path)
    for block in found:
        follower.follow(*block)


def test_a_package_outside_the_tree(installed, clients, tmp_path):
    """One line of glance-image-import.conf, and the user reads the reason."""
    qemu_img = servers.program('qemu-img')
    service = installed.service(tmp_path / 'service')
    (service.conf / 'glance-image-import.conf').write_text(
        '[image_import_opts]\nimage_import_plugins = [acme-licence]\n')
    done = service.run('api')
    assert done.returncode != 0 and "'acme-licence'" in done.stderr
    installed.install(installed.tree / EXAMPLE)
    service.start()
    try:
        raw = tmp_path / 'disk.raw'
        raw.write_bytes(b'x' * 100_000 + b'FORBIDDEN-SOFT' + bytes(1 << 20))
        subprocess.run([qemu_img, 'convert', '-f', 'raw', '-O', 'qcow2',
                        str(raw), str(tmp_path / 'disk.qcow2')], check=True)
        image_id = service.create(disk_format='qcow2')
        service.stage(image_id, (tmp_path / 'disk.qcow2').read_bytes())
        service.start_import(image_id)
        image = service.wait_status(image_id, 'active', 'uploading')
        reason = ('plugin acme-licence: The image holds FORBIDDEN-SOFT, which '
                  'Acme has not licensed. (acme.unlicensed)')
        assert image['os_glance_import_error'] == reason
        shown = subprocess.run(
            [clients.program('openstack'), 'image', 'show', image_id,
             '-f', 'json'], capture_output=True, text=True, check=True,
            env={'PATH': os.environ['PATH'], 'OS_AUTH_TYPE': 'admin_token',
                 'OS_TOKEN': 'x',
                 'OS_ENDPOINT': f'http://127.0.0.1:{service.port}/v2',
                 'HOME': str(tmp_path)})
        assert json.loads(shown.stdout)['properties'][
            'os_glance_import_error'] == reason
        said, = service.tasks(image_id)[0]['result']['plugins']
        assert said['version'] == '1.2'
    finally:
        service.kill()
