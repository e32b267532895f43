"""The commands of the README: what they choose, and one whole walk."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests import servers

TOP = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def quickstart():
    spec = importlib.util.spec_from_file_location(
        'quickstart', TOP / 'tools' / 'quickstart.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['quickstart'] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules['quickstart']


@pytest.mark.parametrize('fmt', ['qcow2', 'vmdk', 'vdi', 'vhdx', 'vpc',
                                 'raw'])
def test_format_is_read_from_what_qemu_wrote(quickstart, tmp_path, fmt):
    servers.program('qemu-img')
    # A name that says nothing, so that only the content can tell.
    path = tmp_path / 'image'
    subprocess.run(['qemu-img', 'create', '-q', '-f', fmt, path, '8M'],
                   check=True)
    glance_name = {'vpc': 'vhd'}.get(fmt, fmt)
    assert quickstart.disk_format(path) == glance_name


def test_format_of_an_iso_and_of_names(quickstart, tmp_path):
    iso = tmp_path / 'disc'
    iso.write_bytes(bytes(0x8001) + b'CD001' + bytes(4096))
    assert quickstart.disk_format(iso) == 'iso'
    for name, fmt in (('a.img', 'raw'), ('a.raw', 'raw'), ('a.VHD', 'vhd')):
        (tmp_path / name).write_bytes(b'no magic')
        assert quickstart.disk_format(tmp_path / name) == fmt


def test_a_compressed_file_is_refused(quickstart, tmp_path):
    path = tmp_path / 'disk.raw.gz'
    path.write_bytes(b'\x1f\x8b\x08' + bytes(100))
    with pytest.raises(quickstart.Failure, match='gzip'):
        quickstart.disk_format(path)


def test_a_difference_is_noticed(quickstart):
    sent, received = quickstart.Digests(), quickstart.Digests()
    sent.update(b'abc')
    received.update(b'abc')
    quickstart.compare(sent.values(), sent, received)
    received.update(b'd')
    with pytest.raises(quickstart.Failure, match='the download'):
        quickstart.compare(sent.values(), sent, received)
    with pytest.raises(quickstart.Failure, match='the image has checksum'):
        quickstart.compare({**sent.values(), 'checksum': 'no'}, sent, sent)


def test_the_walk_ends_with_equal_digests(tmp_path):
    image = tmp_path / 'disk.raw'
    image.write_bytes(os.urandom(3 * 1024 * 1024 + 7))
    # A copy of the program has its state beside the copy.
    home = tmp_path / 'clone'
    (home / 'tools').mkdir(parents=True)
    shutil.copy(TOP / 'tools' / 'quickstart.py', home / 'tools')
    shutil.copytree(TOP / 'etc', home / 'etc')
    done = subprocess.run(
        [sys.executable, home / 'tools' / 'quickstart.py', image, '--once'],
        capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'the file, the image and the download are the same' in done.stdout
    assert '== the service has stopped' in done.stdout
    assert list((home / '.quickstart' / 'images').iterdir())


def bash(script, path):
    return subprocess.run(
        ['/bin/bash', '-c', f'. tools/bootstrap.sh; {script}'], cwd=TOP,
        env={'PATH': str(path)}, capture_output=True, text=True)


def program(path, text):
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)


def test_python_that_only_seems_to_be_there_is_passed_over(tmp_path):
    program(tmp_path / 'python3.13', 'exit 127')
    program(tmp_path / 'python3.12', f'exec {sys.executable} "$@"')
    found = bash('find_python', tmp_path)
    assert found.stdout == 'python3.12\n'


def test_no_python_is_one_line(tmp_path):
    program(tmp_path / 'python3', 'exit 1')
    found = bash('find_python', tmp_path)
    assert found.returncode == 1
    assert found.stdout == ''
    assert found.stderr.startswith('error: no python3 of version 3.11')
    assert len(found.stderr.splitlines()) == 1


def test_without_rights_a_package_is_named(tmp_path):
    program(tmp_path / 'id', 'echo 1000')
    found = bash('install_debian one two', tmp_path)
    assert found.returncode == 1
    assert found.stderr == 'missing: sudo apt-get install -y one two\n'
