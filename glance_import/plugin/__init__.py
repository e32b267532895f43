"""What the author of a plugin imports: the contract, and nothing behind it.

``from glance_import.plugin import ImagePlugin, Option`` needs only the
standard library. The names in ``__all__`` are a promise: with ``api = 1``
they keep their meaning, whatever becomes of the service around them.
"""

from glance_import.plugin.contract import API
from glance_import.plugin.contract import Context
from glance_import.plugin.contract import Image
from glance_import.plugin.contract import ImagePlugin
from glance_import.plugin.contract import Option
from glance_import.plugin.contract import Verdict
from glance_import.plugin.data import Data
from glance_import.plugin.data import Sink
from glance_import.plugin.data import SinkFull

__all__ = ('API', 'Context', 'Data', 'Image', 'ImagePlugin', 'Option',
           'Sink', 'SinkFull', 'Verdict')
