"""Contract plugins in real imports: verdicts, properties, audit, order."""

import hashlib
import json
import os
import uuid

import pytest

from glance_import import staging
from tests.plugin.test_wall import running
from tests import service as services


DATA = b'begin' + os.urandom(300_000) + b'end'

MARKER = '''
    from glance_import.plugin import ImagePlugin, Option

    class Marker(ImagePlugin):
        """Refuses images that hold a marker."""
        api = 1
        version = '7'
        options = [Option('marker', str, 'EVIL', help='what is refused')]

        def inspect(self, data, ctx):
            ctx.log('looking for %s', ctx.options.marker)
            for block in data:
                if ctx.options.marker.encode() in block:
                    return self.reject('It holds the marker.',
                                       code='acme.marker')
            return self.accept(properties={'acme_scanned': 'yes'})
'''


def do_import(service, data):
    image_id = service.ask(data)
    image = service.wait_status(image_id, 'active', 'uploading', 'queued')
    return image, service.tasks(image_id)[0]


def test_accepts_and_rejects(make_service, write_plugin):
    service = make_service(
        [write_plugin('marker', MARKER)],
        {'marker': {'marker': 'BANNED', 'allowed_properties': 'acme_'}})
    service.start()
    image, task = do_import(service, DATA)
    assert image['status'] == 'active'
    assert image['acme_scanned'] == 'yes'
    assert image['checksum'] == hashlib.md5(DATA).hexdigest()
    said, = task['result']['plugins']
    assert (said['plugin'], said['version'], said['verdict'],
            said['code']) == ('marker', '7', 'accept', None)
    assert said['bytes_read'] == len(DATA)
    assert said['seconds'] > 0
    assert 'looking for BANNED' in service.text()

    image, task = do_import(service, DATA + b'BANNED')
    assert image['status'] == 'uploading'
    assert image['os_glance_import_error'] == (
        'plugin marker: It holds the marker. (acme.marker)')
    assert task['status'] == 'failure'
    assert task['message'] == image['os_glance_import_error']
    said, = task['result']['plugins']
    assert (said['verdict'], said['code']) == ('reject', 'acme.marker')
    assert 'acme_scanned' not in image
    assert 'isolation of plugins: strict' in service.text()
    assert any(task['request_id'] in line and 'looking for BANNED' in line
               for line in service.text().splitlines())


UPPER = '''
    from glance_import.plugin import ImagePlugin

    class Upper(ImagePlugin):
        api = 1

        def transform(self, source, sink, ctx):
            for block in source:
                sink.write(block.upper())
            return self.accept(properties={'upper': 'yes'})
'''
SEES = '''
    from glance_import.plugin import ImagePlugin

    class {name}(ImagePlugin):
        api = 1

        def inspect(self, image, data, ctx):
            ctx.log('sees %r of %d, %s', data.read(5), image.size,
                    image.checksum)
            return self.accept()
'''


LOOKS = '''
    from glance_import.plugin import ImagePlugin

    class {name}(ImagePlugin):
        api = 1

        def inspect(self, image, data, ctx):
            ctx.log('finds a %s', image.detected_format)
            return self.accept()
'''
WRAPS = '''
    from glance_import.plugin import ImagePlugin

    class Wraps(ImagePlugin):
        api = 1

        def transform(self, image, source, sink, ctx):
            # The magic and the type of a VDI without any data.
            sink.write(bytes(64) + bytes.fromhex('7f10dabe') + bytes(8)
                       + bytes.fromhex('01000000') + bytes(1 << 16))
            return self.accept()
'''


def test_what_a_transform_wrote_is_inspected_again(
        make_service, write_plugin):
    service = make_service([
        write_plugin('early', LOOKS.format(name='Early')),
        write_plugin('wraps', WRAPS),
        write_plugin('late', LOOKS.format(name='Late'))])
    service.start()
    image, _task = do_import(service, b'plain bytes' * 1000)
    assert image['status'] == 'active', image
    assert 'plugin early: finds a raw' in service.text()
    assert 'plugin late: finds a vdi' in service.text()


