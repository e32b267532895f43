"""The service of the functional tests."""

from tests.functional.conftest import make_service  # noqa: F401
from tests.functional.conftest import service  # noqa: F401
