"""Fault tests: short in the ordinary run, long by option.

``pytest tests/faults --kills 200`` is the long form.
"""

import pytest


@pytest.fixture
def kills(request):
    """How often to kill something."""
    return request.config.getoption('--kills')
