"""qemu-img's say about images: on import, on PUT file, and when it is silent.

Programs that take the place of qemu-img run in the real sandbox.
"""

import os
import types

import pytest

from glance_import import conf as configuration
from glance_import import errors
from glance_import.plugin import host
from glance_import.plugin import sandbox
from glance_import.plugin import second_opinion
from glance_import.staging import area as areas
from tests import cpu
from tests.formats import corpus
from tests.formats import unusual
from tests import servers

BACKING = 'echo \'{"filename": "\'$LAST\'", "format": "qcow2", ' \
    '"full-backing-filename": "/etc/hostname"}\''
NOTHING = 'echo \'{"filename": "\'$LAST\'", "format": "raw"}\''
# What a program does that gives no opinion, and a word of what is said of it.
SILENT = {
    'time-out': ('sleep 600', 'time limit'),
    'killed': ('kill -9 $$', 'failed'),
    'crashed': ('kill -11 $$', 'failed'),
    'out of memory': ('echo "qemu-img: Could not open \'$LAST\': Could not '
                      'allocate memory" >&2; exit 1', 'failed'),
    'nothing said': ('exit 0', 'failed'),
    'no JSON': ('echo "{"', 'failed'),
    'two values': (f'{NOTHING}; {NOTHING}', 'failed'),
    'not about an image': ('echo "[]"', 'failed'),
    'without end': ('while :; do echo "[[[[[[[["; done', 'could not say'),
    'too deep': ('i=0; while [ $i -lt 9999 ]; do printf "{\\"a\\":"; '
                 'i=$((i+1)); done', 'failed'),
    'an odd status': ('exit 7', 'failed'),
    'an odd error': ('echo "no such option" >&2; exit 1', 'failed'),
    'unreadable': ('echo "qemu-img: Could not open \'$LAST\': Permission '
                   'denied" >&2; exit 1', 'failed'),
}


def imitate(path, script):
    """A program that answers as it likes, but in the first trial."""
    path.write_text('#!/bin/sh\nfor LAST; do :; done\n'
                    'if [ $(stat -c %s $LAST) = 512 ]; then '
                    f'{NOTHING}; exit; fi\n{script}\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def adviser(tmp_path):
    """Make advisers, and files in the staging area that they may read."""
    servers.program('bwrap')
    servers.program('qemu-img')
    (tmp_path / 'conf').mkdir()
    area = areas.Area.open(f'file://{tmp_path}/staging',
                           readers=sandbox.READERS)
    wall = sandbox.Strict()

    def make(**options):
        (tmp_path / 'conf' / 'glance-api.conf').write_text(
            f'[DEFAULT]\nstate_path = {tmp_path}\n[image_format]\n' + ''.join(
                f'{name} = {value}\n' for name, value in options.items()))
        conf = configuration.load(['--config-dir', str(tmp_path / 'conf')],
                                  prog='test')
        made = second_opinion.Adviser(conf, area, lambda: wall)
        assert made.trouble() is None
        return made

    make.directory = tmp_path / 'staging'
    return make


def readable(path):
    if os.geteuid() == 0:
        os.chown(path, -1, sandbox.READERS)
        path.chmod(0o640)
    return path


NAMED = {
    'backing': (corpus.with_backing, 'qcow2'),
    'backing-qcow1': (corpus.written(corpus.qcow1(), 4096), 'raw'),
    'backing-text': (corpus.written(corpus.qcow2_header(
        backing='nbd://127.0.0.1:9/x'), 1 << 20), 'raw'),
    'data-file': (corpus.with_data_file, 'raw'),
    'vmdk-parent': (corpus.written(corpus.vmdk_with('parentFileNameHint')),
                    'raw'),
    'descriptor': (corpus.written(corpus.descriptor()), 'raw'),
    'descriptor-of-itself': (corpus.written(corpus.descriptor(
        extents=f'RW 1 FLAT "{sandbox.DATA}" 0')), 'raw'),
    'descriptor-unprobed': (corpus.written(corpus.descriptor().replace(
        b'version=1', b'')), 'vmdk'),
}


@pytest.mark.parametrize('make, declared', NAMED.values(), ids=NAMED)
def test_what_it_sees_outside_is_refused(adviser, make, declared):
    path = adviser.directory / 'image'
    make(path)
    with pytest.raises(errors.Unsupported, match='opinion of qemu-img'):
        adviser().check(str(readable(path)), (declared,), host.never)


GOOD = {case.name: case for case in corpus.TABLE + unusual.TABLE
        if case.format}


def test_it_has_nothing_against_good_images(adviser):
    asked = adviser()
    for case in GOOD.values():
        path = adviser.directory / case.name
        case.make(path)
        asked.check(str(readable(path)), (case.declared, case.format),
                    host.never)
    # Nor against what only is not what it is said to be: others say that.
    for declared in second_opinion.QEMU:
        asked.check(str(adviser.directory / 'raw'), (declared,), host.never)


@pytest.mark.parametrize('script, word', SILENT.values(), ids=SILENT)
def test_silence_is_a_refusal(adviser, tmp_path, script, word):
    program = imitate(tmp_path / 'program', script)
    asked = adviser(second_opinion_program=program,
                    second_opinion_timeout=2)
    path = adviser.directory / 'image'
    path.write_bytes(bytes(1024))
    with pytest.raises(errors.Unsupported, match='could not say') as refusal:
        asked.check(str(readable(path)), ('raw',), host.never)
    assert word in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)


