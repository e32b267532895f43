"""Asks a ClamAV daemon on this host about every image.

The daemon's socket has to be granted (``sockets``). clamd skips what is
beyond its own limits and calls it clean, so this refuses what it cannot be
sure that clamd has looked at.
"""

from __future__ import annotations

import re
import socket

from glance_import.plugin import Context
from glance_import.plugin import Data
from glance_import.plugin import Image
from glance_import.plugin import ImagePlugin
from glance_import.plugin import Option
from glance_import.plugin import Verdict

_CHUNK = 256 * 1024
# What one window has in common with the next: longer than a signature.
_OVERLAP = 1 << 20
_FOUND = re.compile(r'stream: (.+) FOUND')


class ClamAV(ImagePlugin):
    """Refuses images in which clamd finds a signature."""

    api = 1
    version = '1'
    options = [
        Option('socket', str, '/run/clamav/clamd.ctl',
               help='Socket of clamd; name it in "sockets" too.'),
        Option('max_size', int, 25,
               help='MiB that clamd scans of one stream: at most the least '
                    'of its StreamMaxLength, MaxFileSize and MaxScanSize. '
                    'What is beyond these clamd skips without a word.'),
        Option('beyond_max_size', str, 'reject',
               help='What becomes of a larger image. reject: it is refused. '
                    'windows: it is scanned in pieces of max_size that '
                    'overlap by 1 MiB, which finds what lies within a piece '
                    'but cannot unpack what spans more.'),
        Option('answer_timeout', float, 300.0,
               help='Seconds to wait for an answer of clamd.'),
    ]

    def precheck(self, image: Image, ctx: Context) -> Verdict:
        if ctx.options.beyond_max_size not in ('reject', 'windows'):
            raise ValueError('beyond_max_size is neither reject nor windows')
        if image.size is not None and self._too_large(image.size, ctx):
            return self._refuse_size(image.size, ctx)
        return self.accept()

    def inspect(self, data: Data, ctx: Context) -> Verdict:
        if self._too_large(data.size, ctx):
            return self._refuse_size(data.size, ctx)
        window = ctx.options.max_size << 20
        start = 0
        while True:
            name = self._scan(data, start, window, ctx)
            if name is not None:
                ctx.log('clamd found %s', name)
                return self.reject(f'The virus scanner found {name}.',
                                   code='clamav.found')
            if start + window >= data.size:
                return self.accept()
            start += window - min(_OVERLAP, window // 2)

    def _too_large(self, size: int, ctx: Context) -> bool:
        return (size > ctx.options.max_size << 20
                and ctx.options.beyond_max_size != 'windows')

    def _refuse_size(self, size: int, ctx: Context) -> Verdict:
        return self.reject(
            f'The image has {size} bytes; images above '
            f'{ctx.options.max_size} MiB cannot be scanned for viruses.',
            code='clamav.too_large')

    def _scan(self, data: Data, start: int, length: int, ctx: Context
              ) -> str | None:
        """The name of what clamd finds in a window, None for nothing."""
        data.seek(start)
        with socket.socket(socket.AF_UNIX) as clamd:
            clamd.settimeout(ctx.options.answer_timeout)
            clamd.connect(ctx.options.socket)
            try:
                self._send(clamd, data, length)
            except (BrokenPipeError, ConnectionResetError):
                # It says why before it hangs up.
                ctx.log('clamd closed the stream early')
            answer = self._answer(clamd, ctx)
        if answer == 'stream: OK':
            return None
        found = _FOUND.fullmatch(answer)
        if found is None:
            # Its size limit, a broken database, anything: not clean.
            raise RuntimeError(f'clamd answered {answer!r}')
        return found.group(1)

    def _send(self, clamd: socket.socket, data: Data, length: int) -> None:
        clamd.sendall(b'zINSTREAM\0')
        while length > 0:
            block = data.read(min(_CHUNK, length))
            if not block:
                break
            clamd.sendall(len(block).to_bytes(4, 'big') + block)
            length -= len(block)
        clamd.sendall(bytes(4))

    def _answer(self, clamd: socket.socket, ctx: Context) -> str:
        ctx.progress()
        parts = b''
        while not parts.endswith(b'\0') and len(parts) < 4096:
            part = clamd.recv(4096)
            if not part:
                break
            parts += part
        return parts.rstrip(b'\0').decode('utf-8', 'replace').strip()
