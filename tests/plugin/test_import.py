"""Contract plugins in real imports: verdicts, properties, audit, order."""

import hashlib
import os


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
    image_id = service.create()
    assert service.stage(image_id, data).status == 204
    assert service.start_import(image_id).status == 202
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