def test_a_sandbox_that_does_not_start_is_no_fault_of_the_image(adviser):
    asked = adviser()
    with pytest.raises(errors.Unavailable):
        asked.check(str(adviser.directory / 'gone'), ('raw',), host.never)


def test_trouble_may_pass(adviser):
    """A start on a host without a process left is not for ever."""
    other, failures = adviser(), [sandbox.SandboxError('no process left')]

    def wall():
        if failures:
            raise failures[0]
        return sandbox.Strict()

    asked = second_opinion.Adviser(
        types.SimpleNamespace(image_format=other._options), other._area,
        wall)
    assert asked.trouble() == 'no process left'
    failures.clear()
    assert asked.trouble() == 'no process left'
    # A minute later.
    asked._again = 0.0
    assert asked.trouble() is None


@pytest.fixture
def adopting():
    cpu.adopt()
    yield
    cpu.adopt(False)


def test_its_cost_does_not_grow_with_the_image(adviser, adopting):
    asked, costs = adviser(), []
    for size in (1 << 20, 64 << 20):
        path = adviser.directory / f'{size}'
        path.write_bytes(os.urandom(1 << 20) * (size >> 20))
        readable(path)
        before = cpu.here()
        for _ in range(5):
            asked.check(str(path), ('raw',), host.never)
        costs.append(cpu.here() - before)
    # It is counted at all: two programs are started, again and again.
    assert costs[0] > 0.03
    assert costs[1] < 2 * costs[0]


@pytest.fixture
def serve(make_service, tmp_path):
    servers.program('bwrap')

    def start(**options):
        made = make_service(options={'image_format': options})
        return made.start()
    return start


def put(service, image_id, data):
    return service.request('PUT', f'/v2/images/{image_id}/file', data,
                           {'Content-Type': 'application/octet-stream'})


def test_before_a_store_has_a_byte(serve, tmp_path):
    service = serve(second_opinion_program=imitate(
        tmp_path / 'program', f'if grep -q bad $LAST; then {BACKING}; '
        f'else {NOTHING}; fi'))
    assert 'second opinion on images: qemu-img' in service.text()
    image_id = service.ask(b'bad' * 1000)
    image = service.wait_status(image_id, 'uploading')
    assert 'opinion of qemu-img' in image['os_glance_import_error']
    answer = put(service, service.create(), b'bad' * 1000)
    assert answer.status == 415 and 'full-backing-filename' in answer.message
    assert service.stored() == []
    # The same service has nothing against others.
    service.wait_status(service.ask(b'good' * 1000), 'active')
    assert put(service, service.create(), b'good' * 1000).status == 204
    assert len(service.stored()) == 2


def test_what_is_not_raw_is_asked_about_by_name(serve, tmp_path):
    service = serve(second_opinion_program=imitate(
        tmp_path / 'program',
        f'case "$*" in *"-f vpc"*) {BACKING};; *) {NOTHING};; esac'))
    path = tmp_path / 'image'
    corpus.converted('vpc', 'subformat=fixed', 'force_size=on')(path)
    answer = put(service, service.create(), path.read_bytes())
    assert answer.status == 415 and 'as vpc' in answer.message


def test_silence_is_a_415(serve, tmp_path):
    service = serve(second_opinion_program=imitate(
        tmp_path / 'program', 'kill -9 $$'))
    answer = put(service, service.create(), b'x' * 1000)
    assert answer.status == 415 and 'could not say' in answer.message
    assert service.stored() == []


def test_where_it_cannot_be_had(make_service):
    service = make_service(options={
        'image_import_opts': {'isolation': 'process'}}).start()
    assert ('no second opinion on images: isolation is not strict'
            in service.text())
    service.wait_status(service.ask(b'x'), 'active')
    service.stop()
    service.configure(image_format={'second_opinion': 'required'})
    done = service.run('api')
    assert done.returncode == 1
    assert '[image_format] second_opinion: cannot be had' in done.stderr
    service.configure(image_import_opts={'isolation': 'strict'},
                      image_format={'second_opinion_program': '/no/qemu'})
    done = service.run('api')
    assert done.returncode == 1
    assert 'the program /no/qemu is not installed' in done.stderr


def test_off(serve):
    service = serve(second_opinion='off')
    assert 'no second opinion on images: second_opinion is off' in (
        service.text())
    service.wait_status(service.ask(b'x'), 'active')


def test_good_images_come_in(serve):
    """Real qemu-img: all good images of each format come in."""
    service = serve(second_opinion='required')
    directory = service.directory
    for case in GOOD.values():
        if case.name not in ('qcow2', 'vmdk-stream', 'vdi', 'vhdx', 'vhd',
                             'vhd-fixed', 'iso', 'ami', 'ploop', 'raw-luks'):
            continue
        case.make(directory / case.name)
        image_id = service.ask(
            (directory / case.name).read_bytes(),
            disk_format=case.declared, container_format=(
                'ami' if case.declared == 'ami' else 'bare'))
        service.wait_status(image_id, 'active')
