"""Says what the first bytes of an image look like: format, partitions.

Only reports; refusing hostile formats is the service's own work.
"""

from __future__ import annotations

from glance_import.plugin import Context
from glance_import.plugin import Data
from glance_import.plugin import Image
from glance_import.plugin import ImagePlugin
from glance_import.plugin import Option
from glance_import.plugin import Verdict

# (format, offset, magic)
_MAGICS = (
    ('qcow2', 0, b'QFI\xfb'), ('vmdk', 0, b'KDMV'),
    ('vmdk', 0, b'# Disk DescriptorFile'), ('vhdx', 0, b'vhdxfile'),
    ('vhd', 0, b'conectix'), ('vdi', 0x40, b'\x7f\x10\xda\xbe'),
    ('luks', 0, b'LUKS\xba\xbe'), ('qed', 0, b'QED\0'),
    ('iso', 0x8001, b'CD001'))
_SECTOR = 512
_ENTRY = 16


class FormatReport(ImagePlugin):
    """Notes the format and the partition table of each image."""

    api = 1
    version = '1'
    options = [
        Option('prefix', str, '',
               help='When set, the findings become the properties '
                    'PREFIXformat and PREFIXpartition_table; list the '
                    'prefix in "allowed_properties" too. Otherwise they '
                    'are only logged.'),
    ]

    def inspect(self, image: Image, data: Data, ctx: Context) -> Verdict:
        head = data.read(0x9000)
        kind = self._format(head)
        table = self._table(head) if kind in ('raw', 'iso') else 'unknown'
        ctx.log('format %s, partition table %s, declared %s', kind, table,
                image.disk_format)
        prefix = ctx.options.prefix
        if not prefix:
            return self.accept()
        return self.accept(properties={
            f'{prefix}format': kind, f'{prefix}partition_table': table})

    def _format(self, head: bytes) -> str:
        for name, offset, magic in _MAGICS:
            if head[offset:offset + len(magic)] == magic:
                return name
        return 'raw'

    def _table(self, head: bytes) -> str:
        if head[_SECTOR:_SECTOR + 8] == b'EFI PART':
            return 'gpt'
        if head[510:512] != b'\x55\xaa':
            return 'none'
        entries = [head[446 + _ENTRY * n:446 + _ENTRY * (n + 1)]
                   for n in range(4)]
        sane = all(each[0] in (0x00, 0x80) for each in entries)
        return 'mbr' if sane and any(each[4] for each in entries) else 'none'