def test_a_transform_is_a_barrier(make_service, write_plugin):
    service = make_service(
        [write_plugin('before', SEES.format(name='Before')), 'no_op',
         write_plugin('upper', UPPER),
         write_plugin('after', SEES.format(name='After'))],
        {'upper': {'allowed_properties': 'upper'}})
    service.start()
    data = b'some text' * 1000
    image, task = do_import(service, data)
    assert image['status'] == 'active', image
    assert service.download(image['id']) == data.upper()
    assert image['checksum'] == hashlib.md5(data.upper()).hexdigest()
    assert image['os_hash_value'] == hashlib.sha512(data.upper()).hexdigest()
    assert image['upper'] == 'yes'
    assert [each['step'] for each in task['result']['plugins']] == [
        'inspect', 'flow', 'transform', 'inspect']
    said = service.text()
    assert f"plugin before: sees b'some ' of 9000, " \
           f'{hashlib.md5(data).hexdigest()}' in said
    assert "plugin after: sees b'SOME ' of 9000, None" in said
    services.wait_for(lambda: service.staged() == [])


def test_a_rejection_after_a_transform_keeps_the_original(
        make_service, write_plugin):
    service = make_service(
        [write_plugin('upper', UPPER),
         write_plugin('marker', MARKER.replace('EVIL', 'SOME'))],
        {'upper': {'allowed_properties': 'upper'}})
    service.start()
    image, _task = do_import(service, b'some text')
    assert image['status'] == 'uploading'
    assert 'upper' not in image
    services.wait_for(lambda: service.staged() == [image['id']])
    assert (service.staging / image['id']).read_bytes() == b'some text'


WAITING = '''
    from glance_import.plugin import ImagePlugin
    import time

    class {name}(ImagePlugin):
        api = 1

        def inspect(self, data, ctx):
            time.sleep({seconds})
            {end}
'''


def test_of_two_rejections_the_first_listed_is_reported(
        make_service, write_plugin):
    names = [
        write_plugin('good', WAITING.format(
            name='Good', seconds=0, end='return self.accept()')),
        write_plugin('slow', WAITING.format(
            name='Slow', seconds=1.5, end='return self.reject("slow")')),
        write_plugin('fast', WAITING.format(
            name='Fast', seconds=0, end='return self.reject("fast")')),
        write_plugin('endless', WAITING.format(
            name='Endless', seconds=3600, end='return self.accept()'))]
    service = make_service(names, {'endless': {'idle_timeout': 3600}})
    service.start()
    image, task = do_import(service, DATA)
    assert image['os_glance_import_error'] == 'plugin slow: slow'
    assert [each['verdict'] for each in task['result']['plugins']] == [
        'accept', 'reject', 'skipped', 'skipped']


FAILING = '''
    from glance_import.plugin import ImagePlugin

    class Failing(ImagePlugin):
        api = 1

        def inspect(self, data, ctx):
            raise ValueError('the password is xyzzy')
'''


@pytest.mark.parametrize('policy,status,attempts', [
    ('closed', 'uploading', 1), ('retry:2', 'uploading', 3),
    ('open', 'active', 1)])
def test_failure_policy(make_service, write_plugin, policy, status, attempts):
    service = make_service([write_plugin('failing', FAILING)],
                           {'failing': {'failure_policy': policy}})
    service.start()
    image, task = do_import(service, DATA)
    assert image['status'] == status
    said, = task['result']['plugins']
    assert (said['verdict'], said['attempts']) == ('error', attempts)
    assert 'xyzzy' not in str(image) + str(task)
    assert 'ValueError: the password is xyzzy' in service.text()
    if status == 'uploading':
        assert image['os_glance_import_error'] == (
            'plugin failing: the image could not be judged: it failed '
            f"(ValueError) (reference {task['request_id']})")


def test_enforcement_and_prechecks(make_service, write_plugin):
    service = make_service(
        [write_plugin('marker', MARKER), 'property_policy', 'format_report'],
        {'marker': {'enforcement': 'warn', 'allowed_properties': 'acme_'},
         'property_policy': {'required': 'os_distro=debian|ubuntu'},
         'format_report': {'enforcement': 'off'}})
    service.start()
    image_id = service.ask(b'EVIL')
    image = service.wait_status(image_id, 'uploading')
    assert image['os_glance_import_error'] == (
        'plugin property_policy: The image needs the property os_distro '
        '(debian or ubuntu). (property.required)')
    said, = service.tasks(image_id)[0]['result']['plugins']
    assert (said['step'], said['bytes_read']) == ('precheck', 0)

    image_id = service.create(os_distro='debian')
    service.stage(image_id, b'EVIL')
    service.start_import(image_id)
    service.wait_status(image_id, 'active')
    assert [(each['plugin'], each['verdict'], each['code'])
            for each in service.tasks(image_id)[0]['result']['plugins']] == [
        ('property_policy', 'accept', None),
        ('marker', 'reject', 'acme.marker')]


