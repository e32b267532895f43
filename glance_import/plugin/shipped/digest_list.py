"""Refuses images by their digest: those on one list, or not on another."""

from __future__ import annotations

import hashlib

from glance_import.plugin import Context
from glance_import.plugin import Data
from glance_import.plugin import Image
from glance_import.plugin import ImagePlugin
from glance_import.plugin import Option
from glance_import.plugin import Verdict


class DigestList(ImagePlugin):
    """Allows or denies images by their digest."""

    api = 1
    version = '1'
    options = [
        Option('algorithm', str, 'sha256',
               help='Digest that the lists hold, as hashlib names it.'),
        Option('denied', list, [], help='Digests to refuse, in hex.'),
        Option('denied_file', str, '',
               help='File of digests to refuse, one a line; what follows '
                    'the first word is ignored, as in the output of '
                    'sha256sum. Name it in "read_paths" too.'),
        Option('allowed', list, [],
               help='When given: only these digests pass.'),
        Option('allowed_file', str, '',
               help='When given: only the digests in this file pass.'),
    ]

    def inspect(self, image: Image, data: Data, ctx: Context) -> Verdict:
        options = ctx.options
        denied = self._list(options.denied, options.denied_file)
        allowed = self._list(options.allowed, options.allowed_file)
        digest = self._digest(image, data, options.algorithm)
        if digest in denied:
            return self.reject('Images with this content are denied here.',
                               code='digest.denied')
        if (options.allowed or options.allowed_file) and digest not in allowed:
            return self.reject('Only known images are allowed here, and '
                               'this content is not among them.',
                               code='digest.unknown')
        return self.accept()

    def _digest(self, image: Image, data: Data, algorithm: str) -> str:
        if image.os_hash_algo == algorithm and image.os_hash_value:
            return image.os_hash_value.lower()
        digest = hashlib.new(algorithm)
        for block in data:
            digest.update(block)
        return digest.hexdigest()

    def _list(self, given: list[str], path: str) -> set[str]:
        found = {each.lower() for each in given}
        if path:
            with open(path) as lines:
                found |= {line.split()[0].lower() for line in lines
                          if line.strip() and not line.startswith('#')}
        return found
