"""image_conversion: every image gets the disk_format the operator wants.

qemu-img does it, in a sandbox, told the format of the source: the
disk_format of the image, which its content must match before it runs. What
it wrote is looked at like what came.
"""

from __future__ import annotations

import dataclasses
import os

from taskflow.patterns import linear_flow

from glance_import import errors
from glance_import.formats import inspection
from glance_import.imports import changes
from glance_import.imports import rewriting
from glance_import.plugin import host
from glance_import.plugin.workers import convert

# disk_format -> what qemu calls it.
QEMU = {'raw': 'raw', 'qcow2': 'qcow2', 'vmdk': 'vmdk', 'vdi': 'vdi',
        'vhd': 'vpc', 'vhdx': 'vhdx'}
# No disks to be converted: discs, kernels and ramdisks.
_AS_THEY_ARE = ('iso', 'aki', 'ari')
# Beside the data: headers and tables of the format that is written.
_OVERHEAD = 64 << 20


class _ConvertImage(rewriting.Rewrite):

    plugin = 'image_conversion'
    label = 'ConvertImage'
    target = host.Target(plugin, 'class', convert.__name__, 'Convert')

    def rewrite(self, path):
        wanted = self.options.output_format
        image = self.image()
        source = image.disk_format
        found = self._inspect(path, source)
        if source in _AS_THEY_ARE:
            return f'file://{path}'
        if source not in QEMU:
            raise errors.ImportFailed(
                f'images of the disk_format {source} cannot be converted to '
                f'{wanted}', code='refused.format')
        if found.format == 'iso' or (
                source != wanted and found.format != source):
            raise errors.ImportFailed(
                f'its disk_format is {source}, but its content is '
                f'{found.format}: make an image whose disk_format is '
                f'{found.format}', code='refused.format')
        if source == wanted:
            return f'file://{path}'
        for each in found.warnings:
            # Nothing in what is made of it tells.
            changes.warn(self.rt, f'{self.plugin}: the image is converted as '
                         f'it is, but {each}.')
        sink = self._convert(path, source, wanted, found.virtual_size)
        return self.adopt(
            sink, disk_format=wanted, container_format='bare',
            virtual_size=self._check(sink, wanted, found.virtual_size))

    def _convert(self, path, source, wanted, size):
        def said(text):
            word, _, number = text.partition(' ')
            if not number.isdecimal():
                return
            if word == 'percent':
                self.progress.report(size * int(number) // 100, size)
            elif word == 'required':
                # Data that is there, not holes: what a sparse raw file takes
                # too. Raised here, it ends qemu-img.
                self.require_room(int(number),
                                  f'to convert the image to {wanted}')

        return self.make(path, size + size // 64 + _OVERHEAD, said,
                         source_format=QEMU[source], output_format=wanted)

    def _inspect(self, path, declared):
        """What is there; it must be safe, and what it is said to be."""
        options = dataclasses.replace(
            inspection.Options.of(self.rt.services.conf), match=True)
        try:
            return inspection.inspect_format(path, declared, options)
        except inspection.FormatRefused as refusal:
            raise errors.Unsupported(str(refusal)) from refusal

    def _check(self, sink, wanted, size):
        """The virtual size of what qemu-img wrote: that of the source."""
        try:
            made = self._inspect(sink, wanted)
            # A sector may have been filled up.
            if not size <= made.virtual_size < size + 512 or (
                    wanted != 'raw' and made.format != wanted):
                raise errors.ImportFailed(
                    f'of {size} bytes qemu-img made a {made.format} image '
                    f'of {made.virtual_size} bytes')
            return made.virtual_size
        except BaseException:
            os.unlink(sink)
            raise


def get_flow(**kwargs):
    """A flow of one task, which gives another ``file_path``."""
    return linear_flow.Flow(f"image_conversion-{kwargs['task_id']}").add(
        _ConvertImage(**kwargs))
