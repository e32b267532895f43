"""glance-import-plugin and glance-import-manage plugins, as they are run."""

import configparser
import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

from tests.plugin.test_import import MARKER
from tests.plugin.test_import import SEES
from tests.plugin.test_import import UPPER


def plugin(*words, cwd=None):
    return subprocess.run(
        [sys.executable, '-m', 'glance_import.cmd.plugin', *map(str, words)],
        capture_output=True, text=True, cwd=cwd, timeout=60)


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / 'marker.py'
    path.write_text(textwrap.dedent(MARKER))
    return f'{path}:Marker'


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'disk.raw'
    path.write_bytes(b'data' * 1000 + b'EVIL')
    return path


@pytest.mark.parametrize('name', ['acme', 'site-policy'])
def test_new_passes_its_own_test(tmp_path, name):
    done = plugin('new', name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    module = name.replace('-', '_')
    made = tmp_path / name
    assert (made / 'pyproject.toml').exists()
    tests = subprocess.run(
        [str(pathlib.Path(sys.executable).parent / 'pytest'), '-q', '-p',
         'no:cacheprovider', 'tests'], cwd=made, capture_output=True,
        text=True, timeout=60,
        env=dict(os.environ))
    assert tests.returncode == 0, tests.stdout + tests.stderr
    cls = ''.join(word.capitalize() for word in module.split('_'))
    assert plugin('lint', f'{made}/{module}.py:{cls}').returncode == 0
    again = plugin('new', name, cwd=tmp_path)
    assert (again.returncode, 'is there already' in again.stderr) == (2, True)


def test_new_refuses_a_bad_name(tmp_path):
    done = plugin('new', '3!', cwd=tmp_path)
    assert (done.returncode, os.listdir(tmp_path)) == (2, [])


@pytest.mark.parametrize('wall', [(), ('--strict',)])
def test_run(marker, image, wall, bwrap):
    done = plugin('run', marker, '--image', image, '--set', 'marker=NOPE',
                  *wall)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        'inspect: accept acme_scanned=yes in ')
    assert 'log: looking for NOPE' in done.stderr
    done = plugin('run', marker, '--image', image, '--json', *wall)
    assert done.returncode == 1
    said, = json.loads(done.stdout)
    assert (said['verdict'], said['code'], said['bytes_read']) == (
        'reject', 'acme.marker', image.stat().st_size)


def test_run_transforms(tmp_path, image):
    (tmp_path / 'upper.py').write_text(textwrap.dedent(UPPER))
    done = plugin('run', tmp_path / 'upper.py:Upper', '--image', image,
                  '--output', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'out').read_bytes() == image.read_bytes().upper()


@pytest.mark.parametrize('words,said', [
    (('nowhere.py:X',), 'there is no file nowhere.py'),
    (('plain',), 'is not FILE:CLASS'),
    (('{marker}', '--set', 'x=1'), "declares no option 'x'"),
    (('{marker}', '--set', 'x'), 'not NAME=VALUE'),
    (('{marker}', '--meta', 'size=big'), 'is no number')])
def test_run_refuses(marker, image, words, said):
    done = plugin('run', *(word.format(marker=marker) for word in words),
                  '--image', image)
    assert done.returncode == 2
    assert said in done.stderr and 'Traceback' not in done.stderr


def test_run_a_broken_one(tmp_path, image):
    path = tmp_path / 'b.py'
    path.write_text('from glance_import.plugin import ImagePlugin\n'
                    'class B(ImagePlugin):\n    api = 1\n'
                    '    def inspect(self): raise KeyError(1)\n')
    done = plugin('run', f'{path}:B', '--image', image)
    assert done.returncode == 3
    assert 'inspect: error (it failed (KeyError))' in done.stdout
    assert 'KeyError: 1' in done.stderr


def test_lint(tmp_path):
    path = tmp_path / 'b.py'
    path.write_text('from glance_import.plugin import ImagePlugin\n'
                    'from glance_import.plugin.host import run\n'
                    'import glance_import.db.images\n'
                    'from oslo_log import log\n'
                    'class B(ImagePlugin):\n    api = 1\n'
                    '    def inspect(self, blob): pass\n')
    done = plugin('lint', f'{path}:B')
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith(f'{path}:2: imports')]
    assert [line for line in lines if line.startswith(f'{path}:3: imports')]
    assert [line for line in lines if line.startswith(f'{path}:4: imports')]
    path.write_text('from glance_import.plugin import ImagePlugin\n'
                    'class B(ImagePlugin):\n    api = 1\n'
                    '    def inspect(self, blob): pass\n')
    done = plugin('lint', f'{path}:B')
    assert "takes the argument 'blob'" in done.stdout


@pytest.fixture
def configured(make_service, write_plugin):
    return make_service(
        [write_plugin('marker', MARKER), 'format_report', 'no_op',
         write_plugin('upper', UPPER), 'property_policy',
         write_plugin('after', SEES.format(name='After'))],
        {'marker': {'allowed_properties': 'acme_'},
         'upper': {'allowed_properties': 'up'}})