def test_other_imports_go_on_beside_a_hanging_plugin(
        make_service, write_plugin):
    service = make_service([write_plugin('slow', '''
        import os, signal, time
        from glance_import.plugin import ImagePlugin

        class Slow(ImagePlugin):
            api = 1

            def inspect(self, data, ctx):
                if data.read(4) == b'HANG':
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)
                    while True:
                        os.write(1, b'x' * 10)
                        ctx.progress()
                        time.sleep(0.05)
                return self.accept()
    ''')], {'slow': {'timeout': 5}})
    service.start()
    hanging = service.create()
    service.stage(hanging, b'HANG')
    service.start_import(hanging)
    for _ in range(3):
        image, _task = do_import(service, DATA)
        assert image['status'] == 'active'
    image = service.wait_status(hanging, 'uploading')
    assert 'longer than its time limit of 5 s' in (
        image['os_glance_import_error'])


def test_ended_with_the_conductor(make_service, write_plugin):
    mark = f'8{uuid.uuid4().int % 10 ** 9:09}'
    service = make_service([write_plugin('child', f'''
        from glance_import.plugin import ImagePlugin
        import os

        class Child(ImagePlugin):
            api = 1

            def inspect(self, data, ctx):
                os.execv('/bin/sleep', ['sleep', '{mark}'])
    ''')])
    service.start()
    service.ask(DATA)
    services.wait_for(lambda: running(mark))
    service.kill()
    services.wait_for(lambda: not running(mark))


def test_a_program_in_any_language(make_service, tmp_path):
    path = tmp_path / 'scan-it.sh'
    path.write_text('''#!/bin/sh
if [ "$1" = describe ]; then
    echo '{"api": 1, "version": "3.1", "methods": ["inspect"],
           "options": [{"name": "word", "type": "str", "default": "EVIL"}]}'
    exit 0
fi
echo "looking at $1" >&2
grep -q '"word": "BAD"' "$GLANCE_IMPORT_IMAGE" || exit 7
if grep -q BAD -; then
    echo '{"verdict": "reject", "reason": "bad words", "code": "sh.bad"}'
else
    echo '{"verdict": "accept", "properties": {"sh_seen": "1"}}'
fi
''')
    path.chmod(0o755)
    service = make_service(
        [f'exec:{path}'],
        {'scan_it_sh': {'word': 'BAD', 'allowed_properties': 'sh_'}})
    service.start()
    image, task = do_import(service, b'good words')
    assert image['status'] == 'active', (image, service.text()[-3000:])
    assert image['sh_seen'] == '1'
    assert task['result']['plugins'][0]['version'] == '3.1'
    image, task = do_import(service, b'BAD words')
    assert image['os_glance_import_error'] == (
        'plugin scan_it_sh: bad words (sh.bad)')
    assert 'plugin scan_it_sh: looking at inspect' in service.text()


def test_a_program_opens_the_data_by_name(make_service, tmp_path):
    """Also what another program made of it, and never for writing."""
    path = tmp_path / 'by-name'
    path.write_text('''#!/bin/sh
if [ "$1" = describe ]; then
    echo '{"api": 1, "methods": ["inspect", "transform"]}'
    exit 0
fi
if [ "$1" = transform ]; then
    tr a-z A-Z <"$GLANCE_IMPORT_DATA" >"$GLANCE_IMPORT_SINK"
    echo '{"verdict": "accept"}'
    exit 0
fi
found=$(cat "$GLANCE_IMPORT_DATA")
for name in "$GLANCE_IMPORT_DATA" /proc/self/fd/0; do
    (echo changed >"$name") 2>/dev/null && found=changed
done
echo "{\\"verdict\\": \\"accept\\",
       \\"properties\\": {\\"found_$1\\": \\"$found\\"}}"
''')
    path.chmod(0o755)
    last = tmp_path / 'last'
    last.write_text(path.read_text().replace(', "transform"', '')
                    .replace('found_$1', 'last_$1'))
    last.chmod(0o755)
    service = make_service(
        [f'exec:{path}', f'exec:{last}'],
        {'by_name': {'allowed_properties': 'found_'},
         'last': {'allowed_properties': 'last_'}})
    service.start()
    image, _task = do_import(service, b'some words')
    assert image['status'] == 'active', (image, service.text()[-3000:])
    assert image['found_inspect'] == 'some words'
    assert image['last_inspect'] == 'SOME WORDS'
    assert service.download(image['id']) == b'SOME WORDS'


