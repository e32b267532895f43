"""image_decompression: images come compressed and are stored as they are.

gzip, bzip2, xz, zstd, lz4, and zip archives and tars of one disk are told by
their first bytes; what is compressed or archived in another way is refused by
name, and anything else passes through. container_format compressed means that
the image shall stay as it is; kernels and ramdisks stay too, since whoever
boots them unpacks them. Has to be listed before image_conversion.
"""

from __future__ import annotations

import os

from taskflow.patterns import linear_flow

from glance_import import errors
from glance_import.imports import rewriting
from glance_import.imports import steps
from glance_import.plugin import host
from glance_import.plugin import sandbox
from glance_import.plugin.workers import decompress
from glance_import.plugin.workers import kinds

# container_formats that are archives, whose files may well be compressed.
_ARCHIVES = ('ova', 'ovf', 'docker')
# disk_formats whose compression is part of them.
_BOOTED = ('aki', 'ari')


class _DecompressImage(rewriting.Rewrite):

    plugin = 'image_decompression'
    label = 'DecompressImage'

    def __init__(self, **kwargs):
        sites = tuple(sandbox.site_directories())
        self.target = host.Target(
            self.plugin, 'class', decompress.__name__, 'Decompress',
            path=sites, read=sites)
        super().__init__(**kwargs)

    def rewrite(self, path):
        image = self.image()
        with open(path, 'rb') as file:
            kind = kinds.kind_of(file)
        archive = image.container_format in _ARCHIVES
        if kind is None or image.container_format == 'compressed' \
                or image.disk_format in _BOOTED \
                or archive and kind not in kinds.STREAMS:
            return f'file://{path}'
        if kind not in kinds.TAKEN:
            raise errors.ImportFailed(
                f'it is {kind} data (byte 0), which is not unpacked here: '
                'upload the disk itself, or compress it with gzip, bzip2, '
                'xz, zstd, lz4 or zip')
        cap = self.cap()
        needed = self.measure(path)
        if needed > cap:
            raise errors.TooLarge(
                f'What comes out of the {kind} data is larger than {cap} '
                'bytes, the most that is accepted here.')
        # What does not say its size comes out no smaller than it is.
        self.require_room(needed or os.stat(path).st_size,
                          'to decompress the image')
        sink = self.make(path, cap, max_ratio=self.options.max_ratio,
                         nested=archive)
        if not archive:
            _check_product(sink, kind)
        return self.adopt(sink)


def _check_product(path, kind):
    """What is told by the end of what came out, if not by its beginning.

    :raises errors.ImportFailed: it is no disk; it is not left
    """
    with open(path, 'rb') as file:
        inner = kinds.kind_of(file)
    if inner is not None:
        steps.remove_file(path)
        raise errors.ImportFailed(
            f'what comes out of the {kind} data is {inner} data again: '
            'unpack it, and upload the disk', code='plugin.failed')


def get_flow(**kwargs):
    """A flow of one task, which gives another ``file_path``."""
    return linear_flow.Flow(
        f"image_decompression-{kwargs['task_id']}").add(
            _DecompressImage(**kwargs))
