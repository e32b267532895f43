"""What the commands of the service load; see ``tests.warm``."""

from glance_import.cmd import api  # noqa: F401
from glance_import.cmd import conductor  # noqa: F401
from glance_import.cmd import manage  # noqa: F401
from glance_import.cmd import status  # noqa: F401