def test_a_class_opens_the_data_by_name(make_service, write_plugin):
    """A program that it starts reads it; nobody writes it."""
    text = '''
    import subprocess

    from glance_import.plugin import ImagePlugin


    class {name}(ImagePlugin):
        api = 1

        def inspect(self, image, data, ctx):
            assert data.path.startswith('/glance/'), data.path
            read = subprocess.run(['cat', data.path], capture_output=True,
                                  check=True).stdout
            assert read == data.read(), read
            try:
                open(data.path, 'r+b').close()
            except OSError:
                size = str(len(read))
                return self.accept(properties={{'{name}_read': size}})
            return self.reject('it can be written')
    '''
    service = make_service(
        [write_plugin('before', text.format(name='Before')),
         write_plugin('upper', UPPER),
         write_plugin('after', text.format(name='After'))],
        {'before': {'allowed_properties': 'Before_'},
         'upper': {'allowed_properties': 'upper'},
         'after': {'allowed_properties': 'After_'}})
    service.start()
    image, _task = do_import(service, b'some words')
    assert image['status'] == 'active', (image, service.text()[-3000:])
    assert image['Before_read'] == image['After_read'] == '10'


def test_a_transform_survives_the_death_of_the_conductor(
        make_service, write_plugin, tmp_path):
    """Begun again from the original, and nothing of the first is left."""
    service = make_service([write_plugin('slow_upper', UPPER.replace(
        'class Upper', 'class SlowUpper').replace(
        'return', 'ctx.log("written")\n            '
        'time.sleep(ctx.options.seconds)\n            return').replace(
        'import ImagePlugin', 'import ImagePlugin, Option').replace(
        'api = 1', "api = 1\n        options = [Option('seconds', int, 0)]"
        ).replace('    from glance', '    import time\n    from glance'))],
        {'slow_upper': {'allowed_properties': 'upper', 'seconds': 8}})
    service.start()
    image_id = service.ask(b'some text')
    services.wait_for(lambda: 'slow_upper: written' in service.text())
    assert [name for name in service.staged() if name.endswith('.new')]
    service.kill()
    # As long again: it is judged by the options that it was asked for with.
    service.start()
    service.wait_status(image_id, 'active')
    assert service.download(image_id) == b'SOME TEXT'
    services.wait_for(lambda: service.staged() == [])


def test_housekeeping_knows_what_plugins_made(tmp_path):
    area = staging.Area.open(f'file://{tmp_path}/staging')
    image_id = str(uuid.uuid4())
    first = area.new_product(image_id, 3, 0)
    other = area.new_product(image_id, 3, 1)
    assert {each.path for each in area.products()} == {first, other}
    assert {(each.image_id, each.epoch) for each in area.products()} == {
        (image_id, 3)}
    assert list(area.list()) == []
    later = area.new_product(image_id, 4, 0)
    # What another plugin made may be what this attempt goes on with.
    assert {each.path for each in area.products()} == {other, later}


def test_what_was_said_is_kept(make_service, write_plugin):
    """Also of get_flow plugins, and of what the operator let through."""
    service = make_service(
        [write_plugin('marker', MARKER), 'no_op'],
        {'marker': {'marker': 'BANNED', 'allowed_properties': 'acme_',
                    'enforcement': 'warn'}})
    service.start()
    image, task = do_import(service, b'it is BANNED')
    assert image['status'] == 'active'

    def audit(wanted):
        done = service.run('manage', 'plugins', 'audit', wanted, '--json')
        assert done.returncode == 0, done
        return [(each['plugin'], each['step'], each['verdict'],
                 each['let_through']) for each in json.loads(done.stdout)]
    said = [('marker', 'inspect', 'reject', True),
            ('no_op', 'flow', 'ran', None)]
    assert audit(image['id']) == audit(task['id']) == said
    # The tasks of imports are gone before.
    service.execute('DELETE FROM task_info')
    service.execute('DELETE FROM tasks')
    service.run('manage', 'staging', 'clean')
    assert audit(image['id']) == said
    service.execute('UPDATE import_verdicts SET ended_at = ended_at - 7776060')
    service.run('manage', 'staging', 'clean')
    assert audit(image['id']) == []
