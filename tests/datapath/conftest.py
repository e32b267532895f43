"""The service of the functional tests."""

from tests.functional.conftest import service  # noqa: F401
