"""The Containerfile, built on a root of Debian's where there is no registry.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import pytest

from tests.install import page
from tests import servers
from tests import service as services

# Bytes: the base and what is in it, without the tools that built it.
LARGEST = 900 << 20


def instructions():
    """(word, rest) of each, its lines joined."""
    text = (page.TOP / 'Containerfile').read_text().replace('\\\n', ' ')
    return [line.split(maxsplit=1) for line in text.splitlines()
            if line and not line.startswith('#')]


def test_what_it_says():
    found = instructions()
    assert found[-1][0] == 'CMD'
    user = [rest for word, rest in found if word == 'USER']
    assert user == ['4200:4200'], 'not as root'
    for word, rest in found:
        # Lists of packages stay out, and nothing is fetched by hand.
        if 'apt-get install' in rest:
            assert '--no-install-recommends' in rest
            assert 'rm -rf /var/lib/apt/lists' in rest
        assert word != 'ADD'
    assert len([word for word, _ in found if word == 'FROM']) == 2


def test_hadolint_finds_nothing():
    program = servers.program('hadolint', os.path.dirname(sys.executable))
    done = subprocess.run([program, str(page.TOP / 'Containerfile')],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ''), done


class Builder:
    """buildah, with a storage of its own."""

    def __init__(self, place: pathlib.Path) -> None:
        self.words = [servers.program('buildah'), '--root',
                      str(place / 'storage'), '--runroot', str(place / 'run'),
                      '--storage-driver', 'vfs']

    def __call__(self, *words: str) -> str:
        done = subprocess.run([*self.words, *words], capture_output=True,
                              text=True, cwd=page.TOP)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout.strip()


@pytest.mark.skipif(not os.environ.get('LONG_TESTS'),
                    reason='builds a system: LONG_TESTS')
def test_it_is_built_and_runs():
    if os.geteuid() != 0 or shutil.which('buildah') is None:
        servers.missing('it takes root and buildah')
    place = pathlib.Path(tempfile.mkdtemp(prefix='glance-import-test-'))
    builder = Builder(place)
    process = None
    try:
        root = page.make_root(place)
        shutil.rmtree(root / 'usr/src/glance-import')
        base = builder('from', 'scratch')
        builder('add', '-q', base, str(root), '/')
        builder('commit', '-q', '--rm', base, 'localhost/debian')
        shutil.rmtree(root)
        builder('build', '-q', '--isolation', 'chroot', '--build-arg',
                'BASE=localhost/debian', '--build-arg', 'PBR_VERSION=0.0.1',
                '-t', 'glance-import', '.')
        image, = json.loads(builder('images', '--json', 'glance-import'))
        described = json.loads(builder('inspect', '--type', 'image',
                                       'glance-import'))
        assert described['OCIv1']['config']['User'] == '4200:4200'
        made = builder('from', 'glance-import')
        mounted = pathlib.Path(builder('mount', made))
        size = int(subprocess.run(
            ['du', '-sxb', str(mounted)], capture_output=True,
            text=True, check=True).stdout.split()[0])
        print(f'{size >> 20} MiB ({image["size"]})')
        assert size < LARGEST, size
        assert not (mounted / 'usr/src/glance-import').exists()

        def run(*words):
            return [*builder.words, 'run', '--isolation', 'chroot', made,
                    '--', *words]

        done = subprocess.run(run('id', '-u'), capture_output=True, text=True)
        assert done.stdout.strip() == '4200', done
        done = subprocess.run(
            run('glance-import-status', 'upgrade', 'check', '--json'),
            capture_output=True, text=True)
        rows = {each['check']: each for each
                in json.loads(done.stdout)['checks']}
        rows.pop('Sandbox')
        assert all(each['result'] == 0 for each in rows.values()), rows
        port = servers.free_port()
        drop = mounted / 'etc/glance/glance-api.conf.d/50.conf'
        drop.write_text(f'[DEFAULT]\nbind_port = {port}\n')
        process = subprocess.Popen(run('glance-import-api'))

        def ready():
            assert process.poll() is None
            try:
                with urllib.request.urlopen(
                        f'http://127.0.0.1:{port}/healthcheck/ready') as got:
                    return got.status == 200
            except urllib.error.URLError:
                return False
        services.wait_for(ready)
    finally:
        if process is not None:
            process.terminate()
            process.wait(60)
        subprocess.run([*builder.words, 'umount', '--all'],
                       capture_output=True)
        shutil.rmtree(place, ignore_errors=True)
