"""Refuses images that hold software Acme has not licensed.

A complete plugin outside the service's own tree: one class, and an entry
point in pyproject.toml. It needs nothing but the standard library and the
contract.
"""

from glance_import.plugin import ImagePlugin
from glance_import.plugin import Option


class LicenceCheck(ImagePlugin):
    """Looks for the names of unlicensed products."""

    api = 1
    options = [
        Option('products', list, ['FORBIDDEN-SOFT'],
               help='Names that an image may not hold.'),
    ]

    def inspect(self, image, data, ctx):
        names = [name.encode() for name in ctx.options.products]
        longest = max(map(len, names), default=1)
        tail = b''
        for block in data:
            window = tail + block
            for name in names:
                if name in window:
                    ctx.log('%s holds %s', image.id, name.decode())
                    return self.reject(
                        f'The image holds {name.decode()}, which Acme has '
                        'not licensed.', code='acme.unlicensed')
            tail = window[-longest:]
        return self.accept(properties={'acme_licences': 'checked'})
