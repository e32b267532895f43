"""A plugin as it was written for contract version 1. Never edit this file.

It uses every public name in every documented way. When a test of it fails,
the service has broken its promise to plugins that exist; the service is to be
changed, not this.
"""

import os

from glance_import.plugin import API
from glance_import.plugin import Context
from glance_import.plugin import Data
from glance_import.plugin import Image
from glance_import.plugin import ImagePlugin
from glance_import.plugin import Option
from glance_import.plugin import Sink
from glance_import.plugin import SinkFull
from glance_import.plugin import Verdict


class Frozen(ImagePlugin):
    """Uses all of it."""

    api = 1
    version = '1.0'
    options = [
        Option('text', str, 'a', help='A text.'),
        Option('number', int, 3),
        Option('real', float, 0.5),
        Option('flag', bool, True),
        Option('names', list, ['x', 'y'], help='Names.', secret=True),
        Option('nothing'),
        Option('must', str, required=True),
    ]

    def precheck(self, image: Image, ctx: Context) -> Verdict:
        assert API >= 1
        assert isinstance(image.id, str)
        for name in ('name', 'disk_format', 'container_format', 'size',
                     'virtual_size', 'min_disk', 'min_ram', 'owner',
                     'visibility', 'import_method', 'detected_format',
                     'checksum', 'os_hash_algo', 'os_hash_value'):
            getattr(image, name)
        assert image.properties.get('frozen') == 'yes'
        assert isinstance(image.tags, tuple)
        try:
            image.name = 'other'
        except AttributeError:
            pass
        else:
            raise AssertionError('the image could be changed')
        options = ctx.options
        assert (options.text, options.number, options.real, options.flag,
                options.names, options.nothing, options.must) == (
            'a', 3, 0.5, True, ['x', 'y'], None, 'given')
        assert ctx.deadline > 0 and not ctx.cancelled
        ctx.progress()
        ctx.progress(50.0)
        ctx.log('a line')
        ctx.log('a line with %s and %d', 'text', 3)
        return self.warn('only a warning', code='frozen.warning',
                         properties={'frozen_a': '1'})

    def inspect(self, image: Image, data: Data, ctx: Context) -> Verdict:
        size = 0
        for block in data:
            assert isinstance(block, bytes) and block
            size += len(block)
        assert size == data.size == data.position == data.tell()
        assert data.read(10) == b''
        assert data.seek(-4, os.SEEK_END) == size - 4
        assert data.read() == data.read(0) + b'tail'
        assert data.seek(0) == 0 and data.read(4) == b'head'
        assert data.seekable() and data.readable() and not data.writable()
        data.seek(0)
        data.done()
        assert list(data) == []
        with open(os.path.join(ctx.tmp, 'x'), 'w') as mine:
            mine.write('mine')
        return self.accept(properties={'frozen_b': '2'})

    def transform(self, source: Data, sink: Sink) -> Verdict:
        assert sink.written == 0 and sink.limit > 0
        for block in source:
            assert sink.write(block) == len(block)
        assert sink.write(b'more') == 4
        assert issubclass(SinkFull, OSError)
        return self.accept()


class Rejecting(ImagePlugin):
    """Rejects; takes no arguments at all."""

    api = 1

    def inspect(self):
        return self.reject('no', code='frozen.no')