def test_list(configured):
    done = configured.run('manage', 'plugins', 'list', '--json')
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(row['order'], row['kind'], row['isolation'])
            for row in rows] == [
        (1, 'file', 'strict'), (2, 'class', 'strict'),
        (3, 'get_flow', 'none'), (4, 'file', 'strict'),
        (5, 'class', 'strict'), (6, 'file', 'strict')]
    assert rows[0]['version'] == '7'
    assert rows[0]['limits']['memory'] == '512 MiB'
    assert '[marker] inspect' in configured.run(
        'manage', 'plugins', 'list').stdout


def test_sample(configured):
    """Each section with what the plugin declares and what all have."""
    done = configured.run('manage', 'plugins', 'sample')
    assert done.returncode == 0, done.stderr
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(re.sub('^#(?=[a-z_]+ =)', '', done.stdout, flags=re.M))
    listed = json.loads(configured.run(
        'manage', 'plugins', 'list', '--json').stdout)
    sections = [row['section'] for row in listed if 'section' in row]
    assert parser.sections() == sorted(sections)
    assert parser['marker']['marker'] == 'EVIL'
    for section in sections:
        assert parser[section]['failure_policy'] == 'closed'


def test_dry_run(configured, tmp_path):
    good = tmp_path / 'good'
    good.write_bytes(b'fine' * 100)
    done = configured.run('manage', 'plugins', 'dry-run', '--image',
                          str(good), '--meta', 'os_distro=debian')
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'marker: inspect: accept acme_scanned=yes' in done.stdout
    assert "after: log: sees b'FINEF' of 400" in done.stdout
    assert done.stdout.endswith('the image would pass\n')
    good.write_bytes(b'EVIL')
    done = configured.run('manage', 'plugins', 'dry-run', '--image',
                          str(good), '--json')
    assert done.returncode == 1
    assert good.read_bytes() == b'EVIL'
    assert not configured.state.exists() and not configured.staging.exists()


def test_draw(configured):
    drawn = configured.run('manage', 'plugins', 'draw').stdout
    assert '[marker: inspect] || [format_report: inspect]' in drawn
    assert drawn.index('property_policy: precheck') < drawn.index(
        'ConfigureStaging')
    assert drawn.index('[no_op: get_flow]') < drawn.index(
        '[Check-no_op]') < drawn.index('[CheckContent]') < drawn.index(
        '[ImportToStore]') < drawn.index('[CompleteTask]')
    copied = configured.run('manage', 'plugins', 'draw', '--method',
                            'copy-image').stdout
    assert '[CopyImage]' in copied and 'no_op' not in copied
    dot = configured.run('manage', 'plugins', 'draw', '--format', 'dot')
    assert dot.stdout.startswith('digraph import {')
    svg = configured.run('manage', 'plugins', 'draw', '--format', 'svg')
    assert svg.stdout.startswith('<svg ') and 'no_op: get_flow' in svg.stdout


def test_one_line_when_a_plugin_is_missing(make_service):
    done = make_service(['lost']).run('manage', 'plugins', 'list')
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1 and "'lost'" in done.stderr


NEEDS = '''
from glance_import.plugin import ImagePlugin, Option

import yaml


class Needs(ImagePlugin):
    api = 1
    options = [Option('path', str, '')]

    def inspect(self, ctx):
        if ctx.options.path:
            open(ctx.options.path).close()
        return self.accept(properties={'found': yaml.__version__})
'''


@pytest.mark.parametrize('wall', [(), ('--strict',)])
def test_a_file_sees_what_is_installed(tmp_path, image, wall, bwrap):
    (tmp_path / 'needs.py').write_text(NEEDS)
    done = plugin('run', f'{tmp_path}/needs.py:Needs', '--image', image,
                  *wall)
    assert done.returncode == 0, done
    assert 'accept found=' in done.stdout


def test_what_is_blocked_is_explained(tmp_path, image, bwrap):
    """A file that the section does not grant, and the network."""
    (tmp_path / 'needs.py').write_text(NEEDS)
    (tmp_path / 'rules').write_text('rules')
    run = ('run', f'{tmp_path}/needs.py:Needs', '--image', image, '--strict',
           '--set', f'path={tmp_path}/rules')
    done = plugin(*run)
    assert done.returncode == 3
    assert 'not in read_paths' in done.stdout
    assert str(tmp_path / 'rules') not in done.stdout
    assert str(tmp_path / 'rules') in done.stderr
    assert plugin(*run, '--read', str(tmp_path / 'rules')).returncode == 0
    (tmp_path / 'calls.py').write_text(
        'import socket\n' + NEEDS.replace(
            'open(ctx.options.path).close()', 'socket.socket()'
        ).replace('Needs', 'Calls'))
    done = plugin('run', f'{tmp_path}/calls.py:Calls', '--image', image,
                  '--strict', '--set', 'path=x')
    assert 'which the sandbox does not allow' in done.stdout


def test_lint_a_program(tmp_path):
    """Of any language: what it says of itself is looked at."""
    program = tmp_path / 'scan'
    program.write_text('#!/bin/sh\n'
                       'echo \'{"api": 1, "methods": ["inspect"]}\'\n')
    program.chmod(0o755)
    done = plugin('lint', f'exec:{program}')
    assert done.returncode == 0, done
    program.write_text('#!/bin/sh\necho \'{"api": 7, "methods": []}\'\n')
    done = plugin('lint', f'exec:{program}')
    assert done.returncode == 1 and done.stdout.strip(), done
    assert 'cannot be read' not in done.stdout
